"""Streams in, padded batches out.

Knows how a stream (waveform + timeline) becomes the tensors that `AudioInteractionModel` takes. Does not
know where streams come from. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aikit.audio import log_mel, mel_of_silence, whisper_log_mel
from aikit.config import ModelConfig
from aikit.model.modeling import AudioInteractionModel
from aikit.tokens import (
    DEFAULT_INSTRUCTION,
    IGNORED,
    LAYOUTS,
    Tokenizer,
    TokenSequence,
    offline_sequence,
    online_sequence,
)


@dataclass
class Example:
    """One stream, ready to be padded: mel float32 ``[M, 40 n]`` and its tokens."""

    mel: np.ndarray
    tokens: TokenSequence


@dataclass
class Batch:
    """Tensors of B streams; rows are padded on the right."""

    mel: Tensor  # float [B, M, 40 n]
    input_ids: Tensor  # int64 [B, T]
    labels_stream: Tensor  # int64 [B, T]
    labels_lm: Tensor  # int64 [B, T]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(value.to(device, non_blocking=True) for value in vars(self).values()))


def stream_mel(waveform: np.ndarray, n_chunks: int, config: ModelConfig) -> np.ndarray:
    """Log-mel ``[M, 40 n_chunks]`` of a stream, silence behind its end if it is shorter."""
    wanted = n_chunks * config.audio.chunk_samples
    # half a window more, so that the last frames hear what follows rather than padding
    heard = waveform[: wanted + config.audio.n_fft // 2]
    padded = np.pad(heard, (0, max(0, wanted - len(heard))))
    return log_mel(padded, config.audio)[:, : n_chunks * config.audio.mel_per_chunk]


def online_example(stream, tokenizer: Tokenizer, config: ModelConfig) -> Example:
    """A stream in the online layout: listen, and decide at every chunk."""
    layout = LAYOUTS[config.layout]
    usual = stream.instruction == DEFAULT_INSTRUCTION
    tokens = online_sequence(
        tokenizer,
        stream.timeline,
        stream.n_chunks,
        layout.instruction if usual else stream.instruction,
        layout,
        config.audio.frames_per_chunk,
    )
    return Example(stream_mel(stream.waveform, stream.n_chunks, config), tokens)


def offline_example(
    waveform: np.ndarray,
    answer: str | None,
    tokenizer: Tokenizer,
    config: ModelConfig,
    question: str | None = None,
    instruction: str = DEFAULT_INSTRUCTION,
) -> Example:
    """A finished clip in the offline layout: hear all of it, then answer."""
    n_chunks = -(-len(waveform) // config.audio.chunk_samples)
    tokens = offline_sequence(
        tokenizer,
        n_chunks * config.audio.frames_per_chunk,
        answer,
        question,
        instruction,
        LAYOUTS[config.layout],
    )
    return Example(stream_mel(waveform, n_chunks, config), tokens)


@torch.inference_mode()
def offline_frames(model: AudioInteractionModel, waveform: np.ndarray) -> Tensor:
    """A finished clip as a model's offline training had it: frames ``[1, F, D]``.

    The kit's own models hear it as a stream. Published ones hear Whisper's log-mel with the clip's own
    maximum, not cut in chunks (paper §7 of their code).
    """
    if model.shape.layout == "own":
        n_chunks = -(-len(waveform) // model.shape.audio.chunk_samples)
        return model.encode(_batch_of_one(model, stream_mel(waveform, n_chunks, model.shape)))[0]
    hop = model.shape.audio.hop_samples
    whole = np.pad(waveform, (0, max(-len(waveform) % hop, 4 * hop - len(waveform))))
    mel = whisper_log_mel(whole, model.shape.audio)
    return model.adapter(model.tower.encode_whole(_batch_of_one(model, mel)))


def _batch_of_one(model: AudioInteractionModel, mel: np.ndarray) -> Tensor:
    return torch.from_numpy(mel[None]).to(model.device, model.dtype)


def collate(examples: Sequence[Example], config: ModelConfig) -> Batch:
    """Pad examples to one batch, mel with silence and labels with `IGNORED`."""
    if not examples:
        raise ValueError("no examples to make a batch of")
    longest = max(example.mel.shape[1] for example in examples)
    mel = [
        np.pad(e.mel, ((0, 0), (0, longest - e.mel.shape[1])), constant_values=mel_of_silence())
        for e in examples
    ]
    pad = LAYOUTS[config.layout].pad
    return Batch(
        torch.from_numpy(np.stack(mel)),
        _padded([e.tokens.input_ids for e in examples], pad),
        _padded([e.tokens.labels_stream for e in examples], IGNORED),
        _padded([e.tokens.labels_lm for e in examples], IGNORED),
    )


def _padded(rows: list[np.ndarray], value: int) -> Tensor:
    out = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.int64)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = torch.from_numpy(ids)
    return out
