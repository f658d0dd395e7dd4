"""Procedural sounds and their ontology: complete, well-formed, repeatable, and told apart."""

import numpy as np
import pytest

from aikit.synth import waves
from aikit.synth.ontology import labels, ontology, read_ontology
from aikit.synth.sounds import SOUNDS, make_sound

SEEDS = 6
# Leave-one-out accuracy of the nearest centroid on the statistics below: 0.93 when written
# (chance is 1/62 = 0.016). The bound stands a little under it.
DISTINCT = 0.88


@pytest.fixture(scope="module")
def made() -> dict[str, list[np.ndarray]]:
    return {label: [make_sound(label, seed) for seed in range(SEEDS)] for label in SOUNDS}


def test_every_label_has_a_sound_and_an_entry():
    assert set(SOUNDS) == set(ontology())
    assert len(SOUNDS) >= 30


@pytest.mark.parametrize("label", SOUNDS)
def test_waveform_is_well_formed(made, label):
    for x in made[label]:
        assert x.dtype == np.float32 and x.ndim == 1
        assert np.isfinite(x).all()
        assert 0.1 < np.abs(x).max() <= 0.9 + 1e-6
        assert 0.3 <= len(x) / 16_000 <= 6
        assert np.sqrt(np.mean(x**2)) > 1e-3


@pytest.mark.parametrize("label", SOUNDS)
def test_same_seed_same_bytes_other_seed_other_sound(made, label):
    assert make_sound(label, 0).tobytes() == made[label][0].tobytes()
    assert len({x.tobytes() for x in made[label]}) == SEEDS


def test_bare_event_is_at_full_level():
    x = make_sound("dog_bark", 3, randomise=False)
    assert np.abs(x).max() == pytest.approx(0.9, abs=1e-4)
    assert x.tobytes() == make_sound("dog_bark", 3, randomise=False).tobytes()


def test_held_out_ranges_do_not_meet_training():
    rng = np.random.default_rng(0)
    train = [waves.draw_variation(rng) for _ in range(2000)]
    held = [waves.draw_variation(rng, held_out=True) for _ in range(2000)]
    # in steps of 1/50, as `vary` plays them
    assert not {round(50 * v.speed) for v in train} & {round(50 * v.speed) for v in held}
    assert max(v.reverb_s for v in train) < min(v.reverb_s for v in held)
    assert min(v.speed for v in held) < 0.92 and max(v.speed for v in held) > 1.08
    assert make_sound("rain", 1).tobytes() != make_sound("rain", 1, held_out=True).tobytes()


def test_wrong_calls_say_what_is_known():
    with pytest.raises(ValueError, match="known are: .*dog_bark"):
        make_sound("unicorn", 0)
    with pytest.raises(ValueError, match="randomise"):
        make_sound("rain", 0, randomise=False, held_out=True)


def test_modes_are_damped_sines():
    t = np.arange(800) / 16_000
    expected = np.exp(-t / 0.02) * np.sin(2 * np.pi * 440 * t) * 0.5
    np.testing.assert_allclose(waves.modes(440, 0.02, 0.5)[:800], expected, atol=1e-9)


def statistics(x: np.ndarray) -> np.ndarray:
    """Colour, variability, rhythm and length of a sound, from 32 log bands at 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, 512), 512)[::160] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    edges = np.unique(np.geomspace(3, 512, 33).astype(int))
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-6 * power.max())
    loudness = bands.mean(1) - bands.mean()
    rhythm = np.abs(np.fft.rfft(loudness, 2048))
    rhythm = np.add.reduceat(rhythm, np.geomspace(8, 600, 13).astype(int))
    sounding = bands[loudness > np.percentile(loudness, 30)]
    colour = sounding.mean(0) - sounding.mean()
    change = np.abs(np.diff(bands, axis=0)).mean(0)
    return np.concatenate([colour, sounding.std(0), change, np.log(rhythm + 1), [len(x) / 16_000]])


def nearest_centroid_accuracy(features: np.ndarray) -> tuple[float, np.ndarray]:
    """Leave-one-out over [labels, seeds, statistics]: the share found, and the guesses."""
    count, seeds, _ = features.shape
    features = (features - features.mean((0, 1))) / (features.std(1).mean(0) + 1e-3)
    guesses = np.empty((count, seeds), int)
    for k in range(seeds):
        centroids = np.delete(features, k, axis=1).mean(1)
        distance = ((features[:, k, None] - centroids[None]) ** 2).sum(-1)
        guesses[:, k] = distance.argmin(1)
    return float(np.mean(guesses == np.arange(count)[:, None])), guesses


def test_labels_are_told_apart_by_simple_statistics(made):
    accuracy, _ = nearest_centroid_accuracy(
        np.array([[statistics(x) for x in made[label]] for label in SOUNDS]))
    assert accuracy >= DISTINCT, accuracy


# --- the ontology --------------------------------------------------------------------------------

def test_ontology_covers_the_benchmark():
    assert {s.domain for s in ontology().values()} == {
        "Human Sound Signals", "Nature & Environment", "Equipment", "Daily Living Sounds",
        "Traffic", "Music"}
    reasons = {s.criterion for s in ontology().values()}
    assert reasons == {"", "body", "weather", "equipment", "safety"}
    assert set(labels("respond")) | set(labels("ignore")) == set(SOUNDS)
    assert "smoke_alarm" in labels("respond", domain="Equipment", place="kitchen")


@pytest.mark.parametrize("sound", ontology().values(), ids=lambda s: s.label)
def test_entry_can_be_spoken_and_searched(sound):
    texts = (sound.caption, sound.name, sound.plural, sound.answer, *sound.replies)
    assert all(text.isascii() and text == text.strip() for text in texts)
    assert 4 <= len(sound.caption.split()) <= 10
    assert 2 <= len(sound.places) <= 4 and sound.tags
    assert all(len(reply.split()) <= 12 for reply in sound.replies)
    assert len(sound.replies) == (3 if sound.policy == "respond" else 0)


def test_replies_are_all_different():
    replies = [reply for s in ontology().values() for reply in s.replies]
    assert len(set(replies)) == len(replies)


GOOD = """
gong: {caption: a big gong struck once, name: gong, plural: gongs, domain: Music,
  sub_domain: Artistic, policy: ignore, emotion: normal, places: [stage, street],
  role: [foreground], tags: [gong], answer: That was a gong.}
"""


def test_a_good_entry_is_read():
    assert read_ontology(GOOD)["gong"].places == ("stage", "street")


@pytest.mark.parametrize("old, new, message", [
    ("tags: [gong]", "tag: [gong]", "gong: missing .*tags.* unknown .*tag"),
    ("policy: ignore", "policy: respond", "gong: replies"),
    ("policy: ignore", "policy: maybe", "gong: policy"),
    ("role: [foreground]", "role: [solo]", "gong: role"),
])
def test_a_bad_entry_is_named(old, new, message):
    with pytest.raises(ValueError, match=message):
        read_ontology(GOOD.replace(old, new))
