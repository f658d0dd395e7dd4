"""The ring: equal to a growing cache while nothing is forgotten, to its definition after, for ever."""

import math

import pytest
import torch
from transformers import DynamicCache

from aikit.config import PRESETS, preset
from aikit.model.modeling import AudioInteractionModel
from aikit.stream import cache
from aikit.stream.cache import RingCache, feed, rotate, rotation, turn_steps

NANO = preset("nano")
PINNED, WINDOW, STEP, CHUNK = 7, 40, 13, 13
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return AudioInteractionModel.from_preset(NANO, seed=1).eval()


def make_ring(pinned=PINNED, rows=1, window=WINDOW) -> RingCache:
    ring = RingCache(NANO.decoder, pinned, window, STEP, rows)
    for row in range(rows):
        ring.open(row, pinned)
    return ring


@torch.inference_mode()
def step(model, ring, embeddings, starts=(), rows=(0,), used=None):
    """Feed ``[n, D]`` to the named rows; hidden states ``[B, D]``."""
    n_rows, n = len(ring.rows), len(embeddings)
    active = torch.zeros(n_rows, n, dtype=torch.bool)
    for row in rows:
        ring.take(row, n, starts)
        active[row] = True
    return feed(model.decoder.model, embeddings.expand(n_rows, -1, -1), ring, active, used)


def stream_of(model, n_chunks, seed=0):
    """Steps as a session makes them: the instruction, then chunks, every third with a short reply."""
    draw = torch.Generator().manual_seed(seed)
    sizes = [(PINNED, ())]
    for chunk in range(n_chunks):
        sizes.append((CHUNK, (1,)))
        sizes += [(1, ())] * (4 if chunk % 3 == 2 else 0)
    width = NANO.decoder.width
    return [(torch.randn(n, width, generator=draw), starts) for n, starts in sizes]


@torch.inference_mode()
def test_it_equals_the_growing_cache_until_the_window_is_full(model):
    ring, growing = make_ring(window=400), DynamicCache()
    for embeddings, starts in stream_of(model, 20):
        expected = model.decode(embeddings[None], growing)[:, -1]
        torch.testing.assert_close(
            step(model, ring, embeddings, starts), expected, atol=1e-5, rtol=1e-5
        )
    assert ring.rows[0].floor == PINNED and ring.rows[0].position == growing.get_seq_length()


@torch.inference_mode()
def recomputed(model, steps):
    """The definition, without a ring: every key ever, unrotated; at each step attend to the kept ones,
    which stand side by side from position 0."""
    layers = model.decoder.model.layers
    head = NANO.decoder.width // NANO.decoder.heads
    every = [([], []) for _ in layers]
    position, starts, floor = 0, [], PINNED
    for x, begins in steps:
        n = len(x)
        while starts and position + 1 - floor > WINDOW:
            starts.pop(0)
            floor = starts[0] if starts else position
        starts += [position + begin for begin in begins]
        kept = [*range(min(PINNED, position + n)), *range(floor, position + n)]
        place = {p: i for i, p in enumerate(sorted(set(kept)))}
        angle = torch.tensor(list(place.values()))[:, None] / NANO.decoder.rope_theta ** (
            torch.arange(0, head, 2) / head
        )
        cos, sin = angle.cos(), angle.sin()
        queries = [place[p] for p in range(position, position + n)]
        mask = torch.tensor([[p <= q for p in place] for q in range(position, position + n)])
        for layer, (keys, values) in zip(layers, every, strict=True):
            normed, attention = layer.input_layernorm(x), layer.self_attn
            keys.extend(attention.k_proj(normed).view(n, -1, head))
            values.extend(attention.v_proj(normed).view(n, -1, head))
            key = rotate(torch.stack([keys[p] for p in place], 1), cos, sin)
            value = torch.stack([values[p] for p in place], 1)
            query = attention.q_proj(normed).view(n, -1, head).transpose(0, 1)
            query = rotate(query, cos[queries], sin[queries])
            group = len(query) // len(key)
            key, value = (kv.repeat_interleave(group, 0) for kv in (key, value))
            scores = (query @ key.transpose(1, 2) / math.sqrt(head)).masked_fill(~mask, -torch.inf)
            mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(n, -1)
            x = x + attention.o_proj(mixed)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        position += n
        yield model.decoder.model.norm(x)[-1]


def test_it_equals_a_recomputation_over_the_kept_positions_for_ever(model):
    steps, ring = stream_of(model, 40), make_ring()
    for (embeddings, starts), expected in zip(steps, recomputed(model, steps), strict=True):
        hidden = step(model, ring, embeddings, starts)[0]
        torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=1e-5)
    assert ring.rows[0].position > 5 * ring.capacity  # it went round many times


def test_only_whole_chunks_are_forgotten_and_only_when_they_must_be(model):
    ring = make_ring()
    for embeddings, starts in stream_of(model, 30):
        before = ring.rows[0].floor
        step(model, ring, embeddings, starts)
        row = ring.rows[0]
        seen_first = (
            row.position - len(embeddings) + 1 - row.floor
        )  # by the first token of the step
        assert seen_first <= WINDOW
        if row.floor > before:
            assert row.starts[0] == row.floor
        assert len(row.starts) <= WINDOW // CHUNK + 1
        assert int(ring.floor[0]) == row.floor and int(ring.position[0]) == row.position


def test_its_size_never_changes(model):
    ring, sizes = make_ring(), set()
    for embeddings, starts in stream_of(model, 30):
        step(model, ring, embeddings, starts)
        sizes.add((ring.n_bytes, ring.slot_positions.numel(), ring.used <= 1 + ring.capacity))
    assert len(sizes) == 1
    assert PINNED + WINDOW + STEP - 1 <= ring.capacity < PINNED + WINDOW + STEP + cache.ALIGNED


def test_a_ring_one_slot_too_small_would_lose_what_it_still_sees(model):
    """Why the capacity is window + step - 1: the first token of a step sees the whole window."""
    steps = stream_of(model, 40)
    small = make_ring()
    for name in ("keys", "values", "slot_positions"):
        whole = getattr(small, name)
        axis = 2 if whole.ndim > 2 else 1
        setattr(small, name, whole.narrow(axis, 0, PINNED + WINDOW + 1).contiguous())
    small.capacity = PINNED + WINDOW
    differences = [
        float((step(model, small, embeddings, starts)[0] - expected).abs().max())
        for (embeddings, starts), expected in zip(steps, recomputed(model, steps), strict=True)
    ]
    assert max(differences) > 1e-3


def test_slots_that_hold_nothing_do_not_matter(model):
    steps = stream_of(model, 12)
    all_slots, filled = make_ring(), make_ring()
    for embeddings, starts in steps:
        one = step(model, all_slots, embeddings, starts)
        n = len(embeddings)
        used = 1 + min(filled.capacity, filled.rows[0].position + n)
        torch.testing.assert_close(one, step(model, filled, embeddings, starts, used=used))


def test_rows_do_not_touch_each_other_and_the_inactive_do_not_move(model):
    alone, pair = make_ring(), make_ring(rows=2)
    other = stream_of(model, 20, seed=5)
    for i, (embeddings, starts) in enumerate(stream_of(model, 20)):
        expected = step(model, alone, embeddings, starts)
        torch.testing.assert_close(step(model, pair, embeddings, starts)[:1], expected)
        if i % 2:
            kept = pair.keys[:, 0, 1:].clone()
            step(model, pair, *other[i], rows=(1,))
            assert torch.equal(pair.keys[:, 0, 1:], kept)
    assert pair.rows[0].position > pair.rows[1].position > 0


def test_an_opened_row_is_a_new_row(model):
    used, fresh = make_ring(), make_ring()
    for embeddings, starts in stream_of(model, 20, seed=3):
        step(model, used, embeddings, starts)
    used.open(0, PINNED)
    for embeddings, starts in stream_of(model, 20):
        one, two = (step(model, ring, embeddings, starts) for ring in (used, fresh))
        torch.testing.assert_close(one, two)


def test_sinks_stay_and_what_is_shorter_than_the_pinned_part_too(model):
    """Five positions after the instruction are pinned: they are seen for ever, the rest is not."""
    steps = stream_of(model, 30)
    changed = [(x.clone(), starts) for x, starts in steps]
    changed[1][0][:5] += 1.0
    with_sinks = [[], []]
    without = [[], []]
    for i, some in enumerate((steps, changed)):
        for pinned, out in ((PINNED + 5, with_sinks[i]), (PINNED, without[i])):
            ring = make_ring(pinned)
            out += [step(model, ring, x, starts)[0] for x, starts in some]
            assert ring.rows[0].pinned == pinned
    direct = NANO.decoder.layers * WINDOW  # beyond it nothing is handed on from key to key either
    assert len(steps) * 10 > direct
    assert (with_sinks[0][-1] - with_sinks[1][-1]).abs().max() > 1e-4
    torch.testing.assert_close(without[0][-1], without[1][-1], atol=1e-6, rtol=1e-6)


def test_rotations_do_not_drift_in_a_hundred_years():
    steps = turn_steps(64, 1e6)
    early, late = torch.arange(50), torch.arange(50) + 30 * 86_400 * 36_525
    x = torch.randn(50, 64)

    def scores(positions):
        turned = rotate(x, *rotation(positions, steps, torch.float32))
        return turned @ turned.T

    torch.testing.assert_close(scores(late), scores(early), atol=1e-4, rtol=1e-5)


def test_rotations_are_those_of_the_model(model):
    rotary = model.decoder.model.rotary_emb
    cos, sin = rotary(torch.zeros(1), torch.arange(900)[None])
    ours = rotation(
        torch.arange(900), turn_steps(cos.shape[-1], NANO.decoder.rope_theta), torch.float32
    )
    for theirs, mine in zip((cos, sin), ours, strict=True):
        torch.testing.assert_close(torch.cat([mine, mine], -1), theirs[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_ring(name):
    decoder = PRESETS[name].decoder
    ring = RingCache(decoder, 30, 780, 130, device="meta")
    head = decoder.head_dim or decoder.width // decoder.heads
    assert ring.keys.shape == (decoder.layers, 1, 944, decoder.kv_heads, head)


def test_what_does_not_fit_is_refused():
    ring = make_ring()
    with pytest.raises(ValueError, match="made for 7"):
        ring.open(0, PINNED + 1)
    with pytest.raises(ValueError, match="made for 13"):
        ring.take(0, STEP + 1)
