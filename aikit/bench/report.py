"""How scores look: on the terminal, as Markdown after the paper's table, as figures.

Knows the dicts that `proactive.py` and `compare.py` return. Does not know how anything was measured.
Used by `aikit bench` and in notebook 04.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from aikit.bench.baselines import PAPER, PAPER_ALL
from aikit.bench.stats import shown

ROWS = ("accuracy", "balanced_accuracy", "hit_rate", "false_alarm_rate", "d_prime", "mcc")
SHORT = {"always ignore": "always\nsilent", "always respond": "always\nresponds", "random": "random\ncoin",
         "level gate": "level\ngate"}  # fmt: skip


def with_interval(value: float | None, bounds: Sequence[float] | None) -> str:
    """``0.622 [0.55..0.69]``; a dash where there is nothing."""
    return shown(value) + (f" [{shown(bounds)}]" if bounds else "")


# --- terminal --------------------------------------------------------------------------------------
def show(report: dict) -> None:
    """Print the scores beside the baselines, by domain, and what else was measured."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    kind = "streams" if report["tier"] == "multiple" else "clips"
    title = (
        f"{report['tier']} tier: {report['n']} {kind}, {report['n_respond']} of them to respond to"
    )
    table = Table(title=title, box=SIMPLE)
    for name in ("", "model", "95 %", *(SHORT[name] for name in report["baselines"])):
        table.add_column(name, no_wrap=True)
    for key in ROWS:
        rest = (shown(scores[key]) for scores in report["baselines"].values())
        name = key.replace("_", " ").replace("d prime", "d'")
        table.add_row(name, shown(report[key]), shown(report["intervals"][key]), *rest)
    places = Table("by domain", "n", "accuracy", "95 %", "balanced", "majority", box=SIMPLE)
    for domain, scores in report["domains"].items():
        for name, s in {f"[bold]{domain}": scores, **scores["sub_domains"]}.items():
            values = (s["accuracy"], s["intervals"]["accuracy"], s["balanced_accuracy"])
            places.add_row(name, str(s["n"]), *map(shown, values), shown(s["majority_accuracy"]))
    Console().print(table, places)
    print(*remarks(report), sep="\n")


def remarks(report: dict) -> list[str]:
    """What was measured beside decisions, one line each; and what could not be, with the reason."""
    lines = []
    if "level gate" not in report["baselines"]:
        lines.append("level gate: not measured, the clips are not at hand")
    if timed := report["streaming"]:
        delay, alarms, events = (timed[k] for k in ("delay_s", "false_alarms_per_hour", "events"))
        lines.append(
            f"delay from event end to response: median {with_interval(delay['median'], delay['interval'])} s, "
            f"n = {delay['n']}"
            + (f", {delay['before_end']:.0%} came before the end" if delay["n"] else "")
        )
        lines.append(
            f"false alarms per hour of benign audio: {with_interval(alarms['value'], alarms['interval'])} "
            f"(in {timed['benign_s'] / 60:.1f} minutes)"
        )
        if report["tier"] == "multiple":
            bounds = events["intervals"]["balanced_accuracy"]
            lines.append(
                f"by event: balanced accuracy {with_interval(events['balanced_accuracy'], bounds)}, "
                f"hit {shown(events['hit_rate'])}, false {shown(events['false_alarm_rate'])}, n = {events['n']}"
            )
    else:
        lines.append(
            "delay and false alarms per hour: not measured, the answers say no times or there is no audio"
        )
    if useful := report["usefulness"]:
        all_, hit = (
            with_interval(useful[k]["share"], useful[k]["interval"])
            for k in ("useful", "useful_if_hit")
        )
        lines.append(
            f"useful replies: {all_} of those due, {hit} of those that came; scorer {useful['scorer']}, "
            f"similarity >= {useful['threshold']}"
        )
    else:
        lines.append("useful replies: not measured, the manifest has no standard_answers")
    return lines


# --- files -----------------------------------------------------------------------------------------
def markdown(report: dict) -> str:
    """Tables of a report: by domain after the paper's, all scores with intervals, and the remarks."""
    tier, domains = report["tier"], list(report["domains"])
    paper = [*(PAPER[tier].get(name) for name in domains), PAPER_ALL[tier]]
    ours = [
        with_interval(s["accuracy"], s["intervals"]["accuracy"])
        for s in (*report["domains"].values(), report)
    ]
    silent = [1 - s["n_respond"] / s["n"] for s in (*report["domains"].values(), report)]
    lines = [
        f"## {tier.capitalize()} tier", "",
        "| accuracy | " + " | ".join([*domains, "all"]) + " |", "|---" * (len(domains) + 2) + "|",
        f"| paper's model (published clips) | {' | '.join(map(shown, paper))} |",
        f"| this model | {' | '.join(ours)} |", f"| always silent | {' | '.join(map(shown, silent))} |", "",
        "| score [95 %] | this model | " + " | ".join(report["baselines"]) + " |",
        "|---" * (len(report["baselines"]) + 2) + "|",
    ]  # fmt: skip
    for key in ROWS:
        values = (
            with_interval(s[key], s["intervals"][key])
            for s in (report, *report["baselines"].values())
        )
        lines.append(f"| {key.replace('_', ' ')} | {' | '.join(values)} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in remarks(report)), ""])


def write_report(out: str | Path, report: dict) -> None:
    """Write the scores as JSON, tables of each tier as Markdown and their figures beside it."""
    parts = [report, *(report[tier] for tier in PAPER if tier in report)]
    drawings = {}
    for part in parts:
        prefix = "" if part is report else f"{part['tier']}."
        drawings |= {f"{prefix}{name}": draw for name, draw in figures(part).items()}
    write_files(out, report, "\n".join(map(markdown, parts)), drawings)


def write_json(out: str | Path, report: dict | list) -> Path:
    """Write scores as JSON, its folder too if it is missing."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return out


def write_files(out: str | Path, report: dict, table: str, drawings: dict[str, Callable]) -> None:
    """Write ``out`` (JSON) and beside it ``<stem>.md`` and ``<stem>.<name>.png``."""
    out = write_json(out, report)
    out.with_suffix(".md").write_text(table, encoding="utf-8")
    if find_spec("matplotlib") is None:
        print("no figures: they need matplotlib, pip install 'aikit[notebooks]'", file=sys.stderr)
        return
    for name, draw in drawings.items():
        draw().savefig(
            out.with_name(f"{out.stem}.{name}.png"), dpi=120, metadata={"Software": None}
        )


# --- figures ---------------------------------------------------------------------------------------
def figures(report: dict) -> dict[str, Callable]:
    """What can be drawn of a tier: name -> a function that returns the figure."""
    drawings = {"domains": lambda: paper_bars(report), "confusion": lambda: confusion_bars(report)}
    if report["threshold_curve"]:
        drawings["threshold"] = lambda: curve(report)
    return drawings


def paper_bars(report: dict):
    """Accuracy and balanced accuracy by domain with intervals, beside the paper's published row."""
    from aikit.charts import domain_bars

    paper, bars = PAPER[report["tier"]], {}
    for name, scores in report["domains"].items():
        bars[name] = {
            key: (scores[key], *scores["intervals"][key])
            for key in ("accuracy", "balanced_accuracy")
            if scores["intervals"][key]
        }
        bars[name] |= {"paper's model, published clips": paper[name]} if name in paper else {}
    return domain_bars(bars)


def curve(report: dict):
    """Scores over the threshold, the one in use marked."""
    from aikit.charts import threshold_curve

    return threshold_curve(report["threshold_curve"], report.get("threshold"))


def confusion_bars(report: dict):
    """Hits, misses, false alarms and correct silences of every sub-domain, in clips."""
    from aikit.charts import BLUE, GREEN, ORANGE, RED, rows_of_axes, styled

    rows = {
        f"{name} ({domain.split()[0]})": counts_of(scores)
        for domain, part in report["domains"].items()
        for name, scores in part["sub_domains"].items()
    }
    looks = (("hit", GREEN), ("missed", RED), ("false alarm", ORANGE), ("rightly silent", BLUE))

    @styled
    def draw():
        figure, (ax,) = rows_of_axes([0.24 * len(rows) + 0.5], width=8.0)
        left = [0] * len(rows)
        for i, (label, colour) in enumerate(looks):
            width = [counts[i] for counts in rows.values()]
            ax.barh(range(len(rows)), width, 0.8, left=left, color=colour, label=label)
            left = [a + b for a, b in zip(left, width, strict=True)]
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{report['tier']} tier, decisions")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
        return figure

    return draw()


def counts_of(scores: dict) -> list[int]:
    """Hits, misses, false alarms and correct silences of a group of cases."""
    due, idle = scores["n_respond"], scores["n"] - scores["n_respond"]
    hits, alarms = (
        round((scores["hit_rate"] or 0) * due),
        round((scores["false_alarm_rate"] or 0) * idle),
    )
    return [hits, due - hits, alarms, idle - alarms]
