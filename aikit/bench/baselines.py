"""What models score that do not understand: silent, talkative, a coin, and a level gate.

Knows decisions and how loud a clip is. Does not know sounds. A score that does not beat these says
nothing about listening. Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aikit.audio import load_audio
from aikit.bench.manifest import DECISIONS, Case
from aikit.bench.stats import confusion, decision_scores, rates
from aikit.config import AudioConfig

PAPER = {  # accuracy of the paper's model (paper §5); other clips than the mini benchmark's
    "single": {
        "Human Sound Signals": 0.564, "Daily Living Sounds": 0.681, "Equipment": 0.571, "Traffic": 0.649,
        "Nature & Environment": 0.618, "Music": 0.667,
    },
    "multiple": {
        "Human Sound Signals": 0.649, "Daily Living Sounds": 0.658, "Equipment": 0.557, "Traffic": 0.690,
        "Nature & Environment": 0.618, "Music": 0.600,
    },
}  # fmt: skip
PAPER_ALL = {"single": 0.612, "multiple": 0.628}


def loudest_db(waveform: np.ndarray) -> float:
    """RMS of the loudest 400 ms in dB of full scale: all that a voice-activity gate knows."""
    chunk = AudioConfig().chunk_samples // 2  # hops of half a chunk
    power = np.square(np.pad(waveform, (0, -len(waveform) % chunk))).reshape(-1, chunk).mean(axis=1)
    pairs = (power[1:] + power[:-1]) / 2 if len(power) > 1 else power
    return float(10 * np.log10(pairs.max() + 1e-12))


def best_gate(truth: np.ndarray, levels: np.ndarray) -> float:
    """The level at and above which responding has the best balanced accuracy, of those that occur."""
    gates = np.append(np.unique(levels), np.inf)  # inf: never
    counts = np.stack([confusion(truth, levels >= gate).sum(0) for gate in gates])
    return float(gates[np.nanargmax(rates(counts)["balanced_accuracy"])])


def gated(truth: np.ndarray, levels: np.ndarray, seed: int = 0) -> np.ndarray:
    """A level gate's decisions on each half of the clips, its level chosen on the other half."""
    halves = np.random.default_rng(seed).permutation(len(truth)) % 2 == 0
    decided = np.zeros(len(truth), bool)
    for half in (halves, ~halves):
        if len(set(truth[~half])) == 2:  # else nothing can be chosen there: silent
            decided[half] = levels[half] >= best_gate(truth[~half], levels[~half])
    return decided


def baselines(cases: Sequence[Case], seed: int = 0, audio: bool = True) -> dict[str, dict]:
    """Scores, as of `decision_scores`, of models that do not understand.

    Parameters
    ----------
    seed : of the coin, the gate's halves and the bootstrap
    audio : False where the clips are not at hand: no level gate
    """
    truth = np.array([case.decision == "RESPOND" for case in cases])
    decided = {f"always {d.lower()}": np.full(len(truth), d == "RESPOND") for d in DECISIONS[::-1]}
    decided["random"] = np.random.default_rng(seed).random(len(truth)) < 0.5
    if audio:
        levels = np.array([loudest_db(load_audio(case.audio)) for case in cases])
        decided["level gate"] = gated(truth, levels, seed)
    return {name: decision_scores(truth, rows, seed=seed) for name, rows in decided.items()}
