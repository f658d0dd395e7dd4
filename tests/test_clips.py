"""Clip libraries: what is drawn, what is skipped, and what stays in memory."""

import pickle
import warnings

import numpy as np
import pytest

from aikit.audio import save_audio
from aikit.synth import clips
from aikit.synth.clips import ClipError, ClipLibrary, Entry, esc_label
from aikit.synth.ontology import ontology


def tone() -> np.ndarray:
    return np.full(1600, 0.25, np.float32)


def broken() -> np.ndarray:
    raise ValueError("/home/me/x.flac cannot be read as audio")


def entry(name: str, load=tone, source: str = "test", label: str = "rain") -> Entry:
    return Entry(load, label, source, name, caption=name)


def test_a_clip_that_cannot_be_used_is_skipped_and_noted():
    library = ClipLibrary([entry("bad", broken), entry("good")])
    drawn = [library.draw("rain", np.random.default_rng(seed)).name for seed in range(20)]
    assert set(drawn) == {"good"}
    assert set(library.skipped) == {"test/bad: x.flac cannot be read as audio"}  # and no folders
    assert 3 < len(library.skipped) < 17  # a note for every time it was drawn


def test_skipping_does_not_depend_on_what_was_loaded_before():
    first = ClipLibrary([entry("bad", broken), entry("a"), entry("b")])
    names = [first.draw("rain", np.random.default_rng(seed)).name for seed in range(20)]
    second = ClipLibrary(first.entries)
    assert [
        second.draw("rain", np.random.default_rng(s)).name for s in reversed(range(20))
    ] == names[::-1]


def test_without_a_usable_clip_the_message_lists_what_there_is():
    library = ClipLibrary([entry("bad", broken), entry("x", label="siren")])
    with pytest.raises(
        ValueError, match="no clip of 'rain'  that can be used; there are: rain, siren"
    ):
        library.draw("rain", np.random.default_rng(0))
    with pytest.raises(ClipError, match="test/bad"):
        library.get(library.entries[0])


def test_a_bad_file_is_read_once(monkeypatch):
    calls = []

    def load():
        calls.append(1)
        raise OSError(13, "Permission denied", "x.wav")

    library = ClipLibrary([entry("bad", load)])
    for _ in range(3):
        with pytest.raises(ClipError, match="Permission denied"):
            library.get(library.entries[0])
    assert len(calls) == 1


def test_preloading_warns_of_bad_clips_and_goes_on():
    library = ClipLibrary([entry("bad", broken), entry("good")])
    with pytest.warns(UserWarning, match="1 clips cannot be used: test/bad"):
        library.preload()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClipLibrary([entry("good")]).preload()


def test_only_so_many_waveforms_stay_in_memory(monkeypatch):
    monkeypatch.setattr(clips, "KEPT", 3)
    library = ClipLibrary([entry(str(i)) for i in range(10)])
    library.preload()
    assert len(library._waveforms) == 3
    assert library.get(library.entries[0]).waveform[0] == 0.25


def test_libraries_of_the_same_names_keep_their_sounds(tmp_path):
    """Two folders with the same name hold other files under the same names."""
    for part, level in (("one", 0.1), ("two", 0.4)):
        save_audio(tmp_path / part / "train" / "rain" / "0.wav", np.full(1600, level, np.float32))
    one, two = (ClipLibrary.folder(tmp_path / part / "train") for part in ("one", "two"))
    levels = [library.get(library.entries[0]).waveform[0] for library in (one, two)]
    both = one + two
    assert [both.get(e).waveform[0] for e in both.entries] == levels
    assert levels == pytest.approx([0.1, 0.4], abs=1e-3)


def test_a_subset_shares_waveforms_and_notes():
    library = ClipLibrary([entry("bad", broken), entry("good")])
    subset = library.only(lambda e: e.name == "bad")
    with pytest.raises(ClipError):
        subset.get(subset.entries[0])
    assert len(library.skipped) == 1


def test_a_library_travels_to_other_processes():
    library = ClipLibrary.bundled(variants=1).only(lambda e: e.label in ("rain", "siren"))
    again = pickle.loads(pickle.dumps(library))
    made, there = (x.draw("siren", np.random.default_rng(0)).waveform for x in (library, again))
    np.testing.assert_array_equal(made, there)


def test_esc_names_become_the_kits():
    assert esc_label("006 - Person sneeze") == esc_label("sneezing") == "sneeze"
    known = {"crying_baby", "dog", "thunderstorm", "crackling_fire", "door_wood_knock", "engine"}
    assert all(esc_label(name) in ontology() for name in known)


def test_real_esc10_and_digits(shared_data):
    esc, digits = ClipLibrary.esc10(shared_data / "esc10"), ClipLibrary.fsdd(shared_data / "fsdd")
    assert len(esc.labels) == 10 and set(esc.labels) <= set(ontology())
    folds = [ClipLibrary.esc10(shared_data / "esc10", (fold,)).entries for fold in (1, 2, 3, 4)]
    assert sum(map(len, folds)) == len(esc) and all(folds)
    clip = digits.draw("speech", np.random.default_rng(0), "7")
    assert clip.text == "7" and clip.language == "en" and 0.1 < clip.duration_s < 2
