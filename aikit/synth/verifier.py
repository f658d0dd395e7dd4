"""The verifier: may this clip be that planned event (paper §3.2)?

Knows four criteria on what is written about a clip and what can be measured on it, and how a clip
is mended once. Does not know where clips come from (`grounding.py`). Taught in notebook 01.

The rules judge *identity* from words alone (label, accepted tags): they hear how clean and how long
a clip is, not what it is. A language model (`chat.py`) judges from the same words and measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aikit.audio import SAMPLE_RATE
from aikit.synth.clips import Entry
from aikit.synth.ontology import ontology
from aikit.synth.scenario import PlannedEvent
from aikit.synth.tfjp import analyse, is_normal, noise_profile, spec_smooth, tfjp

FIT = (0.5, 2.0)  # a clip's length over the planned one
LONGEST_S = 5.0
CLEAN_DB = 10.0  # an event over the steady noise in its own recording
QUIET_DBFS = -40.0  # a peak under this is brought up
SILENT_DBFS = -80.0
CLIPPED = 1e-3  # share of samples at full scale
GRID = SAMPLE_RATE // 5  # 200 ms, as TFJP cuts


@dataclass(frozen=True)
class Facts:
    """What the verifier knows of a clip's sound."""

    seconds: float
    peak_dbfs: float
    clipped: float  # share of samples at full scale
    snr_db: float  # event over steady noise; 60 where there is none
    whole: bool  # soft ends, on the 200 ms grid, no silence over 300 ms


@dataclass(frozen=True)
class Verdict:
    """accept | reprocess | reject, and the reason in words."""

    decision: str
    reason: str


# --- the verifier ---------------------------------------------------------------------------------
def measure(waveform: np.ndarray) -> Facts:
    """Length, level, clipping, noise and wholeness of a clip (float32 ``[n]``, 16 kHz, at least 0.1
    s)."""
    size = np.abs(waveform)
    peak_dbfs = float(20 * np.log10(max(size.max(initial=0.0), 1e-10)))
    if peak_dbfs < SILENT_DBFS or len(waveform) < SAMPLE_RATE // 10:
        return Facts(len(waveform) / SAMPLE_RATE, peak_dbfs, 0.0, 0.0, False)
    spectrum = analyse(waveform)
    energy = np.square(np.abs(spectrum)).sum(axis=1)
    noise = float(noise_profile(spectrum).sum())
    loud = float(energy[energy > energy.max() / 10].mean())
    snr_db = min(60.0, float(10 * np.log10(loud / noise))) if noise > 0 else 60.0
    clipped = float((size > 0.999).mean())
    whole = is_normal(
        np.where(size > 10 ** (SILENT_DBFS / 20), waveform, 0)
    )  # 16 bits round ends to no 0
    return Facts(len(waveform) / SAMPLE_RATE, peak_dbfs, clipped, snr_db, whole)


def is_named(need: PlannedEvent, entry: Entry) -> bool:
    """Whether an entry's words say that it is the planned sound.

    A label of the ontology must be the planned one; any other must be made of the sound's own
    words.
    """
    if entry.label in ontology():
        return entry.label == need.label
    sound = ontology()[need.label]
    accepted = set(
        " ".join((need.label, sound.name, *sound.tags)).lower().replace("_", " ").split()
    )
    words = entry.label.lower().replace("_", " ").replace("-", " ").split()
    return bool(words) and set(words) <= accepted


def verify(need: PlannedEvent, entry: Entry, facts: Facts) -> Verdict:
    """Judge identity, cleanliness, duration fit and continuity (paper §3.2), in this order.

    What TFJP, a trim or a gain can mend is to be reprocessed; what they cannot is rejected.
    """
    if not is_named(need, entry):
        return Verdict("reject", f"identity: it is {entry.label}")
    if facts.peak_dbfs < SILENT_DBFS:
        return Verdict("reject", "cleanliness: silence")
    if facts.clipped > CLIPPED:
        return Verdict("reject", f"cleanliness: {100 * facts.clipped:.1f} % of it is clipped")
    if facts.seconds < FIT[0] * need.seconds:
        return Verdict("reject", f"duration: {facts.seconds:.1f} s for {need.seconds:.1f} s")
    mend = []
    if facts.snr_db < CLEAN_DB:
        mend.append(f"cleanliness: noise {facts.snr_db:.0f} dB under the event")
    if facts.peak_dbfs < QUIET_DBFS:
        mend.append(f"cleanliness: peak at {facts.peak_dbfs:.0f} dBFS")
    if facts.seconds > min(FIT[1] * need.seconds, LONGEST_S):
        mend.append(f"duration: {facts.seconds:.1f} s for {need.seconds:.1f} s")
    if not facts.whole:
        mend.append("continuity: hard ends or long silence")
    return Verdict("reprocess", ", ".join(mend)) if mend else Verdict("accept", "fits")


def reprocess(waveform: np.ndarray, need: PlannedEvent) -> np.ndarray:
    """Mend a clip once: TFJP, then the loudest stretch of the planned length, then the level.

    Raises
    ------
    ValueError
        If TFJP finds nothing in it.
    """
    waveform = tfjp(waveform).waveform
    length = min(
        max(round(need.seconds * SAMPLE_RATE / GRID), 1) * GRID, int(LONGEST_S * SAMPLE_RATE)
    )
    if len(waveform) > min(FIT[1] * need.seconds, LONGEST_S) * SAMPLE_RATE:
        power = np.square(waveform[: len(waveform) // GRID * GRID]).reshape(-1, GRID).sum(axis=1)
        start = int(np.convolve(power, np.ones(length // GRID), "valid").argmax()) * GRID
        waveform = spec_smooth(waveform[start : start + length])
    peak = float(np.abs(waveform).max())
    return waveform * np.float32(0.5 / peak) if peak < 10 ** (QUIET_DBFS / 20) else waveform
