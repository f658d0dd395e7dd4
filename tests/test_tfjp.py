"""TFJP: what a clip must be afterwards, on procedural sounds, random ones and real recordings."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from aikit.synth.sounds import SOUNDS, make_sound
from aikit.synth.tfjp import (
    TFJPConfig,
    analyse,
    boundary_norm,
    core_locate,
    denoise,
    is_normal,
    noise_profile,
    silence_cut,
    spec_smooth,
    synthesise,
    tfjp,
)

ESC10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "esc10"
GRID = 3200                                                 # samples, 200 ms
quick = settings(max_examples=60, deadline=None)


def energy_db(waveform):
    return 10 * np.log10(np.sum(np.square(waveform, dtype=np.float64)) + 1e-12)


def longest_silence(waveform, gate_db=-50):
    """Seconds under the gate, measured without a spectrum: 25 ms RMS under the loudest window."""
    rms = np.sqrt((sliding_window_view(waveform, 400)[::160] ** 2).mean(axis=1))
    edges = np.flatnonzero(np.diff(np.r_[0, rms < rms.max() * 10 ** (gate_db / 20), 0]))
    return max(np.diff(edges.reshape(-1, 2))[:, 0], default=0) / 100


def flux_at(waveform, at):
    """Largest spectral flux of the 16 ms windows that touch a sample."""
    part = waveform[max(at - 800, 0):at + 800]
    centre = at - max(at - 800, 0)
    spectra = np.abs(np.fft.rfft(sliding_window_view(part, 256)[::64] * np.hanning(256)))
    flux = np.maximum(np.diff(spectra, axis=0), 0).sum(axis=1)
    middle = (np.arange(len(flux)) + 1) * 64 + 128
    return flux[np.abs(middle - centre) <= 192].max()


def assert_normal(result):
    waveform = result.waveform
    assert waveform.dtype == np.float32 and np.isfinite(waveform).all()
    assert len(waveform) % GRID == 0 and len(waveform) > 0 and waveform[0] == 0
    assert longest_silence(waveform) <= 0.32                # one window of tolerance
    again = tfjp(waveform)
    assert again.loops == 0 and np.array_equal(again.waveform, waveform)


def beep(seconds, pitch=800.0, level=0.5):
    t = np.arange(round(seconds * 16_000)) / 16_000
    return (level * np.sin(2 * np.pi * pitch * t) * np.minimum(1, 200 * (t[-1] - t))
            * np.minimum(1, 200 * t)).astype(np.float32)


def gap(seconds):
    return np.zeros(round(seconds * 16_000), np.float32)


def noise(kind, count, rng):
    white = rng.standard_normal(count)
    if kind == "hum":
        return np.sin(2 * np.pi * 100 * np.arange(count) / 16_000) * 1.4 + 0.1 * white
    if kind == "pink":
        spectrum, hz = np.fft.rfft(white), np.fft.rfftfreq(count, 1 / 16_000)
        white = np.fft.irfft(np.where(hz < 30, 0, spectrum / np.sqrt(np.maximum(hz, 1))), count)
    return white / np.sqrt(np.mean(white**2))


@pytest.fixture(scope="module")
def clips():
    return [make_sound(label, seed) for label in sorted(SOUNDS) for seed in range(3)]


@pytest.fixture(scope="module")
def results(clips):
    return [tfjp(clip) for clip in clips]


@quick
@given(st.integers(1600, 20_000), st.integers(0, 2**32 - 1))
def test_the_shared_transform_has_an_inverse(count, seed):
    waveform = np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)
    back = synthesise(analyse(waveform))
    assert len(back) == -(-count // 160) * 160
    np.testing.assert_allclose(back[:count], waveform, atol=2e-6)
    assert np.abs(back[count:]).max(initial=0) < 2e-6


def test_every_procedural_sound_becomes_normal(results):
    for result in results:
        assert result.converged
        assert_normal(result)
    assert sum(result.loops == 3 for result in results) <= 0.02 * len(results)


def test_the_event_keeps_its_energy(clips, results):
    change = [energy_db(result.waveform) - energy_db(clip)
              for clip, result in zip(clips, results, strict=True)]
    assert np.mean(np.abs(change) < 1.5) > 0.99 and min(change) > -2


@st.composite
def odd_clips(draw):
    """Tones, noise, clicks, hums and silences in any order and at any level, from 0.1 s."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["tone", "noise", "click", "gap", "zero", "decay", "clipped"]))
        count, level = draw(st.integers(800, 16_000)), 10 ** draw(st.floats(-3, 0))
        t = np.arange(count) / 16_000
        parts.append(level * {"tone": np.sin(2 * np.pi * rng.uniform(50, 7000) * t),
                              "noise": rng.uniform(-1, 1, count), "click": (t < 0.002) * 1.0,
                              "gap": 1e-3 * rng.uniform(-1, 1, count), "zero": 0 * t,
                              "decay": rng.uniform(-1, 1, count) * np.exp(-8 * t),
                              "clipped": rng.choice([-1.0, 1.0], count) / level}[kind])
    parts.insert(draw(st.integers(0, len(parts))), beep(0.1))
    return np.concatenate(parts).astype(np.float32)


@quick
@given(odd_clips())
def test_any_clip_becomes_normal_and_stays_so(clip):
    before = clip.copy()
    result = tfjp(clip)
    assert np.array_equal(clip, before)                     # the input is not written to
    assert result.converged and result.loops <= 3
    assert_normal(result)


def test_a_long_silence_is_shortened_and_both_sides_live():
    clip = np.r_[gap(0.7), beep(0.5), gap(1.5), beep(0.5, 1500), gap(0.9)]
    result = tfjp(clip)
    assert 1.2 <= len(result.waveform) / 16_000 <= 1.6
    assert energy_db(result.waveform) == pytest.approx(energy_db(clip), abs=0.1)
    short = np.r_[beep(0.5), gap(0.25), beep(0.5)]          # under τ: the gap stays
    assert len(silence_cut(analyse(short))) == len(analyse(short))


def test_a_steady_sound_is_not_taken_for_silence_or_noise():
    rng = np.random.default_rng(0)
    for kind in ("white", "pink", "hum"):
        clip = (0.1 * noise(kind, 48_000, rng)).astype(np.float32)
        waveform = tfjp(clip).waveform
        assert len(waveform) == 48_000
        np.testing.assert_allclose(waveform[320:-320], clip[320:-320], atol=1e-5)


def test_the_core_is_the_event_and_the_grid_leaves_room():
    murmur = 0.001 * np.random.default_rng(2).standard_normal(24_000).astype(np.float32)
    clip = np.r_[murmur, beep(0.75), murmur]
    start, end = core_locate(analyse(clip))
    assert start == pytest.approx(150, abs=3) and end == pytest.approx(225, abs=3)
    on_grid = synthesise(boundary_norm(analyse(clip), (start, end)))
    assert len(on_grid) % GRID == 0 and len(on_grid) >= 12_000 + 2 * 320
    assert energy_db(on_grid) == pytest.approx(energy_db(beep(0.75)), abs=0.05)


def test_stages_are_kept_on_request_only():
    clip = np.r_[gap(1), beep(0.5), gap(1)] + 0.003 * noise("white", 40_000,
                                                            np.random.default_rng(4))
    stages = tfjp(clip, keep_stages=True).stages
    assert list(stages) == ["input", "silence_cut", "denoise", "core_locate", "boundary_norm",
                            "spec_smooth"]
    assert len(stages["core_locate"]) < len(stages["denoise"])
    assert stages["spec_smooth"][0] == 0 and tfjp(clip).stages == {}
    assert np.array_equal(tfjp(clip, keep_stages=True).waveform, tfjp(clip).waveform)


def test_the_constants_do_something():
    clip = np.r_[beep(0.4), gap(0.8), beep(0.4)]
    assert len(tfjp(clip, TFJPConfig(silence_ms=1000)).waveform) > len(tfjp(clip).waveform)
    assert len(tfjp(clip, TFJPConfig(grid_ms=500)).waveform) % 8000 == 0
    noisy = np.r_[gap(1), beep(1), gap(1)] + 0.02 * noise("white", 48_000, np.random.default_rng(5))
    profile = noise_profile(analyse(noisy.astype(np.float32)))
    half = denoise(analyse(noisy), profile, replace(TFJPConfig(), gamma=0.2))
    full = denoise(analyse(noisy), profile)
    assert energy_db(synthesise(full)[:14_000]) < energy_db(synthesise(half)[:14_000]) - 3
    assert not is_normal(clip) and is_normal(spec_smooth(np.ones(GRID, np.float32)))


@pytest.mark.parametrize("clip, match", [
    (np.ones(800, np.float32), "at least 0.1 s, got 0.050 s"), (gap(0), "at least 0.1 s"),
    (gap(1), "only silence"), (np.full(16_000, np.nan), "finite mono"),
    (np.ones((2, 16_000), np.float32), r"shape \(2, 16000\)"),
])
def test_clips_that_cannot_be_used_say_why(clip, match):
    with pytest.raises(ValueError, match=match):
        tfjp(clip)


def test_five_seconds_take_milliseconds():
    clip = np.concatenate([make_sound("dog_bark", 1), gap(1), make_sound("rain", 1)] * 2)
    clip, times = np.resize(clip, 80_000), []
    for _ in range(5):
        start = time.process_time()
        tfjp(clip)
        times.append(time.process_time() - start)
    assert min(times) < 0.05                                # of CPU time; 6 ms measured


def noise_down_db(label, kind, snr_db, rng):
    """How far noise sinks beside an event with steady noise under it, and how the event changes."""
    event = make_sound(label, 5)
    hiss = noise(kind, len(event) + 32_000, rng) * np.sqrt(np.mean(event**2))
    hiss = (hiss * 10 ** (-snr_db / 20)).astype(np.float32)
    spectrum = analyse(np.r_[gap(1), event, gap(1)] + hiss)
    cleaned = synthesise(denoise(spectrum, noise_profile(spectrum)))
    middle, quiet = slice(16_000, 16_000 + len(event)), slice(2_000, 14_000)
    return (energy_db(hiss[quiet]) - energy_db(cleaned[quiet]),
            energy_db(cleaned[middle]) - energy_db(event))


def junction_gains(clips, results, count=600):
    """Spectral flux at junctions, plain over ours in dB; silence beside silence cannot click."""
    rng, gains = np.random.default_rng(3), []
    for a, b in rng.integers(len(clips), size=(count, 2)):
        plain = flux_at(np.r_[clips[a], clips[b]], len(clips[a]))
        ours = flux_at(np.r_[results[a].waveform, results[b].waveform], len(results[a].waveform))
        if plain > 0.05:
            gains.append(20 * np.log10(plain / max(ours, 1e-6)))
    return np.array(gains)


@pytest.fixture(scope="module")
def noise_figures():
    rng = np.random.default_rng(1)
    return np.array([noise_down_db(label, kind, snr_db, rng) for label in sorted(SOUNDS)
                     for kind in ("white", "pink", "hum") for snr_db in (10, 20)]).T


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.skipif(
    not ESC10.is_dir(), reason="ESC-10 is not beside the project (../shared/data)"))])
def test_table_of_what_tfjp_does(clips, noise_figures, real):
    """Without and with 320 recordings; `pytest tests/test_tfjp.py -k table -s` prints both tables."""
    from aikit.audio import load_audio
    recordings = sorted(ESC10.rglob("*.ogg")) if real else []
    clips, (down, change) = clips + [load_audio(path) for path in recordings], noise_figures
    results = [tfjp(clip) for clip in clips]
    again = [tfjp(result.waveform) for result in results]
    long_before, long_after = (np.mean([longest_silence(w) > 0.32 for w in waveforms]) for waveforms
                               in (clips, [r.waveform for r in results]))
    kept = np.array([energy_db(r.waveform) - energy_db(c)
                     for c, r in zip(clips, results, strict=True)])
    gains = junction_gains(clips, results)
    table = {
        "clips": len(clips), "of these recordings": len(recordings),
        "K = 3 loops reached": np.mean([r.loops == 3 for r in results]),
        "K = 3 passes (cut, denoise) and not settled": np.mean([not r.settled for r in results]),
        "still not normal after K": np.mean([not r.converged for r in results]),
        "with a silence over 300 ms, before": long_before,
        "with a silence over 300 ms, after": long_after,
        "length on the 200 ms grid": np.mean([len(r.waveform) % GRID == 0 for r in results]),
        "second run changes nothing": np.mean([r.loops == 0 and np.array_equal(
            r.waveform, first.waveform) for r, first in zip(again, results, strict=True)]),
        "clip's energy changed by < 1.5 dB": np.mean(np.abs(kept) < 1.5),
        "mixtures with steady noise at 10 and 20 dB SNR": len(down),
        "noise down, least (dB)": down.min(), "noise down, median (dB)": np.median(down),
        "event changed, most (dB)": np.abs(change).max(),
        "junctions": len(gains), "junction flux below plain": np.mean(gains > 0),
        "junction flux down, median (dB)": np.median(gains),
    }
    print("\n" + "\n".join(f"{name:<48}{value:10.3f}" for name, value in table.items()))
    assert table["clips"] >= (500 if real else 180) and table["junctions"] >= 300
    assert np.mean([r.loops == 3 or not r.settled for r in results]) < 0.02
    assert table["still not normal after K"] == 0
    assert long_after == 0 and long_before > (0.15 if real else 0)
    assert table["length on the 200 ms grid"] == 1
    assert table["second run changes nothing"] == 1
    assert down.min() >= 10 and np.abs(change).max() < 1.5
    assert table["junction flux below plain"] >= 0.95
    assert table["clip's energy changed by < 1.5 dB"] > 0.9     # fire crackles on a bed of hiss
