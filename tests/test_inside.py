"""Inside the model: what the ratio means, a session can be replayed, one head is one head."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from aikit.bench import heads, inside
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


def rows_without(*heads):
    """One row of the batch for each group of (layer, head)."""
    silent = np.zeros((len(heads), 2, 2), bool)
    for row, group in enumerate(heads):
        for head in group:
            silent[(row, *head)] = True
    return silent


def test_only_the_named_heads_fall_silent(assistant, waveform):
    model, (embeddings, _) = assistant.model, inside.remember(assistant, waveform)
    projections, seen = [layer.self_attn.o_proj for layer in model.decoder.model.layers], []

    def run(silent):
        with inside.without_heads(model, silent):  # our hooks come after, and see what it left
            hooks = [
                p.register_forward_pre_hook(lambda _, i: seen.append(i[0])) for p in projections
            ]
            model.decode(embeddings.expand(2, -1, -1))
            for hook in hooks:
                hook.remove()

    with torch.inference_mode():
        run(rows_without([], []))
        run(rows_without([(1, 0)], [(1, 1)]))
    (first, before, same, after), width = seen, seen[0].shape[-1] // 2
    assert torch.equal(first, same)  # layer 0 keeps all its heads
    assert not after[0, :, :width].any() and not after[1, :, width:].any()
    assert torch.equal(after[0, :, width:], before[0, :, width:])
    assert torch.equal(after[1, :, :width], before[1, :, :width])
    assert not any(projection._forward_pre_hooks for projection in projections)


def test_a_row_of_the_batch_equals_the_head_alone(assistant, waveform, monkeypatch):
    embeddings, positions = inside.remember(assistant, waveform)
    monkeypatch.setattr(inside, "ROWS", 3)  # four heads: two batches
    before, after = inside.decisions_without(assistant, waveform)
    assert after.shape == (2, 2, len(before))
    alone = inside.p_respond(
        assistant.model, embeddings, positions[:, -1] + 1, rows_without([(0, 1)])
    )
    np.testing.assert_allclose(after[0, 1], alone[0], atol=1e-6)
    assert np.abs(after - before).max(axis=-1).min() > 0  # each head of a random model does a bit


def test_ablation_counts_changed_decisions(assistant, waveform):
    effect = inside.ablate_heads(assistant, [waveform, waveform[: 6_400 * 5]])
    assert effect.shape == (2, 2) and effect.min() >= 0 and 0 < effect.max() <= 1
    np.testing.assert_allclose(effect * 20, np.round(effect * 20), atol=1e-9)  # 15 + 5 chunks
    with pytest.raises(ValueError, match="empty"):
        inside.ablate_heads(assistant, [waveform[:0]])


def test_attention_by_chunk_is_all_of_it_and_never_of_the_future(assistant, waveform):
    model, (embeddings, positions) = assistant.model, inside.remember(assistant, waveform)
    usual = model.decoder.config._attn_implementation
    looks = inside.attention(model, embeddings, positions, 1, 0)
    n = len(positions)
    assert looks.shape == (n, n + 1) and looks.min() >= 0
    np.testing.assert_allclose(looks.sum(axis=1), 1, atol=1e-5)
    assert not np.triu(looks[:, 1:], k=1).any()  # chunk j > i is not there yet
    assert model.decoder.config._attn_implementation == usual
    other = inside.attention(model, embeddings, positions, 1, 1)
    assert np.abs(other - looks).max() > 1e-4  # another head, another place


# --- heads by ability --------------------------------------------------------------------------------
def test_effects_by_hand():
    before = np.array([0.9, 0.9, 0.1, 0.1])  # two responses, two silences
    without = np.array([[0.9, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.1], before])
    found = heads.effects([(before, without), (before[2:], without[:, 2:])], 0.5)
    assert found.mean("lost").tolist() == [0.5, 0, 0]
    assert found.mean("broken").tolist() == [0, 0.5, 0]  # one in two, and one in two again
    moved = 2 * np.log(9)
    np.testing.assert_allclose(found.mean("shift"), [moved / 6, 2 * moved / 6, 0])
    assert found.order().tolist() == [1, 0, 2]  # 0 and 1 change as many, 1 moves further
    low, high = found.bounds("shift", (1,))
    assert low == pytest.approx(moved / 4) and high == pytest.approx(
        moved / 2
    )  # one stream or the other
    assert found.bounds("lost", (0,)) == [0.5, 0.5]  # the second stream has no response to lose
    silent = heads.effects([(before[2:], without[:, 2:])], 0.5)
    assert np.isnan(silent.mean("lost")).all() and silent.bounds("lost", (0,)) is None


def test_cumulative_ablation_ends_where_no_head_is_left(assistant, waveform):
    memory = inside.remember(assistant, waveform)
    one, other = (
        heads.cumulative(assistant, [memory], order) for order in ([0, 1, 2, 3], [3, 1, 0, 2])
    )
    assert [len(row) for row in one.values()] == [5] * 3
    assert one["shift"][0] == 0 == one["lost"][0]
    for name in one:
        assert one[name][-1] == pytest.approx(other[name][-1], abs=1e-6)
    single = inside.ablate_heads(assistant, [waveform])
    p, _ = inside.decisions_without(assistant, waveform)
    responds = (p >= assistant.config.threshold).mean()
    changed = one["lost"][1] * responds + one["broken"][1] * (1 - responds)
    assert changed == pytest.approx(single[0, 0])


def test_a_study_of_two_abilities(assistant, capsys):
    names = ("voice chatting", "proactive response")
    report = heads.study(assistant, names, n_streams=2, n_chunks=30)
    assert json.loads(json.dumps(report)) == report  # what --json prints
    assert report["chunks"] == 120 and report["n_streams"] == 4
    assert list(report["heads"]) == ["all", *names] and report["abilities"] == list(names)
    ranks = np.array(report["rank_correlation"])
    assert ranks.shape == (2, 2) and ranks[0, 1] == ranks[1, 0] and ranks[0, 0] == pytest.approx(1)
    best = report["heads"]["all"][0]
    changes = [row["lost"] + row["broken"] for row in report["heads"]["all"]]
    assert changes == sorted(changes, reverse=True)
    assert best["shift_interval"][0] <= best["shift"] <= best["shift_interval"][1]
    assert set(report["continuity"]) == {"tower", "adapter", "layer 0", "layer 1"}
    heads.show(report)
    printed = capsys.readouterr().out
    assert best["head"] in printed and "rank correlation" in printed
