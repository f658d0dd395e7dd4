"""The audio tower: log-mel in, one frame every 40 ms out, chunk by chunk with constant memory.

Knows mel frames and encoder frames. Does not know tokens, decisions or training. Taught in notebooks
02 and 03.

Two towers share one contract, ``encode(mel, state) -> frames, state``:

- `CausalTower`, the kit's own: learns from scratch, so it may look at a few past chunks through a cache;
- `ChunkTower`, the published one (transformers' `Qwen2_5OmniAudioEncoder`): sees each chunk alone.

Streaming equals offline by construction: one chunk with its state and sixty chunks without go through
the same code. Nothing depends on absolute time, so a tower never gets tired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aikit.audio import mel_of_silence
from aikit.config import ModelConfig, TowerConfig

STEM_STRIDE = 4  # mel frames an encoder frame: 10 ms -> 40 ms
STEM_CONTEXT = 11  # past mel frames that the three unpadded convolutions need


@dataclass
class TowerState:
    """All that a tower remembers between two calls. Zero keys and values stand for "before the start"."""

    mel: Tensor  # [B, M, STEM_CONTEXT]: the last mel frames
    keys: list[Tensor]  # per layer [B, H, C * P, d]: past C chunks of P frames
    values: list[Tensor]

    @staticmethod
    def join(states: Sequence[TowerState | None]) -> TowerState | None:
        """States of several streams as rows of one batch; a tower without state has None."""
        if states[0] is None:
            return None
        keys = [torch.cat(rows) for rows in zip(*(s.keys for s in states), strict=True)]
        values = [torch.cat(rows) for rows in zip(*(s.values for s in states), strict=True)]
        return TowerState(torch.cat([s.mel for s in states]), keys, values)

    @staticmethod
    def split(state: TowerState | None, n: int) -> list[TowerState | None]:
        """Inverse of `join`: the n rows of a batch."""
        if state is None:
            return [None] * n
        rows = zip(*(t.split(1) for t in (state.mel, *state.keys, *state.values)), strict=True)
        layers = len(state.keys)
        return [TowerState(mel, [*kv[:layers]], [*kv[layers:]]) for mel, *kv in rows]


class Stem(nn.Module):
    """Three convolutions over (mel, time), not padded in time: ``[B, M, 11 + 4 n]`` -> ``[B, n, D]``."""

    def __init__(self, n_mels: int, config: TowerConfig):
        super().__init__()
        layers, channels = [], 1
        for width, time_stride in zip(config.stem_channels, (2, 2, 1), strict=True):
            conv = nn.Conv2d(channels, width, 3, (2, time_stride), padding=(1, 0), bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.GELU()]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.project = nn.Linear(channels * (n_mels // 8), config.width)

    def forward(self, mel: Tensor) -> Tensor:
        maps = self.convolutions(mel.unsqueeze(1))  # [B, channels, M / 8, n]
        return self.project(maps.flatten(1, 2).transpose(1, 2))


class ChunkAttention(nn.Module):
    """Each chunk attends to itself and to the C chunks before it, with a learned bias per distance."""

    def __init__(self, config: TowerConfig, frames_per_chunk: int):
        super().__init__()
        self.heads, self.past = config.heads, config.context_chunks
        self.frames = frames_per_chunk
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        n_distances = (self.past + 2) * frames_per_chunk - 1
        self.distance_bias = nn.Parameter(torch.zeros(config.heads, n_distances))

    def _bias(self) -> Tensor:
        """[H, P, (C + 1) P]: query i of the newest chunk against key j of the window."""
        device = self.distance_bias.device
        query = torch.arange(self.frames, device=device)[:, None] + self.past * self.frames
        key = torch.arange((self.past + 1) * self.frames, device=device)[None, :]
        return self.distance_bias[:, query - key + self.frames - 1]

    def _windows(self, x: Tensor) -> Tensor:
        """[B, H, (C + n) P, d] -> [B, n, H, (C + 1) P, d]: what each of the n chunks may see."""
        chunks = x.unflatten(2, (-1, self.frames)).unfold(2, self.past + 1, 1)
        return chunks.permute(0, 2, 1, 5, 3, 4).flatten(3, 4)

    def forward(self, x: Tensor, past_keys: Tensor, past_values: Tensor):
        n_batch, n_frames, width = x.shape
        qkv = self.qkv(x).view(n_batch, n_frames, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, n P, d]
        key = torch.cat([past_keys.to(key.dtype), key], dim=2)
        value = torch.cat([past_values.to(value.dtype), value], dim=2)
        query = query.unflatten(2, (-1, self.frames)).transpose(1, 2)  # [B, n, H, P, d]
        mixed = F.scaled_dot_product_attention(
            query, self._windows(key), self._windows(value), attn_mask=self._bias().to(query.dtype)
        )
        mixed = mixed.transpose(2, 3).reshape(n_batch, n_frames, width)
        keep = key.shape[2] - self.past * self.frames
        return self.out(mixed), key[:, :, keep:], value[:, :, keep:]


class TowerLayer(nn.Module):
    """Pre-norm transformer layer over frames."""

    def __init__(self, config: TowerConfig, frames_per_chunk: int):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.width)
        self.attention = ChunkAttention(config, frames_per_chunk)
        self.norm_2 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp), nn.GELU(), nn.Linear(config.mlp, config.width)
        )

    def forward(self, x: Tensor, past_keys: Tensor, past_values: Tensor):
        mixed, keys, values = self.attention(self.norm_1(x), past_keys, past_values)
        x = x + mixed
        return x + self.mlp(self.norm_2(x)), keys, values


class CausalTower(nn.Module):
    """The kit's own tower. ``context_chunks=0`` gives the chunk-alone variant, for the ablation."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.audio = config.tower, config.audio
        self.stem = Stem(config.audio.n_mels, config.tower)
        frames = config.audio.frames_per_chunk
        self.layers = nn.ModuleList(
            TowerLayer(config.tower, frames) for _ in range(config.tower.layers)
        )
        self.norm = nn.LayerNorm(config.tower.width)

    @property
    def output_width(self) -> int:
        """D of the frames."""
        return self.config.width

    def initial_state(self, batch: int = 1) -> TowerState:
        """The state before any sound: silence."""
        weight = self.stem.project.weight
        past = self.config.context_chunks * self.audio.frames_per_chunk
        shape = (batch, self.config.heads, past, self.config.width // self.config.heads)
        zeros = [weight.new_zeros(shape) for _ in self.layers]
        silence = weight.new_full((batch, self.audio.n_mels, STEM_CONTEXT), mel_of_silence())
        return TowerState(silence, zeros, [z.clone() for z in zeros])

    def encode(self, mel: Tensor, state: TowerState | None = None) -> tuple[Tensor, TowerState]:
        """Encode whole chunks.

        Parameters
        ----------
        mel : float ``[B, M, 40 n]``, the next n chunks
        state : what the previous call returned, or None at the start

        Returns
        -------
        frames : ``[B, 10 n, D]``
        state : for the next call
        """
        if self.config.context_chunks == 0:
            return self._encode_alone(mel)
        return self._encode(mel, state or self.initial_state(len(mel)))

    def _encode(self, mel: Tensor, state: TowerState) -> tuple[Tensor, TowerState]:
        mel = torch.cat([state.mel, mel.to(state.mel.dtype)], dim=2)
        x = self.stem(mel)
        keys, values = [], []
        for layer, past_keys, past_values in zip(self.layers, state.keys, state.values, strict=True):
            x, new_keys, new_values = layer(x, past_keys, past_values)
            keys.append(new_keys)
            values.append(new_values)
        return self.norm(x), TowerState(mel[:, :, -STEM_CONTEXT:], keys, values)

    def _encode_alone(self, mel: Tensor) -> tuple[Tensor, TowerState]:
        """Every chunk as if it were the first (paper §3.1)."""
        n_batch, size = len(mel), self.audio.mel_per_chunk
        chunks = mel.unflatten(2, (-1, size)).transpose(1, 2).flatten(0, 1)
        frames, _ = self._encode(chunks, self.initial_state(len(chunks)))
        return frames.reshape(n_batch, -1, frames.shape[-1]), self.initial_state(n_batch)


class ChunkTower(nn.Module):
    """The published tower: each chunk alone through transformers' `Qwen2_5OmniAudioEncoder`."""

    def __init__(self, config: ModelConfig):
        from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import (
            Qwen2_5OmniAudioEncoderConfig,
        )
        from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

        super().__init__()
        self.mel_per_chunk = config.audio.mel_per_chunk
        self.encoder = Qwen2_5OmniAudioEncoder(
            Qwen2_5OmniAudioEncoderConfig(
                num_mel_bins=config.audio.n_mels,
                d_model=config.tower.width,
                encoder_layers=config.tower.layers,
                encoder_attention_heads=config.tower.heads,
                encoder_ffn_dim=config.tower.mlp,
                output_dim=config.decoder.width,
            )
        )

    @property
    def output_width(self) -> int:
        """D of the frames: already the decoder's width."""
        return self.encoder.proj.out_features

    def initial_state(self, batch: int = 1) -> None:
        """This tower remembers nothing."""
        return None

    def encode(self, mel: Tensor, state: None = None) -> tuple[Tensor, None]:
        """See `CausalTower.encode`; there is no state.

        Chunks are rows of a batch of fixed shape: transformers' own forward builds its windows on the
        host, which no CUDA graph can hold.
        """
        encoder = self.encoder
        chunks = mel.unflatten(2, (-1, self.mel_per_chunk)).transpose(1, 2).flatten(0, 1)
        x = F.gelu(encoder.conv1(chunks.to(encoder.conv1.weight.dtype)))
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)  # [B n, 20, d]
        x = x + encoder.positional_embedding.positional_embedding[: x.shape[1]].to(x.dtype)
        for layer in encoder.layers:
            x = _chunk_layer(layer, x)
        frames = encoder.proj(encoder.ln_post(x.unflatten(1, (-1, 2)).mean(2)))
        return frames.view(len(mel), -1, frames.shape[-1]), None

    def encode_whole(self, mel: Tensor) -> Tensor:
        """A finished clip, not cut in chunks (it attends in windows of 2 s): published offline mode.

        ``[1, M, t]`` -> frames ``[1, F, D]``, one every 40 ms.
        """
        length = torch.tensor([mel.shape[2]], device=mel.device)
        out = self.encoder(mel[0], feature_lens=length, aftercnn_lens=(length - 1) // 2 + 1)
        return out.last_hidden_state[None]


def _chunk_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """A `Qwen2_5OmniAudioEncoderLayer` on whole chunks ``[B n, 20, d]``, each by itself."""
    attention, normed = layer.self_attn, layer.self_attn_layer_norm(x)
    heads = (attention.num_heads, attention.head_dim)
    query, key, value = (
        project(normed).unflatten(2, heads).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + attention.out_proj(mixed)
    x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    limit = torch.finfo(torch.float16).max - 1000
    return x.clamp(-limit, limit) if x.dtype == torch.float16 else x


def build_tower(config: ModelConfig) -> CausalTower | ChunkTower:
    """The tower that ``config.tower.kind`` names."""
    kinds = {"causal": CausalTower, "qwen2_5_omni": ChunkTower}
    if config.tower.kind not in kinds:
        raise ValueError(f"no tower of kind {config.tower.kind!r}; choose one of {', '.join(kinds)}")
    return kinds[config.tower.kind](config)
