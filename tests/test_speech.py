"""Speech: real words in real voices, the same for ever, from any thread or process."""

import multiprocessing
import string
import sys
import threading
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aikit.synth import speech
from aikit.synth.speech import (
    EMOTIONS,
    HELD_OUT_VOICES,
    LANGUAGES,
    PHONEMES,
    TRAIN_VOICES,
    VOICES,
    Voice,
    phonemes,
    speak,
    speak_words,
    speakable,
)

TEXTS = {"en": "the kettle is ready", "en-gb": "the kettle is ready", "es": "el agua ya está lista",
         "cmn": "水已经开了"}
quick = settings(max_examples=40, deadline=None)


def job(index: int) -> bytes:
    return speak("one two three", VOICES[index % len(VOICES)], list(TEXTS)[index % 4]).tobytes()


def median_pitch(waveform: np.ndarray) -> float:
    """Hz, by autocorrelation of the voiced 64 ms windows."""
    pitches = []
    for start in range(0, len(waveform) - 1024, 512):
        window = waveform[start:start + 1024]
        lags = np.correlate(window, window, "full")[1023:]
        lag = 32 + int(lags[32:250].argmax())
        if lags[lag] > 0.5 * lags[0] > 0.5:
            pitches.append(16_000 / lag)
    return float(np.median(pitches))


def test_the_pool_is_wide_and_its_held_out_throats_are_unheard():
    assert len(VOICES) >= 24 and len({voice.name for voice in VOICES}) == len(VOICES)
    assert not {v.variant for v in TRAIN_VOICES} & {v.variant for v in HELD_OUT_VOICES}
    sounds = {speak("good morning", voice).tobytes() for voice in VOICES}
    assert len(sounds) == len(VOICES)
    pitches = [median_pitch(speak("good morning to you all", voice)) for voice in VOICES[::4]]
    assert max(pitches) > 1.7 * min(pitches)                # low and high speakers


@pytest.mark.parametrize("language", TEXTS)
def test_contract_of_a_waveform(language):
    for voice in VOICES[::13]:
        waveform = speak(TEXTS[language], voice, language)
        assert waveform.dtype == np.float32 and waveform.ndim == 1
        assert 0.5 < len(waveform) / 16_000 < 4 and np.abs(waveform).max() <= 0.951
        assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.08, rel=0.15)
        loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() * 0.0033)
        assert loud[0] <= 330 and len(waveform) - loud[-1] <= 330       # 20 ms at each end


def test_text_is_really_spoken():
    lengths = [len(speak(" ".join(["seven"] * n), VOICES[0])) for n in (1, 2, 4, 8)]
    assert all(1.4 < b / a < 2.4 for a, b in pairwise(lengths))
    spoken = {language: speak("animal", VOICES[0], language).tobytes() for language in TEXTS}
    assert len(set(spoken.values())) == 4
    british, american = (speak("bath", VOICES[0], accent) for accent in ("en-gb", "en-us"))
    assert not np.array_equal(british, american)


def test_emotion_is_prosody():
    said = {e: speak("please leave the building now", VOICES[4], emotion=e) for e in EMOTIONS}
    assert len({waveform.tobytes() for waveform in said.values()}) == len(EMOTIONS)
    assert len(said["urgent"]) < len(said["normal"]) < len(said["sad"])
    rms = {e: np.sqrt(np.mean(waveform**2)) for e, waveform in said.items()}
    assert rms["sad"] < rms["normal"] < rms["angry"]
    assert median_pitch(said["sad"]) < median_pitch(said["normal"]) < median_pitch(said["surprise"])


def test_same_words_same_samples_from_any_thread_or_process():
    expected = [job(index) for index in range(12)]
    found = {}

    def worker(start):
        found.update({index: job(index) for index in range(start, 12, 3)})

    threads = [threading.Thread(target=worker, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    if sys.platform != "win32":                             # a fork while threads are speaking
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.map_async(job, range(12)).get(timeout=20) == expected
    for thread in threads:
        thread.join(timeout=20)
    assert [found[index] for index in range(12)] == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(job, range(4)).get(timeout=20) == expected[:4]


@pytest.mark.parametrize("language, text, words", [
    ("en", "Please don't stop, of the twenty-three.", "Please|don't|stop|of the|twenty-three"),
    ("es", "el agua ya está lista", "el|agua|ya|está|lista"), ("zh", "水已经开了。", "水|已 经|开|了"),
])
def test_words_and_when_they_are_said(language, text, words):
    waveform, found = speak_words(text, VOICES[0], language)
    assert [w.word for w in found] == words.split("|")
    ends = [0.0, *(w.end_s for w in found)]
    assert ends == sorted(ends) and ends[-1] == pytest.approx(len(waveform) / 16_000, abs=0.01)
    assert all(w.start_s < w.end_s <= nxt.start_s for w, nxt in pairwise(found))
    for w in found:                                         # each of them sounds
        part = waveform[int(w.start_s * 16_000):int(w.end_s * 16_000)]
        assert np.sqrt(np.mean(part**2)) > 0.1 * np.sqrt(np.mean(waveform**2))


def test_phonemes_are_targets():
    assert phonemes("hello world") == ["h", "ə", "l", "oʊ", "w", "ɜ", "l", "d"]
    assert phonemes("perro", "es") == ["p", "e", "r", "o"]
    assert phonemes("早上好", "zh") == ["ts", "ɑu", "ʂ", "ɑ", "ŋ", "χ", "ɑu"]
    assert phonemes("bath", "en-gb") != phonemes("bath", "es")
    assert list(PHONEMES) == sorted(set(PHONEMES)) and 80 <= len(PHONEMES) <= 128
    assert not any(mark in symbol for symbol in PHONEMES for mark in "ˈˌː͡_ 0123456789")


def test_phonemes_of_a_clause_chain():
    first, second = phonemes("turn it off."), phonemes("open the door!")
    assert phonemes("turn it off. Open the door!") == first + second
    phonemes("turn it off.").append("x")                    # a caller may change its own list
    assert phonemes("turn it off.") == first


@quick
@given(st.text(min_size=1, max_size=40), st.sampled_from(sorted(LANGUAGES)))
def test_any_text_gives_known_symbols_or_a_clear_error(text, language):
    if any(c.isalnum() for c in text):
        assert set(phonemes(text, language)) <= set(PHONEMES)
    else:
        with pytest.raises(ValueError, match="at least one letter"):
            phonemes(text, language)


def test_the_inventory_covers_its_languages():
    seen = Counter(s for language in TEXTS for s in phonemes(TEXTS[language], language))
    assert len(seen) > 25 and set(seen) <= set(PHONEMES)
    assert {"ɨ", "tɕʰ", "y"} <= set(phonemes("四七女", "cmn"))


@pytest.mark.parametrize("language, written, spoken", [
    ("en", "**Boil** at 100 °C, e.g. for 3-5 min.",
     "Boil at one hundred degrees Celsius, for example for three to five minutes."),
    ("en", "50% & $1,250", "fifty percent and one thousand, two hundred and fifty dollars"),
    ("en", "See [the page](https://a.b/c) at 10:30 on the 21st",
     "See the page at ten thirty on the twenty-first"),
    ("en", "# Fire\n- Leave `now`\n- Call 112", "Fire. Leave now. Call one hundred and twelve"),
    ("en", "room 007 at -2.5 😀", "room zero zero seven at minus two point five"),
    ("en", "It is 3:05 pm, not 7:00", "It is three oh five P M, not seven"),
    ("en", "1 kg for $3.50, or $1, or £2.00, or $5 million",
     "one kilogram for three dollars fifty, or one dollar, or two pounds, or five million dollars"),
    ("en", "No. 5: 1/2 cup at 10 m/s, 3 h, 10 m²",
     "number five: one half cup at ten metres per second, three hours, ten square metres"),
    ("en", "No, Prof. Lee left at 07:30 a.m.", "No, professor Lee left at seven thirty A M"),
    ("es", "1 km a las 3:05, $3,50, Ud.",
     "un kilómetro a las tres cero cinco, tres dólares cincuenta, usted"),
    ("zh", "2024年 3:05 2个 1/2", "二零二四年三点零五分两个二分之一"),
    ("es", "El 1º, 2,5 km y 50 %", "El primero, dos coma cinco kilómetros y cincuenta por ciento"),
    ("zh", "**水** 100°C，50%", "水一百摄氏度，百分之五十"),
    ("zh", "10, 105, 1205, 10015, 20000", "十, 一百零五, 一千二百零五, 一万零一十五, 二万"),
])
def test_speakable(language, written, spoken):
    assert speakable(written, language) == spoken


@quick
@given(st.text(alphabet=string.printable + "早上好ñé°€–—😀", max_size=60),
       st.sampled_from(["en", "es", "zh"]))
def test_speakable_leaves_no_symbols_and_settles(text, language):
    spoken = speakable(text, language)
    assert not set(spoken) & set("*_`#[]<>|%&$°€=+@/\\{}~^\n") and not any(map(str.isdigit, spoken))
    assert speakable(spoken, language) == spoken


def test_errors_say_what_to_do(monkeypatch):
    for text in ("", "  ", "...", "\0"):
        with pytest.raises(ValueError, match="at least one letter"):
            speak(text, VOICES[0])
    for wrong, match in (((VOICES[0], "xx"), "unknown language 'xx': use one of en"),
                         ((Voice("me", "nobody"),), "unknown voice variant"),
                         ((VOICES[0], "en", "bored"), "unknown emotion 'bored'.*urgent")):
        with pytest.raises(ValueError, match=match):
            speak("hello", *wrong)
    with pytest.raises(ValueError, match="unknown language"):
        speakable("hello", "xx")
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match="pip install espeakng-loader"):
        speak("hello", VOICES[0])
    assert speech.VOICES                                    # the module itself needs no engine
