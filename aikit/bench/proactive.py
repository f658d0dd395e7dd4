"""Proactive-Sound-Bench: respond or ignore, clip by clip and in streams (paper §4.3, App. D).

Knows how to ask a model and two ways to count: honest, and as published. Does not know how a baseline, a
delay or a useful reply is measured (`baselines.py`, `moments.py`, `usefulness.py`) nor how a table looks
(`report.py`). Taught in notebook 04.

Honest: a missing, unreadable or wordless answer is a wrong one, domains come from the path, and beside
accuracy stand balanced accuracy, what a constant answer scores, and 95 % intervals.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from aikit.bench.baselines import baselines
from aikit.bench.manifest import (
    DECISIONS,
    Answer,
    Case,
    read_manifest,
    read_predictions,
    write_predictions,
)
from aikit.bench.moments import streaming_scores
from aikit.bench.stats import decision_scores, threshold_curve
from aikit.bench.tiers import make_tier
from aikit.bench.usefulness import Scorer, WordScorer, useful_replies

MINI_BENCH = Path(__file__).resolve().parents[2] / "data_samples" / "mini_bench" / "manifest.jsonl"
N_STREAMS = 60


# --- asking ----------------------------------------------------------------------------------------
def ask(assistant, audio: str | Path, threshold: float | None = None) -> Answer:
    """Let a model hear one clip, and a little silence after it, in a session of its own."""
    events = list(assistant.listen(audio, threshold=threshold))
    decided = [event for event in events if event.kind in ("silent", "respond")]
    triggers = tuple(event.time_s for event in decided if event.kind == "respond")
    reply = " ".join(event.text for event in events if event.kind == "end")
    p_max = max((event.p_respond for event in decided), default=None)
    return Answer(
        DECISIONS[not triggers], reply, None if p_max is None else round(p_max, 4), triggers,
        decided[-1].time_s if decided else 0.0,
    )  # fmt: skip


# --- scoring ---------------------------------------------------------------------------------------
def score(
    cases: Sequence[Case], answers: dict[str, Answer], compat: bool = False, seed: int = 0
) -> dict:
    """Score answers, honestly or as the published scorer counts.

    Parameters
    ----------
    compat : the published numbers: rows without a readable decision leave the denominator, and every
        path falls under "Unknown"; the same keys as ``before_semantic`` in its report
    seed : of the bootstrap

    Returns
    -------
    dict
        As `decision_scores`, and ``n_respond``, ``n_unanswered``; ``domains``: the same for each, with
        ``sub_domains``.
    """
    if compat:
        return _published_score(cases, answers)
    given = [answers[case.id].given if case.id in answers else None for case in cases]
    result = _scores(cases, given, seed) | {"domains": {}}
    for domain, rows in _grouped(cases, given, "domain").items():
        tasks = {
            name: _scores(*r, seed) for name, r in sorted(_grouped(*rows, "sub_domain").items())
        }
        result["domains"][domain] = _scores(*rows, seed) | {"sub_domains": tasks}
    return result


def right(cases: Sequence[Case], answers: dict[str, Answer]) -> list[bool]:
    """Whether each case was decided rightly; what was not answered was not."""
    return [case.id in answers and answers[case.id].given == case.decision for case in cases]


def _scores(cases: Sequence[Case], given: Sequence[str | None], seed: int) -> dict:
    truth = [case.decision == "RESPOND" for case in cases]
    # no answer is never right: what was not said counts as the opposite of the truth
    decided = [(g == "RESPOND") if g else not t for g, t in zip(given, truth, strict=True)]
    counts = {"n_respond": sum(truth), "n_unanswered": given.count(None)}
    return decision_scores(truth, decided, seed=seed) | counts


def _grouped(cases: Sequence[Case], given: Sequence, key: str) -> dict[str, tuple[list, list]]:
    groups: dict[str, tuple[list, list]] = {}
    for case, decision in zip(cases, given, strict=True):
        members = groups.setdefault(getattr(case, key), ([], []))
        members[0].append(case)
        members[1].append(decision)
    return groups


def _published_score(cases: Sequence[Case], answers: dict[str, Answer]) -> dict:
    """What the published scorer reports before its semantic step."""
    counted = [c for c in cases if c.id in answers and answers[c.id].decision]
    hits = {c.id: answers[c.id].decision == c.decision for c in counted}
    due = [hits[c.id] for c in counted if c.decision == "RESPOND"]
    n, n_right = len(counted), sum(hits.values())
    overall = {
        "total_samples": n,
        "correct_samples": n_right,
        "accuracy": n_right / n if n else 0.0,
    }
    return {
        "overall": overall, "ground_truth_respond_accuracy": sum(due) / len(due) if due else 0.0,
        "by_folder": {"Unknown": overall}, "by_domain": {"Unknown": overall},
    }  # fmt: skip


def difference(cases: Sequence[Case], answers: dict[str, Answer]) -> dict:
    """Why the published and the honest count differ: how many cases of which kind, and in words."""
    found = [answers.get(case.id) for case in cases]
    missing, unreadable = found.count(None), sum(a is not None and not a.decision for a in found)
    wordless = sum(a is not None and a.decision != a.given for a in found)
    published, n_right = _published_score(cases, answers)["overall"], sum(right(cases, answers))
    text = (
        f"published {published['correct_samples']}/{published['total_samples']} = "
        f"{published['accuracy']:.3f}, honest {n_right}/{len(cases)} = {n_right / len(cases):.3f}: "
        f"the published scorer leaves {missing} missing and {unreadable} unreadable answers out of its "
        f"denominator and takes {wordless} RESPOND without a reply as they are; here all are wrong"
    )
    return {"missing": missing, "unreadable": unreadable, "without_reply": wordless, "text": text}


def full_score(
    cases: Sequence[Case],
    answers: dict[str, Answer],
    seed: int = 0,
    scorer: Scorer | None = None,
) -> dict:
    """`score`, and everything beside it that the answers and the audio at hand allow.

    Returns
    -------
    dict
        As `score`, with ``baselines``; ``streaming`` (None if the answers say no times), ``usefulness``
        (None without acceptable answers) and ``threshold_curve`` (None without p(respond)).
    """
    audio = all(case.audio.is_file() for case in cases)
    p_max = [answers[case.id].p_max if case.id in answers else None for case in cases]
    truth = [case.decision == "RESPOND" for case in cases]
    return score(cases, answers, seed=seed) | {
        "baselines": baselines(cases, seed, audio),
        "streaming": streaming_scores(cases, answers, seed) if audio else None,
        "usefulness": useful_replies(cases, answers, scorer or WordScorer(), seed),
        "threshold_curve": None if None in p_max else threshold_curve(truth, p_max),
    }


def score_file(
    predictions: str | Path,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    standard_answers: str | Path | None = None,
    seed: int = 0,
    scorer: Scorer | None = None,
    compat: bool = False,
) -> dict:
    """Score the predictions of any model.

    Parameters
    ----------
    predictions, manifest, root, standard_answers : as for `read_predictions` and `read_manifest`; the
        clips need not be at hand (then there is no level gate and no delay)

    Returns
    -------
    dict
        As `full_score`, with ``tier``, ``difference`` (to the published count) and ``problems``, and
        ``published`` if ``compat``.
    """
    cases = read_manifest(manifest or MINI_BENCH, root, False, standard_answers)
    answers, problems = read_predictions(predictions, cases)
    published = {"published": score(cases, answers, compat=True)} if compat else {}
    return published | full_score(cases, answers, seed, scorer) | {
        "tier": tier_of(cases),
        "difference": difference(cases, answers),
        "problems": problems,
    }  # fmt: skip


def tier_of(cases: Sequence[Case]) -> str:
    """``multiple`` where the cases are streams that say what sounds when, else ``single``."""
    return "multiple" if any(case.events for case in cases) else "single"


# --- the whole run ---------------------------------------------------------------------------------
def examine(
    assistant, cases: Sequence[Case], threshold: float | None = None, seed: int = 0,
    scorer: Scorer | None = None,
) -> tuple[dict, dict[str, Answer]]:  # fmt: skip
    """Let an assistant hear every case and score it; the scores and its answers.

    The scores are `full_score`'s, with ``tier``, ``threshold`` and ``seconds``. The threshold curve is
    exact up to the threshold of the run, near it above: a reply given changes what follows.
    """
    from tqdm import tqdm

    start, tier = time.perf_counter(), tier_of(cases)
    answers = {c.id: ask(assistant, c.audio, threshold) for c in tqdm(cases, tier, mininterval=1.0)}
    report = full_score(cases, answers, seed, scorer) | {
        "tier": tier,
        "threshold": assistant.config.threshold if threshold is None else threshold,
        "seconds": round(time.perf_counter() - start, 1),
    }
    return report, answers


def run(
    assistant,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    out: str | Path | None = None,
    threshold: float | None = None,
    seed: int = 0,
    tier: str = "both",
    n_streams: int = N_STREAMS,
    standard_answers: str | Path | None = None,
    scorer: Scorer | None = None,
    quiet: bool = False,
) -> dict:
    """Let an assistant hear a benchmark, score it, print tables, and write ``out`` if it is given.

    Parameters
    ----------
    manifest, root, standard_answers : as for `read_manifest`; None = the mini benchmark
    out : the scores as JSON; beside it a Markdown table, predictions and figures of each tier, and what
        happens in the streams of the multiple one (``aikit bench tier`` makes the same again)
    threshold : respond when p(respond) reaches it; None = the checkpoint's own
    seed : of the bootstrap, the coin, and what happens in the streams of the multiple tier
    tier : single, multiple, or both; a manifest of streams is always run as it is
    n_streams : of the multiple tier, which is made of the manifest's clips
    quiet : print no tables

    Returns
    -------
    dict
        As `examine`, of the single tier, with the multiple tier's under ``multiple`` if both were run.
    """
    from aikit.bench.report import show, write_report

    cases = read_manifest(manifest or MINI_BENCH, root, answers=standard_answers)
    if tier not in ("single", "multiple", "both"):
        raise ValueError(f"tier {tier!r}; choose single, multiple or both")
    with TemporaryDirectory() as folder:
        parts = [cases] if tier != "multiple" or tier_of(cases) == "multiple" else []
        if tier != "single" and tier_of(cases) == "single":
            parts.append(make_tier(cases, folder, n_streams, seed))
        done = [examine(assistant, part, threshold, seed, scorer) for part in parts]
        composed = Path(folder, "manifest.jsonl").read_bytes() if parts[-1] is not cases else None
    report, *more = [report for report, _ in done]
    report |= {part["tier"]: part for part in more}
    if not quiet:
        for part, _ in done:
            show(part)
    if out is not None:
        write_report(out, report)
        for part, answers in done:
            stem = Path(out).stem + ("" if part is report else f".{part['tier']}")
            write_predictions(Path(out).with_name(f"{stem}.predictions.jsonl"), answers)
            if composed and part["tier"] == "multiple":
                Path(out).with_name(f"{stem}.manifest.jsonl").write_bytes(composed)
    return report
