"""Fast paths: the functions that a graph captures, called plainly, equal the oracle; graphs where a GPU is."""

import logging
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from lively import lively_model, same, sound, talkative

from aikit.config import PRESETS, preset
from aikit.model.modeling import AudioInteractionModel
from aikit.stream import fastpath, packed
from aikit.stream.session import Session, SessionConfig, make_ring

NANO = preset("nano")
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="needs a CUDA device: graphs cannot be captured without one",
)
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return lively_model()


@pytest.fixture(scope="module")
def waveform():
    return sound(8)


@pytest.fixture(scope="module")
def threshold(model, tokenizer, waveform):
    return talkative(model, tokenizer, waveform, max_reply_tokens=4, window_chunks=6).threshold


def small_published() -> AudioInteractionModel:
    """The published kinds of tower and layout, at a width that a test can afford."""
    shape = PRESETS["qwen2.5-omni-3b"]
    tower = replace(shape.tower, width=32, layers=2, heads=2, mlp=32)
    decoder = replace(NANO.decoder, width=32, heads=2, vocab=shape.decoder.vocab, tied=False)
    return lively_model(replace(shape, tower=tower, decoder=decoder))


def events_of(model, tokenizer, waveform, path, threshold):
    config = SessionConfig(threshold, max_reply_tokens=4, window_chunks=6, path=path)
    session = Session(model, tokenizer, config=config)
    return session.push(waveform) + session.finish()


def test_static_shapes_say_what_eager_says(model, tokenizer, waveform, threshold):
    eager = events_of(model, tokenizer, waveform, "eager", threshold)
    decisions = [event.kind for event in eager if event.kind in ("silent", "respond")]
    assert 0 < decisions.count("respond") < len(decisions)
    same(events_of(model, tokenizer, waveform, "static", threshold), eager)


def test_static_functions_see_one_shape_and_no_value(
    model, tokenizer, waveform, threshold, monkeypatch
):
    """What a graph needs: every call has the same shapes, and the ring stays where it is."""
    session = Session(
        model, tokenizer, config=SessionConfig(threshold, 4, window_chunks=6, path="static")
    )
    shapes, ring = {"_listen": set(), "_decode": set()}, session.state.ring
    for name, seen in shapes.items():
        inner = getattr(session.path, name)

        def note(*tensors, inner=inner, seen=seen):
            seen.add(tuple(tuple(tensor.shape) for tensor in tensors))
            return inner(*tensors)

        monkeypatch.setattr(session.path, name, note)
    addresses = [t.data_ptr() for t in (ring.keys, ring.values, ring.position, ring.floor)]
    session.push(waveform)
    session.reset()
    session.push(waveform)
    assert [len(seen) for seen in shapes.values()] == [1, 1]
    assert addresses == [t.data_ptr() for t in (ring.keys, ring.values, ring.position, ring.floor)]


class Replayed(fastpath.Graph):
    """A graph without a GPU: static inputs, static outputs, overwritten by the next call."""

    def __init__(self, function, *examples):
        self.inputs, self.function = [example.clone() for example in examples], function
        for _ in range(3):
            self.outputs = function(*self.inputs)
        self.graph = self

    def replay(self):
        new = self.function(*self.inputs)
        pairs = (
            zip(new, self.outputs, strict=True) if isinstance(new, tuple) else [(new, self.outputs)]
        )
        for fresh, held in pairs:
            held.copy_(fresh)


@pytest.mark.parametrize("kind", ["causal", "published"])
def test_what_surrounds_a_graph_keeps_every_state(
    model, tokenizer, waveform, threshold, monkeypatch, kind
):
    """All but the capture itself, on any device: buffers in and out, resets, two sessions, drains."""
    if kind == "published":
        model, threshold = small_published(), 0.0
    expected = events_of(model, tokenizer, waveform, "eager", threshold)
    monkeypatch.setattr(fastpath, "Graph", Replayed)
    config = SessionConfig(threshold, max_reply_tokens=4, window_chunks=6)

    def graphed():
        ring = make_ring(model, config, 40)
        return Session(model, tokenizer, config=config, path=fastpath.GraphPath(model, ring))

    one, two, said = graphed(), graphed(), []
    one.push(-waveform[:50_000])
    one.reset()
    for start in range(0, len(waveform), 9_000):
        said += one.push(waveform[start : start + 9_000])
        two.push(waveform[::-1][start : start + 9_000])
    same(said + one.finish(), expected)
    two.reset()
    two.decide(list(two.perceive(waveform[:20_000])))  # three chunks at once: not a graph's shape
    assert two.time_s == 1.2


def test_nothing_inside_depends_on_a_value(model, tokenizer):
    """Traced as one whole, without a break: no `.item()`, no branch on a tensor, no unknown shape."""
    path = Session(model, tokenizer, config=SessionConfig(path="static")).path
    tokens, asleep = torch.zeros(1, dtype=torch.long), torch.zeros(1, 13, dtype=torch.bool)
    state = model.tower.initial_state()
    whole = {"backend": "eager", "fullgraph": True, "dynamic": False}
    with torch.inference_mode():
        torch.compile(path._listen, **whole)(tokens, torch.zeros(1, 10, 16), asleep)
        torch.compile(path._decode, **whole)(tokens, asleep[:, :1])
        torch.compile(model.encode, **whole)(torch.zeros(1, 16, 40), state)
        torch.compile(small_published().encode, **whole)(torch.zeros(1, 128, 40))


def test_an_inactive_step_changes_nothing(model, tokenizer, waveform):
    """A graph warms up on the ring itself."""
    session = Session(model, tokenizer, config=SessionConfig(path="static"))
    session.push(waveform)
    ring, path = session.state.ring, session.path
    before = [
        t.clone()
        for t in (ring.keys[:, :, 1:], ring.values[:, :, 1:], ring.position, ring.slot_positions)
    ]
    asleep = torch.zeros(1, 13, dtype=torch.bool)
    with torch.inference_mode():
        path._listen(torch.zeros(1, dtype=torch.long), torch.zeros(1, 10, 16), asleep)
        path._decode(torch.zeros(1, dtype=torch.long), asleep[:, :1])
    after = (ring.keys[:, :, 1:], ring.values[:, :, 1:], ring.position, ring.slot_positions)
    assert all(map(torch.equal, before, after))


def test_the_published_tower_at_a_fixed_shape_is_transformers_own():
    model = small_published().eval()
    encoder, mel = model.tower.encoder, torch.randn(2, 128, 120)
    lengths = torch.full((6,), 40)
    with torch.inference_mode():
        ours, _ = model.tower.encode(mel)
        features = mel.transpose(0, 1).flatten(1)
        theirs = encoder(
            features, feature_lens=lengths, aftercnn_lens=lengths // 2
        ).last_hidden_state
    torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-5, rtol=1e-5)


def test_the_published_kinds_run_on_the_same_path(tokenizer, waveform):
    model = small_published()
    eager = events_of(model, tokenizer, waveform, "eager", threshold=0.0)
    assert any(event.emotion for event in eager)
    same(events_of(model, tokenizer, waveform, "static", threshold=0.0), eager)


def test_only_the_wanted_logits_are_computed(model, tokenizer, waveform, monkeypatch):
    asked = []
    inner = model.logits
    monkeypatch.setattr(
        model,
        "logits",
        lambda hidden, ids=None: asked.append((hidden.shape, ids)) or inner(hidden, ids),
    )
    session = Session(model, tokenizer, config=SessionConfig(threshold=1.1))
    session.push(waveform[:20_000])
    assert asked and all(shape == (1, 16) and len(ids) == 2 for shape, ids in asked)
    asked.clear()
    session.path.decode({0: model.layout.response})
    assert asked == [((1, 16), None)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_stay_near_float32(tokenizer, waveform, dtype):
    exact = lively_model()
    expected = events_of(exact, tokenizer, waveform, "static", threshold=1.1)
    half = lively_model().to(dtype)
    got = events_of(half, tokenizer, waveform, "static", threshold=1.1)
    p = [event.p_respond for event in expected]
    assert [event.p_respond for event in got] == pytest.approx(p, abs=0.02)


def test_without_a_gpu_one_line_says_so(model, caplog):
    ring = make_ring(model, SessionConfig(), 20)
    with caplog.at_level(logging.WARNING, logger="aikit"):
        assert fastpath.pick_path(model, ring).name == "packed"
        assert not caplog.records  # auto is not a wish
        assert fastpath.pick_path(model, ring, "graph").name == "eager"
    assert len(caplog.records) == 1 and "CUDA" in caplog.text
    with pytest.raises(ValueError, match="choose one of auto, eager"):
        fastpath.pick_path(model, ring, "warp")


def test_packed_matrices_say_what_eager_says(model, tokenizer, waveform, threshold):
    eager = events_of(model, tokenizer, waveform, "eager", threshold)
    same(events_of(model, tokenizer, waveform, "packed", threshold), eager)


def test_a_changed_weight_is_packed_again_and_what_cannot_be_packed_is_left_alone(model, monkeypatch):
    decoder = deepcopy(model.decoder.model)
    first = packed.packed(decoder)
    assert packed.packed(decoder) is first
    x = torch.randn(3, model.shape.decoder.width)
    with torch.no_grad():
        decoder.layers[0].mlp.up_proj.weight.mul_(2.0)
    again = packed.packed(decoder)
    assert again is not first
    torch.testing.assert_close(again.layers[0].mlp(x), decoder.layers[0].mlp(x), atol=1e-5, rtol=1e-5)

    assert packed.can_pack(decoder)
    handle = decoder.layers[0].self_attn.o_proj.register_forward_hook(lambda *_: None)
    assert not packed.can_pack(decoder)  # a hook wants to see what passes
    handle.remove()
    assert not packed.can_pack(deepcopy(decoder).half())
    monkeypatch.setattr(packed, "MOST_BYTES", 1000)
    assert not packed.can_pack(decoder)


def test_the_head_of_a_processor_is_read_by_columns_and_saved_as_ever(
    tokenizer, waveform, tmp_path
):
    model = small_published()
    before = model.decoder.lm_head.weight.detach().clone()
    events_of(model, tokenizer, waveform[:10_000], "eager", 0.0)
    head = model.decoder.lm_head.weight
    assert head.stride() == (1, len(head)) and torch.equal(head, before)
    model.save_pretrained(tmp_path)
    assert torch.equal(
        AudioInteractionModel.from_pretrained(tmp_path).decoder.lm_head.weight, before
    )


def test_compiled_functions_say_what_eager_says(model, tokenizer, waveform, threshold, monkeypatch):
    """Traced and made functional as for inductor; its C++ would take two minutes to compile."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    eager = events_of(model, tokenizer, waveform, "eager", threshold)
    same(events_of(model, tokenizer, waveform, "compile", threshold), eager)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["causal", "published"])
def test_graphs_say_what_eager_says(tokenizer, waveform, threshold, kind):
    model = small_published() if kind == "published" else lively_model()
    model, threshold = model.cuda(), 0.0 if kind == "published" else threshold
    long = np.tile(waveform, 4)
    eager = events_of(model, tokenizer, long, "static", threshold)
    same(events_of(model, tokenizer, long, "graph", threshold), eager)


@pytest.mark.gpu
@needs_gpu
def test_auto_is_a_graph_on_a_gpu(model, tokenizer, waveform):
    session = Session(lively_model().cuda(), tokenizer)
    assert session.path.name == "graph"
    first = session.push(waveform)
    session.reset()
    same(session.push(waveform), first)
