"""Real recordings as a benchmark: a folder of labelled clips, decided by the kit's ontology.

Knows folders as `ClipLibrary` reads them, and which label deserves a reply. Does not know models. Taught in
notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aikit.bench.manifest import Case
from aikit.synth.clips import AUDIO_SUFFIXES, ESC_NAME, esc_label
from aikit.synth.ontology import ontology


def recording_cases(folder: str | Path, folds: Sequence[int] = ()) -> list[Case]:
    """Cases of a folder with one sub-folder a label (ESC-10, ESC-50, or your own).

    Parameters
    ----------
    folds : of ESC's folds only these; () = all files

    Raises
    ------
    ValueError
        If a sub-folder is no label of the ontology, or nothing is left.
    """
    cases = []
    for file in sorted(Path(folder).glob("*/*")):
        name = ESC_NAME.match(file.name)
        if file.suffix.lower() not in AUDIO_SUFFIXES or (
            folds and not (name and int(name["fold"]) in folds)
        ):
            continue
        sound = ontology().get(esc_label(file.parent.name))
        if sound is None:
            raise ValueError(
                f"{file.parent} is no label of the ontology; name it after one of `ontology()`"
            )
        place = (sound.domain, sound.sub_domain)
        cases.append(Case(file.stem, file, sound.policy.upper(), *place, sound.name, sound.replies))
    if not cases:
        raise ValueError(
            f"{folder} holds no clip in folders named after their label, of folds {folds or 'any'}"
        )
    return cases
