"""A session that listens while it speaks: encoder and decoder around one queue (paper §3.4, Alg. 3).

Knows threads, one bounded queue and the clock. Does not know how a chunk is encoded or decided on
(`session.py`), nor microphones and pages (`live.py`). Taught in notebook 03.

The encoder's thread never waits for the decoder: it encodes what was pushed and appends the frames to the
queue. The decoder's thread has one rule. In the middle of a reply it writes the next token and leaves the
queue alone; else it waits until the queue is not empty, *drains all of it at once* and decides once, at the
end of the newest chunk. So a reply costs no audio, and one step after it the model is on time again. When
audio comes no faster than it is handled, every drain takes one chunk, and the events are those of
`Session.push`.

Overload is never silent. The queue holds ``queue_s`` seconds; then its oldest chunk leaves it. A block that
finds the encoder so far behind is not taken. `Ledger` counts both, and an event ``dropped`` says so.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch

from aikit.audio import SAMPLE_RATE, AudioError, mono_block
from aikit.stream.session import Event, Session

QUEUE_S = 8.0  # audio that may wait for the decoder: a third of what `tiny` was trained to remember
EVENTS_KEPT = 100_000  # for a caller who does not poll: eleven hours of silence


@dataclass
class Ledger:
    """Where the audio went since the start or the last reset."""

    received_s: float = 0.0  # pushed
    dropped_s: float = 0.0  # of it, never heard: the model was behind
    peak_s: float = 0.0  # the longest that the queue was
    decisions: int = 0
    merged: int = 0  # chunks decided on together with a newer one
    cut: int = 0  # replies cut short
    unread: int = 0  # events that nobody polled, forgotten


@dataclass(frozen=True)
class Span:
    """What a worker did from ``began`` to ``ended``, in seconds of the session's clock."""

    task: str  # "encode", "listen" or "write"
    began: float
    ended: float
    chunk: int  # number of the newest chunk that it knew, from 0
    n_chunks: int = 1  # how many were drained
    events: tuple[Event, ...] = ()


@dataclass
class _Shared:
    """What the caller and both workers see, each with ``_changed`` held. A reset makes a new one."""

    blocks: deque = field(default_factory=deque)  # (samples, rate): pushed, not encoded yet
    blocks_s: float = 0.0
    queue: deque = field(default_factory=deque)  # frames [1, 10, D]: encoded, not decided on yet
    events: deque = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    busy: set = field(default_factory=set)  # workers at work; the decoder for the whole of a reply
    n_encoded: int = 0
    n_skipped: int = 0  # chunks that left the queue unheard since the last decision
    unsaid_s: float = 0.0  # dropped since the last event that said so
    unmeasured: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    powers: deque = field(default_factory=deque)  # of the chunks that are being encoded
    power: float = 0.0  # of the newest chunk in the queue
    cut: bool = False  # the reply shall end now
    ended: bool = False  # finish() was called ...
    finished: bool = False  # ... and all is decided
    stale: bool = False  # a reset is under way
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def decided(self) -> bool:
        """All that was encoded is decided on, and no reply is being written."""
        return not self.queue and "queue" not in self.busy

    @property
    def idle(self) -> bool:
        """Nothing waits and nobody works."""
        return self.decided and not self.blocks and not self.busy


class FifoSession:
    """A `Session` that takes audio at any time.

        with FifoSession(aikit.load().session()) as live:
            live.push(samples, rate)  # returns at once; so does poll()
            for event in live.poll(): ...

    Parameters
    ----------
    session : a fresh `Session`; from now on it belongs to this object
    queue_s : seconds of audio that may wait for the decoder
    barge_in_dbfs : a sound that rises above this level cuts a reply short; None = nothing does. It is
        a level and no speech detector: an alarm that begins cuts a reply too, one that goes on does not
    trace : a list that takes a `Span` of everything the workers do
    clock : for the spans
    """

    def __init__(
        self,
        session: Session,
        queue_s: float = QUEUE_S,
        barge_in_dbfs: float | None = None,
        trace: list[Span] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._chunk_s = session.audio.chunk_s
        if not queue_s >= self._chunk_s:
            raise ValueError(
                f"a queue of {queue_s} s holds no chunk; give at least {self._chunk_s} s"
            )
        self.session, self.queue_s, self.trace, self.clock = session, queue_s, trace, clock
        self._loud = math.inf if barge_in_dbfs is None else 10 ** (barge_in_dbfs / 10)
        self._changed, self._shared = threading.Condition(), _Shared()
        self._open, self._error = True, None
        self._ear, self._mouth = threading.Lock(), threading.Lock()  # held for one step of a worker
        self._threads = [
            threading.Thread(target=self._work, args=args, name=f"aikit-{args[0]}", daemon=True)
            for args in (("blocks", self._ear, self._encode), ("queue", self._mouth, self._decode))
        ]
        for thread in self._threads:
            thread.start()

    # --- the caller's side -------------------------------------------------------------------------
    def push(self, samples: np.ndarray, rate: int = SAMPLE_RATE) -> bool:
        """Hand over a block (see `Session.push`) and return at once; False = no room, it was dropped.

        Raises
        ------
        AudioError
            For what is no audio; nothing of the block is taken, the session goes on.
        Exception
            Whatever stopped a worker. So do `poll`, `events`, `settle`, `finish` and `reset`.
        """
        block = mono_block(samples, rate)  # here, where the caller can do something about it
        seconds = len(block) / rate
        with self._changed:
            shared = self._checked()
            if shared.ended:
                raise AudioError("this session was finished; call reset() to listen again")
            shared.ledger.received_s += seconds
            if shared.blocks and shared.blocks_s + seconds > self.queue_s:
                self._drop(shared, seconds)
                return False
            if seconds:
                shared.blocks.append((block, rate))
                shared.blocks_s += seconds
                self._changed.notify_all()
        return True

    def poll(self) -> list[Event]:
        """The events since the last call, without waiting for more."""
        with self._changed:
            shared = self._checked()
            events = list(shared.events)
            shared.events.clear()
        return events

    def events(self) -> Iterator[Event]:
        """Events as they come, until the session is finished or closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._shared.events or self._over)
                if self._error is not None:
                    raise self._error
                if not self._shared.events:
                    return
                event = self._shared.events.popleft()
            yield event

    def settle(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was pushed is decided on and every reply written; False = not yet."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._shared.idle or not self._open, timeout_s)
            self._checked()
        return done

    def finish(self, timeout_s: float | None = None) -> bool:
        """End the stream as `Session.finish` does and wait for its last decision; False = not yet."""
        with self._changed:
            shared = self._checked()
            if not shared.ended:
                shared.ended = True
                shared.blocks.append((None, SAMPLE_RATE))
                self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._over, timeout_s)
            if not shared.finished:  # closed, perhaps by an error
                self._checked()
        return done

    def cancel(self) -> None:
        """Cut short the reply that is being written, if there is one, and go on listening."""
        with self._changed:
            shared = self._checked()
            shared.cut = "queue" in shared.busy

    def reset(self) -> None:
        """Forget everything but the instruction: audio, queue, reply, events and counts."""
        with self._changed:
            self._checked().stale = True  # each worker stops after the step that it is in
            self._changed.notify_all()
        with self._ear, self._mouth, self._changed:
            self.session.reset()
            self._shared = _Shared()

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop both workers after the step that they are in; raise what stopped one, if anything."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_s)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # else the caller has an error already, most often this one
                raise

    @property
    def ledger(self) -> Ledger:
        """The counts so far."""
        return self._shared.ledger

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait, encoded or not."""
        return self._shared.blocks_s + len(self._shared.queue) * self._chunk_s

    @property
    def _over(self) -> bool:
        return self._shared.finished or not self._open

    def _checked(self) -> _Shared:
        if self._error is not None:
            raise self._error
        if not self._open:
            raise AudioError("this session was closed; make a new one")
        return self._shared

    # --- both workers ------------------------------------------------------------------------------
    def _work(self, source: str, step: threading.Lock, task: Callable[[_Shared], None]) -> None:
        """Do ``task`` whenever there is something in ``source``, until closed."""
        torch.set_num_threads(torch.get_num_threads())  # else MKL takes all cores in a new thread
        try:
            while self._wait_for(source):
                with step:
                    shared = self._shared
                    if not shared.stale and getattr(shared, source):
                        task(shared)
                with self._changed:
                    shared.busy.discard(source)
                    self._changed.notify_all()
        except Exception as error:  # whatever a model raises must reach the caller
            with self._changed:
                self._error, self._open = error, False
                self._changed.notify_all()

    def _wait_for(self, source: str) -> bool:
        def ready():
            return not self._open or (not self._shared.stale and getattr(self._shared, source))

        with self._changed:
            self._changed.wait_for(ready)
            return self._open

    def _go_on(self, shared: _Shared) -> bool:
        return self._open and not shared.stale

    def _note(self, task: str, began: float, chunk: int, n_chunks: int = 1, events=()) -> None:
        if self.trace is not None:
            self.trace.append(Span(task, began, self.clock(), chunk, n_chunks, tuple(events)))

    # --- the encoder -------------------------------------------------------------------------------
    def _encode(self, shared: _Shared) -> None:
        """One block: the frames of the chunks that it completes go into the queue."""
        with self._changed:
            shared.busy.add("blocks")
            block, rate = shared.blocks.popleft()
            if block is not None:
                shared.blocks_s -= len(block) / rate
                self._measure(shared, block, round(rate * self._chunk_s))
        chunks = (
            self.session.perceive_end() if block is None else self.session.perceive(block, rate)
        )
        began = self.clock()
        for frames in chunks:
            self._note("encode", began, shared.n_encoded)
            self._append(shared, frames)
            if block is None:  # nothing to keep up with any more: as a file, one chunk at a time
                with self._changed:
                    self._changed.wait_for(lambda: shared.decided or not self._go_on(shared))
            if not self._go_on(shared):
                return
            began = self.clock()
        with self._changed:
            shared.finished = block is None

    def _measure(self, shared: _Shared, block: np.ndarray, size: int) -> None:
        """Note the power of every chunk that is now complete."""
        samples = np.concatenate([shared.unmeasured, block])
        whole = samples[: len(samples) // size * size].reshape(-1, size)
        shared.unmeasured = samples[whole.size :]
        shared.powers.extend(np.square(whole).mean(axis=1))

    def _append(self, shared: _Shared, frames: torch.Tensor) -> None:
        with self._changed:
            power = shared.powers.popleft() if shared.powers else 0.0
            onset, shared.power = power >= self._loud > shared.power, power
            shared.queue.append((frames, onset))
            shared.n_encoded += 1
            if len(shared.queue) > self.queue_s / self._chunk_s + 1e-6:
                shared.queue.popleft()
                shared.n_skipped += 1
                self._drop(shared, self._chunk_s)
            shared.ledger.peak_s = max(shared.ledger.peak_s, len(shared.queue) * self._chunk_s)
            self._changed.notify_all()

    def _drop(self, shared: _Shared, seconds: float) -> None:
        shared.ledger.dropped_s += seconds
        shared.unsaid_s += seconds

    # --- the decoder -------------------------------------------------------------------------------
    def _decode(self, shared: _Shared) -> None:
        """Drain the queue, decide once, and write the reply if there is one."""
        with self._changed:
            shared.busy.add("queue")
            chunks = [frames for frames, _ in shared.queue]
            shared.queue.clear()
            newest, skipped, unsaid_s = shared.n_encoded - 1, shared.n_skipped, shared.unsaid_s
            shared.n_skipped, shared.unsaid_s, shared.cut = 0, 0.0, False
            shared.ledger.decisions += 1
            shared.ledger.merged += len(chunks) - 1
        session = self.session
        session.state.chunk += skipped  # so that an event's time stays the stream's
        if unsaid_s:
            self._emit(
                shared, [Event(session.time_s, "dropped", f"{unsaid_s:.1f} s were not heard")]
            )
        self._do(shared, "listen", newest, len(chunks), lambda: [session.decide(chunks)])
        while session.speaking and self._go_on(shared):
            if shared.cut or any(onset for _, onset in tuple(shared.queue)):
                shared.ledger.cut += 1
                self._do(shared, "write", newest, 0, session.cut)
            else:
                self._do(shared, "write", newest, 0, session.write)

    def _do(self, shared: _Shared, task: str, newest: int, n_chunks: int, step: Callable) -> None:
        began = self.clock()
        events = step()
        self._note(task, began, newest, n_chunks, events)
        self._emit(shared, events)

    def _emit(self, shared: _Shared, events: list[Event]) -> None:
        with self._changed:
            shared.ledger.unread += max(0, len(shared.events) + len(events) - EVENTS_KEPT)
            shared.events.extend(events)
            self._changed.notify_all()
