"""What a model that starts from nothing is taught to hear, beside when to speak and what to say.

Knows what is heard in a stream and the losses that teach it. Does not know replies or decisions. Taught in
notebook 02.

The paper's tower comes pretrained; ours learns, from the events that a composed stream knows about, (i)
which sounds are there in each 40 ms frame, (ii) which sound ended in each chunk, and (iii) the phonemes of
what is said (CTC). The head that does so is thrown away after training.

The paper's decoder, too, has read and heard before. Ours learns from replies alone to find the words of a
sentence among hundreds of frames, and takes long to notice that it has to. So half-way up the decoder, at the
positions of the frames, it is also taught (iv) the words that are being said (CTC again, read off with its own
output matrix); the upper half then finds them there. A sound is spelled there too, as a listener with a notebook
would put it down (`Listener.note`): its name, and the verb of the instruction that named it. "Ignore the siren" and
a siren then make "siren ignore", and the upper half need not know which sound was meant. And where a sound has ended
(v) a number says how often it was heard: among numbers alone, for CTC can spell "nothing" instead, and did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from aikit.config import ModelConfig
from aikit.model.modeling import AudioInteractionModel
from aikit.synth.compose import Stream
from aikit.synth.ontology import ontology
from aikit.synth.rules import Listener
from aikit.synth.script import phrases
from aikit.synth.speech import PHONEMES, phonemes
from aikit.tokens import Tokenizer

BLANK = 0  # CTC's "nothing"; phoneme i of PHONEMES has id i + 1
ACTIVE_WEIGHT = 4.0  # most labels are absent from most frames
SYMBOL_WEIGHT, TIMES_WEIGHT = 5.0, 20.0  # of a symbol to spell and of a sound to count: both are summed over few frames


def sound_labels() -> list[str]:
    """The classes of the head: every label of the ontology, and speech."""
    return [*sorted(ontology()), "speech"]


def spoken_pieces(text: str, tokenizer: Tokenizer) -> list[int]:
    """CTC targets of a text as the decoder would write it: small letters, each word after a space."""
    bare = re.sub(r"[^\w\s']", "", text.lower())
    return tokenizer.encode(" " + bare)


def number_tokens(tokenizer: Tokenizer) -> list[int]:
    """With what a reply that is a number begins: "One", "Two" and so on, as far as the kit counts."""
    return [tokenizer.encode(number.capitalize())[0] for number in phrases()["numbers"][1:]]


@lru_cache(maxsize=10_000)
def phoneme_ids(text: str, language: str) -> tuple[int, ...]:
    """CTC targets of a text."""
    return tuple(PHONEMES.index(symbol) + 1 for symbol in phonemes(text, language or "en"))


@dataclass
class HearingTargets:
    """For one stream of F frames and n chunks, L labels."""

    active: np.ndarray  # bool [F, L]: sounds in that frame
    ended: np.ndarray  # bool [n, L]: a foreground sound ended in that chunk
    phonemes: list[int]  # what is said, in order
    pieces: list[int]  # the same in the decoder's own tokens, and between it what is noted of the sounds
    times: np.ndarray  # int [n]: how often the sound that ended in that chunk was heard by then; 0 where none did
    numbers: list[int]  # the tokens of "One", "Two" ..., which say so


def hearing_targets(stream: Stream, config: ModelConfig, tokenizer: Tokenizer) -> HearingTargets:
    """Read the targets off a stream's events."""
    labels = {label: i for i, label in enumerate(sound_labels())}
    frame_s = config.audio.frame_ms / 1000
    n_frames = stream.n_chunks * config.audio.frames_per_chunk
    active = np.zeros((n_frames, len(labels)), bool)
    ended = np.zeros((stream.n_chunks, len(labels)), bool)
    times, numbers = np.zeros(stream.n_chunks, int), number_tokens(tokenizer)
    said: list[int] = []
    pieces: list[int] = []
    listener = Listener()
    listener.obey(stream.rule)
    for event in stream.events:
        if event.label not in labels:
            continue  # a folder of the user's may have labels of its own
        column = labels[event.label]
        active[round(event.start_s / frame_s) : round(event.end_s / frame_s), column] = True
        if event.role == "foreground":
            ended[event.chunk(config.audio), column] = True
            if event.text:
                said += phoneme_ids(event.text, event.language)
            if event.act or event.label != "speech":
                listener.hear(event.label, event.act)
            noted = event.text
            if event.label != "speech":
                noted, often = listener.note(event.label), listener.times(event.label)
                times[event.chunk(config.audio)] = often if often <= len(numbers) else 0
            if noted:
                pieces += spoken_pieces(noted, tokenizer)
    return HearingTargets(active, ended, said, pieces, times, numbers)


class HearingHead(nn.Module):
    """Three linear read-outs of the tower's frames ``[B, F, D]`` and their summed loss."""

    def __init__(self, width: int, config: ModelConfig):
        super().__init__()
        self.frames_per_chunk = config.audio.frames_per_chunk
        n_labels = len(sound_labels())
        self.active = nn.Linear(width, n_labels)
        self.ended = nn.Linear(width, n_labels)
        self.phonemes = nn.Linear(width, len(PHONEMES) + 1)

    def forward(self, frames: Tensor, targets: list[HearingTargets]) -> Tensor:
        """Mean loss a frame; streams shorter than the batch are padded with silence."""
        n_frames = frames.shape[1]
        active = _stack([t.active for t in targets], n_frames, frames.device)
        n_chunks = n_frames // self.frames_per_chunk
        ended = _stack([t.ended for t in targets], n_chunks, frames.device)
        last = frames[:, self.frames_per_chunk - 1 :: self.frames_per_chunk]
        return (
            _detection_loss(self.active(frames), active)
            + _detection_loss(self.ended(last), ended)
            + spelling_loss(list(self.phonemes(frames)), [t.phonemes for t in targets], BLANK)
        )


@contextmanager
def half_way_up(decoder: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the hidden states of the decoder's middle layer while it works; above it is one at least."""
    layers, found = decoder.model.layers, []
    middle = layers[min(len(layers) // 2, len(layers) - 2)]
    handle = middle.register_forward_hook(lambda layer, inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


def words_loss(
    model: AudioInteractionModel, hidden: Tensor, input_ids: Tensor, targets: list[HearingTargets]
) -> Tensor:
    """How well the hidden states ``[B, T, D]`` of a layer of the decoder spell and count what is heard, at its frames.

    They are read off as the last layer's are, by the final norm and the output matrix; where no piece of a
    word ends, the frame's own token stands for "nothing".
    """
    blank = model.layout.frame
    logits = [
        model.logits(model.decoder.model.norm(row[ids == blank]))
        for row, ids in zip(hidden, input_ids, strict=True)
    ]
    return spelling_loss(logits, [t.pieces for t in targets], blank) + counting_loss(logits, targets)


def counting_loss(logits: list[Tensor], targets: list[HearingTargets]) -> Tensor:
    """Cross-entropy among the numbers, in the last frame of every chunk in which a sound ended, a frame."""
    total = logits[0].sum() * 0.0
    for row, target in zip(logits, targets, strict=True):
        chunks = torch.from_numpy(np.flatnonzero(target.times)).to(row.device)
        last = (chunks + 1) * (len(row) // len(target.times)) - 1
        wanted = torch.from_numpy(target.times).to(row.device)[chunks] - 1
        total = total + F.cross_entropy(row[last][:, target.numbers].float(), wanted, reduction="sum")
    return TIMES_WEIGHT * total / sum(len(row) for row in logits)


def spelling_loss(logits: list[Tensor], targets: list[list[int]], blank: int) -> Tensor:
    """CTC a frame; ``logits[b]`` is ``[F_b, symbols]``.

    (torch's own mean divides by the targets: it explodes on streams in which little is said.)
    """
    device, n_frames = logits[0].device, torch.tensor([len(row) for row in logits])
    log_probs = pad_sequence(logits).float().log_softmax(-1)
    lengths = torch.tensor([len(symbols) for symbols in targets])
    flat = torch.tensor([symbol for symbols in targets for symbol in symbols], dtype=torch.long)
    total = F.ctc_loss(
        log_probs, flat.to(device), n_frames, lengths, blank, "sum", zero_infinity=True
    )
    return SYMBOL_WEIGHT * total / n_frames.sum()


def _detection_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, summed over labels and averaged over time."""
    weight = torch.full_like(target, 1.0) + (ACTIVE_WEIGHT - 1.0) * target
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, weight, reduction="sum")
    return loss / (target.shape[0] * target.shape[1])


def _stack(rows: list[np.ndarray], length: int, device: torch.device) -> Tensor:
    padded = [np.pad(row, ((0, length - len(row)), (0, 0))) for row in rows]
    return torch.from_numpy(np.stack(padded)).to(device, torch.float32)
