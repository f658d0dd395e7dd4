"""What a model can learn from a larger one, beside the labels (knowledge distillation; Hinton et al. 2015).

Knows what a finished model expects at every target. Does not know how a step is made (`loop.py`). Taught in
notebook 02.

A label says "stay silent"; a teacher says "stay silent, though this bark was nearly worth a word". It hears the same
frames and reads the same tokens as its student, so both need the same ears, layout and vocabulary.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from aikit.config import ModelConfig
from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import Batch
from aikit.tokens import IGNORED


class Teacher:
    """A finished model that tells what it expects. No part of the student: it is neither trained nor saved.

    Parameters
    ----------
    folder : a model folder
    student : the shape of the model that learns
    tokenizer : the student's ``tokenizer.json``
    device : where the student learns

    Raises
    ------
    ValueError
        When the two do not hear or read the same.
    """

    def __init__(self, folder: Path, student: ModelConfig, tokenizer: Path, device: torch.device | str = "cpu"):
        model = AudioInteractionModel.from_pretrained(folder).float().to(device)
        self.model = model.eval().requires_grad_(False)
        mine = self.model.shape
        if (mine.audio, mine.layout) != (student.audio, student.layout):
            raise ValueError(
                f"the teacher in {folder} hears or reads otherwise than its student ({mine.audio}, {mine.layout} "
                f"against {student.audio}, {student.layout}); take one that was trained from the same preset's family"
            )
        if (Path(folder) / "tokenizer.json").read_bytes() != tokenizer.read_bytes():
            raise ValueError(f"the teacher in {folder} has another vocabulary than {tokenizer}; give a new --out")

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Tensor:
        """The teacher's last hidden states ``[B, T, D]``."""
        frames, _ = self.model.encode(batch.mel)
        return self.model.decode(self.model.embed(batch.input_ids, frames))

    def loss(self, student: AudioInteractionModel, hidden: Tensor, batch: Batch, counts: Tensor) -> Tensor:
        """KL divergence of the student's expectations from the teacher's, weighed as the two losses of the labels are.

        Parameters
        ----------
        hidden : the student's last hidden states ``[B, T, D]``
        counts : float ``[2]``, of `AudioInteractionModel.count_targets`
        """
        theirs, total = self.hidden(batch), hidden.sum() * 0.0
        weights = student.stream_weights(hidden)
        for labels, weight, n in (
            (batch.labels_lm, torch.ones_like(weights), counts[0]),
            (batch.labels_stream, student.shape.stream_weight * weights, counts[1]),
        ):
            kept = labels[:, 1:] != IGNORED
            expected = self.model.logits(theirs[:, :-1][kept]).float().log_softmax(-1)
            ours = student.logits(hidden[:, :-1][kept]).float().log_softmax(-1)
            divergence = F.kl_div(ours, expected, reduction="none", log_target=True).sum(-1)
            total = total + (divergence * weight[labels[:, 1:][kept]]).sum() / n.clamp(min=1e-6)
        return total
