"""Offline answers: sound, question or both; the cached steps equal a whole pass at every token."""

import numpy as np
import pytest
import torch

from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import offline_example
from aikit.stream.answer import answer_offline
from aikit.stream.assistant import Assistant
from aikit.synth.abilities import all_texts
from aikit.tokens import Tokenizer

NANO = preset("nano")
WAVEFORM = (0.1 * np.random.default_rng(0).normal(size=16_000)).astype(np.float32)


@pytest.fixture(scope="module")
def assistant():
    """A random model with weights so large that what it says depends on what it hears."""
    model = AudioInteractionModel.from_preset(NANO, seed=3)
    for weight in model.decoder.model.layers.parameters():
        weight.data *= 8 if weight.ndim > 1 else 1
    return Assistant(model, Tokenizer.train(all_texts()))


@torch.inference_mode()
def plainly(assistant, waveform, question, n_tokens):
    """The same without a cache: everything again for every token."""
    model, layout = assistant.model, assistant.model.layout
    example = offline_example(
        waveform, None, assistant.tokenizer, NANO, question, layout.instruction
    )
    ids, mel = [*example.tokens.input_ids, layout.response], torch.from_numpy(example.mel[None])
    frames = model.encode(mel)[0] if mel.shape[2] else None
    said = []
    for _ in range(n_tokens):
        logits = model(torch.tensor([ids + said]), frames).logits[0, -1]
        logits[sorted(layout.specials - {layout.eos})] = -torch.inf
        if (token := int(logits.argmax())) == layout.eos:
            break
        said.append(token)
    return assistant.tokenizer.decode(said).strip()


@pytest.mark.parametrize(
    ("waveform", "question"),
    [(WAVEFORM, "What was that?"), (WAVEFORM, None), (np.zeros(0, np.float32), "What time is it?")],
)
def test_three_ways_to_ask(assistant, waveform, question):
    said = answer_offline(assistant.model, assistant.tokenizer, waveform, question, max_tokens=8)
    assert said and said == plainly(assistant, waveform, question, 8)


def test_what_was_heard_and_asked_matters(assistant):
    told = {assistant.answer(sound, text, 16_000)
            for sound in (WAVEFORM, WAVEFORM[:7_000], None) for text in ("Why?", "What was that?")}  # fmt: skip
    assert len(told) > 3
    for nothing in ((None, None), (None, ""), (np.zeros(0, np.float32), None)):
        with pytest.raises(ValueError, match="nothing to answer"):
            answer_offline(assistant.model, assistant.tokenizer, *nothing)
