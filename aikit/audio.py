"""Any sound in, 16 kHz mono float32 out; and the log-mel that a streaming tower hears.

Knows files, arrays, sample rates and mel frames. Does not know chunks' meaning, tokens or models.
Nothing past this file sees another rate, type or channel count. Taught in notebook 00.

The log-mel is Whisper's with two changes that make it causal (paper §3.1; measured in notebook 03):
the clip is preceded by silence instead of being mirrored at its start, and the dynamic range is cut 8
decades below a *fixed* reference instead of the clip's own maximum. What is left of non-causality is
half a window: the frame at time t needs the 200 samples (12.5 ms) around t.
"""

from __future__ import annotations

from functools import cache
from numbers import Real
from pathlib import Path

import numpy as np

from aikit.config import AudioConfig

SAMPLE_RATE = 16_000  # Hz, everywhere past this file
REFERENCE_MAX = 1.5  # log10 mel energy of loud speech at full scale: the fixed reference
DYNAMIC_RANGE = 8.0  # decades kept below the reference
MAX_RATE = 768_000  # Hz; above it, a rate is a mistake


class AudioError(ValueError):
    """Audio that cannot be used; the message says why and what to do."""


def load_audio(source, rate: int | None = None) -> np.ndarray:
    """Read a file or an array into the kit's one audio type.

    Parameters
    ----------
    source : str, Path, file-like, or array
        A file that libsndfile reads (wav, flac, ogg, mp3, aiff ...), or samples of shape ``[n]``,
        ``[n, channels]`` or ``[channels, n]`` of any integer or float type.
    rate : int, optional
        Sampling rate in Hz; needed for arrays, ignored for files.

    Returns
    -------
    np.ndarray
        float32, mono, 16 kHz, in [-1, 1], shape ``[n_samples]``.

    Raises
    ------
    FileNotFoundError
        For a path that does not exist.
    AudioError
        For empty, unreadable or non-finite input, or an array without a rate.
    """
    if isinstance(source, (np.ndarray, list, tuple)) or hasattr(source, "__array__"):
        return to_waveform(np.asarray(source), rate)
    return to_waveform(*_read_file(source))


def _read_file(source) -> tuple[np.ndarray, int]:
    import soundfile

    name = getattr(source, "name", source)
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir():
            raise AudioError(f"{name} is a folder; give one audio file")
        if not path.exists():
            raise FileNotFoundError(f"no such file: {name}")
        if path.stat().st_size == 0:
            raise AudioError(f"{name} is empty (0 bytes); record or copy it again")
        source = str(path)
    try:
        return soundfile.read(source, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        reason = str(error).split(":")[-1].strip().rstrip(".")
        raise AudioError(
            f"{name} cannot be read as audio ({reason}); give a wav, flac, ogg or mp3 file"
        ) from error


def to_waveform(samples: np.ndarray, rate: int | None) -> np.ndarray:
    """Turn an array of samples into the kit's one audio type; see `load_audio`."""
    if rate is None:
        raise AudioError("an array needs its sampling rate: load_audio(samples, rate=48_000)")
    _check_rate(rate)
    mono = _to_mono(_to_float(np.asarray(samples)))
    if mono.size == 0:
        raise AudioError("the audio is empty (0 samples)")
    bad = np.count_nonzero(~np.isfinite(mono))
    if bad:
        raise AudioError(f"the audio has {bad} NaN or infinite samples; clean or drop them first")
    if rate != SAMPLE_RATE:
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
        if mono.size == 0:
            raise AudioError(f"too short: nothing is left at {SAMPLE_RATE} Hz")
    return np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)


def _check_rate(rate: float) -> None:
    if not isinstance(rate, Real) or not 0 < rate <= MAX_RATE:
        raise AudioError(f"a sampling rate of {rate} Hz makes no sense; expected 1 to {MAX_RATE}")


class StreamResampler:
    """Pieces at any rate in, 16 kHz mono out; any split of the same samples gives the same result."""

    def __init__(self, rate: int):
        import soxr

        _check_rate(rate)
        self.rate = rate
        self._soxr = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1)

    def push(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Take a block (``[n]`` or ``[n, channels]``, any type), return what is ready of 16 kHz audio.

        A block with NaN or infinite samples is refused whole, before anything has changed.
        """
        mono = mono_block(samples, self.rate)
        return mono if self._soxr is None else self._soxr.resample_chunk(mono, last)


def mono_block(samples: np.ndarray, rate: int) -> np.ndarray:
    """A block of a stream (``[n]`` or ``[n, channels]``, any type) as float32 mono at its own rate.

    Raises
    ------
    AudioError
        For NaN, infinite or misshapen samples, or a senseless rate: the block cannot be used.
    """
    _check_rate(rate)
    mono = _to_mono(_to_float(np.asarray(samples)))
    bad = np.count_nonzero(~np.isfinite(mono))
    if bad:
        raise AudioError(f"the block has {bad} NaN or infinite samples; it was not taken")
    return np.clip(mono, -1.0, 1.0).astype(np.float32)


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Integers are scaled by their range; floats are taken as they are."""
    kind = samples.dtype
    if kind == np.uint8:  # 8-bit wav is unsigned
        return (samples.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(kind, np.signedinteger):
        return (samples / -float(np.iinfo(kind).min)).astype(np.float32)
    if np.issubdtype(kind, np.floating):
        with np.errstate(over="ignore"):  # becomes infinite, and is refused as that
            return samples.astype(np.float32)
    raise AudioError(f"samples of type {kind} are not audio; expected integers or floats")


def _to_mono(samples: np.ndarray) -> np.ndarray:
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2:
        raise AudioError(f"audio of shape {samples.shape}; expected [n] or [n, channels]")
    channel_axis = int(np.argmin(samples.shape))  # a clip has more samples than channels
    if samples.shape[channel_axis] > 64:
        raise AudioError(f"audio of shape {samples.shape} has over 64 channels; expected [n]")
    return samples.mean(axis=channel_axis) if samples.size else samples.reshape(-1)


def save_audio(path: str | Path, waveform: np.ndarray) -> None:
    """Write a waveform as 16-bit audio; the format follows the suffix (flac, wav, ogg, mp3)."""
    import soundfile

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, SAMPLE_RATE)


@cache
def mel_filters(config: AudioConfig) -> np.ndarray:
    """Slaney mel filter bank, float32 ``[n_mels, n_fft // 2 + 1]`` (the one Whisper uses)."""
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(
        num_frequency_bins=config.n_fft // 2 + 1,
        num_mel_filters=config.n_mels,
        min_frequency=0.0,
        max_frequency=config.sample_rate / 2,
        sampling_rate=config.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    ).T.astype(np.float32)


@cache
def _hann(n: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)


def _mel_energy(padded: np.ndarray, config: AudioConfig) -> np.ndarray:
    """log10 mel energy of every whole window in ``padded``: ``[n_mels, n_frames]``."""
    windows = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)
    spectrum = np.fft.rfft(windows[:: config.hop_samples] * _hann(config.n_fft), axis=-1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.log10(np.maximum(mel_filters(config) @ power.T.astype(np.float32), 1e-10))


def _scale(log_energy: np.ndarray, reference_max: float) -> np.ndarray:
    floor = reference_max - DYNAMIC_RANGE
    return ((np.maximum(log_energy, floor) + 4.0) / 4.0).astype(np.float32)


def mel_of_silence() -> float:
    """The value that every mel bin has in digital silence."""
    return float(_scale(np.float32(-10.0), REFERENCE_MAX))


def log_mel(waveform: np.ndarray, config: AudioConfig = AudioConfig()) -> np.ndarray:
    """Causal log-mel of a finished waveform, equal to what `MelStream` gives piece by piece.

    Parameters
    ----------
    waveform : float32 ``[n_samples]``, 16 kHz
    config : AudioConfig

    Returns
    -------
    np.ndarray
        float32 ``[n_mels, n_samples // hop_samples]``; frame t is centred on sample ``t * hop``.
    """
    half = config.n_fft // 2
    n_frames = len(waveform) // config.hop_samples
    padded = np.pad(waveform, (half, half))
    return _scale(_mel_energy(padded, config)[:, :n_frames], REFERENCE_MAX)


def whisper_log_mel(waveform: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Whisper's own log-mel: mirrored edges, the clip's global maximum. Only for published offline use.

    Returns float32 ``[n_mels, n_samples // hop_samples]`` (paper §7 of the published code).
    """
    half = config.n_fft // 2
    energy = _mel_energy(np.pad(waveform, half, mode="reflect"), config)
    energy = energy[:, : len(waveform) // config.hop_samples]
    return _scale(energy, float(energy.max()))


class MelStream:
    """Log-mel of a stream that arrives in pieces of any size.

    Concatenating what `push` and `flush` return gives `log_mel` of the whole, for any split: each
    frame is computed once, from the same samples. A frame waits for the 200 samples after its centre,
    so a chunk of 6,400 samples is complete 40 samples (2.5 ms) after its end.
    """

    def __init__(self, config: AudioConfig = AudioConfig()):
        self.config = config
        self._pending = np.zeros(config.n_fft // 2, np.float32)  # silence before the stream
        self._received = 0
        self._emitted = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take float32 ``[n]`` samples, return the mel frames now complete, ``[n_mels, k]``."""
        self._received += len(samples)
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        hop, n_fft = self.config.hop_samples, self.config.n_fft
        n_frames = max(0, (len(self._pending) - n_fft) // hop + 1)
        return self._emit(n_frames)

    def flush(self) -> np.ndarray:
        """End the stream: return the last frames, as if silence followed."""
        self._pending = np.pad(self._pending, (0, self.config.n_fft // 2))
        return self._emit(self._received // self.config.hop_samples - self._emitted)

    def _emit(self, n_frames: int) -> np.ndarray:
        if n_frames <= 0:
            return np.zeros((self.config.n_mels, 0), np.float32)
        hop, n_fft = self.config.hop_samples, self.config.n_fft
        used = self._pending[: (n_frames - 1) * hop + n_fft]
        self._pending = self._pending[n_frames * hop :]
        self._emitted += n_frames
        return _scale(_mel_energy(used, self.config), REFERENCE_MAX)
