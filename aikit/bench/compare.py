"""Two models on the same clips: is the difference more than luck?

Knows the predictions of two models for one manifest. Does not know the models. Most clips are right in both
or wrong in both, and say nothing about the difference; McNemar's test and paired resampling use the others.
Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aikit.bench.manifest import Answer, Case, read_manifest, read_predictions
from aikit.bench.proactive import MINI_BENCH, right, score
from aikit.bench.stats import confusion, interval, mcnemar, rates, resampled, shown

COMPARED = ("accuracy", "balanced_accuracy", "hit_rate", "false_alarm_rate")


def compare(
    cases: Sequence[Case], a: dict[str, Answer], b: dict[str, Answer], seed: int = 0
) -> dict:
    """Compare two models case by case.

    Returns
    -------
    dict
        ``a``, ``b``: as `score`; ``mcnemar``: as of `stats.mcnemar`, and the same by domain;
        ``difference``: score -> {b_minus_a, interval}, both models resampled with the same clips.
    """
    truth = np.array([case.decision == "RESPOND" for case in cases])
    rights = [np.array(right(cases, answers)) for answers in (a, b)]
    # four counts of A, then four of B, in one row a case: resampled together
    table = np.concatenate([confusion(truth, row == truth) for row in rights], axis=1)
    now, drawn = (
        [rates(t[..., :4]), rates(t[..., 4:])] for t in (table.sum(0), resampled(table, seed))
    )
    domains = np.array([case.domain for case in cases])
    return {
        "n": len(cases),
        "a": score(cases, a, seed=seed),
        "b": score(cases, b, seed=seed),
        "difference": {
            key: {"b_minus_a": _or_none(now[1][key] - now[0][key]), "interval": interval(drawn[1][key] - drawn[0][key])}
            for key in COMPARED
        },
        "mcnemar": mcnemar(*rights),
        "domains": {str(d): mcnemar(*(row[domains == d] for row in rights)) for d in dict.fromkeys(domains)},
    }  # fmt: skip


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def compare_files(
    a: str | Path,
    b: str | Path,
    manifest: str | Path | None = None,
    seed: int = 0,
) -> dict:
    """Compare two predictions files; as `compare`, with ``names`` and ``problems`` of both."""
    cases = read_manifest(manifest or MINI_BENCH, need_audio=False)
    (one, wrong_one), (two, wrong_two) = (read_predictions(path, cases) for path in (a, b))
    problems = [f"A, {text}" for text in wrong_one] + [f"B, {text}" for text in wrong_two]
    names = [Path(path).name for path in (a, b)]
    return compare(cases, one, two, seed) | {"names": names, "problems": problems}


def markdown(report: dict) -> str:
    """The comparison as tables."""
    lines = [f"A: {report['names'][0]}, B: {report['names'][1]}, n = {report['n']}", "",
             "| score | A | B | B - A [95 %] |", "|---|---|---|---|"]  # fmt: skip
    for key, row in report["difference"].items():
        values = (shown(report["a"][key]), shown(report["b"][key]))
        gap = (
            "–"
            if row["b_minus_a"] is None
            else f"{row['b_minus_a']:+.3f} [{shown(row['interval'])}]"
        )
        lines.append(f"| {key.replace('_', ' ')} | {' | '.join(values)} | {gap} |")
    lines += [
        "",
        "| cases right in | both | only A | only B | neither | p (McNemar) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in {"all": report["mcnemar"], **report["domains"]}.items():
        counts = " | ".join(str(row[key]) for key in ("both", "only_a", "only_b", "neither"))
        lines.append(f"| {name} | {counts} | {row['p_value']:.3g} |")
    return "\n".join([*lines, ""])


def figure(report: dict):
    """Cases that only one of the two got right, by domain."""
    from aikit.charts import BLUE, ORANGE, rows_of_axes, styled

    @styled
    def draw():
        domains, (name_a, name_b) = report["domains"], report["names"]
        drawn, (ax,) = rows_of_axes([0.35 * len(domains) + 0.5], width=8.0)
        y = range(len(domains))
        ax.barh(
            y, [-row["only_a"] for row in domains.values()], color=BLUE, label=f"only A: {name_a}"
        )
        ax.barh(
            y, [row["only_b"] for row in domains.values()], color=ORANGE, label=f"only B: {name_b}"
        )
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_yticks(y, list(domains))
        ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        ax.set(
            ylim=(len(domains) - 0.5, -0.5),
            xlabel=f"cases right, p = {report['mcnemar']['p_value']:.3g}",
        )
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return drawn

    return draw()


def write_comparison(out: str | Path, report: dict) -> None:
    """Write the comparison as JSON, and a table and a figure beside it."""
    from aikit.bench.report import write_files

    write_files(out, report, markdown(report), {"domains": lambda: figure(report)})
