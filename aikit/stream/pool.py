"""Several sessions in one batched forward, so that one machine serves a workshop.

Knows rows: which has a chunk waiting, which is in the middle of a reply. Does not know how a chunk is
decided on (`session.py`): each row is a `Session` of its own that shares one ring cache and one path. Its
tokens are those it would choose alone. Taught in notebook 03.

Reading the weights costs the same for one row as for many: as long as memory and not arithmetic is the
limit, streams in a batch are nearly free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from aikit.audio import SAMPLE_RATE
from aikit.model.modeling import AudioInteractionModel
from aikit.model.tower import TowerState
from aikit.stream.fastpath import pick_path
from aikit.stream.session import TAIL_CHUNKS, Event, Session, SessionConfig, make_ring
from aikit.tokens import Tokenizer


class SessionPool:
    """Up to ``size`` conversations with one model.

    Parameters
    ----------
    model, tokenizer : as loaded by `aikit.load`
    size : rows; memory for all of them is taken at once
    config : SessionConfig, shared by all but for the threshold
    instruction_tokens : the longest instruction that fits
    """

    def __init__(
        self,
        model: AudioInteractionModel,
        tokenizer: Tokenizer,
        size: int,
        config: SessionConfig | None = None,
        instruction_tokens: int = 120,
    ):
        if size < 1:
            raise ValueError(f"a pool of {size} sessions; give at least 1")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.config = config = config or SessionConfig()
        n_prefix = len(model.layout.prefix([0] * instruction_tokens))
        self.path = pick_path(
            model, make_ring(model, config, n_prefix + config.sinks, size), config.path
        )
        self.sessions: dict[int, Session] = {}
        self._waiting: dict[int, deque[np.ndarray]] = {}  # row -> mel chunks that wait

    @property
    def size(self) -> int:
        """Rows, open or free."""
        return len(self.path.ring.rows)

    def open(self, instruction: str | None = None, threshold: float | None = None) -> int:
        """Begin a conversation; returns its row.

        Raises
        ------
        ValueError
            If every row is taken, or the instruction is longer than the pool was made for.
        """
        free = [row for row in range(self.size) if row not in self.sessions]
        if not free:
            raise ValueError(
                f"all {self.size} sessions are taken; close() one, or make a larger pool"
            )
        config = self.config if threshold is None else replace(self.config, threshold=threshold)
        row, instruction = free[0], instruction or self.model.layout.instruction
        self.sessions[row] = Session(
            self.model, self.tokenizer, instruction, config, self.path, row
        )
        self._waiting[row] = deque()
        return row

    def close(self, row: int) -> None:
        """End a conversation; its row is free for another."""
        self._session(row)
        del self.sessions[row], self._waiting[row]

    def reset(self, row: int) -> None:
        """Let a conversation forget everything but its instruction."""
        self._session(row).reset()
        self._waiting[row].clear()

    def hear(self, row: int, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
        """Take samples for one row, as `Session.push` does; `run` decides on them.

        Raises
        ------
        AudioError
            For what is no audio; nothing of the block is taken, the row goes on.
        """
        session = self._session(row)
        self._waiting[row].extend(session.hear(samples, rate))

    def finish(self, row: int, tail_chunks: int = TAIL_CHUNKS) -> None:
        """End one row's stream, as `Session.finish` does; `run` decides on what is left of it."""
        session = self._session(row)
        self._waiting[row].extend(session.hear_end(tail_chunks))

    def run(self) -> dict[int, list[Event]]:
        """Decide on all that was heard and write every reply to its end; row -> its new events.

        In rounds of two forwards: a chunk for each row that listens, a token for each that speaks.
        """
        events = {row: [] for row in self.sessions}
        while any(self._waiting[row] or self.sessions[row].speaking for row in events):
            for row, new in [*self._listen(), *self._write()]:
                events[row] += new
        return {row: new for row, new in events.items() if new}

    def _listen(self) -> Iterator[tuple[int, list[Event]]]:
        rows = [
            row
            for row, session in self.sessions.items()
            if self._waiting[row] and not session.speaking
        ]
        if not rows:
            return
        ears = [self.sessions[row].state.ear for row in rows]
        mel = torch.from_numpy(np.stack([self._waiting[row].popleft() for row in rows]))
        start = [ear.tower or self.model.tower.initial_state() for ear in ears]
        new, towers = self.path.encode(mel, TowerState.join(start))
        for ear, tower in zip(ears, TowerState.split(towers, len(rows)), strict=True):
            ear.tower = tower
        frames = new.new_zeros(self.size, *new.shape[1:])
        frames[rows] = new
        gaps = self.path.listen({row: self.sessions[row].state.pending for row in rows}, frames)
        for row in rows:
            self.sessions[row].state.chunk += 1
            yield row, [self.sessions[row].decided(gaps[row])]

    def _write(self) -> Iterator[tuple[int, list[Event]]]:
        rows = [row for row, session in self.sessions.items() if session.speaking]
        if not rows:
            return
        likeliest, logits = self.path.decode(
            {row: self.sessions[row].state.pending for row in rows}
        )
        for row in rows:
            yield row, self.sessions[row].wrote(likeliest[row], logits[row])

    def _session(self, row: int) -> Session:
        if row not in self.sessions:
            raise ValueError(f"no session in row {row}; open() gives a row")
        return self.sessions[row]
