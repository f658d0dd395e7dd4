"""Counterfactual pairs: the same sounds under two instructions must get two different answers.

Knows which events of a pair deserve different things, and whether both got theirs. Does not know how pairs
are made (`synth/pairs.py`) or how a model decides. Taught in notebook 04.

A model that reacts to sounds alone gets one side of a pair right and the other wrong; only one that
understood the instruction gets both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aikit.bench.stats import share
from aikit.bench.streams import SEED_OFFSET, Judged, is_right, judge
from aikit.synth.compose import Stream
from aikit.synth.pairs import make_pair
from aikit.synth.script import Sources


@dataclass(frozen=True)
class PairedEvent:
    """One event that two instructions ask different things for: what each side got."""

    pair: int
    label: str
    sides: tuple[Judged, Judged]

    @property
    def both_right(self) -> bool:
        """Each side got what it deserved: the right words, or silence."""
        return all(side.right if side.due else not side.replied for side in self.sides)


def paired_events(pair: tuple[Stream, Stream], said: Sequence[Sequence], number: int = 0) -> list[PairedEvent]:
    """The events of a pair whose replies must differ, judged on both sides.

    Parameters
    ----------
    pair : two streams of the same sounds after different instructions
    said : what a session said to each, as its events
    """
    judged = []
    for stream, heard in zip(pair, said, strict=True):
        rows, _ = judge(stream, heard, number)
        events = sorted((e for e in stream.events if e.role == "foreground"), key=lambda e: e.chunk())
        judged.append({(e.label, e.start_s): row for e, row in zip(events, rows, strict=True)})
    sides = [(judged[0][key], judged[1][key]) for key in judged[0] if key in judged[1]]
    differ = [(a, b) for a, b in sides if not (a.due == b.due and is_right(a.wanted, b.wanted))]
    return [PairedEvent(number, a.label, (a, b)) for a, b in differ]


def run(
    assistant,
    sources: Sources,
    n_pairs: int = 60,
    seed: int = 0,
    threshold: float | None = None,
    family: str | None = None,
) -> dict:
    """Let an assistant hear pairs made of (held-out) sources, of one ``family`` or of all; see `scores`."""
    from tqdm import trange

    events = []
    for i in trange(n_pairs, desc="pairs", mininterval=1.0):
        pair = make_pair(sources, SEED_OFFSET + seed * 1_000_000 + i, family=family)
        said = [list(assistant.listen(s.waveform, 16_000, s.instruction, threshold)) for s in pair]
        events += paired_events(pair, said, i)
    return scores(events, seed) | {"n_pairs": n_pairs}


def scores(events: Sequence[PairedEvent], seed: int = 0) -> dict:
    """Share of events with both sides right, resampled by pair, and what silence would get: nothing."""
    moments = [all(side.replied == side.due for side in event.sides) for event in events]
    groups = [event.pair for event in events]
    return {
        "n": len(events),
        "both_right": share([event.both_right for event in events], groups, seed),
        "both_moments_right": share(moments, groups, seed),
    }
