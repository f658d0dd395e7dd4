"""A session: perceive, decide, respond, at every chunk (paper §3.1, §3.4), synchronously.

Knows one endless conversation: its audio so far, its caches, its decisions. Does not know threads, files
or graphs. It is the reference that every faster path must equal. Taught in notebook 03.

All that changes lives in `SessionState`. The split that `fifo.py` and `pool.py` build on:

- ``perceive(samples, rate) -> Iterator[Tensor]`` and ``perceive_end(tail_chunks)``: the frames
  ``[1, 10, D]`` of each chunk that is now complete. Touches only ``state.ear`` (resampler, mel, tower);
- ``decide(frames: list[Tensor]) -> Event``: feeds the pending token and one block a chunk (``<silent>``
  between two drained chunks), returns one ``silent`` or ``respond`` event at the end of the last chunk;
- ``write() -> list[Event]``: while ``speaking``, one more token of the reply: no or one ``text``, at last
  ``end``. ``cut() -> list[Event]`` ends the reply now (barge-in). Both, and ``decide``, touch only the
  other half of the state, so that one thread may perceive while another decides and writes.

``stream`` is these in a row: perceive a chunk, decide, write until no longer speaking.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aikit.audio import SAMPLE_RATE, AudioError, MelStream, StreamResampler, mel_of_silence
from aikit.config import AudioConfig
from aikit.model.modeling import AudioInteractionModel
from aikit.model.tower import TowerState
from aikit.stream.cache import RingCache
from aikit.stream.fastpath import EagerPath, pick_path
from aikit.tokens import DEFAULT_INSTRUCTION, EMOTIONS, TextStream, Tokenizer

TAIL_CHUNKS = 3  # silence after a finished file, as in the published loop (paper §7)


@dataclass(frozen=True)
class SessionConfig:
    """How a session listens and speaks."""

    threshold: float = 0.5  # respond when p(respond) reaches it
    max_reply_tokens: int = 48
    window_chunks: int = (
        60  # 24 s of silence, the longest stream seen in training; replies take room, too
    )
    sinks: int = 4  # positions after the instruction that are never forgotten
    drain_chunks: int = 10  # chunks that one forward takes at most
    path: str = "auto"  # how the forwards run: see `fastpath.pick_path`


@dataclass(frozen=True)
class Event:
    """What a session says. ``time_s`` is audio time: the end of the chunk that was decided on.

    Kinds: exactly one of ``silent`` or ``respond`` a decision; after ``respond``, pieces of ``text`` and one
    ``end`` with the whole reply.
    """

    time_s: float
    kind: str
    text: str = ""
    p_respond: float | None = None
    emotion: str | None = None

    def to_dict(self) -> dict:
        """The event as one JSON object."""
        p_respond = None if self.p_respond is None else round(self.p_respond, 4)
        return {"time_s": self.time_s, "kind": self.kind, "text": self.text, "p_respond": p_respond}


@dataclass
class Ear:
    """What perceiving remembers: the half of a session's memory that `Session.perceive` changes."""

    mel_stream: MelStream
    mel: np.ndarray  # [M, k < 40]: mel frames of the chunk that is not complete yet
    resampler: StreamResampler | None = None
    tower: TowerState | None = None


@dataclass
class Reply:
    """A reply that is being written."""

    writer: TextStream
    p_respond: float
    emotion: str | None = None
    n_tokens: int = 0


@dataclass
class SessionState:
    """All mutable memory of a session; replacing it is a reset."""

    ear: Ear
    ring: RingCache  # the decoder's; a row of it where sessions share one
    pending: int | None = None  # the token that was decided but not fed yet
    reply: Reply | None = None
    chunk: int = 0  # chunks decided so far
    ended: bool = False


class Session:
    """One conversation with a model.

    Parameters
    ----------
    model, tokenizer : as loaded by `aikit.load`
    instruction : what the listener is asked to do, in words
    config : SessionConfig
    path, row : where the session's forwards run, if it shares them with others (`pool.py`)
    """

    def __init__(
        self,
        model: AudioInteractionModel,
        tokenizer: Tokenizer,
        instruction: str = DEFAULT_INSTRUCTION,
        config: SessionConfig = SessionConfig(),
        path: EagerPath | None = None,
        row: int = 0,
    ):
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config
        self.instruction, self.audio, self.layout = instruction, model.shape.audio, model.layout
        self._prefix = self.layout.prefix(tokenizer.encode(instruction))
        self._row = row
        if path is None:
            ring = make_ring(model, config, len(self._prefix) + config.sinks)
            path = pick_path(model, ring, config.path)
        self.path = path
        self.reset()

    # --- the interface -----------------------------------------------------------------------------
    def push(self, samples: np.ndarray, rate: int = SAMPLE_RATE) -> list[Event]:
        """Take any number of samples, return the events of the chunks that are now complete.

        Parameters
        ----------
        samples : ``[n]`` or ``[n, channels]``, any integer or float type
        rate : their sampling rate in Hz

        Raises
        ------
        AudioError
            For NaN, infinite or misshapen samples; nothing of the block is taken, the session goes on.
        """
        return list(self.stream(samples, rate))

    def stream(self, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Iterator[Event]:
        """As `push`, but each event comes as soon as it is known."""
        yield from self._react(self.perceive(samples, rate))

    def finish(self, tail_chunks: int = TAIL_CHUNKS) -> list[Event]:
        """End the stream: decide on the last, partial chunk and on a little silence after it."""
        return list(self.stream_end(tail_chunks))

    def stream_end(self, tail_chunks: int = TAIL_CHUNKS) -> Iterator[Event]:
        """As `finish`, but each event comes as soon as it is known."""
        yield from self._react(self.perceive_end(tail_chunks))

    def reset(self) -> None:
        """Forget everything but the instruction."""
        self.path.ring.open(self._row, len(self._prefix) + self.config.sinks)
        self.path.prefill(self._row, self._prefix)
        self.state = SessionState(fresh_ear(self.audio), self.path.ring)

    @property
    def time_s(self) -> float:
        """Audio time decided on so far."""
        return round(self.state.chunk * self.audio.chunk_s, 3)

    @property
    def remembers_s(self) -> float:
        """Seconds of the newest audio that the decoder can still look back to; the rest is forgotten."""
        return round(len(self.state.ring.rows[self._row].starts) * self.audio.chunk_s, 3)

    def _react(self, perceived: Iterable[Tensor]) -> Iterator[Event]:
        while self.speaking:  # a caller may have left in mid-reply
            yield from self.write()
        for frames in perceived:
            yield self.decide([frames])
            while self.speaking:
                yield from self.write()

    # --- perceive ----------------------------------------------------------------------------------
    def perceive(self, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Iterator[Tensor]:
        """Take samples as `push` does; frames ``[1, 10, D]`` of every chunk that is now complete."""
        return map(self._encode, self.hear(samples, rate))

    def perceive_end(self, tail_chunks: int = TAIL_CHUNKS) -> Iterator[Tensor]:
        """Frames of the last, partial chunk and of silence after it; then nothing more is heard."""
        return map(self._encode, self.hear_end(tail_chunks))

    def hear(self, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
        """The first half of `perceive`: log-mel ``[M, 40]`` of every chunk that is now complete."""
        if self.state.ended:
            raise AudioError("this session was finished; call reset() to listen again")
        if np.size(samples):
            ear = self.state.ear
            yield from self._chunks(ear, ear.mel_stream.push(_resampled(ear, samples, rate)))

    def hear_end(self, tail_chunks: int = TAIL_CHUNKS) -> Iterator[np.ndarray]:
        """The first half of `perceive_end`."""
        ear, size = self.state.ear, self.audio.mel_per_chunk
        if self.state.ended:
            return
        self.state.ended = True
        last = ear.resampler.push(np.zeros(0, np.float32), last=True) if ear.resampler else []
        mel = [ear.mel_stream.push(np.asarray(last, np.float32)), ear.mel_stream.flush()]
        n_known = ear.mel.shape[1] + sum(part.shape[1] for part in mel)
        n_more = -n_known % size + tail_chunks * size
        silence = np.full((self.audio.n_mels, n_more), mel_of_silence(), np.float32)
        yield from self._chunks(ear, np.concatenate([*mel, silence], axis=1))

    def _chunks(self, ear: Ear, mel: np.ndarray) -> Iterator[np.ndarray]:
        """Collect mel frames ``[M, k]``; hand out every chunk that becomes complete."""
        size = self.audio.mel_per_chunk
        ear.mel = np.concatenate([ear.mel, mel], axis=1)
        while ear.mel.shape[1] >= size:
            chunk, ear.mel = ear.mel[:, :size], ear.mel[:, size:]
            yield chunk

    def _encode(self, mel: np.ndarray) -> Tensor:
        """The newest chunk once, alone: ``[M, 40]`` -> frames ``[1, 10, D]``."""
        ear = self.state.ear
        frames, ear.tower = self.path.encode(torch.from_numpy(mel[None]), ear.tower)
        return frames

    # --- decide ------------------------------------------------------------------------------------
    def decide(self, frames: Sequence[Tensor]) -> Event:
        """Feed the pending token and a block for each chunk, then choose a control token, once.

        Parameters
        ----------
        frames : ``[1, 10, D]`` of each new chunk, oldest first

        Returns
        -------
        Event
            ``silent`` or ``respond``, at the end of the last chunk; after ``respond``, `write` the reply.
        """
        if self.speaking:
            raise ValueError("a reply is being written; write() it to its end, or cut() it")
        if not frames:
            raise ValueError("nothing to decide on; give the frames of at least one chunk")
        state, size = self.state, self.config.drain_chunks
        for start in range(0, len(frames), size):
            part = frames[start : start + size]
            gap = self.path.listen({self._row: state.pending}, torch.cat([*part], dim=1))[self._row]
            state.chunk += len(part)
            state.pending = self.layout.silent  # drained chunks are passed over
        return self.decided(gap)

    def decided(self, gap: float) -> Event:
        """Take note of a decision; ``gap`` is the logit of <response> less that of <silent>."""
        p_respond = 0.5 + 0.5 * math.tanh(gap / 2)  # the sigmoid, without overflow
        respond = p_respond >= self.config.threshold
        self.state.pending = self.layout.response if respond else self.layout.silent
        self.state.reply = Reply(TextStream(self.tokenizer), p_respond) if respond else None
        return Event(self.time_s, "respond" if respond else "silent", "", p_respond)

    # --- respond -----------------------------------------------------------------------------------
    @property
    def speaking(self) -> bool:
        """Whether a reply is being written."""
        return self.state.reply is not None

    def write(self) -> list[Event]:
        """One more token of the reply; greedy, so that the same audio gives the same text."""
        if not self.speaking:
            raise ValueError("no reply is being written; write() follows a `respond`")
        likeliest, logits = self.path.decode({self._row: self.state.pending})
        return self.wrote(likeliest[self._row], logits[self._row])

    def cut(self) -> list[Event]:
        """End the reply here and now; what was said of it stays said."""
        if not self.speaking:
            return []
        self.path.decode({self._row: self.state.pending})  # the last token was not read yet
        return self._end()

    def wrote(self, token: int, logits: Tensor) -> list[Event]:
        """Take note of a token: no or one piece of text, and at last the end."""
        reply, text = self.state.reply, ""
        tag_is_due = self.layout.emotions and reply.emotion is None
        if tag_is_due:  # a tag comes first where the layout has them
            which = int(logits[list(self.layout.emotions)].argmax())
            token, reply.emotion = self.layout.emotions[which], EMOTIONS[which]
        elif token == self.layout.eos:
            return self._end()
        else:
            text = reply.writer.push(token)
        self.state.pending = token
        reply.n_tokens += 1
        events = [Event(self.time_s, "text", text, reply.p_respond)] if text else []
        return events + self.cut() if reply.n_tokens == self.config.max_reply_tokens else events

    def _end(self) -> list[Event]:
        reply, self.state.reply, self.state.pending = self.state.reply, None, self.layout.eos
        rest = reply.writer.flush()
        events = [Event(self.time_s, "text", rest, reply.p_respond)] if rest else []
        whole = reply.writer.text.strip()
        return [*events, Event(self.time_s, "end", whole, reply.p_respond, reply.emotion)]


def make_ring(
    model: AudioInteractionModel, config: SessionConfig, pinned: int, rows: int = 1
) -> RingCache:
    """The decoder's memory for ``rows`` sessions, each with up to ``pinned`` positions kept for ever.

    Raises
    ------
    ValueError
        If the window cannot hold one chunk with its whole reply.
    """
    per_chunk = (
        model.shape.audio.frames_per_chunk + 3
    )  # control token, <audio>, frames, <assistant>
    window, longest = config.window_chunks * per_chunk, per_chunk + config.max_reply_tokens + 2
    if window < longest:
        raise ValueError(
            f"a window of {config.window_chunks} chunks holds {window} positions, but one chunk with its "
            f"reply may take {longest}; use window_chunks >= {-(-longest // per_chunk)}"
        )
    step = config.drain_chunks * per_chunk
    return RingCache(model.shape.decoder, pinned, window, step, rows, model.device, model.dtype)


def fresh_ear(audio: AudioConfig) -> Ear:
    """An ear that has heard nothing."""
    return Ear(MelStream(audio), np.zeros((audio.n_mels, 0), np.float32))


def _resampled(ear: Ear, samples: np.ndarray, rate: int) -> np.ndarray:
    """16 kHz mono; when the rate changes, the old resampler's last samples come first."""
    old = ear.resampler
    if old is not None and old.rate == rate:
        return old.push(samples)
    new = StreamResampler(rate)
    ready = new.push(samples)  # raises before anything has changed
    ear.resampler = new
    rest = old.push(np.zeros(0, np.float32), last=True) if old else ready[:0]
    return np.concatenate([rest, ready])
