"""Two looks inside a model: is a chunk boundary seamless, and which head decides (paper §5).

Knows frames, layers, attention heads and teacher forcing, of any checkpoint. Does not know abilities or
intervals (`heads.py`), nor what a reply means. Taught in notebook 05.

All look at what a session of the model's own heard and said: `remember` listens and returns the
very embeddings that were fed to the decoder, so that one pass over them takes all decisions again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import stream_mel
from aikit.stream.assistant import Assistant
from aikit.tokens import TokenLayout

ROWS = 16  # of a batch of ablations: all heads of `tiny` at once


def remember(
    assistant: Assistant, waveform: np.ndarray, instruction: str | None = None
) -> tuple[Tensor, Tensor]:
    """Listen to a waveform; return what the decoder was fed, and where its frames stand.

    Parameters
    ----------
    waveform : float32 ``[n_samples]``, 16 kHz; longer than the session's window, and what follows sees
        more of the past than the session did
    instruction : as for `Assistant.session`

    Returns
    -------
    embeddings : float ``[1, T, D]``
    positions : int64 ``[n, P]`` of the P frames of n chunks; the decision stands right after them
    """
    session, layout = assistant.session(instruction), assistant.model.layout
    ids, frames, begins = layout.prefix(assistant.tokenizer.encode(session.instruction)), [], []
    block = layout.block(session.audio.frames_per_chunk)
    for heard in chain(session.perceive(waveform), session.perceive_end(tail_chunks=0)):
        begins.append(len(ids) + 1)  # <audio> comes first
        frames.append(heard)
        ids += [
            *block,
            layout.response if session.decide([heard]).kind == "respond" else layout.silent,
        ]
        if reply := session.state.reply:
            while session.speaking:
                session.write()
            ids += [*_tag(layout, reply.emotion), *reply.writer.ids, layout.eos]
    if not frames:
        raise ValueError("the waveform is empty; give at least one chunk of 400 ms")
    with torch.inference_mode():
        fed = torch.tensor([ids], device=assistant.model.device)
        embeddings = assistant.model.embed(fed, torch.cat(frames, dim=1))
    return embeddings, torch.tensor(begins)[:, None] + torch.arange(session.audio.frames_per_chunk)


def _tag(layout: TokenLayout, emotion: str | None) -> list[int]:
    return layout.emotion_ids(emotion) if emotion else []


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


def continuity(
    assistant: Assistant, waveform: np.ndarray, instruction: str | None = None
) -> dict[str, float]:
    """Continuity ratio after the tower, the adapter and every decoder layer (paper §5).

    Parameters
    ----------
    waveform : float32 ``[n_samples]``, 16 kHz, two chunks or more

    Returns
    -------
    dict : ``tower``, ``adapter``, ``layer 0``, ``layer 1`` ...: the ratio on the audio positions
    """
    return continuity_of(assistant.model, waveform, remember(assistant, waveform, instruction))


@torch.inference_mode()
def continuity_of(
    model: AudioInteractionModel, waveform: np.ndarray, memory: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """As `continuity`, of a waveform that was listened to already (`remember`)."""
    audio, (embeddings, positions) = model.shape.audio, memory
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
def without_heads(model: AudioInteractionModel, silent: np.ndarray) -> Iterator[None]:
    """Silence attention heads: bool ``[B, layers, heads]``, other ones in each row of the batch."""

    def hook_of(mask: Tensor):
        def silence(_module, inputs):  # [B, T, H d]: what the heads gathered, side by side
            return (
                inputs[0]
                .unflatten(-1, (mask.shape[1], -1))
                .mul(mask[:, None, :, None])
                .flatten(-2),
            )

        return silence

    kept = torch.from_numpy(~np.asarray(silent, bool)).to(model.device, model.dtype)
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(hook_of(kept[:, i]))
        for i, layer in enumerate(model.decoder.model.layers)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def p_respond(
    model: AudioInteractionModel,
    embeddings: Tensor,
    decisions: Tensor,
    silent: np.ndarray | None = None,
) -> np.ndarray:
    """p(respond), float32 ``[B, n]``, at positions ``decisions [n]`` of ``embeddings [1, T, D]``.

    Parameters
    ----------
    silent : bool ``[B, layers, heads]``: B times the same stream, each time without other heads (paper
        §5); taken in batches of `ROWS`. None = with all heads, once.
    """
    controls, rows = torch.tensor(model.layout.controls, device=model.device), []
    if silent is None:
        silent = np.zeros((1, model.shape.decoder.layers, model.shape.decoder.heads), bool)
    for start in range(0, len(silent), ROWS):
        some = silent[start : start + ROWS]
        with without_heads(model, some):
            hidden = model.decode(embeddings.expand(len(some), -1, -1))[:, decisions]
        logits = model.logits(hidden, controls).float()
        rows.append(torch.sigmoid(logits[..., 1] - logits[..., 0]).cpu().numpy())
    return np.concatenate(rows)


def each_head(model: AudioInteractionModel) -> np.ndarray:
    """One row a head, in which it is the only silent one: bool ``[layers * heads, layers, heads]``."""
    layers, heads = model.shape.decoder.layers, model.shape.decoder.heads
    return np.eye(layers * heads, dtype=bool).reshape(-1, layers, heads)


def decisions_without(
    assistant: Assistant, waveform: np.ndarray, instruction: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """p(respond) with all heads, ``[n]``, and without each one, ``[layers, heads, n]``.

    What was said is kept (teacher forcing): one changed decision does not change what follows it.
    """
    model, (embeddings, positions) = assistant.model, remember(assistant, waveform, instruction)
    decisions, single = positions[:, -1] + 1, each_head(assistant.model)
    without = p_respond(model, embeddings, decisions, single).reshape(*single.shape[1:], -1)
    return p_respond(model, embeddings, decisions)[0], without


def ablate_heads(assistant: Assistant, waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """Share of chunks whose decision changes when one attention head is silenced (paper §5).

    Takes float32 ``[n_samples]``, 16 kHz, one session each; returns ``[layers, heads]`` in [0, 1].
    """
    threshold = assistant.config.threshold
    pairs = [decisions_without(assistant, waveform) for waveform in waveforms]
    changed = [(without >= threshold) != (before >= threshold) for before, without in pairs]
    return np.concatenate(changed, axis=-1).mean(axis=-1)


@torch.inference_mode()
def attention(
    model: AudioInteractionModel, embeddings: Tensor, positions: Tensor, layer: int, head: int
) -> np.ndarray:
    """Where a head looks when a decision is due: float32 ``[n, n + 1]``, each row adds up to 1.

    Row i is the decision after chunk i. Column 0 is the instruction, column j + 1 is chunk j: its frames,
    its decision, and what was said after it.
    """
    noted: list[Tensor] = []
    module, decoder = model.decoder.model.layers[layer].self_attn, model.decoder
    usual = decoder.config._attn_implementation
    hook = module.register_forward_hook(lambda _module, _inputs, output: noted.append(output[1]))
    decoder.set_attn_implementation("eager")  # the only one that keeps its weights
    try:
        model.decode(embeddings)
    finally:
        decoder.set_attn_implementation(usual)
        hook.remove()
    weights = noted[0][0, head, positions[:, -1] + 1].float().cpu().numpy()  # [n, T]
    return np.add.reduceat(weights, [0, *(positions[:, 0] - 1).tolist()], axis=1)
