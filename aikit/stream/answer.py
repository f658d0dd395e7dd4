"""The offline way to ask: all of a clip, then one answer (paper §3.3, stage 1; the layout of its code, §7).

Knows a finished clip, a question, or both. Does not know chunks or decisions: an offline model is always
asked, and always answers. Taught in notebook 04.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import DynamicCache

from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import offline_frames
from aikit.tokens import TextStream, Tokenizer, offline_sequence


@torch.inference_mode()
def answer_offline(
    model: AudioInteractionModel,
    tokenizer: Tokenizer,
    waveform: np.ndarray | None,
    question: str | None,
    max_tokens: int = 48,
) -> str:
    """Audio + text → text, audio → text, or text → text.

    Parameters
    ----------
    waveform : float32 ``[n_samples]``, 16 kHz, or None
    question : in words, or None
    max_tokens : the answer ends there at the latest

    Raises
    ------
    ValueError
        If there is neither sound nor question.
    """
    waveform = np.zeros(0, np.float32) if waveform is None else waveform
    if not len(waveform) and not question:
        raise ValueError("nothing to answer: give audio, a question, or both")
    layout = model.layout
    frames = offline_frames(model, waveform) if len(waveform) else None
    n_frames = 0 if frames is None else frames.shape[1]
    tokens = offline_sequence(tokenizer, n_frames, None, question, layout.instruction, layout)
    ids = torch.tensor([[*tokens.input_ids, layout.response]], device=model.device)
    cache, writer, fed = DynamicCache(), TextStream(tokenizer), model.embed(ids, frames)
    forbidden = sorted(layout.specials - {layout.eos})
    for _ in range(max_tokens):
        logits = model.logits(model.decode(fed, cache)[0, -1]).float()
        logits[forbidden] = -torch.inf
        token = int(logits.argmax())
        if token == layout.eos:
            break
        writer.push(token)
        fed = model.embed(torch.tensor([[token]], device=model.device))
    writer.flush()
    return writer.text.strip()
