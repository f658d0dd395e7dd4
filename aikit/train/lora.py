"""Fine-tuning on one GPU: small adapters beside frozen weights (LoRA, by peft), at any size of model.

Knows which layers get an adapter, how a frozen base saves memory, and a loop over a corpus. Does not know
how streams are made, nor the training from scratch (`loop.py`). Taught in notebook 07.

A layer ``W x`` becomes ``W x + (alpha / rank) B A x``: ``A`` and ``B`` are learned, B begins at zero, so that
training begins at the model as it was. `merge` adds ``B A`` to ``W``: the result is an ordinary model folder.
``accelerate launch --config_file docs/accelerate/fsdp.yaml -m aikit lora ...`` spreads it over several GPUs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import Example, collate, online_example
from aikit.synth.compose import Stream
from aikit.tokens import Tokenizer
from aikit.train import recipe
from aikit.train.loop import open_accelerator, schedule

TARGETS = r"decoder\.model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"  # never the tower


@dataclass(frozen=True)
class LoraConfig:
    """How to fine-tune, and where to keep the adapters."""

    out: Path
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 2e-4
    epochs: int = 3
    batch: int = 4  # streams, over all processes
    precision: str = (
        "auto"  # of the arithmetic: "fp32", "bf16", "fp16"; "auto": as the weights are held
    )
    checkpointing: bool = True  # compute activations twice rather than keep them
    seed: int = 0


def add_adapters(model: AudioInteractionModel, config: LoraConfig):
    """Freeze a model and put adapters into its decoder, in place.

    Returns
    -------
    peft.PeftModel
        Around ``model``, which itself now computes with the adapters too: sessions just go on.
    """
    import peft

    _pass_over_old_torchao()
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=TARGETS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return peft.get_peft_model(model, settings)


def _pass_over_old_torchao() -> None:
    """Colab brings a torchao that peft refuses for *any* model; ours has no layer of torchao's."""
    from peft.tuners.lora import torchao

    try:
        torchao.is_torchao_available()
    except ImportError:
        torchao.is_torchao_available = lambda: False


def quantise(model: AudioInteractionModel, bits: int) -> AudioInteractionModel:
    """Hold the decoder's frozen matrices in 8 or 4 bits (needs bitsandbytes), in place.

    The tower, the norms and the two vocabulary tables stay as they are.
    """
    if bits not in (4, 8):
        raise ValueError(f"a base can be held in 8 or 4 bits, not {bits}")
    import bitsandbytes as bnb

    layers, device = model.decoder.model.layers, model.device
    for name, old in [(n, m) for n, m in layers.named_modules() if isinstance(m, nn.Linear)]:
        size, has_bias, weight = (
            (old.in_features, old.out_features),
            old.bias is not None,
            old.weight.data,
        )
        if bits == 4:
            new = bnb.nn.Linear4bit(
                *size, bias=has_bias, compute_dtype=weight.dtype, quant_type="nf4"
            )
            new.weight = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, quant_type="nf4")
        else:
            new = bnb.nn.Linear8bitLt(*size, bias=has_bias, has_fp16_weights=False)
            new.weight = bnb.nn.Int8Params(
                weight.cpu(), requires_grad=False, has_fp16_weights=False
            )
        new.bias = old.bias
        layers.set_submodule(name, new.to(device))
    return model


def fine_tune(
    model: AudioInteractionModel,
    tokenizer: Tokenizer,
    streams: Iterable[Stream],
    config: LoraConfig,
    progress: bool = True,
) -> list[float]:
    """Train adapters on streams, and write them to ``config.out / "adapter"``.

    Parameters
    ----------
    model : of any size and form, as `aikit.load` gives it; it gets the adapters, and keeps them
    streams : as `read_corpus` yields or `compose` makes them; all are held in memory, as log-mel

    Returns
    -------
    list[float]
        The loss of every step; ``metrics.jsonl`` has them too.

    Raises
    ------
    ValueError
        If there are fewer streams than one batch.
    FloatingPointError
        When a loss is not finite.
    """
    examples = [online_example(stream, tokenizer, model.shape) for stream in streams]
    if len(examples) < config.batch:
        raise ValueError(f"{len(examples)} streams do not fill one batch of {config.batch}")
    accelerator = open_accelerator(_precision(model, config.precision))
    adapted = add_adapters(model, config)
    adapted.train()
    model.tower.eval()  # a frozen tower keeps its statistics, too
    if config.checkpointing:
        model.decoder.gradient_checkpointing_enable({"use_reentrant": False})
    loader = _loader(examples, config, model)
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, config.learning_rate, recipe.BETAS, recipe.EPSILON)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, len(loader)))
    prepared = accelerator.prepare(adapted, optimizer, plan, loader)
    losses = _train(accelerator, model, *prepared, progress)
    if config.checkpointing:
        model.decoder.gradient_checkpointing_disable()
    state = accelerator.get_state_dict(prepared[0])
    if accelerator.is_main_process:
        _save(adapted, state, losses, config.out)
    accelerator.wait_for_everyone()
    model.eval()
    return losses


def _precision(model: AudioInteractionModel, precision: str) -> str:
    """Half-precision weights need autocast to their own type: the adapters beside them are float32."""
    half = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    return half.get(model.dtype, precision) if precision == "auto" else precision


def _loader(
    examples: list[Example], config: LoraConfig, model: AudioInteractionModel
) -> DataLoader:
    """Whole batches only, each epoch in an order of its own, the same in every process."""
    rng = np.random.default_rng(config.seed)
    n = len(examples) // config.batch * config.batch
    order = np.concatenate([rng.permutation(len(examples))[:n] for _ in range(config.epochs)])
    return DataLoader(
        Subset(examples, order.tolist()),
        config.batch,
        collate_fn=partial(collate, config=model.shape),
    )


def _train(accelerator, model, adapted, optimizer, plan, loader, progress: bool) -> list[float]:
    from tqdm import tqdm

    losses = []
    bar = tqdm(loader, "LoRA", disable=not (progress and accelerator.is_main_process))
    for batch in bar:
        batch = batch.to(accelerator.device)
        # a mean over all processes, as in `loop.py`: the loss does not depend on how many there are
        counts = accelerator.reduce(
            model.count_targets(batch.labels_lm, batch.labels_stream), "mean"
        )
        with accelerator.autocast():
            loss = adapted(**vars(batch), counts=counts).loss
        losses.append(float(accelerator.reduce(loss.detach(), "mean")))
        if not np.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss became {losses[-1]}; lower the learning rate")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(adapted.parameters(), recipe.CLIP_NORM)
        optimizer.step()
        plan.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{losses[-1]:.3g}")
    return losses


def _save(adapted, state: dict, losses: list[float], out: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder = Path(out) / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    adapted.peft_config["default"].save_pretrained(folder)
    kept = get_peft_model_state_dict(adapted, state)
    save_file(
        {n: t.cpu().contiguous() for n, t in kept.items()}, folder / "adapter_model.safetensors"
    )
    rows = (json.dumps({"step": i, "loss": loss}) for i, loss in enumerate(losses, 1))
    (Path(out) / "metrics.jsonl").write_text("\n".join(rows) + "\n", "utf-8")


def load_adapters(model: AudioInteractionModel, folder: str | Path):
    """Put saved adapters into a model, in place; returns the `peft.PeftModel` around it."""
    import peft

    _pass_over_old_torchao()
    if not (Path(folder) / "adapter_config.json").exists():
        raise FileNotFoundError(f"no adapters in {folder}: adapter_config.json is missing")
    return peft.PeftModel.from_pretrained(model, str(folder)).eval()


def merge(adapted) -> AudioInteractionModel:
    """Add the adapters into the weights: the same function, and an ordinary model again.

    For a quantised base, load the base once more as it was and `load_adapters` there before merging.
    """
    return adapted.merge_and_unload()
