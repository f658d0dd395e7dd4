"""What does each choice of the paper buy? Train with one thing changed, and measure (`aikit train --ablate`).

Knows the settings of six comparisons, and the paper's own figures for them (paper §4, §5). Does not know how a
model is trained (`aikit.train`) or judged (`streams.py`). Taught in notebook 02.

Every setting trains from nothing on the same seeds, with a small model and a small budget, and is then judged
on the same held-out streams. The paper's model has a thousand times the weights and a million times the data:
compare directions, not heights, and mind how far two seeds lie apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from aikit.bench.report import write_json
from aikit.bench.stats import shown
from aikit.bench.streams import heard, summary
from aikit.config import ModelConfig, preset
from aikit.synth.abilities import GROUPS, Sources
from aikit.synth.clips import ClipLibrary
from aikit.synth.grounding import Rules
from aikit.synth.verifier import Verdict
from aikit.train.loop import TrainConfig, train
from aikit.train.recipe import STAGES, Stage

Mix = tuple[tuple[str, float], ...]
CONTEXT_S = 3.2  # that the tower remembers, however long a chunk is
STREAM_S = 12.0  # a stream to train on
HAZARDS: Mix = (("proactive", 0.75), ("silence", 0.25))


@dataclass(frozen=True)
class Setting:
    """One row of a table: what is changed against the kit's own choice, and what the paper found."""

    name: str
    weight: float = 1.0  # λ of L = L_LM + λ·L_stream
    chunk_ms: int = 400
    made: str = "carefully"  # its training streams: a key of `MADE`
    mix: Mix = HAZARDS  # of the training streams
    heard: tuple[str, ...] = GROUPS["proactive"]  # sub-tasks that it is judged on
    paper: tuple[str, ...] = ()  # cells as the paper has them

    def shape(self, model: ModelConfig) -> ModelConfig:
        """The model with this λ and this chunk; its tower remembers as many seconds as ever."""
        context = round(CONTEXT_S * 1000 / self.chunk_ms)
        return replace(
            model,
            stream_weight=self.weight,
            audio=replace(model.audio, chunk_ms=self.chunk_ms),
            tower=replace(model.tower, context_chunks=context),
        )

    def key(self) -> str:
        """A folder's name: two comparisons share what they have in common."""
        groups = "-".join(f"{name}{share:g}" for name, share in self.mix)
        return f"w{self.weight:g}-c{self.chunk_ms}-{self.made.replace(' ', '_')}-{groups}"


# --- the streams, made with less care ------------------------------------------------------------------
class Credulous(Rules):
    """Takes the first clip that retrieval names, whatever it sounds like."""

    name = "credulous"

    def refine(self, scenario):
        """As planned."""
        return scenario

    def verify(self, need, entry, facts) -> Verdict:
        """Everything fits."""
        return Verdict("accept", "not looked at")


def _unprocessed() -> Sources:
    """Clips joined as they were recorded: silences, noise and all."""
    return replace(Sources.embedded(), sounds=ClipLibrary.bundled())


def _unselected() -> Sources:
    """Scenes as planned and clips as found: nobody refines or verifies."""
    return replace(Sources.embedded(), planner=Credulous())


MADE: dict[str, Callable[[], Sources]] = {
    "carefully": Sources.embedded,
    "without TFJP": _unprocessed,
    "without selection": _unselected,
    "held out": lambda: Sources.embedded(held_out=True),
}


@cache
def sources_made(how: str) -> Sources:
    """What streams are made of; rendered once, for all the runs of a comparison."""
    return MADE[how]()


# --- the comparisons -----------------------------------------------------------------------------------
_HISTORY: Mix = (("proactive", 0.45), ("silence", 0.25), ("history", 0.30))
_BOTH = GROUPS["proactive"] + GROUPS["history"]
PAPER_COLUMNS = {
    "lambda": ("trigger", "MMAU"),
    "chunk": ("MMAU", "latency ms", "AlpacaEval"),
    "tfjp": ("trigger",),
    "events": ("trigger",),
    "silence": (),
    "history": (),
}
KINDS: dict[str, tuple[Setting, ...]] = {
    "lambda": (
        Setting("λ = 0.5", weight=0.5, paper=("95.3 %", "58.3")),
        Setting("λ = 1", paper=("96.7 %", "58.2")),
        Setting("λ = 2", weight=2.0, paper=("96.9 %", "57.3")),
    ),
    "chunk": (
        Setting("0.2 s", chunk_ms=200, paper=("49.74", "258", "3.41")),
        Setting("0.4 s", paper=("58.15", "392", "4.28")),
        Setting("0.6 s", chunk_ms=600, paper=("58.46", "674", "4.27")),
        Setting("0.8 s", chunk_ms=800, paper=("59.13", "786", "4.30")),
    ),
    "tfjp": (
        Setting("with TFJP", paper=("96.77 %",)),
        Setting("without", made="without TFJP", paper=("85.35 %",)),
    ),
    "events": (
        Setting("selected events", paper=("96.77 %",)),
        Setting("unselected", made="without selection", paper=("88.51 %",)),
    ),
    "silence": (
        Setting("with silence"),
        Setting("without", mix=(("proactive", 1.0),)),
    ),
    "history": (
        Setting("with history review", mix=_HISTORY, heard=_BOTH),
        Setting("without", heard=_BOTH),
    ),
}


# --- running them --------------------------------------------------------------------------------------
def stages(mix: Mix, scale: float = 1.0) -> tuple[Stage, ...]:
    """The small budget: the tower learns to hear, then all of the model to listen and answer."""
    hear, streaming = (s for s in STAGES if s.name in ("hear", "streaming"))
    return tuple(
        replace(stage, steps=max(1, round(steps * scale)), mix=mix)
        for stage, steps in ((hear, 120), (streaming, 200))
    )


def run(
    kind: str,
    out: str | Path,
    seeds: Sequence[int] = (0, 1),
    scale: float = 1.0,
    model: ModelConfig | None = None,
    n_streams: int = 80,
    progress: bool = True,
) -> dict:
    """Train and judge every setting of a comparison with every seed; what is done already is kept.

    Parameters
    ----------
    kind : one of `KINDS`
    out : folder; one run folder a setting and seed, shared between comparisons, and ``KIND.json``
    scale : factor on the training steps
    model : shape; None = the preset ``mini``
    n_streams : held-out ones, the same for every setting

    Returns
    -------
    dict
        ``rows``: one a setting, with the scores of every seed.

    Raises
    ------
    ValueError
        For an unknown comparison, or no seed.
    """
    if kind not in KINDS:
        raise ValueError(f"no ablation {kind!r}; choose one of: {', '.join(KINDS)}")
    if not seeds:
        raise ValueError("give at least one seed, and two to see how far chance goes")
    model, rows, settings = model or preset("mini"), [], KINDS[kind]
    for setting in settings:
        found = []
        for seed in seeds:
            if progress:
                print(f"{kind}: {setting.name}, seed {seed}", flush=True)
            folder = Path(out) / f"{setting.key()}-seed{seed}"
            found.append(_one(setting, folder, model, seed, scale, n_streams, progress))
        rows.append({"setting": setting.name, "paper": list(setting.paper), "seeds": found})
    report = {
        "kind": kind, "model": model.name, "seeds": list(seeds), "streams_trained": _streams(settings[0], scale),
        "streams_heard": n_streams, "paper_columns": list(PAPER_COLUMNS[kind]), "rows": rows,
    }  # fmt: skip
    write_json(Path(out) / f"{kind}.json", report)
    return report


def _streams(setting: Setting, scale: float) -> int:
    return sum(stage.steps * stage.batch for stage in stages(setting.mix, scale))


def _one(setting: Setting, folder: Path, model, seed, scale, n_streams, progress) -> dict:
    """Train one setting with one seed, unless it is done, and judge it."""
    import aikit

    plan, path = stages(setting.mix, scale), folder / f"heard-{len(setting.heard)}x{n_streams}.json"
    if path.exists():
        return json.loads(path.read_text("utf-8"))
    shape = setting.shape(model)
    config = TrainConfig(
        folder, shape, plan, seed=seed, n_chunks=round(STREAM_S / shape.audio.chunk_s), workers=1
    )
    assistant = aikit.load(train(config, progress, sources_made(setting.made)), "cpu")
    sources, start = sources_made("held out"), time.process_time()
    rows, _, minutes = heard(assistant, sources, setting.heard, n_streams, grid=shape.audio)
    scores = summary(rows)
    delays = [row.delay_s * 1000 for row in rows if row.delay_s is not None]
    found = {
        "seed": seed, "n": scores["n"],
        "trigger": scores["balanced_accuracy"], "interval": scores["intervals"]["balanced_accuracy"],
        "hit": scores["hit_rate"], "false_alarms": scores["false_alarm_rate"],
        "right": scores["reply_right"]["share"], "delay_ms": float(np.mean(delays)) if delays else None,
        "seconds_heard": round(60 * minutes), "seconds_judged": round(time.process_time() - start, 1),
    }  # fmt: skip
    write_json(path, found)
    return found


# --- the table -----------------------------------------------------------------------------------------
COLUMNS = {
    "trigger": "trigger accuracy", "hit": "hit rate", "false_alarms": "false alarms", "right": "replies right",
    "delay_ms": "delay ms",
}  # fmt: skip


def markdown(report: dict) -> str:
    """The comparison as a table: ours as mean (lowest to highest seed), then the paper's figures."""
    paper = [f"paper: {name}" for name in report["paper_columns"]]
    lines = [
        f"| {report['kind']} | " + " | ".join([*COLUMNS.values(), *paper]) + " |",
        "|---" * (1 + len(COLUMNS) + len(paper)) + "|",
    ]
    for row in report["rows"]:
        cells = [_over_seeds([seed[key] for seed in row["seeds"]]) for key in COLUMNS]
        lines.append(f"| {row['setting']} | " + " | ".join([*cells, *row["paper"]]) + " |")
    return "\n".join(lines)


def _over_seeds(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    form = shown if max(known) <= 1.0 else "{:.0f}".format
    mean = form(float(np.mean(known)))
    return f"{mean} ({form(min(known))}–{form(max(known))})" if len(known) > 1 else mean
