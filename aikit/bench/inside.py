"""Two looks inside a model: is a chunk boundary seamless, and which head decides (paper §5).

Knows frames, layers, attention heads and teacher forcing. Does not know scores or what a reply
means. Taught in notebook 05.

Both look at what a session of the model's own heard and said: `remember` listens and returns the
very embeddings that were fed to the decoder, so that one pass over them takes all decisions again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import stream_mel
from aikit.stream.assistant import Assistant


def remember(assistant: Assistant, waveform: np.ndarray) -> tuple[Tensor, Tensor]:
    """Listen to a waveform; return what the decoder was fed, and where its frames stand.

    Parameters
    ----------
    waveform : float32 ``[n_samples]``, 16 kHz; of a long one, only the newest chunks are remembered

    Returns
    -------
    embeddings : float ``[1, T, D]``
    positions : int64 ``[n, P]`` of the P frames of n chunks; the decision stands right after them
    """
    session = assistant.session()
    session.push(waveform)
    session.finish(tail_chunks=0)
    if not session.state.history:
        raise ValueError("the waveform is empty; give at least one chunk of 400 ms")
    parts = [session._prefix, *session._joined(session.state.history)]  # controls in between
    starts = np.cumsum([part.shape[1] for part in parts])[:-1:2]
    frames = 1 + np.arange(session.audio.frames_per_chunk)  # <audio> comes first
    return torch.cat(parts, dim=1), torch.from_numpy(starts[:, None] + frames)


# --- continuity ---------------------------------------------------------------------------------
def continuity_ratio(frames: Tensor) -> float:
    """Cosine similarity of the frames across a chunk boundary over that of neighbours within one.

    ``frames [n, P, D]``: n >= 2 chunks of P >= 2 frames. 1 = seamless (paper §5).
    """
    if frames.ndim != 3 or min(frames.shape[:2]) < 2:
        raise ValueError(f"frames of shape {tuple(frames.shape)}; expected [>= 2 chunks, >= 2, D]")
    frames = frames.float()
    within = F.cosine_similarity(frames[:, :-1], frames[:, 1:], dim=-1).mean()
    across = F.cosine_similarity(frames[:-1, -1], frames[1:, 0], dim=-1).mean()
    return float(across / within)


@torch.inference_mode()
def continuity(assistant: Assistant, waveform: np.ndarray) -> dict[str, float]:
    """Continuity ratio after the tower, the adapter and every decoder layer (paper §5).

    Parameters
    ----------
    waveform : float32 ``[n_samples]``, 16 kHz, two chunks or more

    Returns
    -------
    dict : ``tower``, ``adapter``, ``layer 0``, ``layer 1`` ...: the ratio on the audio positions
    """
    model, audio = assistant.model, assistant.model.shape.audio
    embeddings, positions = remember(assistant, waveform)
    mel = stream_mel(waveform, -(-len(waveform) // audio.chunk_samples), model.shape)
    tower, _ = model.tower.encode(torch.from_numpy(mel[None]).to(model.device, model.dtype))
    rows = {"tower": tower[0], "adapter": model.adapter(tower)[0]}
    frames = {name: row.unflatten(0, (-1, audio.frames_per_chunk)) for name, row in rows.items()}
    for i, hidden in enumerate(layer_outputs(model, embeddings)):
        frames[f"layer {i}"] = hidden[0, positions]
    return {name: continuity_ratio(row) for name, row in frames.items()}


@torch.inference_mode()
def layer_outputs(model: AudioInteractionModel, embeddings: Tensor) -> list[Tensor]:
    """What every decoder layer hands on, ``[B, T, D]`` each."""
    outputs: list[Tensor] = []

    def note(_module, _inputs, output):
        outputs.append(output)

    hooks = [layer.register_forward_hook(note) for layer in model.decoder.model.layers]
    try:
        model.decode(embeddings)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


# --- heads --------------------------------------------------------------------------------------
@contextmanager
def without_heads(model: AudioInteractionModel, layer: int, heads: Sequence[int]) -> Iterator[None]:
    """Silence an attention head of a layer in each row of the batch: ``heads[b]`` in row b."""
    width = model.shape.decoder.width // model.shape.decoder.heads

    def silence(_module, inputs):
        mixed = inputs[0].clone()  # [B, T, H d]: what the heads gathered, side by side
        for row, head in enumerate(heads):
            mixed[row, :, head * width : (head + 1) * width] = 0.0
        return (mixed,)

    hook = model.decoder.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        hook.remove()


@torch.inference_mode()
def p_respond(model: AudioInteractionModel, embeddings: Tensor, decisions: Tensor) -> np.ndarray:
    """p(respond), float32 ``[B, n]``, at positions ``decisions [n]`` of ``embeddings [B, T, D]``."""
    controls = torch.tensor(model.layout.controls, device=model.device)
    logits = model.logits(model.decode(embeddings)[:, decisions], controls).float()
    return torch.sigmoid(logits[..., 1] - logits[..., 0]).cpu().numpy()


def decisions_without(assistant: Assistant, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p(respond) with all heads, ``[n]``, and without each one, ``[layers, heads, n]``.

    What was said is kept (teacher forcing): one changed decision does not change what follows it.
    """
    model, (embeddings, positions) = assistant.model, remember(assistant, waveform)
    decisions, heads, changed = positions[:, -1] + 1, range(model.shape.decoder.heads), []
    for layer in range(model.shape.decoder.layers):
        with without_heads(model, layer, heads):  # one row of the batch a head
            changed.append(p_respond(model, embeddings.expand(len(heads), -1, -1), decisions))
    return p_respond(model, embeddings, decisions)[0], np.stack(changed)


def ablate_heads(assistant: Assistant, waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """Share of chunks whose decision changes when one attention head is silenced (paper §5).

    Takes float32 ``[n_samples]``, 16 kHz, one session each; returns ``[layers, heads]`` in [0, 1].
    """
    threshold = assistant.config.threshold
    pairs = [decisions_without(assistant, waveform) for waveform in waveforms]
    changed = [(without >= threshold) != (before >= threshold) for before, without in pairs]
    return np.concatenate(changed, axis=-1).mean(axis=-1)
