"""Does it stay good as segments follow each other? One to five clips in a row (paper §5).

Knows clips that deserve a reply, joined at one to four points. Does not know how a session remembers. Online,
every segment should get its reply when it ends; offline, one answer at the end should speak of each. The paper's
model keeps over 91 % of its accuracy on single segments, offline models lose over 30 %. Taught in
notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aikit.audio import SAMPLE_RATE, load_audio
from aikit.bench.manifest import Case, read_manifest
from aikit.bench.moments import LATE_S, sounding
from aikit.bench.proactive import MINI_BENCH
from aikit.bench.stats import ratio, share
from aikit.bench.usefulness import Scorer, WordScorer, similarity
from aikit.synth.compose import at_level, faded

MOST = 5
GAP_S = LATE_S + 0.2  # between segments


def joined(cases: Sequence[Case]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Clips in a row, all at one level, a pause before each; the waveform and when each one sounds."""
    parts, spans, at = [], [], 0.0
    for case in cases:
        waveform = load_audio(case.audio)
        start_s, end_s = sounding(waveform)
        waveform = waveform[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]
        parts += [np.zeros(int(GAP_S * SAMPLE_RATE), np.float32), faded(at_level(waveform, 0.0))]
        at += GAP_S + len(waveform) / SAMPLE_RATE
        spans.append((at - len(waveform) / SAMPLE_RATE, at))
    mix = np.concatenate(parts)
    return mix / np.float32(max(1.0, np.abs(mix).max())), spans


def replies_online(assistant, cases: Sequence[Case]) -> list[str]:
    """What a session says to each of the clips in a row; "" where nothing came in time."""
    waveform, spans = joined(cases)
    said = [(e.time_s, e.text) for e in assistant.listen(waveform, SAMPLE_RATE) if e.kind == "end"]
    inside = ([text for t, text in said if start < t <= end + LATE_S] for start, end in spans)
    return [texts[0] if texts else "" for texts in inside]


def replies_offline(assistant, cases: Sequence[Case]) -> list[str]:
    """The one answer to all of the clips in a row, for each of them."""
    return [assistant.answer(joined(cases)[0], rate=SAMPLE_RATE)] * len(cases)


def run(
    assistant,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    standard_answers: str | Path | None = None,
    n_clips: int = 40,
    seed: int = 0,
    scorer: Scorer | None = None,
) -> dict:
    """Score one to five segments in a row; every clip is heard at each length, so that all are comparable.

    Parameters
    ----------
    n_clips : that many of the clips that deserve a reply and have acceptable answers

    Returns
    -------
    dict
        ``online`` and ``offline``: a list over 1 .. 5 segments of {n, share, interval, kept}: the share of
        segments with a useful reply (online also: in time), and how much of the single-segment share
        that is, {value, interval}, resampled by clip.
    """
    able = [case for case in read_manifest(manifest or MINI_BENCH, root, answers=standard_answers)
            if case.decision == "RESPOND" and case.standard_answers]  # fmt: skip
    if not able:
        raise ValueError("no clip that deserves a reply has standard_answers; name their file")
    order = np.random.default_rng(seed).permutation(len(able))[:n_clips]
    clips, scorer = [able[i] for i in order], scorer or WordScorer()
    report = {"n_clips": len(clips), "scorer": scorer.name}
    for name, ask in (("online", replies_online), ("offline", replies_offline)):
        rows, single = [], None
        for n in range(1, MOST + 1):
            said = [
                text
                for at in range(0, len(clips), n)
                for text in ask(assistant, clips[at : at + n])
            ]
            near = similarity([case.standard_answers for case in clips], said, scorer)
            useful = (near >= scorer.threshold) & np.array([bool(text) for text in said])
            single = useful if single is None else single
            rows.append(
                share(useful, seed=seed) | {"segments": n, "kept": ratio(useful, single, seed)}
            )
        report[name] = rows
    return report


def show(report: dict) -> None:
    """Print both rows of the stability test."""
    from aikit.bench.report import with_interval

    print(f"{report['n_clips']} clips, useful replies by {report['scorer']}")
    for name in ("online", "offline"):
        for row in report[name]:
            kept = with_interval(row["kept"]["value"], row["kept"]["interval"])
            print(
                f"{name:8}{row['segments']} segments: {with_interval(row['share'], row['interval'])}, kept {kept}"
            )
