"""Training examples on the fly: every one made from its seed, none twice, nothing on disk.

Knows how a stage's mix of sub-tasks becomes examples, in worker processes. Does not know the model.
Taught in notebook 02.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from torch.utils.data import Dataset

from aikit.config import ModelConfig
from aikit.model.processing import Batch, Example, collate, offline_example, online_example
from aikit.synth.abilities import GROUPS, N_CHUNKS, Sources, make_stream, sub_tasks
from aikit.synth.compose import Stream
from aikit.synth.pairs import LENGTH_S, PAIRS, make_pair
from aikit.tokens import Tokenizer
from aikit.train.hearing import HearingTargets, hearing_targets
from aikit.train.recipe import Stage

SPAN_S = 4.0  # of a stream that shares its masks; a whole stream of them would hide some sounds for good
BANDS, WIDEST_BAND = 4, 0.1  # bands of mel channels that a span lacks, each this share of the channels at most
GAPS, LONGEST_GAP_S = 3, 0.15  # moments that a span lacks, each this long at most


@dataclass
class TrainingBatch:
    """A batch and what the hearing head should find in it."""

    batch: Batch
    hearing: list[HearingTargets]


def draw_sub_task(stage: Stage, rng: np.random.Generator) -> str:
    """A sub-task by the stage's mix: first the group, then one of its members by weight."""
    groups, shares = zip(*stage.mix, strict=True)
    members = GROUPS[groups[rng.choice(len(groups), p=np.array(shares) / sum(shares))]]
    weights = np.array([sub_tasks()[m][2] if m in sub_tasks() else 1.0 for m in members])
    return members[rng.choice(len(members), p=weights / weights.sum())]


def masked(mel: np.ndarray, share: float, config: ModelConfig, rng: np.random.Generator) -> np.ndarray:
    """SpecAugment (Park et al. 2019): a share of spans of ``[M, T]`` lacks bands and moments: there stands the mean.

    What is known from one formant of four speakers is not known of the fifth: with a band missing now and then, all
    that tells "nine" from "five" has to be learned.
    """
    mel, mean, (n_mels, n_frames) = mel.copy(), mel.mean(), mel.shape
    second = config.audio.mel_per_chunk / config.audio.chunk_s
    length = round(SPAN_S * second)
    for start in range(0, n_frames, length):
        span = mel[:, start : start + length]
        if rng.random() >= share:
            continue
        for _ in range(BANDS):
            width = int(rng.integers(int(WIDEST_BAND * n_mels)))
            low = int(rng.integers(n_mels - width))
            span[low : low + width] = mean
        for _ in range(GAPS):
            first = int(rng.integers(span.shape[1]))
            span[:, first : first + int(rng.integers(round(LONGEST_GAP_S * second) + 1))] = mean
    return mel


def single_turn(stream: Stream, rng: np.random.Generator) -> tuple[np.ndarray, str] | None:
    """Cut one answered event out of a stream: its waveform with a little silence, and the reply."""
    answered = [e for e in stream.events if e.reply and e.role == "foreground"]
    if not answered:
        return None
    event = answered[int(rng.integers(len(answered)))]
    start, end = int(max(0.0, event.start_s - 0.3) * 16_000), int((event.end_s + 0.3) * 16_000)
    return stream.waveform[start:end], event.reply


@dataclass
class StageData(Dataset):
    """Example i of a stage is a function of ``(seed, stage, i)`` alone, so a run can be resumed."""

    stage: Stage
    sources: Sources
    tokenizer: Tokenizer
    config: ModelConfig
    seed: int = 0
    n_chunks: int = N_CHUNKS
    number: int = field(default=0)  # of the stage, so that stages do not repeat each other's streams

    def __len__(self) -> int:
        return self.stage.steps * self.stage.batch

    def __getitem__(self, index: int) -> tuple[Example, HearingTargets]:
        rng = np.random.default_rng((self.seed, self.number, index))
        if self.stage.layout == "offline":
            return self._offline(int(rng.integers(2**40)), rng)
        stream = self._stream(index)
        example = online_example(stream, self.tokenizer, self.config)
        if self.stage.masked:
            both = np.random.default_rng((self.seed, self.number, index // 2, 1))  # sides of a pair lack the same
            example = replace(example, mel=masked(example.mel, self.stage.masked, self.config, both))
        return example, hearing_targets(stream, self.config, self.tokenizer)

    def _stream(self, index: int) -> Stream:
        """Examples come in twos, so that both sides of a pair are in one batch: only the instruction differs."""
        number, side = divmod(index, 2)
        rng, grid = np.random.default_rng((self.seed, self.number, number)), self.config.audio
        task, seed = draw_sub_task(self.stage, rng), int(rng.integers(2**40))
        if task in PAIRS:
            n_chunks = max(self.n_chunks, round(LENGTH_S / grid.chunk_s))
            return make_pair(self.sources, seed, n_chunks, grid, PAIRS[task])[side]
        if side:
            task, seed = draw_sub_task(self.stage, rng), int(rng.integers(2**40))
        while task in PAIRS:  # a half of one would tell nothing
            task = draw_sub_task(self.stage, rng)
        return make_stream(self.sources, seed, None, task, self.n_chunks, audio=grid)

    def _offline(self, seed: int, rng: np.random.Generator) -> tuple[Example, HearingTargets]:
        """Several single turns of one short stream cost one synthesis; take one of them."""
        while True:
            task = draw_sub_task(self.stage, rng)
            stream = make_stream(self.sources, seed, None, task, N_CHUNKS // 2)
            if turn := single_turn(stream, rng):
                example = offline_example(*turn, self.tokenizer, self.config)
                n = example.mel.shape[1] // self.config.audio.mel_per_chunk
                silence = np.zeros(n * self.config.audio.chunk_samples, np.float32)
                empty = Stream(silence, (), (), chunk_ms=self.config.audio.chunk_ms)
                return example, hearing_targets(empty, self.config, self.tokenizer)
            seed += 1

    def collate(self, rows: list[tuple[Example, HearingTargets]]) -> TrainingBatch:
        """Join rows to a batch."""
        examples, hearing = zip(*rows, strict=True)
        return TrainingBatch(collate(examples, self.config), list(hearing))
