"""The profile: definitions checked by hand, scripts obeyed, and the queue better than no queue."""

import json
import time

import numpy as np
import pytest
import torch

from aikit.cli import main
from aikit.config import preset
from aikit.stream import paced, profile
from aikit.stream.fifo import Span
from aikit.stream.paced import LOOK_AHEAD, Run, ScriptedSession, run_fifo, run_synchronous, script
from aikit.stream.profile import growing_ms, random_assistant, scripted, stage_bytes, stages
from aikit.stream.session import Event

torch.set_num_threads(1)
END = Event(0.0, "end")


@pytest.fixture(scope="module")
def assistant():
    return random_assistant("nano", "cpu")


# ---- definitions


@pytest.fixture
def run():
    """Chunks arrive at 0.4, 0.8 ...; a reply to chunk 1 from 0.9 to 2.1, then one drain of three."""
    early = LOOK_AHEAD / 16_000  # so that arrivals are round numbers
    encoded = [(0.41, 0), (0.82, 1), (1.25, 2), (1.7, 3), (2.5, 4)]  # the last takes 500 ms
    spans = [Span("encode", at - 0.01, at, chunk) for at, chunk in encoded]
    spans += [
        Span("listen", 0.41, 0.45, 0, 1),
        Span("listen", 0.82, 0.9, 1, 1),
        Span("write", 0.9, 1.0, 1, 0, (Event(0.8, "text", "word"),)),
        Span("write", 1.0, 2.1, 1, 0, (END,)),
        Span("listen", 2.15, 2.35, 3, 2),
        Span("listen", 2.5, 2.6, 4, 1),
    ]
    return Run("FIFO", -early, 5, frozenset({1}), tuple(spans))


def test_definitions_by_hand(run):
    assert [run.arrival(k) for k in (0, 4)] == pytest.approx([0.4, 2.0])
    assert [run.newest(when) for when in (0.39, 0.41, 2.15)] == [-1, 0, 4]
    assert run.encode_ms() == pytest.approx([10, 20, 50, 100, 500])
    assert run.decision_ms() == pytest.approx([50, 100, 1150, 750, 600])
    assert run.first_chunk_ms() == pytest.approx([200])
    assert run.resume_ms() == pytest.approx([500])  # the drain lacked chunk 4, which had arrived
    assert run.on_time_ms() == []  # no decision since was made within 400 ms
    numbers = run.numbers()
    assert numbers["stalls"] == pytest.approx(0.2) and numbers["late"] == pytest.approx(0.6)
    busy_s = 5 * 0.01 + 0.04 + 0.08 + 0.1 + 1.1 + 0.2 + 0.1
    assert numbers["realtime_factor"] == pytest.approx(busy_s / 2.0)
    assert numbers["on_time_ms"] is None and numbers["replies"] == 1
    json.dumps(numbers)


def test_a_script_leaves_room_for_each_reply():
    due = sorted(script(2_000, reply_s=3.0, pause_s=2.0))
    gaps = np.diff(due) * 0.4
    assert len(due) > 120 and gaps.min() >= 2.99 and gaps.max() <= 3.0 + 4.0 + 0.8
    assert gaps.mean() == pytest.approx(3.0 + 0.4 + 2.0, rel=0.1)
    assert script(2_000, 3.0, 2.0) == script(2_000, 3.0, 2.0) != script(2_000, 3.0, 2.0, seed=1)


def test_a_scripted_session_does_what_the_script_says(assistant):
    session = scripted(assistant, reply_tokens=5)
    session.warm_up()
    session.due = frozenset({1, 4})
    noise = 0.1 * np.random.default_rng(0).normal(size=6_400 * 6 + LOOK_AHEAD)
    for _ in range(2):
        events = session.push(noise)
        kinds = [event.kind for event in events if event.kind != "text"]
        assert kinds == ["silent", "respond", "end", "silent", "silent", "respond", "end", "silent"]
        assert {event.text for event in events if event.kind == "end"} == {"and and and and and"}
        session.reset()
    frames = [*session.perceive(noise)]
    assert session.decide(frames[:4]).kind == "respond"  # one of the four was chunk 1
    session.cut()
    assert session.decide(frames[4:]).kind == "respond"


# ---- the queue against no queue


class Laborious(ScriptedSession):
    """A session that takes as long for each step as a large model."""

    def decide(self, frames):
        time.sleep(0.12)
        return super().decide(frames)

    def write(self):
        time.sleep(0.03)
        return super().write()


def test_around_the_queue_nothing_stalls_and_listening_resumes_sooner(assistant):
    runs = {}
    for way in (run_synchronous, run_fifo):
        session = scripted(assistant, reply_tokens=40, kind=Laborious)
        session.warm_up()
        session.due = frozenset({0, 5})
        run = runs[way] = way(session, 12)
        assert sorted(span.chunk for span in run.of("encode")) == [*range(12)]
        assert sum(span.n_chunks for span in run.of("listen")) == 12
        assert len(run.first_chunk_ms()) == 2 and len(run.of("write")) == 80
    synchronous, fifo = runs[run_synchronous].numbers(), runs[run_fifo].numbers()
    assert fifo["stalls"] == fifo["dropped_s"] == 0 < synchronous["stalls"]
    assert fifo["resume_ms"]["mean"] < 0.7 * synchronous["resume_ms"]["mean"]
    # with pauses as long as these both answer at once; under load the queue wins (docs/results/fifo.json)
    assert fifo["first_chunk_ms"]["mean"] < 1.3 * synchronous["first_chunk_ms"]["mean"]


# ---- stages and floors


def test_every_stage_runs_on_a_full_window(assistant):
    session = scripted(assistant, 8)
    steps = stages(session)
    assert set(steps) == {"mel", "encode", "listen", "drain", "decode"}
    assert session.remembers_s >= 0.4 * session.config.window_chunks
    before = session.state.chunk
    for step in steps.values():
        step()
    assert session.state.chunk == before + 1 + 8


def test_bytes_by_hand(assistant):
    session, d = scripted(assistant, 8), preset("nano").decoder
    head = d.width // d.heads
    qkv = (d.width + 1) * (d.heads + 2 * d.kv_heads) * head
    layer = qkv + d.heads * head * d.width + 3 * d.width * d.mlp + 2 * d.width
    slots = 1 + session.path.ring.capacity
    memory = 2 * d.layers * d.kv_heads * head * slots
    found = stage_bytes(session)
    assert found["listen"] == 4 * (d.layers * layer + memory)
    assert found["decode"] - found["listen"] == 4 * d.vocab * d.width
    assert 0 < found["encode"] < 4 * assistant.model.n_parameters()


def test_a_growing_cache_is_timed(assistant):
    assert all(ms > 0 for ms in growing_ms(assistant.model, 200).values())


# ---- the command


@pytest.fixture
def hurried(monkeypatch):
    """Audio that does not wait for its time, and short replies."""
    monkeypatch.setattr(paced.time, "sleep", lambda _: None)
    monkeypatch.setattr(profile, "REPLY_S", 0.05)


def test_the_command_prints_writes_and_draws(hurried, tmp_path, capsys):
    out = tmp_path / "deep" / "profile.json"
    arguments = ["--preset", "nano", "--device", "cpu", "--seconds", "10", "--threads", "1"]
    assert main(["profile", *arguments, "--json", str(out), "--figures", str(tmp_path)]) == 0
    printed, numbers = capsys.readouterr().out, json.loads(out.read_text())
    for word in ("share", "drain", "stalls", "first_chunk_ms mean", "growing", "nano"):
        assert word in printed
    assert numbers["setting"]["model"] == "nano" and numbers["setting"]["machine"]
    assert numbers["stages"]["eager"]["decode"]["share"] > 0 < numbers["bytes_s"]
    assert {"FIFO", "synchronous", "script"} == set(numbers["live"])
    pictures = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(pictures) == {"gantt.png", "latency.png", "roofline.png"}
    assert min(pictures.values()) > 5_000


@pytest.mark.parametrize(
    "wrong", [["--seconds", "1"], ["--preset", "huge"], ["--model", "nowhere"], ["--threads", "0"]]
)
def test_what_cannot_be_profiled_is_one_line(wrong, capsys):
    assert main(["profile", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aikit: ") and error.count("\n") == 1
