"""Free-running evaluation on held-out streams: right moment, right words, and silence between.

Knows which replies of a stream were due and which were given. Does not know how the model decides.
Taught in notebook 04.

A model that answers at the end of everything has every hit and an F1 of 0.8; one that never answers
has nine chunks in ten right. So lead with *balanced trigger accuracy* over events: half the share of
due replies that came, half the share of events that deserved none and got none.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import numpy as np

from aikit.bench.report import write_json
from aikit.bench.stats import (
    decision_scores,
    normalised,
    share,
    shown,
    threshold_curve,
    word_errors,
)
from aikit.config import AudioConfig
from aikit.synth.abilities import N_CHUNKS, Sources, make_stream, sub_tasks
from aikit.synth.compose import Stream
from aikit.synth.ontology import ontology

EARLY_S, LATE_S = 0.4, 0.8  # that a reply may come before or after it is due: 1 and 2 chunks
SEED_OFFSET = 2**41  # training draws its seeds below 2**40
SIMILAR = 0.5  # of the words: less is not advice on any known hazard


@dataclass(frozen=True)
class Judged:
    """One event of a stream: what it deserved and what it got."""

    stream: int
    ability: str
    sub_task: str
    label: str
    due: bool
    replied: bool
    p_max: float  # the highest p(respond) in the chunks in which a reply counts
    offset: int | None = None  # chunks too late (negative: too early), of a due reply that came
    wanted: str = ""
    said: str = ""
    spoken: bool = False  # what was wanted is what was spoken: a transcription
    delay_s: float | None = None  # of a due reply that came, from the end of its event on
    told: bool = False  # somebody speaks in its stream, or an instruction is written: not the sounds alone decide

    @property
    def right(self) -> bool:
        """A due reply came and says what it should."""
        return self.due and self.replied and is_right(self.said, self.wanted)


# --- moments ---------------------------------------------------------------------------------------
def window(audio: AudioConfig = AudioConfig()) -> tuple[int, int]:
    """By how many chunks a reply may come early, and late."""
    early, late = (math.ceil(round(s / audio.chunk_s, 6)) for s in (EARLY_S, LATE_S))
    return early, late


def align(
    due: Sequence[int], given: Sequence[int], early: int = 1, late: int = 2
) -> list[tuple[int, int]]:
    """Pair due replies with given ones: as many pairs as can be, then as near as can be.

    Parameters
    ----------
    due, given : chunks, ascending. A reply may come ``early`` chunks before it is due or ``late`` after; pairs
        never cross. (A greedy search gives dense digits the wrong partner, and loses some.)

    Returns
    -------
    list of (index in due, index in given)
    """
    row = [(0, 0, ())] * (len(given) + 1)  # (pairs, -distance, which) for the due replies so far
    for i, wanted in enumerate(due):
        new = [row[0]]
        for j, came in enumerate(given):
            options = [row[j + 1], new[j]]
            if -early <= came - wanted <= late:
                n, near, pairs = row[j]
                options.append((n + 1, near - abs(came - wanted), (*pairs, (i, j))))
            new.append(max(options, key=lambda option: option[:2]))
        row = new
    return list(row[-1][2])


def judge(stream: Stream, said: Sequence, number: int = 0) -> tuple[list[Judged], int]:
    """Every foreground event of a stream with what it got, and how many replies nothing deserved.

    Parameters
    ----------
    said : the session's events

    A reply that is nobody's partner is the false alarm of the event that deserved none and during which,
    or up to `LATE_S` after which, it came; such an event counts once, however often one came.
    """
    grid, (early, late) = stream.audio, window(stream.audio)
    p_respond = [event.p_respond for event in said if event.kind in ("silent", "respond")]
    given = [(round(e.time_s / grid.chunk_s) - 1, e.text) for e in said if e.kind == "end"]
    events = sorted(
        (e for e in stream.events if e.role == "foreground"), key=lambda event: event.chunk(grid)
    )
    due = [event for event in events if event.reply is not None]
    pairs = dict(align([e.chunk(grid) for e in due], [chunk for chunk, _ in given], early, late))
    spare = [chunk for j, (chunk, _) in enumerate(given) if j not in pairs.values()]
    partner = {id(due[i]): given[j] for i, j in pairs.items()}
    in_time = {c for e in due for c in range(e.chunk(grid) - early, e.chunk(grid) + late + 1)}
    told = bool(stream.rule) or any(event.act for event in stream.events)
    rows = []
    for event in events:
        wanted, end = event.reply is not None, event.chunk(grid)
        first = end - early if wanted else int(event.start_s / grid.chunk_s)
        chunks = range(max(0, first), min(end + late + 1, len(p_respond)))
        came, text = partner.get(id(event), (None, ""))
        replied = came is not None if wanted else any(chunk in chunks for chunk in spare)
        p_max = max((p_respond[c] for c in chunks if wanted or c not in in_time), default=0.0)
        rows.append(Judged(
            number, stream.ability, stream.sub_task, event.label, wanted, replied, p_max,
            None if came is None else came - end, event.reply or "", text,
            normalised(event.text) == normalised(event.reply or "-"),
            None if came is None else (came + 1) * grid.chunk_s - event.end_s, told,
        ))  # fmt: skip
    return rows, len(spare)


# --- words -----------------------------------------------------------------------------------------
@cache
def _advice() -> dict[str, str]:
    """Every reply to a hazard -> the hazard's label."""
    return {normalised(r): sound.label for sound in ontology().values() for r in sound.replies}


@cache
def advice_label(text: str) -> str | None:
    """The hazard whose advice is nearest to a (normalised) text by its words; None if none is near."""
    if text in _advice():
        return _advice()[text]
    near = {r: SequenceMatcher(None, text.split(), r.split()).ratio() for r in _advice()}
    best = max(near, key=near.get)
    return _advice()[best] if near[best] >= SIMILAR else None


def is_right(said: str, wanted: str) -> bool:
    """Equal words; for advice on a hazard any advice on the same one, as there are several."""
    said, wanted = normalised(said), normalised(wanted)
    return said == wanted or (wanted in _advice() and advice_label(said) == _advice()[wanted])


# --- the numbers -----------------------------------------------------------------------------------
def share_right(rows: Sequence[Judged], seed: int = 0) -> dict:
    """The share of replies that say what they should, as `stats.share`, resampled by stream."""
    return share([row.right for row in rows], [row.stream for row in rows], seed)


def summary(rows: Sequence[Judged], seed: int = 0) -> dict:
    """Scores of judged events; resampled by stream, for the events of one are not independent."""
    asked = [row for row in rows if row.due]
    hits = [row for row in asked if row.replied]
    due, replied, streams = zip(*((row.due, row.replied, row.stream) for row in rows), strict=True)
    return decision_scores(due, replied, streams, seed) | {
        "n_due": len(asked), "reply_right": share_right(asked, seed), "right_if_hit": share_right(hits, seed),
        "early": sum(row.offset < 0 for row in hits), "on_time": sum(row.offset == 0 for row in hits),
        "late": sum(row.offset > 0 for row in hits),
    }  # fmt: skip


def transcripts(rows: Sequence[Judged], seed: int = 0) -> dict:
    """Digit error rate of digit strings, word error rate of other transcriptions."""
    digits = [row for row in rows if row.due and re.fullmatch(r"[\d ]+", row.wanted)]
    lines = [row for row in rows if row.spoken and row.ability == "real-time ASR"]
    parts = {"digit_errors": digits, "word_errors": lines}
    return {k: word_errors([r.wanted for r in v], [r.said for r in v], seed) for k, v in parts.items()}


def collect_p_respond(rows: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Whether a reply was due, and the highest p(respond) while it would count, of every event."""
    return np.array([row.due for row in rows]), np.array([row.p_max for row in rows])


def best_threshold(points: Sequence[dict], most_false_alarms: float = 1.0) -> dict:
    """The point of a threshold curve with the best balanced accuracy under a limit on false alarms.

    Choose it on validation streams, report on others: the best of 49 is too good on its own data.
    """
    able = [p for p in points if (p["false_alarm_rate"] or 0.0) <= most_false_alarms]
    if not able:
        raise ValueError(f"no threshold keeps false alarms at or under {most_false_alarms}")
    return max(able, key=lambda point: point["balanced_accuracy"] or 0.0)


def evaluate(rows: Sequence[Judged], spare: int, minutes: float, seed: int = 0) -> dict:
    """Everything about judged events: together, by ability, by sub-task, baselines, threshold curve."""
    due, p_max = collect_p_respond(rows)
    groups, points = [row.stream for row in rows], threshold_curve(due, p_max)
    constant = {"always silent": np.zeros_like(due), "at every event": np.ones_like(due)}
    by_task = {task: [r for r in rows if r.sub_task == task] for task in sub_tasks()}
    by_ability = {name: [r for r in rows if r.ability == name] for name, _, _ in sub_tasks().values()}
    return summary(rows, seed) | transcripts(rows, seed) | {
        "minutes": round(minutes, 2),
        "unasked_replies_per_minute": spare / minutes,
        "baselines": {k: decision_scores(due, v, groups, seed) for k, v in constant.items()},
        "abilities": {name: summary(part, seed) for name, part in by_ability.items() if part},
        "sub_tasks": {name: summary(part, seed) for name, part in by_task.items() if part},
        "threshold_curve": points,
        "best_threshold": best_threshold(points),
    }  # fmt: skip


def run(
    assistant,
    n_streams: int = 200,
    seed: int = 0,
    real: Sequence[str | Path] = (),
    out: str | Path | None = None,
    threshold: float | None = None,
    sources: Sources | None = None,
) -> dict:
    """Let an assistant hear held-out streams of every sub-task in turn, score it, print a table.

    Parameters
    ----------
    n_streams : 28 make one of every sub-task
    real : folders as for `Sources.with_real`; their held-out folds and speakers are used
    out : write the scores here as JSON; None = nowhere
    threshold : respond when p(respond) reaches it; None = the checkpoint's own
    sources : what the streams are made of, if it is there already; None = what ``real`` names

    Returns
    -------
    dict
        As `evaluate`, with ``threshold`` and ``seconds``.
    """
    sources = sources or Sources.with_real(real, held_out=True)
    start = time.perf_counter()
    rows, spare, minutes = heard(assistant, sources, list(sub_tasks()), n_streams, seed, threshold)
    report = evaluate(rows, spare, minutes, seed) | {
        "n_streams": n_streams,
        "threshold": assistant.config.threshold if threshold is None else threshold,
        "seconds": round(time.perf_counter() - start, 1),
    }
    show(report)
    if out is not None:
        write_json(out, report)
    return report


def heard(
    assistant,
    sources: Sources,
    tasks: Sequence[str],
    n_streams: int,
    seed: int = 0,
    threshold: float | None = None,
    grid: AudioConfig = AudioConfig(),
) -> tuple[list[Judged], int, float]:
    """Let an assistant hear held-out streams of 24 s of these sub-tasks in turn.

    Returns
    -------
    list of Judged, int, float
        Every foreground event; replies that nothing deserved; minutes of audio.
    """
    from tqdm import trange

    if n_streams < 1:
        raise ValueError(f"{n_streams} streams; give at least 1, and 28 for one of every sub-task")
    first = SEED_OFFSET + seed * 1_000_000
    n_chunks = round(N_CHUNKS * AudioConfig().chunk_s / grid.chunk_s)
    rows, spare, seconds = [], 0, 0.0
    for i in trange(n_streams, desc="streams", mininterval=1.0):
        task = tasks[i % len(tasks)]
        stream = make_stream(sources, first + i, None, task, n_chunks, audio=grid)
        said = list(assistant.listen(stream.waveform, 16_000, stream.instruction, threshold))
        judged, unasked = judge(stream, said, i)
        rows, spare, seconds = rows + judged, spare + unasked, seconds + stream.duration_s
    return rows, spare, seconds / 60


def show(report: dict) -> None:
    """Print the scores of every sub-task, of every ability and of all, and the baselines."""
    from rich.console import Console
    from rich.table import Table

    title = f"{report['n_streams']} held-out streams, {report['minutes']:.0f} minutes"
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))  # 77 columns
    for name in ("events of", "n", "due", "balanced", "95 %", "hit", "false", "right"):
        table.add_column(name, no_wrap=True)
    parts = [*report["sub_tasks"].items(), *report["abilities"].items(), ("all", report)]
    for name, s in parts:
        bold = "" if name in report["sub_tasks"] else "[bold]"
        span = shown(s["intervals"]["balanced_accuracy"])
        rest = (s["hit_rate"], s["false_alarm_rate"], s["reply_right"]["share"])
        row = (str(s["n"]), str(s["n_due"]), shown(s["balanced_accuracy"]), span, *map(shown, rest))
        table.add_row(bold + name, *row)
    for name, s in report["baselines"].items():
        rest = (shown(s[key]) for key in ("hit_rate", "false_alarm_rate"))
        table.add_row(name, str(s["n"]), "", shown(s["balanced_accuracy"]), "", *rest, "–")
    Console().print(table)
    for name in ("digit_errors", "word_errors"):
        found = report[name]
        print(f"{name.replace('_', ' ')} {shown(found['wer'])}, 95 % {shown(found['interval'])}")
    print(f"{report['early']} early, {report['on_time']} on time, {report['late']} late; "
          f"{report['unasked_replies_per_minute']:.2f} unasked replies a minute; "
          f"best threshold on these streams {report['best_threshold']['threshold']:.2f}")  # fmt: skip
