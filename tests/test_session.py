"""Sessions: any split gives the same events, two never touch, hostile input harms nothing."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lively import lively_model, same, sound, talkative
from transformers import DynamicCache

from aikit.audio import AudioError
from aikit.config import preset
from aikit.model.processing import stream_mel
from aikit.stream.session import Session, SessionConfig
from aikit.tokens import DEFAULT_INSTRUCTION, EMOTIONS

torch.set_num_threads(1)
SECONDS = 6


@pytest.fixture(scope="module")
def waveform():
    return sound(SECONDS)


@pytest.fixture(scope="module")
def config(parts, waveform):
    return talkative(*parts, waveform, max_reply_tokens=4, window_chunks=5)


@pytest.fixture(scope="module")
def whole(parts, waveform, config):
    session = Session(*parts, config=config)
    return session.push(waveform) + session.finish()


def test_every_chunk_gets_exactly_one_decision(whole):
    decisions = [e for e in whole if e.kind in ("silent", "respond")]
    assert [e.time_s for e in decisions] == [
        round(0.4 * (i + 1), 3) for i in range(SECONDS * 10 // 4 + 3)
    ]
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


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12))
def test_any_split_gives_the_same_events(parts, waveform, config, whole, sizes):
    session, events, start = Session(*parts, config=config), [], 0
    for size in [*sizes, len(waveform)]:
        events += session.push(waveform[start : start + size])
        start += size
    assert same(events + session.finish(), whole)


def test_interleaved_sessions_do_not_touch(parts, waveform, config, whole):
    one, two = Session(*parts, config=config), Session(*parts, config=config)
    heard_by_one = []
    for start in range(0, len(waveform), 5_000):
        heard_by_one += one.push(waveform[start : start + 5_000])
        two.push(-0.5 * waveform[::-1][start : start + 3_000])
    assert same(heard_by_one + one.finish(), whole)


def test_reset_is_a_new_session(parts, waveform, config, whole):
    session = Session(*parts, config=config)
    session.push(waveform[:23_456])
    session.reset()
    assert same(session.push(waveform) + session.finish(), whole)


@pytest.mark.parametrize(
    "hostile",
    [
        np.array([np.nan]),
        np.array([np.inf, 0]),
        np.zeros((2, 2, 2)),
        np.array(["a"]),
        np.zeros((70, 70)),
    ],
)
def test_a_refused_block_changes_nothing(parts, waveform, config, whole, hostile):
    session = Session(*parts, config=config)
    events = session.push(waveform[:20_000])
    with pytest.raises(AudioError):
        session.push(hostile)
    with pytest.raises(AudioError):
        session.push(hostile, rate=48_000)
    assert session.push(np.zeros(0)) == []
    assert same(events + session.push(waveform[20_000:]) + session.finish(), whole)


def test_any_rate_and_channel_count_is_heard(parts):
    session = Session(*parts)
    stereo = np.zeros((48_000, 2), np.int16)
    assert len([e for e in session.push(stereo, 48_000) if e.kind == "silent"]) in (1, 2)
    session.push(np.zeros(44_100, np.float64), 44_100)
    session.finish()
    assert session.time_s == pytest.approx(2.0 + 1.2, abs=0.41)
    with pytest.raises(AudioError, match="finished"):
        session.push(stereo, 48_000)


@torch.inference_mode()
def growing(parts, waveform, threshold, max_reply_tokens):
    """The oracle: the same conversation over the plain growing cache, one loop. Only the decisions."""
    model, tokenizer = parts
    layout, cache, tower, decisions = model.layout, DynamicCache(), None, []
    legal = torch.zeros(model.shape.decoder.vocab)
    legal[sorted(layout.specials - {layout.eos})] = -torch.inf

    def fed(ids, frames=None):
        return model.decode(model.embed(torch.tensor([ids]), frames), cache)[0, -1]

    pending = layout.prefix(tokenizer.encode(DEFAULT_INSTRUCTION))
    n_chunks = (len(waveform) - 200) // 6_400
    for mel in torch.from_numpy(stream_mel(waveform, n_chunks, model.shape)[None]).split(40, 2):
        frames, tower = model.encode(mel, tower)
        silent, respond = model.logits(
            fed([*pending, *layout.block(10)], frames), torch.tensor(layout.controls)
        )
        decisions.append(float(torch.sigmoid(respond - silent)))
        pending, n = [layout.silent], 0
        if decisions[-1] >= threshold:
            pending = [layout.response]
            while pending != [layout.eos] and n < max_reply_tokens:
                pending = [int((model.logits(fed(pending)) + legal).argmax())]
                decisions.append(pending[0])
                n += 1
            if pending != [layout.eos]:
                fed(pending)
                pending = [layout.eos]
    return decisions


def test_a_session_equals_the_growing_cache_until_the_window_is_full(parts, waveform, config):
    """Every probability within 1e-5, every token."""
    config = talkative(*parts, waveform, max_reply_tokens=4)
    expected = growing(parts, waveform, config.threshold, 4)
    session, said = Session(*parts, config=config), []
    for frames in session.perceive(waveform):
        event = session.decide([frames])
        said.append(event.p_respond)
        while session.speaking:
            reply, n = session.state.reply, len(session.state.reply.writer.ids)
            session.write()
            said.append([*reply.writer.ids, session.layout.eos][n])
    assert said == pytest.approx(expected, abs=1e-4)
    assert sum(isinstance(value, int) for value in said) >= 4


def test_a_full_window_forgets_the_middle_and_says_so(parts, waveform, config):
    session, remembered = Session(*parts, config=config), []
    for _ in range(6):
        for start in range(0, len(waveform), 6_400):
            session.push(waveform[start : start + 6_400])
            remembered.append(session.remembers_s)
    n_chunks = session.state.chunk
    assert session.time_s == pytest.approx(
        6 * SECONDS, abs=0.41
    ) and n_chunks * 0.4 == pytest.approx(session.time_s)
    assert 0.4 <= min(remembered[20:]) and max(remembered) <= (config.window_chunks + 1) * 0.4
    assert max(remembered) < session.time_s


def test_a_window_too_small_for_a_reply_is_refused(parts):
    with pytest.raises(ValueError, match="window_chunks >= 5"):
        Session(*parts, config=SessionConfig(window_chunks=4))


def test_the_split_gives_the_events_of_push(parts, waveform, config, whole):
    session, events = Session(*parts, config=config), []
    for frames in [*session.perceive(waveform), *session.perceive_end()]:
        assert frames.shape == (1, 10, 16)
        events.append(session.decide([frames]))
        while session.speaking:
            events += session.write()
    assert same(events, whole)


def test_drained_chunks_are_silent_ones_with_one_decision(parts, waveform, config):
    """Several chunks in one forward leave what the same chunks leave one by one, all silent."""
    deaf = replace(config, threshold=1.1, window_chunks=60)
    one, many = Session(*parts, config=deaf), Session(*parts, config=replace(deaf, drain_chunks=3))
    frames = list(one.perceive(waveform))
    alone = [one.decide([chunk]) for chunk in frames]
    drained = [many.decide(frames[:1]), many.decide(frames[1:9]), many.decide(frames[9:])]
    assert same(drained, [alone[0], alone[8], alone[-1]])
    with pytest.raises(ValueError, match="at least one chunk"):
        many.decide([])


def test_a_reply_can_be_cut_and_the_session_goes_on(parts, waveform, config):
    session = Session(
        *parts, config=replace(config, threshold=0.0, max_reply_tokens=30, window_chunks=60)
    )
    with pytest.raises(ValueError, match="no reply"):
        session.write()
    frames = list(session.perceive(waveform))
    assert session.decide(frames[:1]).kind == "respond"
    said = session.write() + session.write()
    with pytest.raises(ValueError, match="being written"):
        session.decide(frames[1:2])
    fed = session.state.ring.rows[0].position
    *rest, end = session.cut()
    assert end.kind == "end" and end.text == "".join(e.text for e in said + rest).strip()
    assert session.state.ring.rows[0].position == fed + 1  # the last token is read, so it was said
    assert session.cut() == [] and not session.speaking
    assert session.decide(frames[1:2]).kind == "respond"


def test_a_caller_may_leave_in_the_middle_of_a_reply(parts, waveform, config, whole):
    session, events = Session(*parts, config=config), []
    for event in session.stream(waveform):
        events.append(event)
        if event.kind == "respond":
            break
    assert session.speaking and session.state.ear.mel.shape[1] >= 40  # chunks still wait
    for _ in range(2):  # nothing new, but what is begun goes on
        events += session.push(np.zeros(0))
    assert not session.speaking and same(events, whole[: len(events)])
    events += session.push(np.zeros(1))
    assert session.state.ear.mel.shape[1] < 40
    n_chunks = sum(event.kind in ("silent", "respond") for event in events)
    assert n_chunks == 14 and same(events, whole[: len(events)])


def test_sessions_of_the_published_layout_tag_their_replies(parts):
    shape = preset("qwen2.5-omni-3b")
    tower = replace(shape.tower, width=32, layers=1, heads=2, mlp=32)
    small = replace(
        shape,
        tower=tower,
        decoder=replace(shape.decoder, width=16, layers=2, heads=2, kv_heads=1, mlp=32),
    )
    model = lively_model(small)
    session = Session(model, parts[1], config=SessionConfig(threshold=0.0, max_reply_tokens=3))
    ends = [e for e in session.push(np.zeros(16_000, np.float32)) if e.kind == "end"]
    assert len(ends) == 2 and all(e.emotion in EMOTIONS for e in ends)


def test_only_legal_tokens_are_spoken(parts, whole, config):
    model, tokenizer = parts
    specials = {tokenizer.token(i) for i in model.layout.specials}
    assert not any(special in event.text for event in whole for special in specials)


def test_an_event_is_one_json_object(whole):
    row = json.loads(json.dumps(whole[0].to_dict()))
    assert set(row) == {"time_s", "kind", "text", "p_respond"}


def test_a_long_session_costs_what_a_short_one_does(parts, waveform):
    """750 chunks in small: the same six seconds over and over; `docs/endless.py` does a day of it."""
    session = Session(*parts, config=SessionConfig(1.1, window_chunks=5))
    p, ms, resident = [], [], []
    for _ in range(50):
        began, events = time.process_time(), session.push(waveform)
        ms.append(time.process_time() - began)
        p.append([event.p_respond for event in events])
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    assert session.state.chunk >= 749
    np.testing.assert_allclose(p[-1], p[20], atol=1e-5)  # it never gets tired of it
    assert np.ptp(p[-1]) > 0.01
    assert resident[-1] - resident[20] < 5  # MB
    assert np.median(ms[-15:]) < 1.5 * np.median(ms[10:25])  # CPU time; 1.0 on a free machine
