"""FIFO: the same events as a session when there is time, and when there is none, no chunk lost in silence."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aikit.audio import AudioError
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.fifo import FifoSession
from aikit.stream.session import Event, Session, SessionConfig
from aikit.synth.abilities import all_texts
from aikit.tokens import Tokenizer

torch.set_num_threads(1)
CHUNK = 6_400


# ---- a real model, with time enough


@pytest.fixture(scope="module")
def parts():
    return AudioInteractionModel.from_preset(preset("nano"), seed=1), Tokenizer.train(all_texts())


@pytest.fixture(scope="module")
def waveform():
    return (0.1 * np.random.default_rng(0).normal(size=16_000 * 6)).astype(np.float32)


@pytest.fixture(scope="module")
def config(parts, waveform):
    """A threshold at which this random model speaks at some of the chunks."""
    events = Session(*parts, config=SessionConfig(threshold=1.1)).push(waveform)
    p_respond = sorted(event.p_respond for event in events)
    return SessionConfig(p_respond[len(p_respond) // 5], max_reply_tokens=6, window_chunks=12)


def pieces_of(waveform, sizes=()):
    """The waveform in pieces of these sizes, then in chunks; none is longer than a chunk."""
    cuts = np.cumsum([size for size in sizes])
    for part in np.split(waveform, cuts[cuts < len(waveform)]):
        yield from (part[begin : begin + CHUNK] for begin in range(0, len(part), CHUNK))


def heard_by_a_session(parts, config, pieces):
    session = Session(*parts, config=config)
    return [event for piece in pieces for event in session.push(piece)] + session.finish()


@pytest.fixture(scope="module")
def whole(parts, waveform, config):
    return heard_by_a_session(parts, config, pieces_of(waveform))


def heard_in_time(live, pieces):
    """Push each piece when all before it is handled."""
    for piece in pieces:
        assert live.push(piece) and live.settle(10)
    assert live.finish(10)
    return live.poll()


def test_with_time_enough_the_events_are_those_of_a_session(parts, waveform, config, whole):
    kinds = [event.kind for event in whole]
    assert kinds.count("end") > 1 and kinds.count("silent") > 5
    with FifoSession(Session(*parts, config=config)) as live:
        assert heard_in_time(live, pieces_of(waveform)) == whole
        assert live.ledger.merged == live.ledger.dropped_s == 0
        assert live.ledger.received_s == pytest.approx(6.0)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12))
def test_and_so_they_are_for_any_split(parts, waveform, config, sizes):
    with FifoSession(Session(*parts, config=config)) as live:
        heard = heard_in_time(live, pieces_of(waveform, sizes))
    assert heard == heard_by_a_session(parts, config, pieces_of(waveform, sizes))


def test_pushed_at_once_every_chunk_is_heard(parts, waveform, config):
    """The drained blocks are those that a session would have read, <silent> between them."""
    with FifoSession(Session(*parts, config=config), queue_s=60) as live:
        live.push(waveform)
        assert live.settle(10)
        decisions = [e for e in live.poll() if e.kind in ("silent", "respond")]
        assert len(decisions) + live.ledger.merged == 14  # the 15th lacks its last 40 samples
        assert decisions[-1].time_s == pytest.approx(5.6)
        assert live.ledger.decisions == len(decisions)


def test_a_drain_reads_what_a_silent_session_would_have_read(parts, waveform):
    config = SessionConfig(threshold=1.1)
    expected = Session(*parts, config=config).push(waveform)
    with FifoSession(Session(*parts, config=config)) as live:
        live.push(waveform)
        assert live.settle(10)
        heard = live.poll()
        assert live.ledger.merged > 0
    by_time = {event.time_s: event.p_respond for event in expected}
    assert heard[-1].time_s == expected[-1].time_s
    for event in heard:
        assert event.p_respond == pytest.approx(by_time[event.time_s], abs=1e-5)


def test_reset_is_a_new_session_and_two_do_not_touch(parts, waveform, config, whole):
    with (
        FifoSession(Session(*parts, config=config)) as live,
        FifoSession(Session(*parts, config=config)) as other,
    ):
        live.push(waveform)  # somewhere in it, the reset comes
        other.push(-0.5 * waveform[::-1])
        live.reset()
        assert live.poll() == [] and live.waiting_s == 0
        assert heard_in_time(live, pieces_of(waveform)) == whole
        live.reset()  # a finished one listens again
        assert heard_in_time(live, pieces_of(waveform)) == whole


# ---- a stand-in that takes the time it is told


class Slow:
    """A `Session` of which every step waits for the test: chunk i says what is due, for ``words`` tokens."""

    def __init__(self, due=(), words=5, encode_s=0.0, listen_s=0.0, write_s=0.0):
        self.audio, self.due, self.words = SimpleNamespace(chunk_s=0.4), set(due), words
        self.seconds = encode_s, listen_s, write_s
        self.may_write = threading.Semaphore(0) if write_s is None else None
        self.reset()

    def reset(self):
        self.state, self.left, self.heard = SimpleNamespace(chunk=0), 0, 0
        self.buffer, self.drained = np.zeros(0), []

    @property
    def speaking(self):
        return self.left > 0

    @property
    def time_s(self):
        return round(self.state.chunk * 0.4, 3)

    def perceive(self, samples, rate):
        self.buffer = np.append(self.buffer, samples)
        while len(self.buffer) >= CHUNK:
            self.buffer = self.buffer[CHUNK:]
            time.sleep(self.seconds[0])
            self.heard += 1
            yield self.heard - 1

    def perceive_end(self):
        yield from self.perceive(np.zeros(2 * CHUNK), 16_000)

    def decide(self, frames):
        time.sleep(self.seconds[1])
        self.drained.append(list(frames))
        self.state.chunk += len(frames)
        self.left = self.words if self.due & set(frames) else 0
        return Event(self.time_s, "respond" if self.left else "silent")

    def write(self):
        if self.may_write:
            self.may_write.acquire()
        else:
            time.sleep(self.seconds[2])
        self.left -= 1
        return [Event(self.time_s, "text", "word ")] if self.left else self.cut()

    def cut(self):
        self.left = 0
        return [Event(self.time_s, "end", "what was said")]


def noise(n_chunks, level=0.1):
    return np.random.default_rng(0).normal(0, level, n_chunks * CHUNK).astype(np.float32)


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def test_audio_is_taken_while_a_reply_is_written_and_then_drained_at_once():
    session = Slow(due=[1], write_s=None)
    with FifoSession(session) as live:
        for _ in range(2):
            live.push(noise(1))
            until(lambda: session.drained and not live.waiting_s)
        until(lambda: session.speaking)
        for _ in range(7):
            live.push(noise(1))
        until(lambda: len(live._shared.queue) == 7)  # the encoder did not wait
        assert session.drained == [[0], [1]] and live.waiting_s == pytest.approx(2.8)
        assert not live.settle(0.01)
        for _ in range(5):
            session.may_write.release()
        assert live.settle(5)
        assert session.drained == [[0], [1], [2, 3, 4, 5, 6, 7, 8]]
        assert live.ledger.merged == 6 and live.ledger.peak_s == pytest.approx(2.8)
        assert [e.time_s for e in live.poll() if e.kind == "silent"] == [0.4, 3.6]


def test_a_full_queue_drops_its_oldest_chunk_and_says_so():
    session = Slow(due=[0], write_s=None)
    with FifoSession(session, queue_s=2.0) as live:
        live.push(noise(1))
        until(lambda: session.speaking)
        for n in range(2, 10):
            live.push(noise(1))
            until(lambda n=n: session.heard == n)
        for _ in range(5):
            session.may_write.release()
        assert live.settle(5)
        assert session.drained == [[0], [4, 5, 6, 7, 8]]
        assert live.ledger.dropped_s == pytest.approx(1.2)
        said = [e for e in live.poll() if e.kind == "dropped"]
        assert [(e.time_s, e.text) for e in said] == [(1.6, "1.2 s were not heard")]
        assert session.time_s == pytest.approx(3.6)  # no time is lost


def test_a_slow_encoder_refuses_blocks_and_counts_them():
    with FifoSession(Slow(encode_s=0.05), queue_s=0.8) as live:
        taken = [live.push(noise(1)) for _ in range(12)]
        assert False in taken and True in taken
        assert live.settle(5)
        live.push(noise(1))
        assert live.settle(5)
        assert live.ledger.dropped_s == pytest.approx(0.4 * taken.count(False))
        assert live.ledger.received_s == pytest.approx(0.4 * 13)
        heard_s = 0.4 * live.session.heard
        assert heard_s + live.ledger.dropped_s == pytest.approx(live.ledger.received_s)
        assert [e.text for e in live.poll() if e.kind == "dropped"]


def test_push_returns_at_once():
    with FifoSession(Slow(encode_s=0.5, listen_s=0.5)) as live:
        began = time.perf_counter()
        for _ in range(3):
            live.push(noise(1))
        assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize("level", [None, -20.0])
def test_new_speech_cuts_a_reply_short_if_asked_to(level):
    session = Slow(due=[0], words=6, write_s=None)
    with FifoSession(session, barge_in_dbfs=level) as live:
        live.push(noise(1, 0.3))
        until(lambda: session.speaking)
        for _ in range(2):  # the loud sound goes on, then it is quiet: no reason to stop
            session.may_write.release()
            live.push(noise(1, 0.3 if session.heard == 1 else 0.001))
            until(lambda: not live._shared.blocks and not live._shared.busy - {"queue"})
        until(lambda: session.left == 4)
        live.push(noise(1, 0.3))
        until(lambda: len(live._shared.queue) == 3)
        for _ in range(4):  # the token that is being written now is still said
            session.may_write.release()
        assert live.settle(5)
        texts = [e.kind for e in live.poll()].count("text")
        assert (live.ledger.cut, texts) == ((0, 5) if level is None else (1, 3))


def test_cancel_ends_only_the_reply_that_is_being_written():
    session = Slow(due=[0, 1], words=1000, write_s=0.002)
    with FifoSession(session) as live:
        live.cancel()  # there is none
        for cut in (1, 2):
            live.push(noise(1))
            until(lambda: any(e.kind == "text" for e in live.poll()))
            live.cancel()
            assert live.settle(1)
            assert live.poll()[-1].kind == "end" and live.ledger.cut == cut


def test_reset_in_the_middle_of_a_reply():
    session = Slow(due=[0], words=1000, write_s=0.002)
    with FifoSession(session) as live:
        live.push(noise(3))
        until(lambda: session.speaking)
        live.reset()
        assert not session.speaking and live.poll() == [] and live.ledger.received_s == 0
        session.due = set()
        live.push(noise(1))
        assert live.settle(5)
        assert [e.kind for e in live.poll()] == ["silent"]


def test_events_come_as_an_iterator_that_ends():
    with FifoSession(Slow(due=[1], words=3)) as live:
        caller = threading.Thread(
            target=lambda: (live.push(noise(1)), live.settle(), live.finish())
        )
        caller.start()
        kinds = [event.kind for event in live.events()]
        assert kinds == ["silent", "respond", "text", "text", "end", "silent"]
        caller.join(5)
        assert live.finish() and not caller.is_alive()
        with pytest.raises(AudioError, match="finished"):
            live.push(noise(1))


@pytest.mark.parametrize("part", ["perceive", "decide", "write"])
def test_what_stops_a_worker_reaches_the_caller(part):
    def broken(*_):
        raise RuntimeError("out of memory, on purpose")

    session = Slow(due=[0])
    setattr(session, part, broken)
    live = FifoSession(session)
    live.push(noise(1))
    with pytest.raises(RuntimeError, match="on purpose"):
        list(live.events())
    for call in (
        lambda: live.push(noise(1)),
        live.poll,
        live.settle,
        live.finish,
        live.reset,
        live.close,
    ):
        with pytest.raises(RuntimeError, match="on purpose"):
            call()
    assert not any(thread.is_alive() for thread in live._threads)


def test_an_error_after_the_last_push_is_raised_at_the_end():
    session = Slow()
    session.decide = None  # calling it is a TypeError
    with pytest.raises(TypeError), FifoSession(session) as live:
        live.push(noise(1))
        until(lambda: live._error)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [([np.nan], 16_000), ([np.inf, 0], 48_000), (np.zeros((2, 2, 2)), 16_000), (["a"], 16_000),
     (np.zeros(9), 0), (np.zeros(9), -1), (np.zeros(9), 10**9)],
)  # fmt: skip
def test_bad_audio_is_refused_where_it_is_pushed(parts, waveform, config, whole, samples, rate):
    with FifoSession(Session(*parts, config=config)) as live:
        with pytest.raises(AudioError):
            live.push(np.array(samples), rate)
        live.push(np.zeros(0))
        assert heard_in_time(live, pieces_of(waveform)) == whole


def test_close_stops_in_mid_reply_and_says_so():
    session = Slow(due=[0], words=10**6, write_s=0.002)
    live = FifoSession(session)
    live.push(noise(1))
    until(lambda: session.speaking)
    live.close()
    live.close()
    assert not any(thread.is_alive() for thread in live._threads)
    assert next(live.events()).kind == "respond"
    with pytest.raises(AudioError, match="closed"):
        live.push(noise(1))


def test_events_that_nobody_polls_are_counted(monkeypatch):
    monkeypatch.setattr("aikit.stream.fifo.EVENTS_KEPT", 3)
    with FifoSession(Slow()) as live:
        for _ in range(5):
            live.push(noise(1))
            assert live.settle(5)
        assert live.ledger.unread == 2 and len(live.poll()) == 3


def test_a_queue_that_holds_no_chunk_is_refused():
    with pytest.raises(ValueError, match=r"0.4"):
        FifoSession(Slow(), queue_s=0.1)
