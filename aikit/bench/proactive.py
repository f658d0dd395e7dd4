"""Proactive-Sound-Bench: a clip at a time, respond or ignore (paper §4.3, App. D).

Knows how to ask a model and two ways to count: honest, and as published. Does not know whether a reply
is useful, nor streams with several events. Taught in notebook 04.

Honest: a missing or unreadable answer is a wrong one, domains come from the path, and beside accuracy
stand balanced accuracy, what a constant answer scores, and 95 % intervals.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from aikit.bench.manifest import DECISIONS, Answer, Case, read_manifest, write_predictions
from aikit.bench.stats import decision_scores, shown, threshold_curve

MINI_BENCH = Path(__file__).resolve().parents[2] / "data_samples" / "mini_bench" / "manifest.jsonl"
PAPER = {  # accuracy of the paper's model, single tier (paper §5); other clips than the mini benchmark's
    "Human Sound Signals": 0.564, "Daily Living Sounds": 0.681, "Equipment": 0.571, "Traffic": 0.649,
    "Nature & Environment": 0.618, "Music": 0.667,
}  # fmt: skip


# --- asking and scoring ----------------------------------------------------------------------------
def ask(assistant, audio: str | Path, threshold: float | None = None) -> Answer:
    """Let a model hear one clip, and a little silence after it, in a session of its own."""
    events = list(assistant.listen(audio, threshold=threshold))
    decision = DECISIONS[not any(event.kind == "respond" for event in events)]
    reply = " ".join(event.text for event in events if event.kind == "end")
    heard = [event.p_respond for event in events if event.p_respond is not None]
    return Answer(decision, reply, round(max(heard), 4) if heard else None)


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
        As `decision_scores`, and ``n_unanswered``; ``domains``: the same for each, with ``sub_domains``.
    """
    if compat:
        return _published_score(cases, answers)
    given = [answers[case.id].decision if case.id in answers else None for case in cases]
    result = _scores(cases, given, seed) | {"n_unanswered": given.count(None), "domains": {}}
    for domain, rows in _grouped(cases, given, "domain").items():
        tasks = {name: _scores(*r, seed) for name, r in _grouped(*rows, "sub_domain").items()}
        result["domains"][domain] = _scores(*rows, seed) | {"sub_domains": tasks}
    return result


def _scores(cases: Sequence[Case], given: Sequence[str | None], seed: int) -> dict:
    truth = [case.decision == "RESPOND" for case in cases]
    # no answer is never right: what was not said counts as the opposite of the truth
    decided = [(g == "RESPOND") if g else not t for g, t in zip(given, truth, strict=True)]
    return decision_scores(truth, decided, seed=seed) | {"n_respond": sum(truth)}


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
    right = {c.id: answers[c.id].decision == c.decision for c in counted}
    due = [right[c.id] for c in counted if c.decision == "RESPOND"]
    n, n_right = len(counted), sum(right.values())
    overall = {"total_samples": n, "correct_samples": n_right, "accuracy": n_right / n if n else 0.0}
    return {
        "overall": overall, "ground_truth_respond_accuracy": sum(due) / len(due) if due else 0.0,
        "by_folder": {"Unknown": overall}, "by_domain": {"Unknown": overall},
    }  # fmt: skip


def baselines(cases: Sequence[Case], seed: int = 0) -> dict[str, dict]:
    """What models score that do not listen; the better accuracy of the two is the majority baseline."""
    return {f"always {d.lower()}": _scores(cases, [d] * len(cases), seed) for d in DECISIONS[::-1]}


# --- the whole run ---------------------------------------------------------------------------------
def run(
    assistant,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    out: str | Path | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> dict:
    """Let an assistant hear every clip, score it, print tables, and write ``out`` if it is given.

    Parameters
    ----------
    manifest, root : as for `read_manifest`; None = the mini benchmark
    out : the scores as JSON; predictions go beside it, to ``<stem>.predictions.jsonl``
    threshold : respond when p(respond) reaches it; None = the checkpoint's own

    Returns
    -------
    dict
        As `score`, with ``baselines``, ``threshold``, ``threshold_curve`` (exact up to the threshold of
        the run, near it above: a reply given changes what follows) and ``seconds``.
    """
    from tqdm import tqdm

    cases = read_manifest(manifest or MINI_BENCH, root)
    start = time.perf_counter()
    answers = {c.id: ask(assistant, c.audio, threshold) for c in tqdm(cases, "clips", mininterval=1.0)}
    truth = [case.decision == "RESPOND" for case in cases]
    report = score(cases, answers, seed=seed) | {
        "baselines": baselines(cases, seed),
        "threshold": assistant.config.threshold if threshold is None else threshold,
        "threshold_curve": threshold_curve(truth, [a.p_max for a in answers.values()]),
        "seconds": round(time.perf_counter() - start, 1),
    }
    show(report)
    if out is not None:
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        write_predictions(out.with_name(out.stem + ".predictions.jsonl"), answers)
    return report


def show(report: dict) -> None:
    """Print the scores beside the baselines, and by domain."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    majority, other = sorted(report["baselines"], key=lambda k: -report["baselines"][k]["accuracy"])
    title = f"{report['n']} clips, {report['n_respond']} of them to respond to"
    table = Table(title=title, caption=f"majority baseline: {majority}", box=SIMPLE)
    for name in ("", "model", "95 %", "majority baseline", other):
        table.add_column(name, no_wrap=True)
    for key in ("accuracy", "balanced_accuracy", "hit_rate", "false_alarm_rate", "mcc"):
        rest = (shown(report["baselines"][name][key]) for name in (majority, other))
        name = key.replace("_", " ")
        table.add_row(name, shown(report[key]), shown(report["intervals"][key]), *rest)
    places = Table("by domain", "n", "accuracy", "95 %", "balanced", "majority", box=SIMPLE)
    for domain, scores in report["domains"].items():
        for name, s in {f"[bold]{domain}": scores, **scores["sub_domains"]}.items():
            values = (s["accuracy"], s["intervals"]["accuracy"], s["balanced_accuracy"])
            places.add_row(name, str(s["n"]), *map(shown, values), shown(s["majority_accuracy"]))
    Console().print(table, places)
