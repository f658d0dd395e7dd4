"""A session: perceive, decide, respond, at every chunk (paper §3.1, §3.4), synchronously.

Knows one endless conversation: its audio so far, its caches, its decisions. Does not know threads, files
or graphs. It is the reference that every faster path must equal. Taught in notebook 03.

All that changes lives in `SessionState`. A session never ends: when the window is full, the instruction
and the newest chunks are kept, the middle is forgotten, and the decoder's cache is built anew from what
was kept, so that positions stay in the range seen in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from aikit.audio import SAMPLE_RATE, AudioError, MelStream, StreamResampler, mel_of_silence
from aikit.model.modeling import AudioInteractionModel
from aikit.model.tower import TowerState
from aikit.tokens import DEFAULT_INSTRUCTION, EMOTIONS, TextStream, Tokenizer

TAIL_CHUNKS = 3  # silence after a finished file, as in the published loop (paper §7)


@dataclass(frozen=True)
class SessionConfig:
    """How a session listens and speaks."""

    threshold: float = 0.5  # respond when p(respond) reaches it
    max_reply_tokens: int = 48
    window_chunks: int = 60  # 24 s, the longest stream seen in training ...
    keep_chunks: int = 30  # ... and what is kept of it when it is full


@dataclass(frozen=True)
class Event:
    """What a session says. ``time_s`` is audio time: the end of the chunk that was decided on.

    Kinds: exactly one of ``silent`` or ``respond`` a chunk; after ``respond``, pieces of ``text`` and one
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
class SessionState:
    """All mutable memory of a session; replacing it is a reset."""

    mel_stream: MelStream
    mel: np.ndarray  # [M, k < 40]: mel frames of the chunk that is not complete yet
    cache: DynamicCache
    pending: Tensor  # [1, t, D]: embeddings decided but not fed yet: the prefix, then one token
    tower: TowerState | None = None
    resampler: StreamResampler | None = None
    history: list[Tensor] = field(default_factory=list)  # fed embeddings, one entry a chunk
    chunk: int = 0  # chunks decided so far
    ended: bool = False


class Session:
    """One conversation with a model.

    Parameters
    ----------
    model, tokenizer : as loaded by `aikit.load`
    instruction : what the listener is asked to do, in words
    config : SessionConfig
    """

    def __init__(
        self,
        model: AudioInteractionModel,
        tokenizer: Tokenizer,
        instruction: str = DEFAULT_INSTRUCTION,
        config: SessionConfig = SessionConfig(),
    ):
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config
        self.instruction, self.audio, self.layout = instruction, model.shape.audio, model.layout
        self._block = self._ids(self.layout.block(self.audio.frames_per_chunk))
        self._controls = torch.tensor(self.layout.controls, device=model.device)
        self._prefix = self._embedded(self.layout.prefix(tokenizer.encode(instruction)))
        self.state = self._fresh_state()

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
        if self.state.ended:
            raise AudioError("this session was finished; call reset() to listen again")
        if np.size(samples) == 0:
            return
        yield from self._perceive(self.state.mel_stream.push(self._resampled(samples, rate)))

    def finish(self, tail_chunks: int = TAIL_CHUNKS) -> list[Event]:
        """End the stream: decide on the last, partial chunk and on a little silence after it."""
        return list(self.stream_end(tail_chunks))

    def stream_end(self, tail_chunks: int = TAIL_CHUNKS) -> Iterator[Event]:
        """As `finish`, but each event comes as soon as it is known."""
        state, size = self.state, self.audio.mel_per_chunk
        if state.ended:
            return
        last = state.resampler.push(np.zeros(0, np.float32), last=True) if state.resampler else []
        mel = [state.mel_stream.push(np.asarray(last, np.float32)), state.mel_stream.flush()]
        n_known = state.mel.shape[1] + sum(part.shape[1] for part in mel)
        n_more = -n_known % size + tail_chunks * size
        silence = np.full((self.audio.n_mels, n_more), mel_of_silence(), np.float32)
        yield from self._perceive(np.concatenate([*mel, silence], axis=1))
        state.ended = True

    def reset(self) -> None:
        """Forget everything but the instruction."""
        self.state = self._fresh_state()

    @property
    def time_s(self) -> float:
        """Audio time decided on so far."""
        return round(self.state.chunk * self.audio.chunk_s, 3)

    @property
    def remembers_s(self) -> float:
        """Seconds of audio that the decoder can still look back to."""
        return round(len(self.state.history) * self.audio.chunk_s, 3)

    def _resampled(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """16 kHz mono; when the rate changes, the old resampler's last samples come first."""
        old = self.state.resampler
        if old is not None and old.rate == rate:
            return old.push(samples)
        new = StreamResampler(rate)
        ready = new.push(samples)  # raises before anything has changed
        self.state.resampler = new
        rest = old.push(np.zeros(0, np.float32), last=True) if old else ready[:0]
        return np.concatenate([rest, ready])

    # --- perceive ----------------------------------------------------------------------------------
    def _perceive(self, mel: np.ndarray) -> Iterator[Event]:
        """Collect mel frames; decide on every chunk that becomes complete."""
        state, size = self.state, self.audio.mel_per_chunk
        state.mel = np.concatenate([state.mel, mel], axis=1)
        while state.mel.shape[1] >= size:
            chunk, state.mel = state.mel[:, :size], state.mel[:, size:]
            yield from self._step(chunk)

    @torch.inference_mode()
    def _encode(self, mel: np.ndarray) -> Tensor:
        """The newest chunk once, alone: ``[M, 40]`` -> frames ``[1, 10, D]``."""
        batch = torch.from_numpy(mel[None]).to(self.model.device, self.model.dtype)
        frames, self.state.tower = self.model.encode(batch, self.state.tower)
        return frames

    # --- decide ------------------------------------------------------------------------------------
    def _step(self, mel: np.ndarray) -> Iterator[Event]:
        """One chunk: encode, feed the previous token with the new block, decide, perhaps speak."""
        state = self.state
        if len(state.history) >= self.config.window_chunks:
            self._forget()
        block = self._embed_block(self._encode(mel))
        state.history.append(block)
        hidden = self._feed(torch.cat([state.pending, block], dim=1))
        state.chunk += 1
        p_respond = self._decide(hidden)
        if p_respond < self.config.threshold:
            state.pending = self._embedded([self.layout.silent])
            yield Event(self.time_s, "silent", "", p_respond)
            return
        yield Event(self.time_s, "respond", "", p_respond)
        state.pending = self._embedded([self.layout.response])
        yield from self._speak(p_respond)

    @torch.inference_mode()
    def _decide(self, hidden: Tensor) -> float:
        """p(respond) among the legal control tokens; no other token can break a session."""
        silent, respond = self.model.logits(hidden, self._controls).float().unbind(-1)
        return float(torch.sigmoid(respond - silent))

    # --- respond -----------------------------------------------------------------------------------
    def _speak(self, p_respond: float) -> Iterator[Event]:
        """Write the reply token by token; greedy, so that the same audio gives the same text."""
        writer, emotion = TextStream(self.tokenizer), None
        for _ in range(self.config.max_reply_tokens):
            hidden = self._feed(self.state.pending, speaking=True)
            first_tag = bool(self.layout.emotions) and emotion is None
            token = self._next_token(hidden, first_tag)
            self.state.pending = self._embedded([token])
            if first_tag:
                emotion = EMOTIONS[self.layout.emotions.index(token)]
            elif token == self.layout.eos:
                break
            elif text := writer.push(token):
                yield Event(self.time_s, "text", text, p_respond)
        else:
            self._feed(self.state.pending, speaking=True)
            self.state.pending = self._embedded([self.layout.eos])
        if text := writer.flush():
            yield Event(self.time_s, "text", text, p_respond)
        yield Event(self.time_s, "end", writer.text.strip(), p_respond, emotion)

    @torch.inference_mode()
    def _next_token(self, hidden: Tensor, first_tag: bool) -> int:
        """The likeliest legal token: an emotion tag first where the layout has them, then text or eos."""
        if first_tag:
            tags = torch.tensor(self.layout.emotions, device=hidden.device)
            return int(tags[self.model.logits(hidden, tags).argmax()])
        logits = self.model.logits(hidden).float().clone()
        logits[..., sorted(self.layout.specials - {self.layout.eos})] = -torch.inf
        return int(logits.argmax())

    # --- the decoder's memory ----------------------------------------------------------------------
    @torch.inference_mode()
    def _feed(self, embeddings: Tensor, speaking: bool = False) -> Tensor:
        """Append positions to the cache; hidden state of the last one, ``[D]``."""
        if speaking:  # the reply belongs to the chunk that it answers
            self.state.history[-1] = torch.cat([self.state.history[-1], embeddings], dim=1)
        return self.model.decode(embeddings, self.state.cache)[0, -1]

    def _forget(self) -> None:
        """Keep the instruction and the newest chunks; build the cache anew over just these."""
        state = self.state
        state.history = state.history[-self.config.keep_chunks :]
        state.cache = DynamicCache()
        self._prefill(torch.cat([self._prefix, *self._joined(state.history)], dim=1))

    def _joined(self, history: list[Tensor]) -> Iterator[Tensor]:
        """History with the control token between two chunks: <silent>, or <eos> after a reply."""
        silent = self._embedded([self.layout.silent])
        eos = self._embedded([self.layout.eos])
        for i, entry in enumerate(history):
            yield entry
            if i < len(history) - 1:
                yield eos if entry.shape[1] > self._block.shape[1] else silent

    @torch.inference_mode()
    def _prefill(self, embeddings: Tensor) -> None:
        self.model.decode(embeddings, self.state.cache)

    # --- embeddings --------------------------------------------------------------------------------
    def _fresh_state(self) -> SessionState:
        empty = np.zeros((self.audio.n_mels, 0), np.float32)
        return SessionState(MelStream(self.audio), empty, DynamicCache(), self._prefix)

    def _ids(self, ids: list[int]) -> Tensor:
        return torch.tensor([ids], device=self.model.device)

    @torch.inference_mode()
    def _embedded(self, ids: list[int]) -> Tensor:
        return self.model.embed(self._ids(ids))

    @torch.inference_mode()
    def _embed_block(self, frames: Tensor) -> Tensor:
        return self.model.embed(self._block, frames)
