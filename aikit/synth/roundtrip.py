"""The round trip: is what was spoken what was written? (paper §3.2: WER <= 0.10, R = 2 retries)

Knows two recognisers, the word error rate, and when a dialogue is dropped. Does not know how speech is made
(`speech.py`) or what a stream is. Taught in notebook 01.

A *recogniser* is any function (waveform, language) -> what it heard. `whisper` makes one from a real speech
recogniser where its weights are at hand. The embedded default needs none, and nothing that this kit trains: it
speaks the text once more, neutrally, lays both renderings side by side (dynamic time warping) and "hears" those
words that sound alike. It catches wrong languages, cuts, gaps, noise and wrong words. What it cannot catch is
an error that the synthesiser makes every time, such as a wrong pronunciation: only a recogniser from elsewhere can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from aikit.audio import SAMPLE_RATE, log_mel
from aikit.synth.speakable import LANGUAGE_OF, speakable
from aikit.synth.speech import SpokenWord, Voice, speak, speak_words

Recogniser = Callable[[np.ndarray, str], str]

MAX_WER = 0.10
RETRIES = 2  # R
SLOWER = 0.85  # pace of the last retry
MAX_DISTANCE = (
    0.68  # a word is heard under this: clean words have 0.3, wrong ones 0.9 (test_roundtrip)
)
PACE_LIMITS = (0.4, 2.5)  # length of a word against its reference: emotions need 0.6 to 1.6
HOP_S = 0.01
SOUNDING_DB = 40.0  # frames this far under the loudest are pauses
HAN = re.compile("[\u3400-\u9fff]")


class DialogueDropped(ValueError):
    """A line still failed its round trip after R retries; its whole dialogue goes (paper §3.2)."""


@dataclass(frozen=True)
class Line:
    """Something to be said."""

    text: str
    language: str = "en"
    emotion: str = "normal"


@dataclass(frozen=True)
class Take:
    """A rendering that passed: float32 ``[n]`` at 16 kHz, its word error rate, the retries it took."""

    waveform: np.ndarray
    wer: float
    retries: int


# --- the embedded recogniser ----------------------------------------------------------------------
def cepstra(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sound as DTW compares it: mel cepstra and their slopes ``[T, 26]``, and which frames sound ``[T]``.

    Cepstra are centred and scaled over the frames that sound, so that level and room do not count.
    """
    from scipy.fft import dct

    mel = log_mel(waveform)
    cepstrum = dct(4 * mel, axis=0, norm="ortho")[:13].T
    energy = np.square(waveform[: mel.shape[1] * 160]).reshape(-1, 160).mean(axis=1)
    sounds = energy > energy.max() * 10 ** (-SOUNDING_DB / 10)
    centre, scale = cepstrum[sounds].mean(axis=0), cepstrum[sounds].std(axis=0) + 1e-3
    cepstrum = (cepstrum - centre) / scale
    padded = np.pad(cepstrum, ((2, 2), (0, 0)), mode="edge")
    slope = (padded[3:-1] - padded[1:-3] + padded[4:] - padded[:-4]) / 2
    return np.c_[cepstrum, slope], sounds


@lru_cache(maxsize=512)
def _reference(text: str, variant: str, language: str):
    waveform, words = speak_words(text, Voice("reference", variant), language)
    return *cepstra(waveform), words


def compare(
    waveform: np.ndarray, text: str, voice: Voice, language: str
) -> list[tuple[SpokenWord, float, float]]:
    """Every word of a text with its distance from a neutral rendering, and its pace (length over length)."""
    from librosa.sequence import dtw
    from scipy.spatial.distance import cdist

    reference, sounds, words = _reference(text, voice.variant, language)
    features, _ = cepstra(waveform)
    distance = cdist(features, reference) / np.sqrt(features.shape[1])
    _, path = dtw(C=distance)
    path = path[sounds[path[:, 1]]]  # pauses of the reference do not count
    found = []
    for word in words:
        at = path[(path[:, 1] >= word.start_s / HOP_S) & (path[:, 1] < word.end_s / HOP_S)]
        heard, said = (len(np.unique(side)) for side in at.T)
        found.append(
            (word, float(distance[tuple(at.T)].mean()), heard / said) if said else (word, 9.0, 0.0)
        )
    return found


def rerender(text: str, voice: Voice) -> Recogniser:
    """The embedded recogniser: hears the words of ``text`` that sound as this throat says them neutrally.

    Parameters
    ----------
    text : what should have been said
    voice : whose throat; rate, pitch and emotion may differ
    """

    def recognise(waveform: np.ndarray, language: str) -> str:
        if len(waveform) < SAMPLE_RATE // 20 or not waveform.any():
            return ""
        chinese, (slow, fast) = LANGUAGE_OF[language] == "cmn", PACE_LIMITS
        return " ".join(
            word.word
            for word, distance, pace in compare(waveform, text, voice, language)
            if distance < MAX_DISTANCE
            and slow < pace < fast
            and (chinese or not HAN.search(word.word))
        )

    return recognise


def whisper(model: str) -> Recogniser:
    """A recogniser from elsewhere: a Whisper checkpoint, by folder or hub name, through transformers."""
    from transformers import pipeline

    listen = pipeline("automatic-speech-recognition", model=model)
    code = {"en": "en", "es": "es", "cmn": "zh"}

    def recognise(waveform: np.ndarray, language: str) -> str:
        how = {"language": code[LANGUAGE_OF[language]], "task": "transcribe"}
        return listen({"raw": waveform, "sampling_rate": SAMPLE_RATE}, generate_kwargs=how)["text"]

    return recognise


# --- the filter -----------------------------------------------------------------------------------
def plain_words(text: str, language: str) -> str:
    """Text as it is scored: speakable, small letters, no punctuation; Chinese character by character."""
    text = re.sub(r"[^\w'’]|_", " ", speakable(text, language).lower())
    return " ".join(HAN.sub(r" \g<0> ", text).split())


def word_error_rate(text: str, heard: str, language: str = "en") -> float:
    """Share of words that are wrong, missing or too many (of Chinese: characters).

    Raises
    ------
    ValueError
        ``text`` has no word, or the language is unknown.
    """
    import jiwer

    if not (said := plain_words(text, language)):
        raise ValueError(f"nothing can be heard in {text!r}: give at least one word")
    return float(jiwer.wer(said, plain_words(heard, language)))


def take(
    line: Line,
    voice: Voice,
    render: Callable[[str, Voice, str, str], np.ndarray] = speak,
    recogniser: Recogniser | None = None,
) -> Take:
    """Speak a line until its round trip passes: as asked, then without emotion, then more slowly too.

    Parameters
    ----------
    line, voice : what is said, and by whom
    render : the synthesiser, with the arguments of `speak`
    recogniser : hears what was rendered; `rerender` when None

    Raises
    ------
    DialogueDropped
        WER > 0.10 after R = 2 retries.
    ValueError
        As `speak`.
    """
    rates, slower = [], replace(voice, rate_wpm=round(SLOWER * voice.rate_wpm))
    tries = ((voice, line.emotion), (voice, "normal"), (slower, "normal"))
    for who, emotion in tries[: 1 + RETRIES]:
        waveform = render(line.text, who, line.language, emotion)
        heard = (recogniser or rerender(line.text, voice))(waveform, line.language)
        rates.append(word_error_rate(line.text, heard, line.language))
        if rates[-1] <= MAX_WER:
            return Take(waveform, rates[-1], len(rates) - 1)
    raise DialogueDropped(
        f"{line.text!r} ({line.language}, {voice.name}) came back with word error rates of "
        f"{', '.join(f'{rate:.2f}' for rate in rates)}, over {MAX_WER}: drop the dialogue"
    )


def checked_speak(
    text: str, voice: Voice, language: str = "en", emotion: str = "normal"
) -> np.ndarray:
    """`speak`, with the round trip: raises `DialogueDropped` where `speak` would return a bad rendering."""
    return take(Line(text, language, emotion), voice).waveform


def check_dialogue(
    lines: Sequence[Line],
    voice: Voice,
    render: Callable[[str, Voice, str, str], np.ndarray] = speak,
    recogniser: Recogniser | None = None,
) -> list[Take] | None:
    """All lines of a dialogue in one voice; None if one of them fails, for then all go (paper §3.2)."""
    try:
        return [take(line, voice, render, recogniser) for line in lines]
    except DialogueDropped:
        return None
