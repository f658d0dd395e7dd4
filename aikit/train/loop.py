"""One training loop for every stage and every machine (paper §3.3).

Knows steps, devices and processes. Does not know what the data means (`data.py`), which stages there are
(`recipe.py`) or where a run is kept (`folder.py`). Taught in notebook 02.

Starting the same run again goes on where it was, to the same losses. `accelerate launch` spreads a run over
several devices.
"""

from __future__ import annotations

import math
import shutil
import timeit
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from aikit.config import ModelConfig, preset
from aikit.model.modeling import AudioInteractionModel
from aikit.synth.abilities import N_CHUNKS, Sources, all_texts
from aikit.tokens import Tokenizer
from aikit.train import folder, recipe
from aikit.train.data import StageData, TrainingBatch
from aikit.train.distil import Teacher
from aikit.train.hearing import HearingHead, half_way_up, words_loss
from aikit.train.recipe import Stage


@dataclass(frozen=True)
class TrainConfig:
    """What to train and where to keep it."""

    out: Path
    model: ModelConfig = field(default_factory=lambda: preset("tiny"))
    stages: tuple[Stage, ...] = recipe.STAGES
    real: tuple[str, ...] = ()  # folders of real recordings
    seed: int = 0
    n_chunks: int = N_CHUNKS  # of a stream; pairs take 18 s at least
    workers: int = 1  # processes that make data while the device computes
    precision: str = "auto"  # "fp32", "bf16", "fp16", or what the device is good at
    log_every: int = 10  # steps
    save_every: int = 200  # steps
    start_from: Path | None = None  # weights to begin with: a folder of save_pretrained
    teacher: Path | None = None  # a larger model, whose expectations are learned beside the labels


class Trainee(nn.Module):
    """The model with all that teaches it: a head for its tower, perhaps a larger model. Only the model is shipped."""

    def __init__(self, model: AudioInteractionModel, teacher: Teacher | None = None):
        super().__init__()
        self.model, self.teacher = model, teacher
        self.head = HearingHead(model.tower.output_width, model.shape)

    def forward(self, data: TrainingBatch, stage: Stage, counts: Tensor) -> dict[str, Tensor]:
        """The losses of one batch; ``loss`` is what the stage minimises, ``counts`` what it is a mean over."""
        batch = data.batch
        tower_frames, _ = self.model.tower.encode(batch.mel)
        losses = {"loss": tower_frames.sum() * 0.0}
        if stage.hear_weight and stage.layout != "offline":
            losses["hear"] = self.head(tower_frames, data.hearing)
            losses["loss"] = losses["loss"] + stage.hear_weight * losses["hear"]
        if stage.layout != "hear":
            with half_way_up(self.model.decoder) as hidden:
                out = self.model(
                    batch.input_ids,
                    self.model.adapter(tower_frames),
                    labels_stream=batch.labels_stream,
                    labels_lm=batch.labels_lm,
                    counts=counts,
                )
            losses |= {"lm": out.loss_lm, "stream": out.loss_stream}
            losses["loss"] = losses["loss"] + out.loss
            if self.teacher:
                losses["distil"] = self.teacher.loss(self.model, out.last_hidden_state, batch, counts)
                losses["loss"] = losses["loss"] + losses["distil"]
            if "hear" in losses:
                losses["words"] = words_loss(self.model, hidden[0], batch.input_ids, data.hearing)
                losses["loss"] = losses["loss"] + stage.hear_weight * losses["words"]
        return losses

    def train_only(self, parts: tuple[str, ...]) -> None:
        """Freeze all but the named parts; a frozen tower also keeps its batch statistics."""
        for name in recipe.EVERYTHING:
            getattr(self.model, name).requires_grad_(name in parts)
        self.train()
        self.model.tower.train("tower" in parts)


def best_precision(device: torch.device) -> str:
    """bf16 only where the machine is good at it: a T4 merely emulates it, and so do many processors."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        bf16_s, fp32_s = map(matrix_product_s, (torch.bfloat16, torch.float32))
        return "bf16" if bf16_s < 0.8 * fp32_s else "fp32"
    return "fp32"


def matrix_product_s(dtype: torch.dtype) -> float:
    """How long this processor takes for a product as the decoder has them, in seconds.

    Measured, as the processor's flags do not tell: one Xeon has instructions for bf16 and is half as fast with them.
    """
    a, b = torch.ones(1024, 256, dtype=dtype), torch.ones(256, 704, dtype=dtype)
    return min(timeit.repeat(lambda: a @ b, number=2, repeat=5))


def schedule(step: int, n_steps: int) -> float:
    """Linear warm-up, then a cosine to a tenth: the factor on a stage's learning rate."""
    warm_up = max(1, round(recipe.WARM_UP * n_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))


def train(config: TrainConfig, progress: bool = True, sources: Sources | None = None) -> Path:
    """Run the stages one after the other, resuming what is there; return the model's folder.

    ``sources`` replaces what ``config.real`` names: a library of your own, or a small one. Under
    ``accelerate launch`` every process takes its share of each batch, so that the losses stay the same.

    Raises
    ------
    FloatingPointError
        When a loss is not finite; the checkpoint before it is kept.
    """
    accelerator = open_accelerator(config.precision)
    config.out.mkdir(parents=True, exist_ok=True)
    with accelerator.main_process_first():
        tokenizer = _tokenizer(config)
    torch.manual_seed(config.seed)
    model = _initial_model(config)
    teacher = None
    if config.teacher:
        teacher = Teacher(config.teacher, model.shape, config.out / "tokenizer.json", accelerator.device)
    trainee = Trainee(model, teacher)
    sources = sources or Sources.with_real(config.real)
    if config.workers:
        sources.preload(progress)
    done = folder.read_position(config.out)
    folder.restore_weights(trainee, config.out)
    for number, stage in enumerate(config.stages):
        if number >= done["stage"]:
            first = done["step"] if number == done["stage"] else 0
            data = StageData(
                stage, sources, tokenizer, trainee.model.shape, config.seed, config.n_chunks, number
            )
            run_stage(config, accelerator, trainee, data, first, progress)
    if accelerator.is_main_process:
        folder.save_model(trainee.model, tokenizer, config.out / "model")
    return config.out / "model"


def run_stage(config, accelerator, trainee: Trainee, data: StageData, first: int, progress: bool):
    """Train one stage from step ``first`` on."""
    from tqdm import tqdm

    stage, main = data.stage, accelerator.is_main_process
    trainee.train_only(stage.trainable)
    optimizers = build_optimizers(trainee, stage)
    plans = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, stage.steps))
        for optimizer in optimizers
    ]
    loader = accelerator.prepare(_loader(config, data, first))
    state = folder.State(trainee, optimizers, plans)
    if first:
        state.restore(config.out)
    prepared = accelerator.prepare(trainee)
    # one by one: a single one comes back bare
    optimizers, plans = ([accelerator.prepare(x) for x in each] for each in (optimizers, plans))
    log = folder.Log(config.out, stage, config.log_every)
    bar = tqdm(loader, f"stage {stage.name}", disable=not (progress and main), mininterval=2.0)
    for step, batch in enumerate(bar, first + 1):
        counted = log.counting_flops() if step == first + 1 else nullcontext()
        with counted:
            losses = _step(config, accelerator, prepared, batch, stage, step)
        for optimizer, plan in zip(optimizers, plans, strict=True):
            optimizer.step()
            plan.step()
            optimizer.zero_grad()
        losses = accelerator.reduce({k: v.detach() for k, v in losses.items()}, "mean")
        if not main:
            continue
        bar.set_postfix(log.add(step, losses, plans[0].get_last_lr()[0]))
        if step % config.save_every == 0 or step == stage.steps:
            last = step == stage.steps
            state.save(config.out, *((data.number + 1, 0) if last else (data.number, step)))
    accelerator.wait_for_everyone()
    if main and progress:
        stream_s = config.n_chunks * data.config.audio.chunk_s
        print(log.throughput(accelerator.device, accelerator.mixed_precision, stream_s))


def _step(config, accelerator, trainee, batch: TrainingBatch, stage: Stage, step: int) -> dict:
    """Forward and backward of one batch; its losses."""
    batch = TrainingBatch(batch.batch.to(accelerator.device), batch.hearing)
    model = accelerator.unwrap_model(trainee).model
    # over all processes, divided by their number: the mean of their losses is then that of one process
    counts = accelerator.reduce(model.count_targets(batch.batch.labels_lm, batch.batch.labels_stream), "mean")
    with accelerator.autocast():
        losses = trainee(batch, stage, counts)
    if not torch.isfinite(losses["loss"]):
        raise FloatingPointError(
            f"the loss became {losses['loss'].item()} at step {step} of stage {stage.name}; "
            f"lower its learning rate, or use precision fp32. {config.out} keeps the last checkpoint"
        )
    accelerator.backward(losses["loss"])
    accelerator.clip_grad_norm_(trainee.parameters(), recipe.CLIP_NORM)
    return losses


def build_optimizers(trainee: Trainee, stage: Stage) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the first and the last layer, AdamW for everything else.

    The paper uses AdamW alone. At kit scale the decoder starts from nothing: over the same 640 streams behind a
    trained tower the text loss came down to 3.76 with Muon and 4.96 with AdamW (tiny, one seed).
    """
    weights = [(n, w) for n, w in trainee.named_parameters() if w.requires_grad]
    hidden = [w for n, w in weights if w.ndim == 2 and (".layers." in n or ".adapter." in n)]
    ids = {id(weight) for weight in hidden}
    rest = [weight for _, weight in weights if id(weight) not in ids]
    rate, decay = stage.learning_rate, recipe.WEIGHT_DECAY
    adamw = torch.optim.AdamW(rest, rate, recipe.BETAS, recipe.EPSILON, decay)
    if not hidden:
        return [adamw]
    return [adamw, torch.optim.Muon(hidden, rate, decay, adjust_lr_fn="match_rms_adamw")]


def process_state():
    """Which of the launched processes this is, and its device (accelerate's `PartialState`)."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # it would not see that there are several on a CPU unless told so
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def open_accelerator(precision: str):
    """The device, the number of processes and the precision; every process takes its share of a batch."""
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.state import AcceleratorState

    if precision == "auto":
        precision = best_precision(process_state().device)
    AcceleratorState._reset_state()  # a notebook may train twice, in two precisions
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )


def _loader(config: TrainConfig, data: StageData, first: int) -> DataLoader:
    """The batches of a stage from step ``first`` on, made ahead in worker processes."""
    todo = Subset(data, range(first * data.stage.batch, len(data)))
    return DataLoader(
        todo, data.stage.batch, num_workers=config.workers, collate_fn=data.collate,
        prefetch_factor=4 if config.workers else None,
    )  # fmt: skip


def _tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer of the weights to start from or of the teacher, or a new one from the kit's texts."""
    path = config.out / "tokenizer.json"
    if not path.exists():
        if given := config.start_from or config.teacher:
            shutil.copy(Path(given) / "tokenizer.json", path)
        else:
            Tokenizer.train(all_texts(), config.model.decoder.vocab).save(path)
    return Tokenizer.load(path)


def _initial_model(config: TrainConfig) -> AudioInteractionModel:
    if config.start_from is not None:
        # shipped weights are float16: too coarse for the steps of an optimiser
        return AudioInteractionModel.from_pretrained(config.start_from).float()
    return AudioInteractionModel.from_preset(config.model, config.seed)
