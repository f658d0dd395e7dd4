"""When a reply came, not only whether: the delay, and false alarms an hour (the paper's table has neither).

Knows when sounds begin and end, and when a model responded. Does not know what was said. Taught in
notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aikit.audio import SAMPLE_RATE, load_audio
from aikit.bench.manifest import Answer, Case, CaseEvent
from aikit.bench.stats import N_RESAMPLES, decision_scores, interval, ratio

LATE_S = 1.2  # a sound can be answered until this long after its end: three chunks
AUDIBLE_DB = 30.0  # below the loudest 20 ms of a clip: what is quieter is silence around the sound


def sounding(waveform: np.ndarray) -> tuple[float, float]:
    """From when to when a clip sounds, in seconds; of a silent one, all of it."""
    frame = SAMPLE_RATE // 50
    n = -(-len(waveform) // frame)
    power = np.square(np.pad(waveform, (0, n * frame - len(waveform))).reshape(n, frame)).mean(
        axis=1
    )
    loud = np.flatnonzero(power >= power.max() * 10 ** (-AUDIBLE_DB / 10))
    return round(loud[0] * 0.02, 3), min(
        round((loud[-1] + 1) * 0.02, 3), len(waveform) / SAMPLE_RATE
    )


def events_of(case: Case) -> tuple[CaseEvent, ...]:
    """The foreground events of a case; a clip of the single tier is one, from its first loud frame to its last."""
    if case.events:
        return tuple(event for event in case.events if event.role == "foreground")
    start_s, end_s = sounding(load_audio(case.audio))
    return (CaseEvent(case.id, case.description, case.decision, start_s, end_s),)


@dataclass(frozen=True)
class Moment:
    """An event, and how long after its end the first response to it came."""

    case: str
    event: CaseEvent
    delay_s: float | None  # None: no response; below 0: while it still sounded


def moments(case: Case, answer: Answer) -> tuple[list[Moment], int, float]:
    """Every event with its response; the responses that no event deserved; benign audio in seconds."""
    rows, alarms, benign_s = [], list(answer.trigger_s), answer.heard_s
    for event in events_of(case):
        until = min(event.end_s + LATE_S, answer.heard_s)
        came = [t for t in answer.trigger_s if event.start_s < t <= until]
        rows.append(Moment(case.id, event, came[0] - event.end_s if came else None))
        if event.decision == "RESPOND":
            alarms = [t for t in alarms if t not in came]
            benign_s -= until - event.start_s
    return rows, len(alarms), max(0.0, benign_s)


def streaming_scores(
    cases: Sequence[Case], answers: dict[str, Answer], seed: int = 0
) -> dict | None:
    """Delay, false alarms an hour, and decisions by event; None if no answer says when it came.

    Returns
    -------
    dict
        ``delay_s``: {n, median, interval, quartiles, before_end: the share that came while it sounded};
        ``false_alarms_per_hour`` of benign audio: {n, value, interval}; ``benign_s``;
        ``events``: as `decision_scores`, resampled by case.
    """
    timed = [c for c in cases if (a := answers.get(c.id)) and None not in (a.trigger_s, a.heard_s)]
    if not timed:
        return None
    found = [moments(case, answers[case.id]) for case in timed]
    rows = [row for part, _, _ in found for row in part]
    due = [row.event.decision == "RESPOND" for row in rows]
    replied = [row.delay_s is not None for row in rows]
    delays = [
        row.delay_s for row in rows if row.delay_s is not None and row.event.decision == "RESPOND"
    ]
    alarms, benign_s = [n for _, n, _ in found], [seconds for _, _, seconds in found]
    return {
        "n_timed": len(timed),
        "delay_s": _delays(np.array(delays), seed),
        "false_alarms_per_hour": ratio(alarms, np.array(benign_s) / 3600, seed),
        "benign_s": round(sum(benign_s), 1),
        "events": decision_scores(due, replied, [row.case for row in rows], seed),
    }


def _delays(delays: np.ndarray, seed: int) -> dict:
    if not len(delays):
        return {"n": 0, "median": None, "interval": None, "quartiles": None, "before_end": None}
    drawn = np.random.default_rng(seed).choice(delays, (N_RESAMPLES, len(delays)))
    return {
        "n": len(delays),
        "median": float(np.median(delays)),
        "interval": interval(np.median(drawn, axis=1)),
        "quartiles": np.percentile(delays, (25, 75)).tolist(),
        "before_end": float(np.mean(delays < 0)),
    }
