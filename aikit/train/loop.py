"""One training loop for every stage and every machine (paper §3.3).

Knows steps, checkpoints and logs. Does not know what the data means (`data.py`) or which stages there are
(`recipe.py`). Taught in notebook 02.

The state of a run is a folder: ``checkpoint/`` (weights, optimiser, schedule, random state; replaced
atomically), ``metrics.jsonl`` (one line a logged step), and at the end ``model/``, a folder that
`aikit.load` reads. Starting the same run again goes on where it was, to the same losses.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from aikit.config import ModelConfig, preset
from aikit.model.modeling import AudioInteractionModel
from aikit.synth.abilities import N_CHUNKS, Sources, all_texts
from aikit.tokens import Tokenizer
from aikit.train import recipe
from aikit.train.data import StageData, TrainingBatch
from aikit.train.hearing import HearingHead
from aikit.train.recipe import Stage


@dataclass(frozen=True)
class TrainConfig:
    """What to train and where to keep it."""

    out: Path
    model: ModelConfig = field(default_factory=lambda: preset("tiny"))
    stages: tuple[Stage, ...] = recipe.STAGES
    real: tuple[str, ...] = ()  # folders of real recordings
    seed: int = 0
    n_chunks: int = N_CHUNKS
    workers: int = 1  # processes that make data while the device computes
    precision: str = "auto"  # "fp32", "bf16", "fp16", or what the device is good at
    log_every: int = 10  # steps
    save_every: int = 200  # steps
    start_from: Path | None = None  # weights to begin with: a folder of save_pretrained


class Trainee(nn.Module):
    """The model with the head that teaches its tower to hear; only the model is shipped."""

    def __init__(self, model: AudioInteractionModel):
        super().__init__()
        self.model = model
        self.head = HearingHead(model.tower.output_width, model.shape)

    def forward(self, data: TrainingBatch, stage: Stage) -> dict[str, torch.Tensor]:
        """The losses of one batch; ``loss`` is what the stage minimises."""
        batch = data.batch
        tower_frames, _ = self.model.tower.encode(batch.mel)
        losses = {"loss": tower_frames.sum() * 0.0}
        if stage.hear_weight and stage.layout != "offline":
            losses["hear"] = self.head(tower_frames, data.hearing)
            losses["loss"] = losses["loss"] + stage.hear_weight * losses["hear"]
        if stage.layout != "hear":
            out = self.model(
                batch.input_ids,
                self.model.adapter(tower_frames),
                labels_stream=batch.labels_stream,
                labels_lm=batch.labels_lm,
            )
            losses |= {"lm": out.loss_lm, "stream": out.loss_stream}
            losses["loss"] = losses["loss"] + out.loss
        return losses

    def train_only(self, parts: tuple[str, ...]) -> None:
        """Freeze all but the named parts; a frozen tower also keeps its batch statistics."""
        for name in recipe.EVERYTHING:
            getattr(self.model, name).requires_grad_(name in parts)
        self.train()
        self.model.tower.train("tower" in parts)


def best_precision(device: torch.device) -> str:
    """bf16 only where the machine has it: a T4 merely emulates it, and so do older processors."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        has = any(getattr(torch.cpu, name, lambda: False)() for name in native)
        return "bf16" if has else "fp32"
    return "fp32"


def schedule(step: int, n_steps: int) -> float:
    """Linear warm-up, then a cosine to a tenth: the factor on a stage's learning rate."""
    warm_up = max(1, round(recipe.WARM_UP * n_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))


def train(config: TrainConfig, progress: bool = True, sources: Sources | None = None) -> Path:
    """Run the stages one after the other, resuming what is there; return the model's folder.

    ``sources`` replaces what ``config.real`` names: a library of your own, or a small one.

    Raises
    ------
    FloatingPointError
        When a loss is not finite; the checkpoint before it is kept.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    automatic = config.precision == "auto"
    precision = best_precision(PartialState().device) if automatic else config.precision
    AcceleratorState._reset_state()  # a notebook may train twice, in two precisions
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    config.out.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(config)
    torch.manual_seed(config.seed)
    trainee = Trainee(_initial_model(config))
    sources = sources or Sources.with_real(config.real)
    if config.workers:
        sources.preload(progress)
    done = _read_position(config.out)
    for number, stage in enumerate(config.stages):
        if number >= done["stage"]:
            first = done["step"] if number == done["stage"] else 0
            data = StageData(
                stage, sources, tokenizer, trainee.model.shape, config.seed, config.n_chunks, number
            )
            run_stage(config, accelerator, trainee, data, first, progress)
    return save_model(trainee.model, tokenizer, config.out / "model")


def run_stage(config, accelerator, trainee: Trainee, data: StageData, first: int, progress: bool):
    """Train one stage from step ``first`` on."""
    from tqdm import tqdm

    stage = data.stage
    trainee.train_only(stage.trainable)
    optimizer = torch.optim.AdamW(
        [weight for weight in trainee.parameters() if weight.requires_grad],
        stage.learning_rate, recipe.BETAS, recipe.EPSILON, recipe.WEIGHT_DECAY,
    )  # fmt: skip
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, stage.steps))
    todo = Subset(data, range(first * stage.batch, len(data)))
    loader = DataLoader(
        todo, stage.batch, num_workers=config.workers, collate_fn=data.collate,
        prefetch_factor=4 if config.workers else None,
    )  # fmt: skip
    prepared, optimizer, plan, loader = accelerator.prepare(trainee, optimizer, plan, loader)
    if first or (config.out / "checkpoint").exists():
        _restore(config.out, accelerator, trainee, optimizer, plan, same_stage=first > 0)
    log = Log(config, stage, first)
    bar = tqdm(loader, f"stage {stage.name}", disable=not progress, mininterval=2.0)
    for step, batch in enumerate(bar, first + 1):
        with accelerator.autocast():
            losses = prepared(_on(batch, accelerator.device), stage)
        if not torch.isfinite(losses["loss"]):
            raise FloatingPointError(
                f"the loss became {losses['loss'].item()} at step {step} of stage {stage.name}; "
                f"lower its learning rate, or use precision fp32. {config.out} keeps the last checkpoint"
            )
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(prepared.parameters(), recipe.CLIP_NORM)
        optimizer.step()
        plan.step()
        optimizer.zero_grad()
        bar.set_postfix(log.add(step, losses, plan.get_last_lr()[0]))
        if step % config.save_every == 0 or step == stage.steps:
            last = step == stage.steps
            position = (data.number + 1, 0) if last else (data.number, step)
            _checkpoint(config.out, trainee, optimizer, plan, *position)


def _on(batch: TrainingBatch, device) -> TrainingBatch:
    return TrainingBatch(batch.batch.to(device), batch.hearing)


class Log:
    """Averages losses over ``log_every`` steps and appends them to ``metrics.jsonl``."""

    def __init__(self, config: TrainConfig, stage: Stage, step: int):
        self.config, self.stage = config, stage
        self.sums: dict[str, float] = {}
        self.count, self.began, self.shown = 0, time.perf_counter(), {}

    def add(self, step: int, losses: dict[str, torch.Tensor], rate: float) -> dict[str, str]:
        """Note one step; returns what a progress bar should show."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.count += 1
        if step % self.config.log_every == 0 or step == self.stage.steps:
            self._write(step, rate)
        return self.shown

    def _write(self, step: int, rate: float) -> None:
        seconds = time.perf_counter() - self.began
        row = {"stage": self.stage.name, "step": step, "rate": rate}
        row |= {name: round(total / self.count, 5) for name, total in self.sums.items()}
        row["streams_per_s"] = round(self.count * self.stage.batch / seconds, 2)
        with open(self.config.out / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.shown = {k: f"{row[k]:.3g}" for k in (*self.sums, "streams_per_s")}
        self.sums, self.count, self.began = {}, 0, time.perf_counter()


def _checkpoint(out: Path, trainee, optimizer, plan, stage: int, step: int) -> None:
    """Write everything a resumed run needs, then put it in place in one step."""
    new, old = out / "checkpoint.new", out / "checkpoint"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    state = {
        "trainee": trainee.state_dict(),
        "optimizer": optimizer.state_dict(),
        "plan": plan.state_dict(),
        "stage": stage,
        "step": step,
    }
    torch.save(state, new / "state.pt")
    (new / "position.json").write_text(json.dumps({"stage": stage, "step": step}))
    gone = out / "checkpoint.old"
    shutil.rmtree(gone, ignore_errors=True)
    if old.exists():
        os.replace(old, gone)
    os.replace(new, old)
    shutil.rmtree(gone, ignore_errors=True)


def _read_position(out: Path) -> dict[str, int]:
    """Where a run stands: the stage to go on with and the steps of it that are done."""
    old, gone = out / "checkpoint", out / "checkpoint.old"
    if not old.exists() and gone.exists():  # killed between two renames
        os.replace(gone, old)
    path = old / "position.json"
    return json.loads(path.read_text()) if path.exists() else {"stage": 0, "step": 0}


def _restore(out: Path, accelerator, trainee, optimizer, plan, same_stage: bool) -> None:
    state = torch.load(out / "checkpoint" / "state.pt", accelerator.device, weights_only=True)
    trainee.load_state_dict(state["trainee"])
    if same_stage:
        optimizer.load_state_dict(state["optimizer"])
        plan.load_state_dict(state["plan"])


def _tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer of the weights to start from, or a new one from the kit's texts."""
    path = config.out / "tokenizer.json"
    if not path.exists():
        if config.start_from is not None:
            shutil.copy(Path(config.start_from) / "tokenizer.json", path)
        else:
            Tokenizer.train(all_texts(), config.model.decoder.vocab).save(path)
    return Tokenizer.load(path)


def _initial_model(config: TrainConfig) -> AudioInteractionModel:
    if config.start_from is not None:
        return AudioInteractionModel.from_pretrained(config.start_from)
    return AudioInteractionModel.from_preset(config.model, config.seed)


def save_model(model: AudioInteractionModel, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write a folder that `aikit.load` reads: weights in float16, configuration, tokenizer."""
    import copy

    from transformers.utils import logging

    logging.disable_progress_bar()
    copy.deepcopy(model).to(torch.float16).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder
