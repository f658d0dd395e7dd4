"""`aikit eval`: every number that the kit says about a model, from one command.

Knows which measurements belong together and where their numbers go. Does not know how any is made
(`streams.py`, `pairs.py`, `segments.py`). Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aikit.bench import pairs, segments, streams
from aikit.bench.report import write_json
from aikit.bench.stats import normalised, shown
from aikit.synth.script import Sources, phrases


def run(
    assistant,
    n_streams: int = 168,
    n_pairs: int = 60,
    n_digits: int = 30,
    n_counts: int = 60,
    seed: int = 0,
    real: Sequence[str | Path] = (),
    out: str | Path | None = None,
    threshold: float | None = None,
) -> dict:
    """Measure a model on what training never draws, print it, and save it.

    Parameters
    ----------
    n_streams : of each kind; six of every sub-task are about a thousand events
    n_pairs : counterfactual pairs; 0 = none
    n_digits : streams of digits said by the unseen speaker alone; 0 = none
    n_counts : streams in which only counts are asked for; 0 = none
    real : folders as for `Sources.with_real`, for a second set of streams; none = only the kit's own sounds
    out : JSON file, replaced when all is done
    threshold : respond when p(respond) reaches it; None = the checkpoint's own

    Returns
    -------
    dict
        ``synthetic`` and, with folders, ``real``: as `streams.evaluate`; ``digits``, with folders that hold
        some: as `stats.word_errors`; ``counts``: as `counts`; ``pairs``: as `pairs.scores`; ``segments``: one to
        five clips in a row, as `segments.run`.
    """
    own = Sources.embedded(held_out=True)  # its clips are rendered once, for streams and pairs
    report = {"synthetic": streams.run(assistant, n_streams, seed, threshold=threshold, sources=own)}
    if real:
        recorded = Sources.with_real(real, held_out=True)
        report["real"] = streams.run(assistant, n_streams, seed, threshold=threshold, sources=recorded)
        if n_digits and recorded.digits:
            report["digits"] = digits(assistant, recorded, n_digits, seed, threshold)
    if n_counts:
        report["counts"] = counts(assistant, own, n_counts, seed, threshold)
    if n_pairs:
        report["pairs"] = pairs.run(assistant, own, n_pairs, seed, threshold)
        both = report["pairs"]["both_right"]
        print(f"{n_pairs} counterfactual pairs, {report['pairs']['n']} events that must differ: "
              f"both right {shown(both['share'])}, 95 % {shown(both['interval'])}")  # fmt: skip
    report["segments"] = segments.run(assistant, seed=seed)
    segments.show(report["segments"])
    if out is not None:
        write_json(out, report)
    return report


def digits(
    assistant, sources: Sources, n_streams: int, seed: int = 0, threshold: float | None = None
) -> dict:
    """Digit error rate on the unseen speaker alone: six streams of a sub-task hold too few of his digits."""
    only = replace(sources, recorded=1.0)
    # other streams than those of the same sub-task among all
    rows, _, _ = streams.heard(assistant, only, ["digit strings"], n_streams, seed + 1, threshold)
    found = streams.transcripts(rows, seed)["digit_errors"]
    print(f"{found['n_words']} digits of the unseen speaker: errors {shown(found['wer'])}, "
          f"95 % {shown(found['interval'])}")  # fmt: skip
    return found


def counts(
    assistant, sources: Sources, n_streams: int, seed: int = 0, threshold: float | None = None
) -> dict:
    """How many were there? The questions alone: six streams of a sub-task hold ten, beside what is acknowledged.

    Returns
    -------
    dict
        As `stats.share`, and ``by_number``: a share for every number that was wanted.
    """
    rows, _, _ = streams.heard(assistant, sources, ["count"], n_streams, seed + 1, threshold)
    asked = {number: [row for row in rows if row.due and normalised(row.wanted) == number]
             for number in phrases()["numbers"]}  # fmt: skip
    by_number = {number: streams.share_right(part, seed) for number, part in asked.items() if part}
    found = streams.share_right([row for part in asked.values() for row in part], seed)
    print(f"{found['n']} questions how many there were: right {shown(found['share'])}, "
          f"95 % {shown(found['interval'])}")  # fmt: skip
    print(", ".join(f"{number} {shown(part['share'])} of {part['n']}" for number, part in by_number.items()))
    return found | {"by_number": by_number}
