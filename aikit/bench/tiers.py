"""The multiple tier: several events of one category in one stream, and distractors (paper §4.3).

Knows how clips of the single tier become streams with a manifest of their own. Does not know models or
scores. How the published tier was composed is not published; this is the kit's way. Taught in notebook 04.

A stream has 2 to 5 foreground events of one domain and up to two benign sounds of other domains behind
them. It deserves a reply if one of its events does; the manifest says what sounds when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aikit.audio import SAMPLE_RATE, load_audio, save_audio
from aikit.bench.manifest import DECISIONS, Case, CaseEvent, write_manifest
from aikit.bench.moments import LATE_S, sounding
from aikit.synth.clips import Clip
from aikit.synth.compose import Item, Stream, compose

N_EVENTS = (2, 5)
MOST_DISTRACTORS = 2
GAP_S = (LATE_S, LATE_S + 0.8)  # between events: a response belongs to one of them only
FOLDER = "proactive-sound-multiple"


def plan(
    cases: Sequence[Case], decision: str, rng: np.random.Generator
) -> tuple[list[Case], list[Case]]:
    """Draw the foreground clips of a stream, in order, and its distractors.

    Raises
    ------
    ValueError
        If no domain has the clips for a stream of this decision.
    """
    domains: dict[str, dict[str, list[Case]]] = {}
    for case in cases:
        domains.setdefault(case.domain, {d: [] for d in DECISIONS})[case.decision].append(case)
    able = sorted(name for name, has in domains.items() if _able(decision, *map(len, has.values())))
    if not able:
        raise ValueError(
            f"no domain has the clips for a stream to {decision}: at least 2, and one of that kind"
        )
    has = domains[able[rng.integers(len(able))]]
    due, benign = has["RESPOND"], has["IGNORE"]
    most = min(N_EVENTS[1], len(benign) + (len(due) if decision == "RESPOND" else 0))
    n = int(rng.integers(N_EVENTS[0], most + 1))
    n_due = (
        int(rng.integers(max(1, n - len(benign)), min(n, len(due)) + 1))
        if decision == "RESPOND"
        else 0
    )
    front = _draw(due, n_due, rng) + _draw(benign, n - n_due, rng)
    others = [c for c in cases if c.decision == "IGNORE" and c.domain != front[0].domain]
    n_behind = min(int(rng.integers(0, MOST_DISTRACTORS + 1)), len(others))
    return [front[i] for i in rng.permutation(n)], _draw(others, n_behind, rng)


def _able(decision: str, n_respond: int, n_ignore: int) -> bool:
    if decision == "IGNORE":
        return n_ignore >= N_EVENTS[0]
    return n_respond >= 1 and n_respond + n_ignore >= N_EVENTS[0]


def _draw(cases: list[Case], n: int, rng: np.random.Generator) -> list[Case]:
    return [cases[i] for i in rng.choice(len(cases), n, replace=False)] if n else []


def make_stream(cases: Sequence[Case], seed: int, number: int) -> tuple[Case, Stream]:
    """Stream ``number`` of a tier, and its manifest row; even numbers deserve a reply.

    The same clips, seed and number give the same bytes.
    """
    rng, decision = np.random.default_rng((seed, number)), DECISIONS[number % 2]
    front, behind = plan(cases, decision, rng)
    items = [_item(case, "foreground", float(rng.uniform(*GAP_S))) for case in front]
    items += [_item(case, "background", 0.0) for case in behind]
    stream = compose(items, rng, tail_s=0.4)
    by_id = {case.id: case for case in (*front, *behind)}
    events = tuple(
        CaseEvent(e.name, e.label, by_id[e.name].decision, e.start_s, e.end_s, e.role)
        for e in stream.events
    )
    answers = dict.fromkeys(text for case in front for text in case.standard_answers)
    id_ = f"multiple-{seed}-{number:03d}"
    audio = Path(FOLDER, front[0].domain, f"{len(front)} events", decision, f"{id_}.flac")
    about = ", ".join(case.description for case in front)
    return Case(
        id_, audio, decision, front[0].domain, audio.parts[-3], about, tuple(answers), events
    ), stream


def _item(case: Case, role: str, gap_s: float) -> Item:
    """A clip without the silence around it."""
    waveform = load_audio(case.audio)
    start_s, end_s = sounding(waveform)
    waveform = waveform[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]
    return Item(Clip(waveform, case.description, "bench", case.id), role, gap_s=gap_s)


def make_tier(
    cases: Sequence[Case], folder: str | Path, n_streams: int = 60, seed: int = 0
) -> list[Case]:
    """Write the streams of a multiple tier and their ``manifest.jsonl``; return its cases.

    Parameters
    ----------
    cases : of the single tier, with audio
    folder : for the streams (FLAC); the tier can then be run and scored as any benchmark

    Raises
    ------
    ValueError
        If the cases are streams already, or too few.
    """
    if n_streams < 1 or any(case.events for case in cases):
        raise ValueError(
            "a multiple tier is made of at least 1 stream, from clips of the single tier"
        )
    made = list(_written(cases, Path(folder), n_streams, seed))
    write_manifest(Path(folder) / "manifest.jsonl", made, Path(folder))
    return made


def _written(cases: Sequence[Case], folder: Path, n_streams: int, seed: int) -> Iterator[Case]:
    for number in range(n_streams):
        case, stream = make_stream(cases, seed, number)
        save_audio(folder / case.audio, stream.waveform)
        yield replace(case, audio=folder / case.audio)
