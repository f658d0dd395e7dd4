"""Building blocks of procedural sound, and the room around every sound.

Knows: tones, filtered noise, envelopes, struck bodies, a simple voice, repetition and grains; and
the `Variation` (speed, equaliser, room, level) that makes two renderings of one event differ. Does
not know any particular sound: those are in `sounds.py`, built from these. Taught in notebook 01.

Lengths are in seconds, frequencies in Hz, waveforms are float arrays `[n]` at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.signal import butter, oaconvolve, resample_poly, sosfilt

from aikit.audio import SAMPLE_RATE

RATE = SAMPLE_RATE
PEAK = 0.9
Rng = np.random.Generator


# --- lines and envelopes -------------------------------------------------------------------------

def times(seconds):
    return np.arange(int(seconds * RATE)) / RATE


def curve(seconds, *points):
    """A line through equally spaced points: the pitch or loudness of a sound over its length."""
    n = int(seconds * RATE)
    return np.interp(np.arange(n), np.linspace(0, n, len(points)), points)


def steady(seconds, value):
    return np.full(int(seconds * RATE), float(value))


def wobble(rng, seconds, rate):
    """Smooth random curve in [-1, 1] that changes about `rate` times a second."""
    return curve(seconds, *rng.uniform(-1, 1, int(seconds * rate) + 2))


def decay(seconds, attack, tau):
    """Fast rise, exponential fall: anything that is hit."""
    t = times(seconds)
    return np.minimum(t / attack, 1) * np.exp(np.minimum(attack - t, 0) / tau)


def arc(seconds, power=1.0):
    """A smooth rise and fall: anything that is breathed or bowed."""
    return np.sin(np.pi * times(seconds) / seconds) ** power


def held(seconds, edge=0.02):
    """Flat with short ramps: anything that is switched on and off."""
    t = times(seconds)
    return np.clip(np.minimum(t, seconds - t) / edge, 0, 1)


# --- tones, noise, struck bodies -----------------------------------------------------------------

def tone(freq):
    """A sine whose frequency may change: `freq` has one value a sample."""
    return np.sin(2 * np.pi / RATE * np.cumsum(freq))


def buzz(freq, slope=1.0, odd=False, count=40):
    """Harmonics of `freq` with amplitudes k**-slope, read from one table (no sine per harmonic)."""
    k = np.arange(1, min(count, max(1, int(7600 / freq.max()))) + 1)
    gains = np.where(odd & (k % 2 == 0), 0.0, k ** -float(slope))
    table = fft.irfft(np.append(0, -0.5j * gains), 4096) * 4096 / np.sqrt(gains.sum())
    return table[(np.cumsum(freq) * (4096 / RATE)).astype(int) & 4095]


@lru_cache(maxsize=512)
def _filter(low, high, order):
    if low <= 0:
        return butter(order, high, "low", fs=RATE, output="sos")
    if high >= 7900:
        return butter(order, low, "high", fs=RATE, output="sos")
    return butter(order, (low, high), "band", fs=RATE, output="sos")


def band(x, low, high, order=2):
    """Keeps `low`..`high` Hz; low=0 is a low-pass, high>=7900 a high-pass."""
    return sosfilt(_filter(round(low), round(high), order), x)


def noise(rng, seconds, low=0.0, high=8000.0):
    """Noise in a band, of unit loudness whatever the band."""
    x = rng.standard_normal(int(seconds * RATE), dtype=np.float32)
    x = band(x, low, high) if low > 0 or high < 7900 else x
    return x / (np.std(x) + 1e-9)


def gliding_noise(rng, freq, width):
    """Narrow noise whose centre follows the line `freq`: wind in a gap, a screech."""
    return noise(rng, len(freq) / RATE + 1e-6, 0, width) * tone(freq)


def modes(freqs, taus, gains=1.0):
    """A struck body: one damped sine per mode (its frequency, its decay time, its loudness).

    A damped sine is z**n; splitting n = 256 i + j makes the sum over modes one matrix product.
    """
    freqs, taus, gains = np.broadcast_arrays(np.atleast_1d(freqs), taus, gains)
    blocks = np.arange(int(min(2.5, 6 * taus.max()) * RATE / 256) + 1)
    log_z = (2j * np.pi * freqs - 1 / taus) / RATE
    coarse = np.exp(np.outer(256 * blocks, log_z)) * gains
    return (coarse @ np.exp(np.outer(log_z, np.arange(256)))).imag.ravel()


def knock(rng, body, tau, click=0.3, bright=2500.0):
    """One impact: a few modes around `body` Hz plus a click of the surface."""
    freqs = body * np.array((1, 1.6, 2.4, 3.7)) * rng.uniform(0.93, 1.07, 4)
    surface = snap(rng, 0.03, bright * 0.5, min(bright * 1.6, 7500), 0.006)
    return mix((0, modes(freqs, tau, (1, 0.7, 0.4, 0.2))), (0, click * surface))


def snap(rng, seconds, low, high, tau):
    """A very short burst of noise: a click, a drop, a crackle."""
    return noise(rng, seconds, low, high) * decay(seconds, 5e-4, tau)


# --- a voice -------------------------------------------------------------------------------------

def vowel(x, *formants, width=0.12):
    """The mouth: resonances (Hz) in parallel, each weaker than the one before."""
    parts = (0.75 ** i * band(x, f * (1 - width), min(f * (1 + width), 7800), 1)
             for i, f in enumerate(formants))
    return 0.1 * x + sum(parts)


def voice(rng, freq, *formants, breath=0.05, slope=0.8):
    """A throat: a shaky buzz and some breath, coloured by the mouth."""
    seconds = len(freq) / RATE + 1e-6
    freq = freq * (1 + 0.015 * wobble(rng, seconds, 30))
    return vowel(buzz(freq, slope) + breath * noise(rng, seconds, 500, 6000), *formants)


# --- arranging in time ---------------------------------------------------------------------------

def mix(*pieces):
    """Adds (start in seconds, waveform) pieces up into one waveform."""
    starts = [int(start * RATE) for start, _ in pieces]
    out = np.zeros(max(at + len(x) for at, (_, x) in zip(starts, pieces)))
    for at, (_, x) in zip(starts, pieces):
        out[at:at + len(x)] += x
    return out


def repeat(rng, make, count, period, jitter=0.05, level=0.2):
    """`count` calls of `make()`, about `period` seconds apart, each of its own loudness."""
    starts = (np.arange(count) + rng.uniform(0, jitter, count)) * period
    return mix(*((start - starts[0], make() * rng.uniform(1 - level, 1)) for start in starts))


def beeps(freq, on, off, count, slope=1.5):
    """Electronic beeps: `count` times `on` seconds of sound, `off` seconds of silence."""
    beep = buzz(steady(on, freq), slope, odd=True) * held(on, 0.005)
    return mix(*((i * (on + off), beep) for i in range(count)))


def grains(rng, seconds, rate, make, kinds=4, tail=1.0, shape=None):
    """Random hits, `rate` a second, of `kinds` different short `make()`s: rain, applause, crackle.

    `tail` widens the loudness distribution; `shape` [n] says where the hits are frequent.
    """
    n, out = int(seconds * RATE), 0.0
    chance = np.cumsum(np.ones(n) if shape is None else shape[:n])
    for _ in range(kinds):
        count = rng.poisson(rate * seconds / kinds) + 1
        at = np.searchsorted(chance, rng.uniform(0, chance[-1], count))
        loud = rng.exponential(1, count) ** tail * rng.choice((-1, 1), count)
        out = out + oaconvolve(np.bincount(at, loud, n)[:n], make())[:n]
    return out


# --- the room around every sound -----------------------------------------------------------------

@dataclass(frozen=True)
class Variation:
    """How one rendering differs from the bare event; drawn by `draw_variation`."""

    speed: float      # playback speed, 1 = as made; moves pitch and tempo together
    tilt_db: float    # equaliser slope, dB an octave around 1 kHz
    peak_hz: float    # one broad equaliser peak ...
    peak_db: float    # ... and its gain
    reverb_s: float   # decay time of the small room (-60 dB)
    wet: float        # share of the room in the mix, 0-1
    level_db: float   # peak level under PEAK


def draw_variation(rng: Rng, held_out: bool = False) -> Variation:
    """Draws a speed, an equaliser, a room and a level.

    Parameters
    ----------
    held_out : take speed and room from ranges that training never uses, so that a benchmark of
        procedural sounds cannot repeat a training sound.

    Returns
    -------
    Variation, with speed in [0.92, 1.08], or in [0.84, 0.92) or (1.08, 1.18] when held out, and
    reverb_s in [0.04, 0.22], or in [0.23, 0.40].
    """
    if held_out:
        speed = rng.uniform(0.84, 0.91) if rng.uniform() < 0.5 else rng.uniform(1.09, 1.18)
        reverb = rng.uniform(0.23, 0.40)
    else:
        speed, reverb = rng.uniform(0.92, 1.08), rng.uniform(0.04, 0.22)
    return Variation(speed, tilt_db=rng.uniform(-2, 2), peak_hz=250 * 24 ** rng.uniform(),
                     peak_db=rng.uniform(-6, 6), reverb_s=reverb, wet=rng.uniform(0, 0.35),
                     level_db=rng.uniform(-12, 0))


def vary(waveform: np.ndarray, how: Variation, rng: Rng) -> np.ndarray:
    """Plays `waveform` [n] at another speed, through an equaliser, in a small room, at a level."""
    x = resample_poly(waveform, 50, round(50 * how.speed))
    tail = noise(rng, how.reverb_s) * np.exp(-6.9 / how.reverb_s * times(how.reverb_s))
    total = len(x) + len(tail)
    n = fft.next_fast_len(total, real=True)
    octaves = np.log2(np.maximum(fft.rfftfreq(n, 1 / RATE), 40) / 1000)
    peak = how.peak_db * np.exp(-(octaves - np.log2(how.peak_hz / 1000)) ** 2)
    room = 1 - how.wet + how.wet * fft.rfft(tail / np.linalg.norm(tail), n)
    spectrum = fft.rfft(x, n) * room * 10 ** ((how.tilt_db * octaves + peak) / 20)
    return finish(fft.irfft(spectrum, n)[:total], PEAK * 10 ** (how.level_db / 20))


def finish(x: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """Removes the offset, fades the last 10 ms and sets the peak; float32 [n]."""
    x = x - np.mean(x)
    x[-160:] *= np.linspace(1, 0, 160)
    return (x * (peak / (np.abs(x).max() + 1e-9))).astype(np.float32)
