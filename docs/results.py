"""Write the measured numbers where people read them: README.md and the checkpoint's model card.

    python docs/results.py            rewrite both from docs/results/
    python docs/results.py --check    change nothing; exit 1 if one differs

`docs/results/` holds what the commands in `RUNS` wrote; the training log lies with the checkpoint. Nothing
here is typed in: a number that is not in those files is not in the tables.
"""

import json
import sys
from pathlib import Path

from aikit.bench import stats
from aikit.train import recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
CARD = ROOT / "data_samples" / "checkpoint" / "README.md"

RUNS = {  # file -> (what it is, the command that made it)
    "eval/synthetic": ("Held-out streams, the kit's own sounds and voices", "aikit eval"),
    "eval/real": ("Held-out streams with real recordings", "aikit eval --real ESC-10 FSDD"),
    "mini_bench": ("Bundled mini benchmark", "aikit bench proactive"),
    "esc10_fold4": ("ESC-10 fold 4, 80 real clips", "aikit bench manifest ESC-10 --folds 4 --out M; "
                    "aikit bench proactive --manifest M --root ESC-10"),
}
ROWS = (  # what a row shows -> the key of the score
    ("balanced accuracy", "balanced_accuracy"),
    ("hit rate", "hit_rate"),
    ("false alarm rate", "false_alarm_rate"),
)


def shown(value: float | None, bounds: list[float] | None = None) -> str:
    """A score, with its interval if there is one: ``0.622 [0.55..0.69]``."""
    return stats.shown(value) + (f" [{stats.shown(bounds)}]" if bounds else "")


def load(name: str) -> dict | None:
    """One result file, or a part of one (``eval/real``); None when it was not run."""
    file, _, part = name.partition("/")
    path = RESULTS / f"{file}.json"
    report = json.loads(path.read_text("utf-8")) if path.exists() else None
    return report.get(part) if part and report else report


def rows_of(name: str, report: dict) -> list[tuple[str, str, str]]:
    """(what, measured, baseline) of one run."""
    constant = {key: base for key, base in report["baselines"].items() if "always" in key}
    silent = next(base for key, base in constant.items() if "silent" in key or "ignore" in key)
    out = []
    for what, key in ROWS:
        measured = shown(report[key], report["intervals"][key])
        out.append((what, measured, shown(silent[key])))
    if name.startswith("eval"):
        right = report["reply_right"]
        out.append(("replies right", shown(right["share"], right["interval"]), "–"))
        hazards = report["abilities"]["proactive response"]
        for what, key in ROWS:
            out.append((f"hazards: {what}", shown(hazards[key], hazards["intervals"][key]), "–"))
        told = hazards["reply_right"]
        out.append(("hazards: replies right", shown(told["share"], told["interval"]), "–"))
        for what, key, rate in (("digit error rate", "digit_errors", "wer"),
                                ("word error rate", "word_errors", "wer")):  # fmt: skip
            errors = report[key]
            out.append((what, shown(errors[rate], errors["interval"]), "1.000"))
    else:
        majority = report["majority_accuracy"]
        measured = shown(report["accuracy"], report["intervals"]["accuracy"])
        out.append(("accuracy", measured, f"{majority:.3f} (majority)"))
    return out


def table() -> str:
    """The results as Markdown."""
    lines = ["| measured on | what | model [95 % interval] | always silent |", "|---|---|---|---|"]
    for name, (what, command) in RUNS.items():
        if report := load(name):
            title = f"**{what}**, n = {report['n']}: `{command}`"
            for label, measured, baseline in rows_of(name, report):
                lines.append(f"| {title} | {label} | {measured} | {baseline} |")
                title = ""
    return "\n".join(lines)


def by_task() -> str:
    """Reply correctness of every sub-task, in V-syn and V-real."""
    lines = ["| sub-task | due | hit | right | false alarms | right (real) |", "|---|---|---|---|---|---|"]
    own, real = load("eval/synthetic"), load("eval/real")
    for task, scores in (own or {}).get("sub_tasks", {}).items():
        other = (real or {}).get("sub_tasks", {}).get(task)
        lines.append(
            f"| {task} | {scores['n_due']} | {shown(scores['hit_rate'])} | "
            f"{shown(scores['reply_right']['share'])} | {shown(scores['false_alarm_rate'])} | "
            f"{shown(other['reply_right']['share']) if other else '–'} |"
        )
    return "\n".join(lines)


def goals() -> str:
    """What the kit set out to reach, what it reached, and whether that is enough."""
    own, real, digits, counts, pairs = (
        load(f"eval/{part}") for part in ("synthetic", "real", "digits", "counts", "pairs")
    )
    if not (own and real and digits and counts and pairs):
        return ""
    tasks = own["sub_tasks"]
    translated = [tasks[t]["reply_right"]["share"] for t in ("en→es", "es→en", "en→zh", "simultaneous")]
    worst = min(tasks, key=lambda task: tasks[task]["reply_right"]["share"] or 0.0)
    hazards = {name: part["abilities"]["proactive response"] for name, part in (("own", own), ("real", real))}
    kept = load("eval/segments")["online"][-1]["kept"]["value"]
    rows = (  # what, measured, goal, whether more is better
        ("balanced trigger accuracy, own sounds", own["balanced_accuracy"], 0.97, True),
        ("balanced trigger accuracy, real recordings", real["balanced_accuracy"], 0.93, True),
        ("hazards answered, own sounds", hazards["own"]["hit_rate"], 0.95, True),
        ("false alarms in hazard streams, own sounds", hazards["own"]["false_alarm_rate"], 0.03, False),
        ("hazards answered, real recordings", hazards["real"]["hit_rate"], 0.90, True),
        ("false alarms in hazard streams, real recordings", hazards["real"]["false_alarm_rate"], 0.06, False),
        ("replies right, all abilities", own["reply_right"]["share"], 0.90, True),
        (f"replies right in the weakest sub-task ({worst})", tasks[worst]["reply_right"]["share"], 0.70, True),
        (f"counting: {counts['n']} questions how many there were", counts["share"], 0.80, True),
        ("history: slots remembered", tasks["slots remembered"]["reply_right"]["share"], 0.80, True),
        ("translation, combinations held out", sum(translated) / len(translated), 0.75, True),
        (f"digit error rate, {digits['n_words']} digits of the unseen real speaker", digits["wer"], 0.08, False),
        ("counterfactual pairs, both sides right", pairs["both_right"]["share"], 0.90, True),
        ("kept over five segments", kept, 0.95, True),
    )
    if quarter := load("quarter"):  # another model: that of notebook 02
        told = quarter["hazards"]
        what = (f"hazards told right by notebook 02's model, {quarter['minutes']:.0f} minutes from nothing "
                f"(false alarms {shown(told['false_alarm_rate'])})")  # fmt: skip
        rows += ((what, told["reply_right"]["share"], 0.84, True),)
    lines = ["| goal | measured | wanted | |", "|---|---|---|---|"]
    for what, measured, wanted, more in rows:
        met = measured is not None and (measured >= wanted if more else measured <= wanted)
        lines.append(f"| {what} | {shown(measured)} | {'≥' if more else '≤'} {wanted:.2f} | {'met' if met else 'not met'} |")
    return "\n".join(lines)


PUBLISHED_LISTEN_MS = (32, 35, 40)  # the published code with 200, 1,000 and 3,000 positions, a similar machine


def inference() -> str:
    """What listening costs: endlessly, step by step, and around the queue."""
    endless, steps, fifo = (load(name) for name in ("endless", "steps", "fifo"))
    lines = ["| measured on one core | how | result |", "|---|---|---|"]
    if endless:
        hours = endless["hours"]
        ms, mb = ([hour[key] for hour in hours] for key in ("ms_per_chunk", "resident_mb"))
        same, minutes = (sum(hour[key] for hour in hours) for key in ("same_replies", "minutes"))
        how = f"`docs/endless.py`, {endless['chunks'] * 0.4 / 3600:.1f} h of audio, {endless['chunks']:,} chunks"
        lines += [
            f"| time a chunk, first / last hour | {how} | {ms[0]:.1f} / {ms[-1]:.1f} ms ({ms[-1] / ms[0]:.2f}) |",
            f"| memory, after a minute / at the end | same | {endless['resident_mb_after_1_min']:.1f} / {mb[-1]:.1f} MB |",
            f"| the same scene, the same replies | same | {same} of {minutes} minutes |",
        ]
    if steps:
        tiny = steps["tiny"]
        lines.append(f"| perceive + decide, `tiny` | `docs/steps.py` | {tiny['perceive_and_decide_ms']:.1f} ms a chunk, "
                     f"real-time factor {tiny['real_time_factor']:.3f} |")  # fmt: skip
        for row, published in zip(steps["mid"], PUBLISHED_LISTEN_MS, strict=True):
            here = row["growing_listen_ms"]  # as the published code does it, on the machine of this table
            lines.append(f"| listen, mid-size, {row['positions']:,} positions | `docs/steps.py` | {row['listen_ms']:.1f} ms, "
                         f"{row['listen_ms'] / here:.0%} of {here:.1f} ms as published (there {published} ms) |")  # fmt: skip
        best = max(steps["pool"], key=lambda row: row["streams_at_real_time"])
        lines.append(f"| sessions at real time, `tiny` | `docs/steps.py` | {best['streams_at_real_time']} in a pool of {best['rows']} |")
    if fifo:
        plain, queue = (fifo["live"][name] for name in ("synchronous", "FIFO"))
        lines.append(f"| stalls, without / with the queue | `aikit profile --preset {fifo['setting']['model']}` | "
                     f"{plain['stalls']:.1%} / {queue['stalls']:.1%} |")  # fmt: skip
        for what, key in (("first chunk of a reply", "first_chunk_ms"), ("listening again", "resume_ms")):
            a, b = (run[key]["mean"] for run in (plain, queue))
            lines.append(f"| {what}, without / with the queue | same | {a:,.0f} / {b:,.0f} ms, 1/{a / b:.1f} |")
    return "\n".join(lines)


def ablations() -> str:
    """One thing changed at a time, beside the paper's figures."""
    from aikit.bench.ablate import KINDS, markdown

    parts = []
    for kind in KINDS:
        if report := load(kind):
            parts.append(f"`aikit train --ablate {kind}`: {report['streams_trained']:,} streams, judged on "
                         f"{report['streams_heard']} held-out ones; mean (lowest–highest) of seeds {report['seeds']}\n\n"
                         + markdown(report))  # fmt: skip
    return "\n\n".join(parts)


def curve() -> str:
    """What more streams of training brought; of pairs, the share with both sides right."""
    families = ("tell", "count", "agent", "hazard", "name")
    heads = ("streams of training", "balanced accuracy", "hit rate", "false alarms", "replies right", "digit errors",
             "word errors", *(f"pairs: {family}" for family in families))  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    keys = ("balanced_accuracy", "hit_rate", "false_alarm_rate", "reply_right", "digit_error_rate", "word_error_rate")
    for point in load("curve") or ():
        of_pairs = [point.get("pairs", {}).get(family, {}).get("both_right") for family in families]
        cells = [*(shown(point[key]) for key in keys), *(map(shown, of_pairs))]
        name = f"{point['streams']:,} {point.get('note', '')}".strip()
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def training() -> str:
    """The stages as they were run, from metrics.jsonl: the streams seen and the losses they ended with."""
    lines = ["| stage | steps | batch | learning rate | last losses (hear / text / decision) |",
             "|---|---|---|---|---|"]  # fmt: skip
    logged = [json.loads(line) for line in (CARD.parent / "metrics.jsonl").read_text("utf-8").splitlines()]
    for number, stage in enumerate(recipe.STAGES):
        rows = [row for row in logged if row["stage"] == stage.name]
        if not rows:
            lines.append(f"| {number} {stage.name} | not run | – | – | – |")
            continue
        last = rows[-1]
        losses = " / ".join(f"{last[key]:.2f}" if key in last else "–" for key in ("hear", "lm", "stream"))
        lines.append(f"| {number} {stage.name} | {last['step']} | {stage.batch} | {stage.learning_rate:g} | {losses} |")
    return "\n".join(lines)


def filled(text: str, parts: dict[str, str]) -> str:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    for name, content in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    return text


def main(check: bool) -> int:
    """Rewrite or compare; 1 if a file differs in check mode."""
    parts = {
        ROOT / "README.md": {
            "results": table(), "goals": goals(), "inference": inference(), "ablations": ablations(),
        },
        CARD: {"results": table(), "goals": goals(), "tasks": by_task(), "training": training(), "curve": curve()},
    }
    differ = []
    for path, content in parts.items():
        old = path.read_text("utf-8")
        if (new := filled(old, content)) != old:
            differ.append(path.name)
            if not check:
                path.write_text(new, "utf-8")
    print("changed:" if not check else "differ:", ", ".join(differ) or "nothing")
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
