"""Whatever is pushed, in whatever order: a clear refusal or a handled chunk, and no word from next door."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lively import same, sound, talkative

from aikit.audio import MAX_RATE, AudioError
from aikit.stream.session import Session

N_PUSHES = 10_000
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def waveform():
    return sound(6)


@pytest.fixture(scope="module")
def config(parts, waveform):
    return talkative(*parts, waveform, max_reply_tokens=3, window_chunks=5)


@pytest.fixture(scope="module")
def whole(parts, waveform, config):
    session = Session(*parts, config=config)
    return session.push(waveform) + session.finish()


# --- what may be pushed -------------------------------------------------------------------------
def noise(draw, n, *shape):
    return draw.normal(scale=0.1, size=(n, *shape)).astype(np.float32)


def _poisoned(draw, n, value):
    block = noise(draw, n + 1)
    block[draw.integers(0, n + 1)] = value
    return block


FINE = {
    "mono": lambda draw, n: noise(draw, n),
    "stereo": lambda draw, n: noise(draw, n + 3, 2),
    "channels first": lambda draw, n: noise(draw, n + 9, 2).T,
    "int16": lambda draw, n: draw.integers(-32_768, 32_768, n, np.int16),
    "uint8": lambda draw, n: draw.integers(0, 256, n, np.uint8),
    "int32": lambda draw, n: draw.integers(-(2**31), 2**31, n, np.int32),
    "float64": lambda draw, n: noise(draw, n).astype(np.float64),
    "clipped": lambda draw, n: 1e4 * noise(draw, n),
    "enormous": lambda draw, n: np.full(n, 3e38, np.float32),
    "tiny": lambda draw, n: np.full(n, 1e-45, np.float32),
    "silence": lambda draw, n: np.zeros(n, np.float32),
    "empty": lambda draw, n: np.zeros(0, np.float32),
    "empty stereo": lambda draw, n: np.zeros((0, 2), np.float32),
    "a list": lambda draw, n: noise(draw, min(n, 50)).tolist(),
    "read-only": lambda draw, n: np.broadcast_to(np.float32(0.1), (n,)),
    "backwards": lambda draw, n: noise(draw, n)[::-1],
    "big-endian": lambda draw, n: noise(draw, n).astype(">f4"),
    "half": lambda draw, n: noise(draw, n).astype(np.float16),
}
REFUSED = {
    "NaN": lambda draw, n: _poisoned(draw, n, np.nan),
    "inf": lambda draw, n: _poisoned(draw, n, np.inf),
    "-inf": lambda draw, n: _poisoned(draw, n, -np.inf),
    "beyond float32": lambda draw, n: np.full(n + 1, 1e300),
    "NaN in one channel": lambda draw, n: np.stack([noise(draw, n + 3), np.full(n + 3, np.nan)], 1),
    "three axes": lambda draw, n: np.zeros((2, 2, 2)),
    "a hundred channels": lambda draw, n: np.zeros((100, 100), np.float32),
    "text": lambda draw, n: np.array(["a", "b"]),
    "complex": lambda draw, n: np.ones(n + 1, np.complex64),
    "truth": lambda draw, n: np.ones(n + 1, bool),
    "objects": lambda draw, n: np.array([None, 1.0], object),
    "a number": lambda draw, n: np.float32(0.5),
}
RATES = (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)
WRONG_RATES = (0, -1, MAX_RATE + 1, float("nan"), float("inf"), None, "16k")


@pytest.mark.parametrize("kind", [*FINE, *REFUSED])
def test_every_kind_of_block_is_heard_or_refused(parts, config, kind):
    for rate in RATES:
        session = Session(*parts, config=config)
        draw = np.random.default_rng(3)
        if kind in FINE:
            assert all(
                e.kind in ("silent", "respond", "text", "end")
                for e in session.push(FINE[kind](draw, 9_000), rate)
            )
        else:
            with pytest.raises(AudioError) as refusal:
                session.push(REFUSED[kind](draw, 9_000), rate)
            assert len(str(refusal.value)) > 20
            assert session.state.ear.resampler is None and session.state.chunk == 0


@pytest.mark.parametrize("rate", WRONG_RATES)
def test_a_wrong_rate_is_refused(parts, config, rate):
    session = Session(*parts, config=config)
    with pytest.raises(AudioError, match="rate"):
        session.push(np.zeros(100, np.float32), rate)


def test_ten_thousand_hostile_pushes(parts, waveform, config, whole):
    """Two sessions take random blocks; a third, between them, hears its own sound as if alone."""
    draw = np.random.default_rng(7)
    wild = [Session(*parts, config=config) for _ in range(2)]
    quiet, events, refused, handled = Session(*parts, config=config), [], 0, 0
    for i in range(N_PUSHES):
        session, n = wild[i % 2], int(draw.integers(0, 700))
        hostile = draw.random() < 0.3
        kind = draw.choice([*(REFUSED if hostile else FINE)])
        block = (REFUSED if hostile else FINE)[kind](draw, n)
        rate = 16_000 if draw.random() < 0.8 else int(draw.choice(RATES))
        before = (session.state.chunk, session.state.ear.mel.shape)
        try:
            said = session.push(block, rate)
        except AudioError:
            refused += 1
            assert hostile and before == (session.state.chunk, session.state.ear.mel.shape)
        else:
            handled += 1
            assert not hostile or np.size(block) == 0
            assert all(0 <= event.p_respond <= 1 for event in said)
        if draw.random() < 0.002:
            session.reset()
        if i % (N_PUSHES // 100) == 0:
            at = i * len(waveform) // N_PUSHES
            events += quiet.push(waveform[at : at + len(waveform) // 100])
    assert refused > N_PUSHES // 4 and handled > N_PUSHES // 2
    assert all(torch.isfinite(s.state.ring.keys).all() for s in wild)
    same(events + quiet.finish(), whole)
    for session in wild:  # and after all that, a reset makes a new session
        session.reset()
        same(session.push(waveform) + session.finish(), whole)


# --- any order ----------------------------------------------------------------------------------
steps = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20_000)), max_size=12)


@settings(max_examples=8, deadline=None)
@given(steps)
def test_any_interleaving_of_two_sessions(parts, waveform, config, whole, order):
    """Each hears the same sound in its own blocks, whenever it is its turn."""
    sessions = [Session(*parts, config=config) for _ in range(2)]
    events, at = ([], []), [0, 0]
    for which, n in [*order, (0, len(waveform)), (1, len(waveform))]:
        events[which].extend(sessions[which].push(waveform[at[which] : at[which] + n]))
        at[which] += n
    for session, said in zip(sessions, events, strict=True):
        same(said + session.finish(), whole)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 90_000), st.integers(0, 6), st.booleans())
def test_a_reset_at_any_moment(parts, waveform, config, whole, n, tokens, finished):
    """Before, between and in chunks, in the middle of a reply, after the end."""
    session = Session(*parts, config=replace(config, threshold=0.0))
    stream = session.stream(waveform[:n], 16_000)
    for _ in range(3 * tokens):
        next(stream, None)
    if finished:
        session.finish()
    session.reset()
    session.config = config
    same(session.push(waveform) + session.finish(), whole)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from(["push", "finish", "reset", "cut", "write", "decide"]), max_size=12)
)
def test_any_order_of_calls_is_answered_or_refused(parts, waveform, config, calls):
    session = Session(*parts, config=config)
    heard = 0
    for call in calls:
        try:
            if call == "push":
                session.push(waveform[:7_000])
            elif call == "decide":
                session.decide([])
            else:
                getattr(session, call)()
        except ValueError as error:  # AudioError is one
            assert len(str(error)) > 20
        heard = max(heard, session.state.chunk)
    session.reset()
    assert session.time_s == session.remembers_s == 0.0
