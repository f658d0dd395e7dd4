"""What a model needs of a GPU's memory, by arithmetic: to listen, to be fine-tuned, to be trained.

Knows shapes and bytes. It estimates, and measures nothing: the allocator, the CUDA context and the
framework take a gigabyte or so more. Taught in notebook 07.
"""

from __future__ import annotations

from dataclasses import dataclass

from aikit.config import ModelConfig

GIB = 2**30
GPUS = {  # GiB that can be used, and the type to compute in: below compute capability 8.0, bf16 is emulated
    "T4": (14.6, "float16"), "L4": (22.0, "bfloat16"), "A100": (39.4, "bfloat16"),
    "H200": (139.8, "bfloat16"),
}  # fmt: skip


@dataclass(frozen=True)
class Use:
    """Bytes a weight takes: of the decoder's matrices, of the rest, and of one that is trained."""

    matrices: float
    rest: float
    trained: float = (
        0.0  # gradient, and AdamW's two moments (and a float32 copy of a 16-bit weight)
    )
    rank: int = 0  # of LoRA adapters; 0 with trained > 0: everything is trained
    batch: int = 1  # streams of a training step


USES = {
    "listen, 16 bit": Use(2, 2),
    "listen, 4 bit": Use(0.5, 2),
    "LoRA on 16 bit": Use(2, 2, 16, rank=16, batch=4),
    "LoRA on 4 bit": Use(0.5, 2, 16, rank=16, batch=4),
    "train everything": Use(2, 2, 14, batch=4),
}


def count_parameters(config: ModelConfig) -> tuple[int, int]:
    """Weights in the matrices of the decoder's layers, and all others (tower, norms, vocabulary)."""
    from accelerate import init_empty_weights

    from aikit.model.modeling import AudioInteractionConfig, AudioInteractionModel

    with init_empty_weights():
        model = AudioInteractionModel(AudioInteractionConfig(shape=config.to_dict()))
    layers = model.decoder.model.layers.named_parameters()
    matrices = sum(weight.numel() for _, weight in layers if weight.ndim == 2)
    return matrices, model.n_parameters() - matrices


def lora_parameters(config: ModelConfig, rank: int) -> int:
    """Weights of adapters beside every matrix: ``rank (in + out)`` each."""
    d = config.decoder
    head = d.head_dim or d.width // d.heads
    query, key = (d.width, d.heads * head), (d.width, d.kv_heads * head)
    matrices = [query, key, key, query, *[(d.width, d.mlp)] * 3]
    return d.layers * sum(rank * (one + other) for one, other in matrices)


def cache_bytes(config: ModelConfig, n_positions: int) -> int:
    """The decoder's keys and values in 16 bit."""
    d = config.decoder
    return 2 * 2 * d.layers * d.kv_heads * (d.head_dim or d.width // d.heads) * n_positions


def needed_gib(config: ModelConfig, use: Use, n_chunks: int = 60) -> float:
    """Estimate of the memory of a use, for streams or a window of ``n_chunks`` chunks."""
    matrices, rest = count_parameters(config)
    positions = n_chunks * (config.audio.frames_per_chunk + 3)
    weights = use.matrices * matrices + use.rest * rest
    if not use.trained:
        return (weights + cache_bytes(config, positions)) / GIB
    trained = lora_parameters(config, use.rank) if use.rank else matrices + rest
    d = config.decoder
    # with checkpointing: what enters each layer, and one layer's inner values at a time
    inside = d.layers * d.width + 2 * 3 * d.mlp + 8 * d.width
    activations = 2 * use.batch * positions * inside
    logits = (
        3 * 4 * use.batch * n_chunks * d.vocab
    )  # at a decision a chunk: float32, softmax, gradient
    return (weights + use.trained * trained + activations + logits) / GIB
