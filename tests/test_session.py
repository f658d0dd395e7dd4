"""Sessions: any split gives the same events, two never touch, hostile input harms nothing."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from aikit.audio import AudioError
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.session import Session, SessionConfig
from aikit.synth.abilities import all_texts
from aikit.tokens import Tokenizer

torch.set_num_threads(1)
SECONDS = 6


@pytest.fixture(scope="module")
def parts():
    return AudioInteractionModel.from_preset(preset("nano"), seed=1), Tokenizer.train(all_texts())


@pytest.fixture(scope="module")
def waveform():
    return (0.1 * np.random.default_rng(0).normal(size=16_000 * SECONDS)).astype(np.float32)


@pytest.fixture(scope="module")
def config(parts, waveform):
    """A threshold at which this random model speaks at about a third of the chunks."""
    events = Session(*parts, config=SessionConfig(threshold=1.1)).push(waveform)
    p_respond = sorted(event.p_respond for event in events)
    return SessionConfig(p_respond[len(p_respond) * 2 // 3], max_reply_tokens=4, window_chunks=12, keep_chunks=5)


@pytest.fixture(scope="module")
def whole(parts, waveform, config):
    session = Session(*parts, config=config)
    return session.push(waveform) + session.finish()


def test_every_chunk_gets_exactly_one_decision(whole):
    decisions = [e for e in whole if e.kind in ("silent", "respond")]
    assert [e.time_s for e in decisions] == [round(0.4 * (i + 1), 3) for i in range(SECONDS * 10 // 4 + 3)]
    kinds = [e.kind for e in whole]
    assert kinds.count("respond") == kinds.count("end") > 0
    for i, kind in enumerate(kinds):
        if kind == "respond":
            after = kinds[i + 1 :]
            assert after[after.index("end") - 1] in ("text", "end", "respond") or after[0] == "end"


def test_text_pieces_add_up_to_the_reply(whole):
    pieces = ""
    for event in whole:
        pieces = "" if event.kind == "respond" else pieces + event.text * (event.kind == "text")
        if event.kind == "end":
            assert event.text == pieces.strip()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12))
def test_any_split_gives_the_same_events(parts, waveform, config, whole, sizes):
    session, events, start = Session(*parts, config=config), [], 0
    for size in [*sizes, len(waveform)]:
        events += session.push(waveform[start : start + size])
        start += size
    assert events + session.finish() == whole


def test_interleaved_sessions_do_not_touch(parts, waveform, config, whole):
    one, two = Session(*parts, config=config), Session(*parts, config=config)
    heard_by_one = []
    for start in range(0, len(waveform), 5_000):
        heard_by_one += one.push(waveform[start : start + 5_000])
        two.push(-0.5 * waveform[::-1][start : start + 3_000])
    assert heard_by_one + one.finish() == whole


def test_reset_is_a_new_session(parts, waveform, config, whole):
    session = Session(*parts, config=config)
    session.push(waveform[:23_456])
    session.reset()
    assert session.push(waveform) + session.finish() == whole


@pytest.mark.parametrize(
    "hostile",
    [np.array([np.nan]), np.array([np.inf, 0]), np.zeros((2, 2, 2)), np.array(["a"]), np.zeros((70, 70))],
)
def test_a_refused_block_changes_nothing(parts, waveform, config, whole, hostile):
    session = Session(*parts, config=config)
    events = session.push(waveform[:20_000])
    with pytest.raises(AudioError):
        session.push(hostile)
    with pytest.raises(AudioError):
        session.push(hostile, rate=48_000)
    assert session.push(np.zeros(0)) == []
    assert events + session.push(waveform[20_000:]) + session.finish() == whole


def test_any_rate_and_channel_count_is_heard(parts):
    session = Session(*parts)
    stereo = np.zeros((48_000, 2), np.int16)
    assert len([e for e in session.push(stereo, 48_000) if e.kind == "silent"]) in (1, 2)
    session.push(np.zeros(44_100, np.float64), 44_100)
    session.finish()
    assert session.time_s == pytest.approx(2.0 + 1.2, abs=0.41)
    with pytest.raises(AudioError, match="finished"):
        session.push(stereo, 48_000)


def test_the_cache_equals_one_forward_over_everything(parts, waveform):
    """Until the window is full, incremental decoding is exactly the model on the whole sequence."""
    model, tokenizer = parts
    session = Session(model, tokenizer, config=SessionConfig(threshold=1.1))
    events = session.push(waveform)
    state = session.state
    prefix = [session._prefix, *session._joined(state.history)]
    with torch.inference_mode():
        whole = torch.cat(prefix, dim=1)
        hidden = model.decode(whole, DynamicCache())
        p_last = session._decide(hidden[0, -1])
    assert p_last == pytest.approx(events[-1].p_respond, abs=1e-5)
    assert state.cache.get_seq_length() == whole.shape[1]


def test_a_full_window_forgets_the_middle_and_says_so(parts, waveform, config):
    session, lengths = Session(*parts, config=config), []
    for _ in range(4):
        session.push(waveform)
        lengths.append(session.state.cache.get_seq_length())
        assert session.remembers_s <= config.window_chunks * 0.4
    assert max(lengths) < 40 + config.window_chunks * (13 + config.max_reply_tokens + 2)
    assert session.time_s == pytest.approx(4 * SECONDS, abs=0.41)


def test_only_legal_tokens_are_spoken(parts, whole, config):
    model, tokenizer = parts
    specials = {tokenizer.token(i) for i in model.layout.specials}
    assert not any(special in event.text for event in whole for special in specials)


def test_an_event_is_one_json_object(whole):
    row = json.loads(json.dumps(whole[0].to_dict()))
    assert set(row) == {"time_s", "kind", "text", "p_respond"}
