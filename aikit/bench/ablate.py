"""What does each choice of the paper buy? Train with one thing changed, and measure (`aikit train --ablate`).

Knows the settings of eleven comparisons, and the paper's own figures for four of them (paper §5). Does not know
how a model is trained (`aikit.train`) or judged (`streams.py`). Taught in notebook 02.

Every setting trains from nothing on the same seeds, with a small model, few sounds and a small budget. Its
threshold is chosen on some held-out streams; it is judged on others, the same for every setting. The paper's
model has a thousand times the weights and a million times the data: compare directions, not heights, and mind
how far two seeds lie apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from aikit.bench.report import write_json
from aikit.bench.stats import shown, threshold_curve
from aikit.bench.streams import Judged, best_threshold, collect_p_respond, heard, summary
from aikit.config import AudioConfig, ModelConfig, preset
from aikit.synth.abilities import GROUPS, Sources
from aikit.synth.clips import ClipLibrary
from aikit.synth.grounding import Rules
from aikit.synth.verifier import Verdict
from aikit.train.loop import TrainConfig, train
from aikit.train.recipe import STAGES, Stage

Mix = tuple[tuple[str, float], ...]
STREAM_S = 9.6  # a stream to train on: whole chunks of any length that is compared
HEAR, STREAM, RATE = 120, 300, 3e-3  # steps of the two stages, and their learning rate
SOUNDS = frozenset({  # eleven, as in notebook 02: what a model of this size can learn in minutes
    "smoke_alarm", "siren", "cough", "thunder",
    "clock_tick", "rain", "dog_bark", "piano", "typing", "footsteps", "switch_click",
})  # fmt: skip
NEVER = 1.1  # a threshold that nothing reaches
HAZARDS: Mix = (("proactive", 0.75), ("silence", 0.25))


@dataclass(frozen=True)
class Setting:
    """One row of a table: what is changed against the kit's own choice, and what the paper found."""

    name: str
    weight: float = 1.0  # λ of L = L_LM + λ·L_stream
    chunk_ms: int = 400
    response: float = 3.0  # weight of <response> among the decisions
    context_s: float = 3.2  # that the tower remembers, however long a chunk is
    layers: int = 1  # of the decoder, as a multiple of the preset's
    width: int = 1  # of the decoder, as a multiple of the preset's
    larger: int = 1  # the run: width of the decoder and steps of training, as a multiple
    hear_first: bool = True  # stage 0 before the streams
    teacher: Setting | None = None  # its run of the same seed is learned from, beside the labels
    made: str = "carefully"  # its training streams: a key of `MADE`
    mix: Mix = HAZARDS  # of the training streams
    heard: tuple[str, ...] = GROUPS["proactive"]  # sub-tasks that it is judged on
    paper: tuple[str, ...] = ()  # cells as the paper has them

    def shape(self, model: ModelConfig) -> ModelConfig:
        """The preset with what this setting changes."""
        context, small = round(self.context_s * 1000 / self.chunk_ms), model.decoder
        wider = self.width * self.larger
        decoder = replace(
            small,
            layers=small.layers * self.layers,
            width=small.width * wider,
            mlp=small.mlp * wider,
        )
        return replace(
            model,
            stream_weight=self.weight,
            response_weight=self.response,
            audio=replace(model.audio, chunk_ms=self.chunk_ms),
            tower=replace(model.tower, context_chunks=context),
            decoder=decoder,
        )

    def key(self) -> str:
        """A folder's name: two comparisons share what they have in common."""
        groups = "-".join(f"{name}{share:g}" for name, share in self.mix)
        for name in ("response", "context_s", "layers", "width", "larger", "hear_first"):
            if (value := getattr(self, name)) != getattr(Setting, name):
                groups += f"-{name}{value:g}"
        taught = f"-taught-by-{self.teacher.key()}" if self.teacher else ""
        return f"w{self.weight:g}-c{self.chunk_ms}-{self.made.replace(' ', '_')}-{groups}{taught}"


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


MADE: dict[str, Callable[[], Sources]] = {
    "carefully": Sources.embedded,
    # clips joined as they were recorded: silences, noise and all
    "without TFJP": lambda: replace(Sources.embedded(), sounds=ClipLibrary.bundled()),
    # scenes as planned and clips as found: nobody refines or verifies
    "without selection": lambda: replace(Sources.embedded(), planner=Credulous()),
    "held out": lambda: Sources.embedded(held_out=True),
}


@cache
def sources_made(how: str) -> Sources:
    """What streams are made of; rendered once, for all the runs of a comparison."""
    sources = MADE[how]()
    return replace(sources, sounds=sources.sounds.only(lambda entry: entry.label in SOUNDS))


# --- the comparisons -----------------------------------------------------------------------------------
LARGER = Setting("the larger run itself: twice as wide, twice the streams", larger=2)
_HISTORY: Mix = (("proactive", 0.45), ("silence", 0.25), ("history", 0.30))
_BOTH = GROUPS["proactive"] + GROUPS["history"]
PAPER_COLUMNS = {
    "lambda": ("trigger", "MMAU"),
    "chunk": ("MMAU", "latency ms", "AlpacaEval"),
    "tfjp": ("trigger",),
    "events": ("trigger",),
    "silence": (),
    "history": (),
    "context": (),
    "response": (),
    "decoder": (),
    "curriculum": (),
    "distilling": (),
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
    "context": (
        Setting("8 past chunks"),
        Setting("each chunk alone", context_s=0.0),  # the paper's tower, which comes pretrained
    ),
    "response": (
        Setting("<response> weighs 1", response=1.0),
        Setting("3"),
        Setting("8", response=8.0),
    ),
    "decoder": (
        Setting("as it is"),
        Setting("twice as deep", layers=2),
        Setting("twice as wide", width=2),
    ),
    "curriculum": (
        Setting("hears first"),
        Setting("streams at once", hear_first=False),
    ),
    "distilling": (
        Setting("from labels alone"),
        Setting("and from the larger run", teacher=LARGER),
        LARGER,
    ),
}


# --- running them --------------------------------------------------------------------------------------
def stages(setting: Setting, scale: float = 1.0) -> tuple[Stage, ...]:
    """The small budget: the tower learns to hear, then all of the model to listen and answer."""
    hear, streaming = (s for s in STAGES if s.name in ("hear", "streaming"))
    plan = (
        [(hear, HEAR), (streaming, STREAM)] if setting.hear_first else [(streaming, HEAR + STREAM)]
    )
    return tuple(
        replace(
            stage, steps=max(1, round(steps * setting.larger * scale)), mix=setting.mix, learning_rate=RATE, masked=0.0
        )
        for stage, steps in plan
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
            found.append(_one(setting, Path(out), model, seed, scale, n_streams, progress))
        rows.append({"setting": setting.name, "paper": list(setting.paper), "seeds": found})
    report = {
        "kind": kind, "model": model.name, "seeds": list(seeds), "streams_trained": _streams(settings[0], scale),
        "streams_heard": n_streams, "paper_columns": list(PAPER_COLUMNS[kind]), "rows": rows,
    }  # fmt: skip
    write_json(Path(out) / f"{kind}.json", report)
    return report


def _streams(setting: Setting, scale: float) -> int:
    return sum(stage.steps * stage.batch for stage in stages(setting, scale))


def planned(setting: Setting, out: Path, model: ModelConfig, seed: int, scale: float) -> TrainConfig:
    """The run of a setting and a seed."""
    shape, teacher = setting.shape(model), None
    if setting.teacher:
        teacher = planned(setting.teacher, out, model, seed, scale).out / "model"
    return TrainConfig(
        out / f"{setting.key()}-{model.name}-x{scale:g}-seed{seed}", shape, stages(setting, scale), seed=seed,
        n_chunks=round(STREAM_S / shape.audio.chunk_s), workers=1, teacher=teacher,
    )  # fmt: skip


def _one(setting: Setting, out: Path, model, seed, scale, n_streams, progress) -> dict:
    """Train one setting with one seed, unless it is done, and judge it."""
    import aikit

    config = planned(setting, out, model, seed, scale)
    path = config.out / f"heard-{len(setting.heard)}x{n_streams}.json"
    if path.exists():
        return json.loads(path.read_text("utf-8"))
    if setting.teacher:  # first
        _one(setting.teacher, out, model, seed, scale, n_streams, progress)
    assistant = aikit.load(train(config, progress, sources_made(setting.made)), "cpu")
    start = time.process_time()
    rows, threshold, minutes = judged(assistant, setting.heard, n_streams, config.model.audio)
    scores = summary(rows)
    delays = [row.delay_s * 1000 for row in rows if row.delay_s is not None]
    found = {
        "seed": seed, "n": scores["n"], "threshold": threshold,
        "trigger": scores["balanced_accuracy"], "interval": scores["intervals"]["balanced_accuracy"],
        "hit": scores["hit_rate"], "false_alarms": scores["false_alarm_rate"],
        "right": scores["reply_right"]["share"], "delay_ms": float(np.mean(delays)) if delays else None,
        "seconds_heard": round(60 * minutes), "seconds_judged": round(time.process_time() - start, 1),
    }  # fmt: skip
    write_json(path, found)
    return found


def judged(
    assistant, tasks: Sequence[str], n_streams: int, grid: AudioConfig = AudioConfig()
) -> tuple[list[Judged], float, float]:
    """Judged events of held-out streams, the threshold chosen on as many others, and minutes of audio."""
    judge = partial(heard, assistant, sources_made("held out"), tasks, n_streams, grid=grid)
    before, _, _ = judge(seed=1, threshold=NEVER)
    threshold = best_threshold(threshold_curve(*collect_p_respond(before)))["threshold"]
    rows, _, minutes = judge(threshold=threshold)
    return rows, threshold, minutes


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
