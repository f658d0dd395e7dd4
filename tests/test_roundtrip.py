"""The round trip: clean renderings pass, faulty ones do not, and one bad line drops its dialogue."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from aikit.synth import roundtrip
from aikit.synth.roundtrip import (
    RETRIES,
    DialogueDropped,
    Line,
    check_dialogue,
    checked_speak,
    compare,
    rerender,
    take,
    whisper,
    word_error_rate,
)
from aikit.synth.script import words
from aikit.synth.speech import EMOTIONS, VOICES, speak

N_CLEAN, N_FAULTY = 208, 104  # every voice four times, and twice


SENTENCES = {
    "en": "she told me about the holiday|we need milk and bread|the train leaves in ten minutes|I left my "
    "umbrella on the bus|it is cold outside today|please turn the music down|what was that sound|the garden "
    "looks lovely this summer|how many times did it ring|wake me when the kettle boils",
    "es": "dónde está la estación|el tren llega tarde|la puerta está abierta|tengo mucha hambre|el agua está "
    "muy fría|quisiera un café con leche|no entiendo nada|hasta mañana por la mañana",
    "zh": "水已经开了|你今天好吗|我想喝一杯茶|外面下雨了|请把门打开|火车站在哪里|明天早上见|他们都很高兴",
}


def texts(rng, count):
    """(text, language): sentences, and random words of English and Spanish."""
    said = [(text, language) for language in SENTENCES for text in SENTENCES[language].split("|")]
    for language in ("en", "es") * 20:
        said.append((" ".join(rng.choice(words(language), rng.integers(3, 8))), language))
    return [said[i] for i in rng.integers(len(said), size=count)]


def passes(waveform, text, voice, language):
    heard = rerender(text, voice)(waveform.astype(np.float32), language)
    return word_error_rate(text, heard, language) <= roundtrip.MAX_WER


def with_noise(waveform, rng, snr_db):
    hiss = rng.standard_normal(len(waveform))
    return waveform + hiss * np.sqrt(np.mean(waveform**2)) * 10 ** (-snr_db / 20)


def another_word(text, language, rng):
    tokens = list(text) if language == "zh" else text.split()
    tokens[rng.integers(len(tokens))] = {"en": "umbrella", "es": "paraguas", "zh": "山"}[language]
    return ("" if language == "zh" else " ").join(tokens)


FAULTS = {  # what is heard instead of (text, voice, language, clean rendering)
    "wrong language": lambda t, v, k, w, rng: speak(t, v, "en" if k != "en" else "es"),
    "another sentence": lambda t, v, k, w, rng: speak(
        {"en": "where did they put it", "es": "no hay nadie aquí", "zh": "我们去哪里"}[k], v, k),
    "one word wrong": lambda t, v, k, w, rng: speak(another_word(t, k, rng), v, k),
    "last 40 % cut off": lambda t, v, k, w, rng: w[: int(0.6 * len(w))],
    "first 40 % cut off": lambda t, v, k, w, rng: w[int(0.4 * len(w)) :],
    "a third silenced": lambda t, v, k, w, rng: np.r_[
        w[: len(w) // 3], np.zeros(len(w) // 3), w[2 * (len(w) // 3) :]],
    "white noise, 5 dB SNR": lambda t, v, k, w, rng: with_noise(w, rng, 5),
    "white noise, 0 dB SNR": lambda t, v, k, w, rng: with_noise(w, rng, 0),
    "silence": lambda t, v, k, w, rng: np.zeros_like(w),
}  # fmt: skip


def test_table_of_what_is_caught():
    """`pytest tests/test_roundtrip.py -k table -s` prints it."""
    rng, emotions = np.random.default_rng(0), list(EMOTIONS)
    retries, caught = [], {fault: [] for fault in FAULTS}
    for i, (text, language) in enumerate(texts(rng, N_CLEAN)):
        voice = VOICES[i % len(VOICES)]
        retries.append(take(Line(text, language, emotions[i % len(emotions)]), voice).retries)
        if i < N_FAULTY:
            clean = speak(text, voice, language)
            for fault, spoil in FAULTS.items():
                spoilt = spoil(text, voice, language, clean, rng)
                caught[fault].append(not passes(spoilt, text, voice, language))
    caught = {fault: float(np.mean(found)) for fault, found in caught.items()}
    at_once = float(np.mean(np.array(retries) == 0))
    print(
        f"\n{N_CLEAN} clean renderings, {len(VOICES)} voices, 6 emotions, 3 languages: "
        f"{at_once:.1%} pass at once, all after up to {max(retries)} retries"
    )
    print(
        "\n".join(f"{N_FAULTY} x {name:<24}{share:7.1%} caught" for name, share in caught.items())
    )
    assert at_once >= 0.96  # and `take` would have raised DialogueDropped
    assert caught.pop("a third silenced") >= 0.9 and caught.pop("one word wrong") >= 0.95
    assert min(caught.values()) >= 0.98, caught


def test_words_are_compared_one_by_one():
    voice, text = VOICES[8], "please close the old window"
    waveform = speak(text, voice, emotion="urgent")
    clean = compare(waveform, text, voice, "en")
    assert [word.word for word, _, _ in clean] == text.split()
    assert max(distance for _, distance, _ in clean) < 0.6
    assert all(0.5 < pace < 1 for _, _, pace in clean)  # urgent is faster than neutral
    wrong = compare(speak(text.replace("old", "yellow"), voice), text, voice, "en")
    assert max(distance for _, distance, _ in wrong[:2]) < roundtrip.MAX_DISTANCE < wrong[3][1]
    assert rerender(text, voice)(waveform[:100], "en") == ""


def test_the_figure_shows_which_words_were_not_heard():
    pytest.importorskip("seaborn")
    from aikit import charts

    path = np.array([(0, 0), (1, 1)])
    figure = charts.alignment(
        np.ones((2, 2)), path, [("the", 0, 0.1, True), ("dog", 0.1, 0.2, False)]
    )
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert colours == {"the": charts.INK, "dog": charts.RED}


def test_a_retry_speaks_more_plainly_and_a_third_failure_drops_the_whole_dialogue():
    asked = []

    def render(text, voice, language, emotion):
        asked.append((voice.rate_wpm, emotion))
        return speak(text, voice, language, emotion)

    def deaf(times):
        answers = iter([""] * times)
        return lambda waveform, language: next(answers, "the dog is here")

    line, voice = Line("The dog is here.", emotion="urgent"), VOICES[0]
    assert take(line, voice, render, deaf(RETRIES)).retries == RETRIES
    assert asked == [(150, "urgent"), (150, "normal"), (128, "normal")]
    with pytest.raises(DialogueDropped, match=r"'The dog is here.'.*1.00, 1.00, 1.00"):
        take(line, voice, render, deaf(RETRIES + 1))
    good, bad = Line("the dog is here"), Line("my phone is almost empty")
    assert check_dialogue([good, bad], voice, recogniser=deaf(0)) is None
    assert len(check_dialogue([good, good], voice, recogniser=deaf(0))) == 2


def test_checked_speak_is_speak_unless_the_line_is_bad():
    voice, text = VOICES[3], "please water the plants"
    assert checked_speak(text, voice).tobytes() == speak(text, voice).tobytes()
    with pytest.raises(DialogueDropped):
        checked_speak("水已经开了", voice, "en")  # no English, and nobody could tell from the sound


@pytest.mark.parametrize("text, heard, language, rate", [
    ("It is 20 °C, open it!", "it is twenty degrees celsius open it", "en", 0.0),
    ("the dog is here", "the dog was here", "en", 0.25), ("the dog", "", "en", 1.0),
    ("水已经开了", "水已经关了。", "zh", 0.2), ("¿Cómo estás?", "cómo estás", "es", 0.0),
])  # fmt: skip
def test_word_error_rate(text, heard, language, rate):
    assert word_error_rate(text, heard, language) == pytest.approx(rate)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="at least one word"):
        word_error_rate("...", "x")
    with pytest.raises(ValueError, match="unknown language"):
        word_error_rate("x", "x", "xx")


def test_a_whisper_pipeline_is_a_recogniser(monkeypatch):
    asked = {}

    def pipeline(task, model):
        def listen(audio, generate_kwargs):
            asked.update(generate_kwargs, task=task, model=model, rate=audio["sampling_rate"])
            return {"text": " 水已经开了。"}

        return listen

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    takes = check_dialogue([Line("水已经开了", "zh")], VOICES[0], recogniser=whisper("some/folder"))
    assert takes[0].wer == 0 and asked["language"] == "zh" and asked["model"] == "some/folder"
