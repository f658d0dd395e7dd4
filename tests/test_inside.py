"""Inside the model: what the ratio means, a session can be replayed, one head is one head."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aikit.bench import inside
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import stream_mel
from aikit.stream.assistant import Assistant
from aikit.stream.session import SessionConfig
from aikit.synth.abilities import all_texts
from aikit.tokens import Tokenizer

NANO = preset("nano")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def waveform():
    return (0.1 * np.random.default_rng(0).normal(size=6_400 * 14 + 300)).astype(np.float32)


@pytest.fixture(scope="module")
def assistant(waveform):
    """A random model that speaks at about a third of the chunks."""
    model = AudioInteractionModel.from_preset(NANO, seed=1)
    assistant = Assistant(model, Tokenizer.train(all_texts()), SessionConfig(threshold=1.1))
    p = sorted(event.p_respond for event in assistant.session().push(waveform))
    assistant.config = SessionConfig(threshold=(p[-5] + p[-6]) / 2, max_reply_tokens=4)
    return assistant


def test_the_ratio_is_1_without_boundaries_and_0_with_hard_ones():
    assert inside.continuity_ratio(torch.ones(4, 10, 8)) == pytest.approx(1.0)
    angle = torch.arange(40) * 0.1  # a steady walk along a circle
    walk = torch.stack([angle.cos(), angle.sin()], -1)
    assert inside.continuity_ratio(walk.view(4, 10, 2)) == pytest.approx(1.0, abs=1e-5)
    alone = torch.eye(4)[:, None, :].expand(4, 10, 4)  # every chunk in a direction of its own
    assert inside.continuity_ratio(alone) == 0.0
    with pytest.raises(ValueError, match="expected"):
        inside.continuity_ratio(torch.ones(1, 10, 8))


def test_a_constant_signal_has_no_boundary_behind_the_tower(assistant):
    """In silence every frame of the stem is the same one; attention would add its sense of place."""
    stem_only = replace(NANO, tower=replace(NANO.tower, layers=0))
    model = AudioInteractionModel.from_preset(stem_only, seed=1)
    silence = np.zeros(6_400 * 8, np.float32)
    ratios = inside.continuity(Assistant(model, assistant.tokenizer), silence)
    assert ratios["tower"] == pytest.approx(1.0, abs=1e-5) == ratios["adapter"]


def test_continuity_names_every_layer(assistant, waveform):
    ratios = inside.continuity(assistant, waveform)
    assert list(ratios) == ["tower", "adapter", "layer 0", "layer 1"]
    assert all(np.isfinite(value) for value in ratios.values())


def test_one_pass_takes_every_decision_of_the_session_again(assistant, waveform):
    session = assistant.session()
    events = session.push(waveform) + session.finish(tail_chunks=0)
    heard = [event.p_respond for event in events if event.kind in ("silent", "respond")]
    assert 0 < sum(event.kind == "respond" for event in events) < len(heard) == 15
    embeddings, positions = inside.remember(assistant, waveform)
    again = inside.p_respond(assistant.model, embeddings, positions[:, -1] + 1)[0]
    np.testing.assert_allclose(again, heard, atol=1e-5)
    frames, _ = assistant.model.encode(torch.from_numpy(stream_mel(waveform, 14, NANO)[None]))
    fed = embeddings[0, positions[:14].flatten()]
    torch.testing.assert_close(fed, frames[0], atol=1e-5, rtol=0)


def test_only_the_named_head_falls_silent(assistant, waveform):
    model, (embeddings, positions) = assistant.model, inside.remember(assistant, waveform)
    projection, seen = model.decoder.model.layers[1].self_attn.o_proj, []

    def run(heads):
        with inside.without_heads(model, 1, heads):  # our hook comes after, and sees what it left
            hook = projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            inside.p_respond(model, embeddings.expand(2, -1, -1), positions[:, -1] + 1)
            hook.remove()

    run([])
    run([0, 1])
    (before, after), width = seen, NANO.decoder.width // NANO.decoder.heads
    assert not after[0, :, :width].any() and not after[1, :, width:].any()
    assert torch.equal(after[0, :, width:], before[0, :, width:])
    assert torch.equal(after[1, :, :width], before[1, :, :width])
    assert not projection._forward_pre_hooks


def test_a_row_of_the_batch_equals_the_head_alone(assistant, waveform):
    embeddings, positions = inside.remember(assistant, waveform)
    before, after = inside.decisions_without(assistant, waveform)
    assert after.shape == (2, 2, len(before))
    with inside.without_heads(assistant.model, 0, [1]):
        alone = inside.p_respond(assistant.model, embeddings, positions[:, -1] + 1)[0]
    np.testing.assert_allclose(after[0, 1], alone, atol=1e-6)
    assert np.abs(after - before).max(axis=-1).min() > 0  # each head of a random model does a bit


def test_ablation_counts_changed_decisions(assistant, waveform):
    effect = inside.ablate_heads(assistant, [waveform, waveform[: 6_400 * 5]])
    assert effect.shape == (2, 2) and effect.min() >= 0 and 0 < effect.max() <= 1
    np.testing.assert_allclose(effect * 20, np.round(effect * 20), atol=1e-9)  # 15 + 5 chunks
    with pytest.raises(ValueError, match="empty"):
        inside.ablate_heads(assistant, [waveform[:0]])
