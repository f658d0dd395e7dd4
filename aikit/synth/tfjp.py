"""Time-frequency joint preprocessing of one clip (TFJP, paper Alg. 1): from recording to brick.

Knows: how to shorten silence, take steady noise out, find the event, put it on the 200 ms grid and
soften its ends, so that clips can be laid side by side without a click.  Every operator is a small
function on ONE shared short-time Fourier transform; nothing is transformed twice within a loop.
Does not know: where clips come from or what they mean.  Taught in notebook 01.

Three choices of ours, where the paper leaves room:
- A bare 10th percentile calls a tenth of *every* clip silent, steady rain too.  Our gate follows
  the percentile only between 45 and 40 dB under the loudest frame; likewise the quietest frames
  count as noise only if taking them out leaves the loud frames alone.
- A clip is *normal* when it is on the grid, its ends are soft and no silence exceeds τ.  The loop
  ends there, and a normal clip is returned untouched: running TFJP twice changes nothing.
- Cutting and denoising are *stable* when a pass cuts nothing and takes under 0.1 % of the energy.
Steady noise is told from a steady sound down to about 8 dB under the event; below, it stays.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import fft
from scipy.ndimage import uniform_filter, uniform_filter1d
from scipy.special import entr

SAMPLE_RATE = 16_000
HOP = 160                           # samples, 10 ms: one *cell*; everything is cut at cell borders
WINDOW = 3 * HOP                    # 30 ms Hann; at a third of its length Hann² adds up to 9/8
STABLE = 1e-3                       # share of energy: a pass that takes less has changed nothing
MIN_CELLS = 10                      # 100 ms: shorter clips have nothing to measure
_OVER = 2.0                         # the quietest frames underestimate noise, and bins fluctuate


@dataclass(frozen=True)
class TFJPConfig:
    """The constants of Algorithm 1; the paper's letters in the comments."""

    silence_ms: int = 300           # τ: longer silences are shortened ...
    keep_silence_ms: int = 200      # ... to this, well under τ, so that measuring again finds none
    gate_percentile: float = 10.0   # of frame energy, plus a margin, within these limits:
    gate_margin_db: float = 6.0
    gate_limits_db: tuple[float, float] = (-45.0, -40.0)    # under the loudest frame
    noise_share: float = 0.05       # of the frames, the quietest, show the noise
    gamma: float = 1.0              # γ: how much of the noise is subtracted
    clean_db: float = -55.0         # noise this far under the loudest frame is no noise ...
    target_db: float = -68.0        # ... and this is where denoising puts it
    grid_ms: int = 200              # δ, half a chunk
    taper_ms: int = 20              # ω
    max_loops: int = 3              # K


@dataclass(frozen=True)
class TFJPResult:
    """What `tfjp` gives: a waveform, how often the loop ran, and what every stage heard."""

    waveform: np.ndarray            # float32 [n], 16 kHz, n a multiple of 200 ms
    loops: int                      # 0: the clip was normal already
    converged: bool                 # False: K loops were not enough
    settled: bool                   # False: in a loop, K passes of cutting and denoising were not
    stages: dict[str, np.ndarray] = field(default_factory=dict)   # name -> waveform, first loop


# --- the shared transform: T = cells + 2 frames, F = 241 bins; frame i + 1 is centred on cell i ---
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def analyse(waveform: np.ndarray) -> np.ndarray:
    """Waveform float32 [n] -> spectrum complex64 [T, F], n padded with zeros to whole cells."""
    padded = np.pad(waveform, (2 * HOP, -len(waveform) % HOP + 2 * HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return fft.rfft(frames * _HANN, axis=1)


def synthesise(spectrum: np.ndarray) -> np.ndarray:
    """Spectrum [T, F] -> waveform float32 [n] by weighted overlap-add, the inverse of `analyse`.

    Where frames were taken out, the overlap cross-fades the two sides over 20 ms.
    """
    parts = (fft.irfft(spectrum, WINDOW, axis=1) * (_HANN / 1.125)).reshape(-1, 3, HOP)
    cells = np.zeros((len(spectrum) + 2, HOP), np.float32)
    for k in range(3):
        cells[k:k + len(spectrum)] += parts[:, k]
    return cells[2:-2].reshape(-1)


def _power(spectrum: np.ndarray) -> np.ndarray:
    """Power [cells, F], without the two guard frames at the ends."""
    inner = spectrum[1:-1]
    return inner.real**2 + inner.imag**2


def _levels(power: np.ndarray) -> np.ndarray:
    """Energy of each cell in dB under the loudest, floor -100."""
    energy = power.sum(axis=1)
    return 10 * np.log10(np.maximum(energy / max(energy.max(), 1e-20), 1e-10))


# --- the operators of Algorithm 1 -----------------------------------------------------------------
def long_silences(spectrum: np.ndarray, config: TFJPConfig) -> np.ndarray:
    """Silent runs longer than τ, int [runs, 2] of cells [start, end)."""
    levels = _levels(_power(spectrum))
    gate = np.clip(np.percentile(levels, config.gate_percentile) + config.gate_margin_db,
                   *config.gate_limits_db)
    edges = np.flatnonzero(np.diff(np.r_[0, levels < gate, 0]))
    runs = edges.reshape(-1, 2)
    return runs[np.diff(runs)[:, 0] * 10 > config.silence_ms]


def silence_cut(spectrum: np.ndarray, config: TFJPConfig = TFJPConfig()) -> np.ndarray:
    """Shorten every silence longer than τ by taking frames out of its middle."""
    half = config.keep_silence_ms // 20
    while len(runs := long_silences(spectrum, config)):
        drop = np.concatenate([np.arange(start + half, end - half) for start, end in runs])
        spectrum = np.delete(spectrum, drop + 1, axis=0)    # the gate rises as silence goes
    return spectrum


def noise_profile(spectrum: np.ndarray, config: TFJPConfig = TFJPConfig()) -> np.ndarray:
    """Power [F] of the steady noise, from the 5 % of frames with least energy; zeros if none.

    The 5 % find the floor; every frame within 3 dB of it makes the profile smoother.  The quietest
    frames of a *steady sound* are the sound itself: they count as noise only if subtracting them
    would take less than 1 dB from the loud frames (10 dB under the peak and up).
    """
    power = _power(spectrum)
    levels = uniform_filter1d(_levels(power[:, 2:]), 5)     # rumble under 50 Hz is never steady
    quiet = np.sort(levels)[:max(3, round(config.noise_share * len(levels)))].mean()
    profile = uniform_filter1d(power[levels < quiet + 3].mean(axis=0), 3, mode="nearest")
    loud = power[_levels(power) > -10]
    taken = np.minimum(loud, _OVER * config.gamma * profile).sum() / loud.sum()
    return profile if quiet > config.clean_db and taken < 0.2 else np.zeros_like(profile)


def denoise(spectrum: np.ndarray, profile: np.ndarray,
            config: TFJPConfig = TFJPConfig()) -> np.ndarray:
    """Spectral subtraction on smoothed power; what is all noise sinks to `target_db`."""
    if not profile.any():
        return spectrum
    power = _power(spectrum)
    smooth = uniform_filter(spectrum.real**2 + spectrum.imag**2, (5, 3), mode="nearest")
    noise_db = 10 * np.log10(profile.sum() / power.sum(axis=1).max())
    least = 10 ** (min(config.target_db - noise_db, 0.0) / 10)
    gain = np.maximum(1 - config.gamma * _OVER * profile / np.maximum(smooth, 1e-20), least)
    return spectrum * np.sqrt(gain)


def core_locate(spectrum: np.ndarray, config: TFJPConfig = TFJPConfig()) -> tuple[int, int]:
    """Cells [start, end) with the best total of normalised energy over spectral entropy.

    Energy counts in dB, from 0 at 40 dB under the peak to 1 at the peak.  The small toll on each
    cell drops quiet ends, yet the beats of one event can pay for the gaps between them.
    """
    power = _power(spectrum)
    entropy = entr(power / np.maximum(power.sum(axis=1, keepdims=True), 1e-20)).sum(axis=1)
    energy = np.maximum(1 + _levels(power) / 40, 0)
    score = energy / (0.5 + entropy / np.log(power.shape[1])) - 0.05
    total = np.r_[0, np.cumsum(score)]
    gain = total - np.minimum.accumulate(total)             # best span that ends at each cell
    end = int(gain.argmax())
    return int(total[:end].argmin()), end


def boundary_norm(spectrum: np.ndarray, span: tuple[int, int],
                  config: TFJPConfig = TFJPConfig()) -> np.ndarray:
    """Snap the span to the δ grid: outwards, with room for the tapers, so that no event is cut.

    Past the clip's end there are only zeros: a sound that stops there in full swing rather gives up
    a twentieth of the span.
    """
    grid, taper, cells = config.grid_ms // 10, config.taper_ms // 10, len(spectrum) - 2
    start = max(span[0] - taper, 0) // grid * grid
    end = -(-(span[1] + taper) // grid) * grid
    abrupt = end > cells and _levels(_power(spectrum))[-3:].min() > -25
    if abrupt and span[1] - (end - grid) <= (span[1] - start) / 20:
        end -= grid
    return np.pad(spectrum, ((0, max(end - cells, 0)), (0, 0)))[start:end + 2]


def _hann_ends(waveform: np.ndarray, config: TFJPConfig) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of ω, and the Hann curve they should follow."""
    taper = config.taper_ms * SAMPLE_RATE // 1000
    ramp = np.sin(np.pi * np.arange(taper) / (2 * taper)).astype(np.float32) ** 2
    return np.r_[waveform[:taper], waveform[-taper:]], np.r_[ramp, ramp[::-1]]


def spec_smooth(waveform: np.ndarray, config: TFJPConfig = TFJPConfig()) -> np.ndarray:
    """Hann taper of ω at both ends, which stay within full scale (or the inner peak)."""
    ends, curve = _hann_ends(waveform, config)
    inner = waveform[len(ends) // 2:-(len(ends) // 2)]
    limit = max(1.0, np.abs(inner).max())
    head, tail = np.split(np.clip(ends, -limit, limit) * curve, 2)
    return np.r_[head, inner, tail]


def is_normal(waveform: np.ndarray, config: TFJPConfig = TFJPConfig()) -> bool:
    """Whether nothing is left to do: on the δ grid, soft ends, no silence longer than τ."""
    on_grid = len(waveform) % (config.grid_ms * SAMPLE_RATE // 1000) == 0
    ends, curve = _hann_ends(waveform, config)
    limit = 1.001 * max(1.0, np.abs(waveform).max())        # as in `spec_smooth`, with rounding
    soft = (np.abs(ends) <= curve * limit).all()
    return bool(on_grid and soft) and not len(long_silences(analyse(waveform), config))


# --- the loop -------------------------------------------------------------------------------------
def _cut_and_denoise(spectrum: np.ndarray, config: TFJPConfig, note) -> tuple[np.ndarray, bool]:
    """Cut and denoise until a pass changes nothing; False if K passes all did."""
    for _ in range(config.max_loops):
        cut = note("silence_cut", silence_cut(spectrum, config))
        clean = note("denoise", denoise(cut, noise_profile(cut, config), config))
        taken = np.sum(np.abs(cut - clean) ** 2) / np.sum(np.abs(cut) ** 2)
        stable, spectrum = len(cut) == len(spectrum) and taken < STABLE, clean
        if stable:
            return spectrum, True
    return spectrum, False


def _one_loop(waveform: np.ndarray, config: TFJPConfig, note) -> tuple[np.ndarray, bool]:
    """All operators once, on one shared spectrum; `note(name, spectrum)` sees every stage."""
    spectrum, stable = _cut_and_denoise(analyse(waveform), config, note)
    span = core_locate(spectrum, config)
    note("core_locate", spectrum[span[0]:span[1] + 2])
    spectrum = note("boundary_norm", boundary_norm(spectrum, span, config))
    return spec_smooth(synthesise(spectrum), config), stable


def _checked(waveform: np.ndarray) -> np.ndarray:
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.isfinite(waveform).all():
        raise ValueError(f"TFJP needs finite mono samples [n], got shape {waveform.shape}: "
                         "read the clip with aikit.audio.load_audio")
    if len(waveform) < MIN_CELLS * HOP:
        raise ValueError(f"TFJP needs at least 0.1 s, got {len(waveform) / SAMPLE_RATE:.3f} s: "
                         "leave this clip out or take a longer cut")
    if np.abs(waveform).max() < 1e-5:
        raise ValueError("TFJP found only silence (peak under -100 dBFS): leave this clip out")
    return waveform.astype(np.float32)


def _with_room(waveform: np.ndarray, config: TFJPConfig) -> np.ndarray:
    """Put ω of silence before a clip whose attack the taper would eat.

    That is one that starts from silence, or at once with 5 % of its energy; any other clip that
    starts loud was cut out of a running sound, and the taper is what it needs.
    """
    ends, curve = _hann_ends(waveform, config)
    taper = len(ends) // 2
    lost = ends[:taper] ** 2 * (1 - curve[:taper] ** 2)
    eaten = lost.sum() > 0.05 * np.sum(waveform**2)
    room = eaten or abs(waveform[0]) < 0.01 * np.abs(waveform).max()
    return np.pad(waveform, (taper * int(room), 0))


def tfjp(waveform: np.ndarray, config: TFJPConfig = TFJPConfig(),
         keep_stages: bool = False) -> TFJPResult:
    """Make a clip ready for composition (paper §3.2, Alg. 1).

    Parameters
    ----------
    waveform : float array [n], 16 kHz, at least 0.1 s
    config : TFJPConfig
    keep_stages : bool
        Also keep the waveform after every operator of the first loop, for figures and listening.

    Returns
    -------
    TFJPResult; its waveform is float32, a multiple of 200 ms.

    Raises
    ------
    ValueError
        The clip is shorter than 0.1 s, silent, not mono or not finite.
    """
    waveform = _checked(waveform)
    stages = {"input": waveform} if keep_stages else {}

    def note(name, spectrum):
        if keep_stages and name not in stages:
            stages[name] = synthesise(spectrum)
        return spectrum

    loops, normal, settled = 0, is_normal(waveform, config), True
    if not normal:
        waveform = _with_room(waveform, config)
    while not normal and loops < config.max_loops:
        waveform, stable = _one_loop(waveform, config, note)
        loops, settled = loops + 1, settled and stable
        if keep_stages and loops == 1:
            stages["spec_smooth"] = waveform
        normal = is_normal(waveform, config)
    return TFJPResult(waveform, loops, normal, settled, stages)
