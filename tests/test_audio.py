"""Any sound in, one type out; and a streaming log-mel that equals the offline one."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from aikit.audio import (
    AudioError,
    MelStream,
    StreamResampler,
    load_audio,
    log_mel,
    save_audio,
    whisper_log_mel,
)
from aikit.config import AudioConfig

RNG = np.random.default_rng(0)
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "subtype"),
    [
        (".mp3", 44_100, 2, None),
        (".wav", 8_000, 1, "PCM_16"),
        (".wav", 16_000, 1, "DOUBLE"),
        (".wav", 22_050, 1, "PCM_U8"),
        (".flac", 48_000, 1, "PCM_24"),
        (".ogg", 32_000, 2, None),
    ],
)
def test_every_format_becomes_16k_mono_float32(tmp_path, suffix, rate, channels, subtype):
    one_second = np.interp(np.arange(rate) / rate, np.arange(44_100) / 44_100, TONE)
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, np.stack([one_second] * channels, 1), rate, subtype=subtype)
    waveform = load_audio(path)
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert abs(len(waveform) - 16_000) < 1_700  # mp3 pads
    peak_hz = np.abs(np.fft.rfft(waveform)).argmax() * 16_000 / len(waveform)
    assert abs(peak_hz - 440) < 3
    assert 0.45 < np.abs(waveform[2000:14000]).max() < 0.56


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float64, np.float16])
def test_arrays_of_any_type_have_the_same_level(kind):
    scale = {np.int16: 2**15, np.int32: 2.0**31, np.uint8: 128}.get(kind, 1)
    samples = (TONE * scale * 0.999 + (128 if kind == np.uint8 else 0)).astype(kind)
    assert np.abs(load_audio(samples, 44_100)).max() == pytest.approx(0.5, abs=0.02)


def test_channels_first_or_last_are_both_understood():
    stereo = np.stack([TONE, TONE])
    np.testing.assert_array_equal(load_audio(stereo, 44_100), load_audio(stereo.T, 44_100))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda p: p / "missing.wav", FileNotFoundError, "no such file"),
        (lambda p: _write(p / "empty.wav", b""), AudioError, "empty"),
        (lambda p: _write(p / "text.wav", b"this is no sound"), AudioError, "cannot be read"),
        (lambda p: p, AudioError, "folder"),
        (lambda p: io.BytesIO(b"no sound"), AudioError, "cannot be read"),
    ],
)
def test_unusable_files_say_why(tmp_path, make, error, says):
    with pytest.raises(error, match=says):
        load_audio(make(tmp_path))


@pytest.mark.parametrize(
    ("samples", "rate", "says"),
    [
        (np.array([0.0, np.nan]), 16_000, "1 NaN"),
        (np.array([0.0, np.inf]), 16_000, "infinite"),
        (np.zeros(0), 16_000, "empty"),
        (np.zeros(100), None, "rate"),
        (np.zeros(100), -1, "rate"),
        (np.zeros((2, 3, 4)), 16_000, "shape"),
        (np.zeros(100, bool), 16_000, "type"),
    ],
)
def test_unusable_arrays_say_why(samples, rate, says):
    with pytest.raises(AudioError, match=says):
        load_audio(samples, rate)


def _write(path, content):
    path.write_bytes(content)
    return path


def test_saved_audio_comes_back(tmp_path):
    waveform = load_audio(TONE, 44_100)
    save_audio(tmp_path / "a.flac", waveform)
    np.testing.assert_allclose(load_audio(tmp_path / "a.flac"), waveform, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=12), st.integers(0, 2**31))
def test_streamed_mel_equals_offline_for_any_split(sizes, seed):
    waveform = np.random.default_rng(seed).normal(size=sum(sizes)).astype(np.float32) * 0.1
    stream, parts, start = MelStream(), [], 0
    for size in sizes:
        parts.append(stream.push(waveform[start : start + size]))
        start += size
    parts.append(stream.flush())
    streamed = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(streamed, log_mel(waveform), atol=1e-5)
    assert streamed.shape == (64, sum(sizes) // 160)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=8), st.sampled_from([8_000, 44_100, 48_000]))
def test_streamed_resampling_does_not_depend_on_the_split(sizes, rate):
    samples = np.random.default_rng(sum(sizes)).normal(size=sum(sizes)).astype(np.float32) * 0.1
    whole = StreamResampler(rate).push(samples, last=True)
    resampler, parts, start = StreamResampler(rate), [], 0
    for i, size in enumerate(sizes):
        parts.append(resampler.push(samples[start : start + size], last=i == len(sizes) - 1))
        start += size
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_the_mel_is_causal():
    """What comes more than half a window later cannot change a frame."""
    waveform = RNG.normal(size=16_000).astype(np.float32) * 0.1
    changed = waveform.copy()
    changed[8_000:] = 0.9
    same = (8_000 - 200) // 160
    np.testing.assert_array_equal(log_mel(waveform)[:, :same], log_mel(changed)[:, :same])


def test_whisper_mel_matches_the_published_features(golden):
    for name in ("esc", "speech", "sample"):
        recorded = np.load(golden / f"features_{name}.npz")
        samples = np.pad(recorded["samples"], (0, -len(recorded["samples"]) % 6_400))
        ours = whisper_log_mel(samples, AudioConfig(n_mels=128))
        # the recording machine's FFT rounds otherwise: exact arithmetic is 2.9e-5 away from it
        np.testing.assert_allclose(ours, recorded["log_mel"], atol=4e-5)
