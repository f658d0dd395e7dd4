"""Audio that comes by itself: one worker a conversation, a bounded queue and a ledger.

Knows threads, queues and the wall clock; not pages (`demo.py`), nor how a chunk is decided. Taught
in notebook 06. A microphone does not wait: who takes its blocks must return at once, or the browser
drops the next ones without a word. So `put` only enqueues, and one thread runs the model. The queue
is bounded, for a slow model would fall behind for ever: what does not fit is dropped and counted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from aikit.audio import SAMPLE_RATE, AudioError

BLOCK_S = 0.4  # a microphone block: one chunk; at 0.1 s browsers lose 3 % of the audio
QUEUE_S, QUEUE_BLOCKS = 8.0, 256  # what may wait for the model


@dataclass
class Ledger:
    """Where every second of audio went. Each field has one writer: the page or the worker."""

    received_s: float = 0.0
    dropped_s: float = 0.0  # came while the queue was full
    taken_s: float = 0.0  # out of the queue
    heard_s: float = 0.0  # given to the model; the rest of what was taken was refused
    model_s: float = 0.0  # time the model took
    peak_s: float = 0.0  # the longest queue
    merged: int = 0  # blocks that the browser sent late and joined together
    refused: int = 0  # blocks that were no audio (NaN, a senseless rate ...)
    began: float | None = None  # clock at the start of the first block
    latest: float = 0.0  # clock at the arrival of the last one

    def receive(self, seconds: float, now: float) -> None:
        """Note a block that came at clock time ``now``."""
        self.began = now - seconds if self.began is None else self.began
        self.latest, self.received_s = now, self.received_s + seconds
        self.merged += seconds > 1.5 * BLOCK_S

    @property
    def waiting_s(self) -> float:
        """Seconds in the queue now."""
        return max(0.0, self.received_s - self.dropped_s - self.taken_s)

    @property
    def missing_s(self) -> float:
        """Seconds that passed on the wall clock but never came here: the browser lost them."""
        return max(0.0, self.latest - (self.began or 0.0) - self.received_s)


@dataclass
class Take:
    """One listening from start to end; a reset makes a new one."""

    title: str = ""
    instruction: str | None = None
    threshold: float | None = None
    state: str = "ready"  # ready, listening, finished, failed
    error: str = ""
    speaking: str = ""  # the reply that is being written
    decisions: deque = field(default_factory=partial(deque, maxlen=1500))  # 10 minutes
    replies: deque = field(default_factory=partial(deque, maxlen=200))
    ledger: Ledger = field(default_factory=Ledger)

    def add(self, event) -> None:
        """Sort an `Event` into what a page shows."""
        if event.kind in ("silent", "respond"):
            self.decisions.append(event)
        self.speaking = self.speaking + event.text if event.kind == "text" else ""
        if event.kind == "end":
            self.replies.append(event)


class LiveSession:
    """One conversation: a queue, a worker thread, and the take that it works on."""

    def __init__(self, assistant, queue_s: float = QUEUE_S, clock=time.monotonic):
        self.assistant, self.queue_s, self.clock, self.take = assistant, queue_s, clock, Take()
        self._queue, self._open = queue.Queue(QUEUE_BLOCKS), True
        self._thread = threading.Thread(target=self._work, name="aikit-live", daemon=True)
        self._thread.start()

    def start(self, title: str, instruction: str = "", threshold: float | None = None) -> Take:
        """Begin anew; what still waits or plays from an older take is no longer heard."""
        self.take = Take(title, instruction or None, threshold)
        return self.take

    def put(self, take: Take, samples: np.ndarray, rate: int) -> bool:
        """Enqueue ``[n]`` or ``[n, channels]`` of any type and return at once; True if they fit."""
        if not self._wanted(take):
            return False
        samples, book = np.asarray(samples), take.ledger
        seconds = max(samples.shape, default=0) / rate if rate > 0 else 0.0
        book.receive(seconds, self.clock())
        fits = book.waiting_s <= max(self.queue_s, seconds) + 1e-6  # one block, however long
        if not (fits and self._enqueue(take, samples, rate, seconds)):
            book.dropped_s += seconds
            return False
        book.peak_s = max(book.peak_s, book.waiting_s)
        return True

    def play(self, take: Take, samples: np.ndarray, rate=SAMPLE_RATE, real_time=False) -> bool:
        """Put a recording, waiting for room; returns at its end, or when a newer take began."""
        step, began = max(1, round(rate * BLOCK_S)), self.clock()
        for start in range(0, len(samples), step):
            block = samples[start : start + step]
            due = began + (start + len(block)) / rate if real_time else 0.0  # at the block's end
            while self._wanted(take) and (
                self.clock() < due or take.ledger.waiting_s + BLOCK_S > self.queue_s
            ):
                time.sleep(min(max(due - self.clock(), 0.01), BLOCK_S))
            if not self.put(take, block, rate):
                return False
        return self.finish(take)

    def finish(self, take: Take) -> bool:
        """Let the worker end the take once it has heard what waits."""
        return self._wanted(take) and self._enqueue(take, None, SAMPLE_RATE, 0.0)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Stop and join the worker; True when it has gone."""
        self._open, self.take = False, Take()
        self._enqueue(self.take, None, SAMPLE_RATE, 0.0)  # wakes it; so does a full queue
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _wanted(self, take: Take) -> bool:
        return self._open and take is self.take and take.state in ("ready", "listening")

    def _enqueue(self, *job) -> bool:
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        session, its_take = None, None
        while self._open:
            take, samples, rate, seconds = self._queue.get()
            take.ledger.taken_s += seconds
            if not self._wanted(take):
                continue
            try:
                if its_take is not take:
                    session = self.assistant.session(take.instruction, take.threshold)
                    its_take = take
                self._hear(session, take, samples, rate)
                take.ledger.heard_s += seconds
            except AudioError:
                take.ledger.refused += 1
            except Exception as error:  # whatever a model raises must reach the page, not a log
                take.error = f"The model stopped: {type(error).__name__}: {error}"
                take.state = "failed"

    def _hear(self, session, take: Take, samples: np.ndarray | None, rate: int) -> None:
        """Run the model on one block; events appear one by one: a page sees a reply grow."""
        began, take.state = self.clock(), "listening"
        for event in session.stream_end() if samples is None else session.stream(samples, rate):
            if not self._wanted(take):
                return
            take.add(event)
        take.ledger.model_s += self.clock() - began
        take.state = "finished" if samples is None else "listening"
