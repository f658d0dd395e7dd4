"""A pool: rows of one batch say what they would say alone, whoever comes, goes or talks beside them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lively import same, sound, talkative

from aikit.audio import AudioError
from aikit.stream.pool import SessionPool
from aikit.stream.session import Session

INSTRUCTIONS = (
    "Listen, and help when help is needed.",
    "Count the barks.",
    "Say nothing, unless it burns. " * 2,
)
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def waveforms():
    return [sound(8, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def config(parts, waveforms):
    return talkative(*parts, waveforms[0], max_reply_tokens=4, window_chunks=6)


@pytest.fixture(scope="module")
def alone(parts, waveforms, config):
    sessions = [Session(*parts, text, config) for text in INSTRUCTIONS]
    return [s.push(w) + s.finish() for s, w in zip(sessions, waveforms, strict=True)]


@pytest.mark.parametrize("path", ["eager", "static"])
def test_rows_say_what_single_sessions_say(parts, waveforms, config, alone, path):
    """Three instructions of different lengths, blocks of different sizes, one row that joins late."""
    pool, draw = SessionPool(*parts, 4, replace(config, path=path)), np.random.default_rng(1)
    rows, events, at = [pool.open(text) for text in INSTRUCTIONS[:2]], [[], [], []], [0, 0, 0]
    for turn in range(200):
        if turn == 5:
            rows.append(pool.open(INSTRUCTIONS[2]))
        for i, row in enumerate(rows):
            n = int(draw.integers(0, 12_000))
            pool.hear(row, waveforms[i][at[i] : at[i] + n])
            at[i] += n
        for row, new in pool.run().items():
            events[rows.index(row)] += new
    for row in rows:
        pool.finish(row)
    for row, new in pool.run().items():
        events[rows.index(row)] += new
    assert len({len(session._prefix) for session in pool.sessions.values()}) == 3
    kinds = {event.kind for said in alone for event in said}
    assert kinds == {"silent", "respond", "text", "end"}
    for said, expected in zip(events, alone, strict=True):
        same(said, expected)


def test_a_row_can_be_reset_closed_and_taken_again(parts, waveforms, config, alone):
    pool = SessionPool(*parts, 2, config)
    kept, other = pool.open(INSTRUCTIONS[0]), pool.open(INSTRUCTIONS[1])
    with pytest.raises(ValueError, match="all 2 sessions are taken"):
        pool.open()
    pool.hear(kept, waveforms[0][:60_000])
    pool.hear(other, waveforms[1][:60_000])
    first = pool.run()[kept]
    pool.close(other)
    with pytest.raises(ValueError, match="no session in row"):
        pool.hear(other, waveforms[1])
    again = pool.open(INSTRUCTIONS[1])
    assert again == other
    pool.hear(kept, waveforms[0][60_000:])
    pool.hear(again, waveforms[2][:30_000])
    first += pool.run()[kept]
    pool.reset(again)
    pool.hear(again, waveforms[1])
    pool.finish(kept)
    pool.finish(again)
    last = pool.run()
    same(first + last[kept], alone[0])
    same(last[again], alone[1])


def test_a_refused_block_harms_no_row(parts, waveforms, config, alone):
    pool = SessionPool(*parts, 2, config)
    one, two = pool.open(INSTRUCTIONS[0]), pool.open(INSTRUCTIONS[1])
    pool.hear(one, waveforms[0])
    pool.hear(two, waveforms[1])
    with pytest.raises(AudioError):
        pool.hear(two, np.array([np.nan]))
    pool.finish(one)
    pool.finish(two)
    events = pool.run()
    same(events[one], alone[0])
    same(events[two], alone[1])
    with pytest.raises(AudioError, match="finished"):
        pool.hear(one, waveforms[0])


def test_a_threshold_of_ones_own(parts, waveforms, config):
    pool = SessionPool(*parts, 2, config)
    deaf, eager = pool.open(threshold=1.1), pool.open(threshold=0.0)
    for row in (deaf, eager):
        pool.hear(row, waveforms[0][:20_000])
    events = pool.run()
    assert {event.kind for event in events[deaf]} == {"silent"}
    assert [event.kind for event in events[eager]].count("respond") == 3


def test_what_cannot_be_is_refused(parts):
    with pytest.raises(ValueError, match="at least 1"):
        SessionPool(*parts, 0)
    pool = SessionPool(*parts, 1, instruction_tokens=4)
    with pytest.raises(ValueError, match="shorten the instruction"):
        pool.open("An instruction that has more than four tokens, by far.")
    assert pool.run() == {}
