"""A session under load: audio paced in real time, scripted replies, and what a user would feel of them.

Knows the wall clock. Does not know how a chunk is decided on (`session.py`), nor single stages
(`profile.py`). Taught in notebook 03.

With random weights a model speaks at random, so replies are *scripted*: at chunks drawn from a seed the
decision is <response>, and a reply has as many tokens as the script says. All is computed as ever.

Definitions. A chunk *arrives* when its last sample is there, and the 2.5 ms after it that its log-mel
needs.

- ``stalls``: share of chunks that were not encoded 400 ms after they arrived: the ear stood still;
- ``late``: share of chunks that were not decided on 400 ms after they arrived (deadline misses);
- ``first_chunk_ms``: from the arrival of a chunk that calls for a reply to the reply's first token;
- ``resume_ms``: from the end of a reply to the end of the first step that decided on the newest chunk there
  was when it began: nothing is waiting any more;
- ``on_time_ms``: from the end of a reply to the first decision that is not late;
- ``realtime_factor``: time that encoder and decoder were busy / time that was heard.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from aikit.audio import SAMPLE_RATE
from aikit.stream.fifo import FifoSession, Span
from aikit.stream.session import Event, Session

LOOK_AHEAD = 40  # samples after a chunk's end that its log-mel needs


class ScriptedSession(Session):
    """A session that responds at the chunks ``due``, and always with ``max_reply_tokens`` tokens."""

    due: frozenset[int] = frozenset()

    def reset(self) -> None:
        """Begin again, the script as well."""
        super().reset()
        self.heard = 0

    def warm_up(self) -> None:
        """Listen, drain and write once, then forget it: the first calls of all take longer."""
        frames = [*self.perceive(np.zeros(6_400 + LOOK_AHEAD, np.float32))]
        self.decide(frames * 8)
        self.path.decode({0: 0})
        self.reset()

    def decided(self, gap: float) -> Event:
        """<response> if a reply is due at a chunk since the last decision, whatever the model says."""
        chunks, self.heard = range(self.heard, self.state.chunk), self.state.chunk
        return super().decided(-math.inf if self.due.isdisjoint(chunks) else math.inf)

    def wrote(self, token: int, logits: Tensor) -> list[Event]:
        """Always the same word: a reply ends when it has all its tokens."""
        return super().wrote(self.tokenizer.encode(" and")[0], logits)


def script(n_chunks: int, reply_s: float, pause_s: float, seed: int = 0) -> frozenset[int]:
    """Chunks at which a reply is due, each ``reply_s`` and a random pause after the one before.

    The pause is ``pause_s`` on average, and between nothing and twice that.
    """
    rng, due, at_s = np.random.default_rng(seed), [], 2.0
    while at_s < 0.4 * n_chunks:
        due.append(int(at_s / 0.4))
        at_s += 0.4 + reply_s + rng.uniform(0.0, 2 * pause_s)
    return frozenset(due)


@dataclass(frozen=True)
class Run:
    """What happened to ``n_chunks`` that came in real time from ``began`` on."""

    name: str  # "FIFO" or "synchronous"
    began: float
    n_chunks: int
    due: frozenset[int]
    spans: tuple[Span, ...]
    dropped_s: float = 0.0
    chunk_s: float = 0.4

    def arrival(self, chunk: int) -> float:
        """When a chunk was complete."""
        return self.began + self.chunk_s * (chunk + 1) + LOOK_AHEAD / SAMPLE_RATE

    def newest(self, when: float) -> int:
        """The newest chunk that had arrived."""
        return min(math.floor((when - self.arrival(0)) / self.chunk_s), self.n_chunks - 1)

    def of(self, task: str) -> list[Span]:
        """The spans of a task."""
        return [span for span in self.spans if span.task == task]

    # --- what a user feels, all in ms --------------------------------------------------------------
    def encode_ms(self) -> list[float]:
        """From each chunk's arrival until it is encoded."""
        return [1000 * (span.ended - self.arrival(span.chunk)) for span in self.of("encode")]

    def decision_ms(self) -> list[float]:
        """From each chunk's arrival to the decision that it had a part in."""
        return [
            1000 * (span.ended - self.arrival(chunk))
            for span in self.of("listen")
            for chunk in range(span.chunk - span.n_chunks + 1, span.chunk + 1)
        ]

    def first_chunk_ms(self) -> list[float]:
        """From the arrival of each chunk that calls for a reply to the reply's first token."""
        spans, found = self.spans, []
        for i, span in enumerate(spans):
            called = [c for c in self.due if span.chunk - span.n_chunks < c <= span.chunk]
            if span.task == "listen" and called:
                first = next((s for s in spans[i:] if s.task == "write"), None)
                if first is not None:
                    found.append(1000 * (first.ended - self.arrival(min(called))))
        return found

    def resume_ms(self) -> list[float]:
        """From the end of each reply until nothing waits any more."""
        return self._after_replies(lambda span: span.chunk >= self.newest(span.began))

    def on_time_ms(self) -> list[float]:
        """From the end of each reply to the first decision that is not late."""
        return self._after_replies(
            lambda span: span.ended - self.arrival(span.chunk) <= self.chunk_s
        )

    def _after_replies(self, good: Callable[[Span], bool]) -> list[float]:
        found, listens = [], self.of("listen")
        for end in (
            span for span in self.of("write") if span.events and span.events[-1].kind == "end"
        ):
            later = (span for span in listens if span.began >= end.ended and good(span))
            if (back := next(later, None)) is not None:
                found.append(1000 * (back.ended - end.ended))
        return found

    def numbers(self) -> dict:
        """All of them, by the names in this file's docstring."""
        allowed = 1000 * self.chunk_s
        busy_s = sum(span.ended - span.began for span in self.spans)
        return {
            "chunks": self.n_chunks,
            "replies": len(self.first_chunk_ms()),
            "stalls": float(np.mean(np.array(self.encode_ms()) > allowed)),
            "late": float(np.mean(np.array(self.decision_ms()) > allowed)),
            "dropped_s": self.dropped_s,
            "realtime_factor": busy_s / (self.n_chunks * self.chunk_s),
            "first_chunk_ms": summary(self.first_chunk_ms()),
            "resume_ms": summary(self.resume_ms()),
            "on_time_ms": summary(self.on_time_ms()),
            "decision_ms": summary(self.decision_ms()),
        }


def summary(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and percentiles; None of nothing."""
    if not len(values):
        return None
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return {"n": len(values), "mean": float(np.mean(values)), "p50": p50, "p95": p95, "p99": p99}


# --- two ways to run a session ---------------------------------------------------------------------
def in_real_time(n_chunks: int, began: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Noise, block by block, each when the chunk that it completes has arrived, or at once if late."""
    rng, chunk = np.random.default_rng(seed), 6_400
    for i in range(n_chunks):
        due = began + 0.4 * (i + 1) + LOOK_AHEAD / SAMPLE_RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        yield rng.normal(0, 0.1, chunk + (LOOK_AHEAD if i == 0 else 0)).astype(np.float32)


def run_synchronous(session: ScriptedSession, n_chunks: int) -> Run:
    """Push each block when the one before is done with, its reply written to the end."""
    spans, began, n = [], time.perf_counter(), 0

    def note(task, since, events=(), n_chunks=1):
        spans.append(Span(task, since, time.perf_counter(), n, n_chunks, tuple(events)))

    for block in in_real_time(n_chunks, began):
        since = time.perf_counter()
        for frames in session.perceive(block):
            note("encode", since)
            since = time.perf_counter()
            note("listen", since, [session.decide([frames])])
            while session.speaking:
                since = time.perf_counter()
                note("write", since, session.write(), 0)
            n, since = n + 1, time.perf_counter()
    return Run("synchronous", began, n_chunks, session.due, tuple(spans))


def run_fifo(session: ScriptedSession, n_chunks: int) -> Run:
    """The same audio and the same script around the queue."""
    spans, began = [], time.perf_counter()
    with FifoSession(session, trace=spans) as live:
        for block in in_real_time(n_chunks, began):
            live.push(block)
            live.poll()
        live.settle()
        dropped_s = live.ledger.dropped_s
    return Run("FIFO", began, n_chunks, session.due, tuple(spans), dropped_s)
