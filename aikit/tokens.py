"""Text and decisions as token ids: the tokenizer, the control tokens, the two sequence layouts.

Knows ids and where they stand (paper Alg. 2 and §7 of its code). Does not know audio beyond "ten frame
positions a chunk", nor models. Taught in notebook 01.

A stream is written as a prefix and then one *listening block* a chunk::

    <online> <system> instruction <eos>
    <audio> f0 .. f9 <assistant> <silent>
    <audio> f0 .. f9 <assistant> <response> reply tokens <eos>

Control tokens are targets of the stream loss, reply tokens and ``<eos>`` of the LM loss; audio and
instruction are masked. A label row stands at the token itself; the model shifts by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

IGNORED = -100  # label of a masked position
SILENT_MARKER = "<no need to response>"  # how published data marks a turn without reply (sic)
EMOTIONS = ("happy", "sad", "angry", "surprise", "normal", "urgent")
DEFAULT_INSTRUCTION = "Listen, and help when help is needed."

SPECIAL_TOKENS = (
    "<pad>", "<online>", "<offline>", "<system>", "<user>", "<assistant>", "<silent>",
    "<response>", "<eos>", "<audio>", "</audio>", "<frame>",
)  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """One entry of a timeline: ``text`` is due at the end of chunk ``chunk`` (counted from 0)."""

    chunk: int
    text: str
    emotion: str = "normal"


@dataclass(frozen=True)
class TokenLayout:
    """The ids of the control tokens, and in which order a sequence uses them."""

    pad: int
    online: tuple[int, ...]  # opens an online sequence
    offline: tuple[int, ...]
    system: tuple[int, ...]  # opens the instruction
    user: tuple[int, ...]
    assistant: int  # after it, the decision is due
    silent: int
    response: int
    eos: int  # ends instruction, question and reply
    audio_begin: int
    audio_end: int
    frame: int  # stands where an encoder frame goes (online)
    offline_frame: int
    emotions: tuple[int, ...] = ()  # a tag after <response>, in the order of EMOTIONS; () = none
    instruction: str = DEFAULT_INSTRUCTION  # what "help when help is needed" is called there
    learns_assistant: bool = False  # offline, <assistant> is a target too

    @property
    def controls(self) -> tuple[int, int]:
        """The only two tokens a listening model may emit."""
        return self.silent, self.response

    @property
    def specials(self) -> set[int]:
        """Every control id: none of them may stand inside a reply."""
        single = (self.pad, self.assistant, self.silent, self.response, self.eos)
        audio = (self.audio_begin, self.audio_end, self.frame, self.offline_frame)
        groups = (self.online, self.offline, self.system, self.user, self.emotions)
        return {*single, *audio, *(id_ for group in groups for id_ in group)}

    def emotion_ids(self, emotion: str) -> list[int]:
        """The emotion tag as a list of no or one id; an unknown emotion counts as normal."""
        if not self.emotions:
            return []
        known = emotion if emotion in EMOTIONS else "normal"
        return [self.emotions[EMOTIONS.index(known)]]

    def block(self, frames_per_chunk: int) -> list[int]:
        """One listening block: ``frames_per_chunk`` + 2 positions."""
        return [self.audio_begin, *[self.frame] * frames_per_chunk, self.assistant]

    def prefix(self, instruction_ids: Sequence[int]) -> list[int]:
        """What an online sequence opens with."""
        return [*self.online, *self.system, *instruction_ids, self.eos]


def _ids(*names: str) -> tuple[int, ...]:
    return tuple(SPECIAL_TOKENS.index(name) for name in names)


OWN_LAYOUT = TokenLayout(
    pad=0, online=_ids("<online>"), offline=_ids("<offline>"), system=_ids("<system>"),
    user=_ids("<user>"), assistant=5, silent=6, response=7, eos=8, audio_begin=9, audio_end=10,
    frame=11, offline_frame=11,
)  # fmt: skip

PUBLISHED_LAYOUT = TokenLayout(
    pad=151608, online=(151609, 151611), offline=(151610, 151611), system=(151644, 151644),
    user=(151601, 151644), assistant=151602, silent=151605, response=151644, eos=151643,
    audio_begin=151647, audio_end=151648, frame=151608, offline_frame=151646,
    emotions=(151614, 151615, 151616, 151617, 151618, 151619),
    instruction=(
        "You are a helpful assistant. When there is no user text, if the audio contains a question, "
        "please answer it. If it is a sound effect, determine based on the sound whether help is needed."
    ),
    learns_assistant=True,
)  # fmt: skip

LAYOUTS = {"own": OWN_LAYOUT, "published": PUBLISHED_LAYOUT}


@dataclass(frozen=True)
class TokenSequence:
    """Token ids with their two label rows, int64 ``[T]`` each; masked labels are `IGNORED`."""

    input_ids: np.ndarray
    labels_stream: np.ndarray
    labels_lm: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


class _Writer:
    """Appends ids, each with at most one of the two targets."""

    def __init__(self):
        self.ids: list[int] = []
        self.stream: list[int] = []
        self.lm: list[int] = []

    def write(self, ids: Iterable[int], target: str | None = None) -> None:
        ids = list(ids)
        masked = [IGNORED] * len(ids)
        self.ids += ids
        self.stream += ids if target == "stream" else masked
        self.lm += ids if target == "lm" else masked

    def done(self) -> TokenSequence:
        return TokenSequence(*(np.asarray(row, np.int64) for row in (self.ids, self.stream, self.lm)))


def online_sequence(
    tokenizer: Tokenizer,
    timeline: Sequence[Reply],
    n_chunks: int,
    instruction: str = DEFAULT_INSTRUCTION,
    layout: TokenLayout = OWN_LAYOUT,
    frames_per_chunk: int = 10,
) -> TokenSequence:
    """Write a stream as tokens with both label rows (paper Alg. 2).

    Parameters
    ----------
    timeline : replies, each due at the end of its chunk; two replies in one chunk are joined
    n_chunks : length of the stream in chunks

    Raises
    ------
    ValueError
        If a reply lies outside the stream: it would be lost silently.
    """
    replies: dict[int, Reply] = {}
    for reply in timeline:
        if not 0 <= reply.chunk < n_chunks:
            raise ValueError(f"reply {reply} lies outside the stream of {n_chunks} chunks")
        before = replies.get(reply.chunk)
        text = f"{before.text} {reply.text}" if before else reply.text
        replies[reply.chunk] = Reply(reply.chunk, text, reply.emotion)
    out = _Writer()
    out.write(layout.prefix(tokenizer.encode(instruction)))
    for chunk in range(n_chunks):
        out.write(layout.block(frames_per_chunk))
        if chunk not in replies:
            out.write([layout.silent], "stream")
            continue
        reply = replies[chunk]
        out.write([layout.response], "stream")
        reply_ids = layout.emotion_ids(reply.emotion) + tokenizer.encode(reply.text)
        out.write([*reply_ids, layout.eos], "lm")
    return out.done()


def offline_sequence(
    tokenizer: Tokenizer,
    n_frames: int,
    answer: str | None,
    question: str | None = None,
    instruction: str = DEFAULT_INSTRUCTION,
    layout: TokenLayout = OWN_LAYOUT,
) -> TokenSequence:
    """Write a finished clip (or none), a question (or none) and its answer (paper §7, offline).

    ``answer=None`` stops where the model has to go on: after ``<assistant>``.
    """
    out = _Writer()
    out.write([*layout.offline, *layout.system, *tokenizer.encode(instruction), layout.eos])
    if n_frames:
        frames = [layout.offline_frame] * n_frames
        out.write([layout.audio_begin, *frames, layout.audio_end])
    if question is not None:
        out.write([*layout.user, *tokenizer.encode(question), layout.eos])
    out.write([layout.assistant], "lm" if layout.learns_assistant and answer is not None else None)
    if answer is not None:
        out.write([layout.response], "stream")
        out.write([*tokenizer.encode(answer), layout.eos], "lm")
    return out.done()


class Tokenizer:
    """Byte-level BPE: any text in any language goes in and comes back unchanged."""

    def __init__(self, backend, reserved: Iterable[int] = ()):
        self._backend = backend
        self._reserved = frozenset(reserved)  # ordinary entries that a layout uses as control tokens

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 1536) -> Tokenizer:
        """Learn a vocabulary of at most ``size`` entries, the special tokens first."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(sorted(set(texts)), trainer)
        return cls(backend)

    @classmethod
    def load(cls, path: str | Path, layout: TokenLayout | None = None) -> Tokenizer:
        """Read a ``tokenizer.json``; no text will give a control token of ``layout``."""
        from tokenizers import Tokenizer as Backend

        if not Path(path).exists():
            raise FileNotFoundError(f"no tokenizer at {path}; the model folder must hold one")
        return cls(Backend.from_file(str(path)), layout.specials if layout else ())

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json`` that the `tokenizers` library reads."""
        self._backend.save(str(path))

    @property
    def size(self) -> int:
        """Number of entries, special tokens included."""
        return self._backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Text to ids; text that looks like a special token stays text."""
        self._backend.encode_special_tokens = True
        ids = self._backend.encode(text, add_special_tokens=False).ids
        return [part for id_ in ids for part in self._spelled(id_)]

    def _spelled(self, id_: int) -> list[int]:
        """The id itself, or byte by byte if a layout has put it to another use."""
        if id_ not in self._reserved:
            return [id_]
        return [self._backend.token_to_id(byte) for byte in self._backend.id_to_token(id_)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; special tokens are left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def token(self, id_: int) -> str:
        """The entry as it is written in the vocabulary, for figures."""
        return self._backend.id_to_token(id_) or f"[{id_}]"


class TextStream:
    """Turns ids into text as they come, holding back a character that is not complete yet."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.text = ""

    def push(self, id_: int) -> str:
        """Add one id, return the text that is now certain ('' while a character is cut)."""
        self.ids.append(id_)
        text = self.tokenizer.decode(self.ids)
        return "" if text.endswith("\ufffd") else self._emit(text)

    def flush(self) -> str:
        """End of the reply: return what was held back."""
        return self._emit(self.tokenizer.decode(self.ids))

    def _emit(self, text: str) -> str:
        new = text[len(self.text) :]
        self.text = text
        return new
