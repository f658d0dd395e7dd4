"""The folder of a training run: its log, its checkpoints, and the model at its end.

Knows files: ``checkpoint/`` (weights, optimisers, schedules; replaced atomically), ``metrics.jsonl`` (one
line a logged step) and ``model/`` (what `aikit.load` reads). Does not know how a step is made (`loop.py`).
Taught in notebook 02.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aikit.model.modeling import AudioInteractionModel
from aikit.tokens import Tokenizer
from aikit.train.recipe import Stage


class Log:
    """Averages losses over ``every`` steps and appends them to ``metrics.jsonl``; counts work."""

    def __init__(self, out: Path, stage: Stage, every: int):
        self.out, self.stage, self.every = out, stage, every
        self.sums: dict[str, float] = {}
        self.count, self.began, self.shown = 0, time.perf_counter(), {}
        self.flops, self.rates = 0, []

    @contextmanager
    def counting_flops(self):
        """Count the floating-point operations of one step, forward and backward."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            yield
        self.flops = counter.get_total_flops()

    def add(self, step: int, losses: dict[str, Tensor], rate: float) -> dict[str, str]:
        """Note one step; returns what a progress bar should show."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1
        if step % self.every == 0 or step == self.stage.steps:
            self._write(step, rate)
        return self.shown

    def _write(self, step: int, rate: float) -> None:
        seconds = time.perf_counter() - self.began
        row = {"stage": self.stage.name, "step": step, "rate": rate}
        row |= {name: round(total / self.count, 5) for name, total in self.sums.items()}
        row["streams_per_s"] = round(self.count * self.stage.batch / seconds, 2)
        with open(self.out / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.shown = {k: f"{row[k]:.3g}" for k in (*self.sums, "streams_per_s")}
        self.rates.append(row["streams_per_s"])
        self.sums, self.count, self.began = {}, 0, time.perf_counter()

    def throughput(self, device: torch.device, precision: str, stream_s: float) -> str:
        """One line: streams and audio a second, and the share of what the device can do."""
        if not self.rates:
            return f"stage {self.stage.name}: nothing left to do"
        rate = sorted(self.rates)[len(self.rates) // 2]
        used = self.flops / self.stage.batch * rate
        hours = rate * stream_s / 3600
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        part = used / peak_flops(device, dtype)
        return (f"stage {self.stage.name}: {rate:.1f} streams/s, {hours:.3f} hours of audio a second, "
                f"{used / 1e9:.0f} GFLOP/s = {part:.0%} of a large matrix product on {device}")  # fmt: skip


def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """What the device reaches on one large matrix product, the best of four, in FLOP/s."""
    a = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for a GPU, too
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


@dataclass
class State:
    """All that a stage changes."""

    trainee: nn.Module
    optimizers: list[torch.optim.Optimizer]
    plans: list[torch.optim.lr_scheduler.LRScheduler]

    def save(self, out: Path, stage: int, step: int) -> None:
        """Write everything a resumed run needs, then put it in place in one step."""
        new, old, gone = (out / f"checkpoint{suffix}" for suffix in (".new", "", ".old"))
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        state = {
            "trainee": self.trainee.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "plans": [plan.state_dict() for plan in self.plans],
        }
        torch.save(state, new / "state.pt")
        (new / "position.json").write_text(json.dumps({"stage": stage, "step": step}))
        shutil.rmtree(gone, ignore_errors=True)
        if old.exists():
            os.replace(old, gone)
        os.replace(new, old)
        shutil.rmtree(gone, ignore_errors=True)

    def restore(self, out: Path) -> None:
        """Go on in the middle of a stage; the weights themselves are back already (`restore_weights`)."""
        state = _saved(out)
        for mine, saved in zip(self.optimizers, state["optimizers"], strict=True):
            mine.load_state_dict(saved)
        for mine, saved in zip(self.plans, state["plans"], strict=True):
            mine.load_state_dict(saved)


def restore_weights(trainee: nn.Module, out: Path) -> None:
    """The weights of the last checkpoint, if there is one."""
    if (out / "checkpoint").exists():
        trainee.load_state_dict(_saved(out)["trainee"])


def _saved(out: Path) -> dict:
    return torch.load(out / "checkpoint" / "state.pt", "cpu", weights_only=True)


def read_position(out: Path) -> dict[str, int]:
    """Where a run stands: the stage to go on with and the steps of it that are done."""
    old, gone = out / "checkpoint", out / "checkpoint.old"
    if not old.exists() and gone.exists():  # killed between two renames
        os.replace(gone, old)
    path = old / "position.json"
    return json.loads(path.read_text()) if path.exists() else {"stage": 0, "step": 0}


def save_model(model: AudioInteractionModel, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write a folder that `aikit.load` reads: weights in float16, configuration, tokenizer."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    copy.deepcopy(model).to(torch.float16).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder
