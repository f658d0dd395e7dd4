"""Sizes and constants, each derived from the few that the paper fixes.

Knows the audio grid (paper §3.1, §7 of its code: 400 ms chunks, 40 ms frames, 10 ms mel frames) and the
shapes of the models by name. Does not know how anything is computed. Taught in notebook 00.

Dimension letters used everywhere: B batch, T positions of the token sequence, F audio frames (40 ms),
M mel bins, D model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace


@dataclass(frozen=True)
class AudioConfig:
    """The time grid and the log-mel front end."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 400  # samples, 25 ms window
    hop_samples: int = 160  # 10 ms between mel frames
    n_mels: int = 64  # 128 in the published model
    chunk_ms: int = 400  # one decision a chunk
    frame_ms: int = 40  # one encoder output a frame

    @property
    def chunk_samples(self) -> int:
        """Samples in a chunk: 6,400 at 400 ms."""
        return self.sample_rate * self.chunk_ms // 1000

    @property
    def chunk_s(self) -> float:
        """Seconds in a chunk."""
        return self.chunk_ms / 1000

    @property
    def mel_per_chunk(self) -> int:
        """Mel frames in a chunk: 40 at 400 ms."""
        return self.chunk_samples // self.hop_samples

    @property
    def frames_per_chunk(self) -> int:
        """Encoder frames in a chunk: 10 at 400 ms."""
        return self.chunk_ms // self.frame_ms


@dataclass(frozen=True)
class TowerConfig:
    """The audio tower: log-mel in, one frame of width ``width`` every 40 ms out."""

    kind: str = "causal"  # "causal": the kit's own; "qwen2_5_omni": the published one
    width: int = 192
    layers: int = 3
    heads: int = 6
    mlp: int = 512
    context_chunks: int = 8  # past chunks it may look at; 0 = each chunk alone, as published
    stem_channels: tuple[int, int, int] = (24, 48, 64)


@dataclass(frozen=True)
class DecoderConfig:
    """The language model: a `Qwen2ForCausalLM` of any size."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 704
    vocab: int = 1536
    tied: bool = True  # one table for embedding and LM head
    max_positions: int = 4096
    rope_theta: float = 10_000.0
    head_dim: int | None = None  # None = width / heads
    half_positions: bool = False  # positions rounded to float16 before the rotation, as published


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: audio grid, tower, decoder, and the weight of the two losses."""

    name: str = "tiny"
    layout: str = "own"  # token layout: "own" or "published"
    audio: AudioConfig = field(default_factory=AudioConfig)
    tower: TowerConfig = field(default_factory=TowerConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    stream_weight: float = 1.0  # λ of L = L_LM + λ·L_stream (paper §3.3)
    response_weight: float = 3.0  # <response> is rare: about one chunk in nine

    def to_dict(self) -> dict:
        """Plain nested dict, for ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Inverse of `to_dict`."""
        tower = dict(values["tower"])
        tower["stem_channels"] = tuple(tower["stem_channels"])
        return cls(
            **{
                **values,
                "audio": AudioConfig(**values["audio"]),
                "tower": TowerConfig(**tower),
                "decoder": DecoderConfig(**values["decoder"]),
            }
        )


_QWEN_TOWER = TowerConfig("qwen2_5_omni", 1280, 32, 20, 5120, context_chunks=0)

PRESETS: dict[str, ModelConfig] = {
    # for tests: runs in milliseconds
    "nano": ModelConfig(
        "nano",
        audio=AudioConfig(n_mels=16),
        tower=TowerConfig(width=24, layers=1, heads=2, mlp=32, context_chunks=2, stem_channels=(4, 4, 8)),
        decoder=DecoderConfig(width=16, layers=2, heads=2, kv_heads=1, mlp=32),
    ),
    # for lessons: learns a little while one watches (notebook 02, `aikit train --ablate`)
    "mini": ModelConfig(
        "mini",
        audio=AudioConfig(n_mels=32),
        tower=TowerConfig(width=64, layers=2, heads=4, mlp=128, context_chunks=4, stem_channels=(8, 16, 32)),
        decoder=DecoderConfig(width=96, layers=2, heads=4, kv_heads=2, mlp=192),
    ),
    # the shipped checkpoint: about 6.1 M parameters, trains on two CPU cores
    "tiny": ModelConfig(),
    # about 30 M: a T4 or better
    "small": ModelConfig(
        "small",
        audio=AudioConfig(n_mels=80),
        tower=TowerConfig(width=384, layers=6, heads=6, mlp=1024, stem_channels=(32, 64, 96)),
        decoder=DecoderConfig(width=512, layers=6, heads=8, kv_heads=2, mlp=1408),
    ),
    # shapes of the published tower on Qwen2.5's smallest decoder
    "qwen2.5-0.5b": ModelConfig(
        "qwen2.5-0.5b",
        "published",
        AudioConfig(n_mels=128),
        replace(_QWEN_TOWER, width=512, layers=8, heads=8, mlp=2048),
        DecoderConfig(896, 24, 14, 2, 4864, 151_936, True, 32_768, 1e6),
    ),
    # the published model's shapes (Qwen2.5-Omni-3B)
    "qwen2.5-omni-3b": ModelConfig(
        "qwen2.5-omni-3b",
        "published",
        AudioConfig(n_mels=128),
        _QWEN_TOWER,
        DecoderConfig(2048, 36, 16, 2, 11_008, 151_936, False, 32_768, 1e6),
    ),
}


def preset(name: str) -> ModelConfig:
    """Look up a model shape by name.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
