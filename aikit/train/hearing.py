"""Stage 0: what a tower that starts from nothing is taught to hear.

Knows frame labels and the three losses that teach them. Does not know tokens or decisions. Taught in
notebook 02.

The paper's tower comes pretrained; ours learns, from the events that a composed stream knows about, (i)
which sounds are there in each 40 ms frame, (ii) which sound ended in each chunk, and (iii) the phonemes of
what is said (CTC). The head that does so is thrown away after training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aikit.config import ModelConfig
from aikit.synth.compose import Stream
from aikit.synth.ontology import ontology
from aikit.synth.speech import PHONEMES, phonemes

BLANK = 0  # CTC's "nothing"; phoneme i of PHONEMES has id i + 1
ACTIVE_WEIGHT = 4.0  # most labels are absent from most frames


def sound_labels() -> list[str]:
    """The classes of the head: every label of the ontology, and speech."""
    return [*sorted(ontology()), "speech"]


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


def hearing_targets(stream: Stream, config: ModelConfig) -> HearingTargets:
    """Read the targets off a stream's events."""
    labels = {label: i for i, label in enumerate(sound_labels())}
    frame_s = config.audio.frame_ms / 1000
    n_frames = stream.n_chunks * config.audio.frames_per_chunk
    active = np.zeros((n_frames, len(labels)), bool)
    ended = np.zeros((stream.n_chunks, len(labels)), bool)
    said: list[int] = []
    for event in stream.events:
        if event.label not in labels:
            continue  # a folder of the user's may have labels of its own
        column = labels[event.label]
        active[round(event.start_s / frame_s) : round(event.end_s / frame_s), column] = True
        if event.role == "foreground":
            ended[event.chunk(config.audio), column] = True
            if event.text:
                said += phoneme_ids(event.text, event.language)
    return HearingTargets(active, ended, said)


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
            + self._spelling_loss(frames, targets)
        )

    def _spelling_loss(self, frames: Tensor, targets: list[HearingTargets]) -> Tensor:
        """CTC a frame. (torch's own mean divides by the targets: it explodes on sparse streams.)"""
        log_probs = self.phonemes(frames).float().log_softmax(-1).transpose(0, 1)
        lengths = torch.tensor([len(t.phonemes) for t in targets])
        flat = torch.tensor([p for t in targets for p in t.phonemes], dtype=torch.long)
        n_frames = torch.full((len(targets),), frames.shape[1])
        total = F.ctc_loss(
            log_probs, flat.to(frames.device), n_frames, lengths, BLANK, "sum", zero_infinity=True
        )
        return 5.0 * total / (len(targets) * frames.shape[1])


def _detection_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, summed over labels and averaged over time."""
    weight = torch.full_like(target, 1.0) + (ACTIVE_WEIGHT - 1.0) * target
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, weight, reduction="sum")
    return loss / (target.shape[0] * target.shape[1])


def _stack(rows: list[np.ndarray], length: int, device: torch.device) -> Tensor:
    padded = [np.pad(row, ((0, length - len(row)), (0, 0))) for row in rows]
    return torch.from_numpy(np.stack(padded)).to(device, torch.float32)
