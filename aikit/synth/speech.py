"""Text to speech without a download: espeak-ng from PyPI, 52 voices, six emotions, four languages.

Knows: how to speak a text at 16 kHz and give its phonemes (paper §3.2, text to speech).
Does not know: how text is made speakable (`speakable.py`), dialogues, the ASR round trip, or what
a stream is.  Taught in notebook 01.

The engine is the shared library inside the package `espeakng-loader`, called through ctypes.  It is
one process-wide global that is not thread-safe and keeps a hidden flutter and noise state, so that
the same sentence comes out different each time.  Here every utterance opens a *fresh* copy of the
library behind one lock and closes it again (0.3-3 ms): the same text and voice give the same
samples for ever, and threads, forked and spawned workers share nothing.
"""

import ctypes
import os
import re
import threading
from bisect import bisect
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, pairwise, product, takewhile
from pathlib import Path

import numpy as np

from aikit.synth.speakable import speakable

__all__ = ["EMOTIONS", "HELD_OUT_VOICES", "LANGUAGES", "PHONEMES", "Prosody", "SpokenWord",
           "TRAIN_VOICES", "VOICES", "Voice", "phonemes", "speak", "speak_words", "speakable"]

SAMPLE_RATE = 16_000        # Hz, what `speak` returns
ENGINE_RATE = 22_050        # Hz, what espeak-ng renders
LEVEL_RMS = 0.08            # every voice speaks at this level (-22 dBFS) before its emotion's gain
KEEP_SILENCE_S = 0.02       # silence left at each end

# Our language names -> espeak's; "en" is American.  The path of a voice file loads ten times faster
# than a name, but it must be in lower case, which en-US is not.
LANGUAGES = {"en": "en-us", "en-us": "en-us", "en-gb": "gmw/en", "es": "roa/es",
             "cmn": "sit/cmn", "zh": "sit/cmn"}


@dataclass(frozen=True)
class Voice:
    """One speaker: an espeak voice variant (vocal tract) with a habitual rate and pitch."""

    name: str
    variant: str            # a file of espeak-ng-data/voices/!v
    rate_wpm: int = 170     # words a minute, 80-450
    pitch: int = 50         # espeak's scale, 0-99, around the variant's own base pitch


@dataclass(frozen=True)
class Prosody:
    """How an emotion bends a voice."""

    rate: float             # factor on words a minute
    pitch: int              # added to the voice's pitch
    range: int              # liveliness of the intonation, 0-100, espeak's default is 50
    gain_db: float          # loudness


_TOKEN = re.compile("[\u3400-\u9fff]|[^\\W\u3400-\u9fff]+(?:['’-][^\\W\u3400-\u9fff]+)*")


@dataclass(frozen=True)
class SpokenWord:
    """A word of a text, and when it is said; of Chinese, a character."""

    word: str
    start_s: float
    end_s: float


EMOTIONS = {
    "normal": Prosody(1.00, 0, 50, 0.0),
    "happy": Prosody(1.10, 12, 80, 1.0),
    "sad": Prosody(0.80, -12, 20, -4.0),
    "angry": Prosody(1.15, -4, 75, 4.0),
    "surprise": Prosody(1.00, 20, 100, 2.0),
    "urgent": Prosody(1.30, 10, 60, 4.0),
}
DELIVERIES = (("calm", 150, 42), ("brisk", 190, 58))
TRAIN_VARIANTS = ("m1", "m2", "m4", "m6", "m7", "f1", "f2", "f3", "f4", "Alex", "Andy", "Annie",
                  "Denis", "Lee", "Michael", "Alicia", "aunty", "belinda", "steph", "max")
HELD_OUT_VARIANTS = ("m3", "m5", "Mike", "f5", "linda", "grandma")


def _voices(variants: tuple[str, ...]) -> tuple[Voice, ...]:
    return tuple(Voice(f"{variant}-{delivery}", variant, rate, pitch)
                 for variant, (delivery, rate, pitch) in product(variants, DELIVERIES))


TRAIN_VOICES = _voices(TRAIN_VARIANTS)
HELD_OUT_VOICES = _voices(HELD_OUT_VARIANTS)    # no vocal tract of these is ever trained on
VOICES = TRAIN_VOICES + HELD_OUT_VOICES

# Every symbol that `phonemes` can give: made once from 16,000 English words in both accents, all
# Spanish syllables and the characters U+4E00-9FA5, then frozen: models' output layers count on it.
PHONEMES = tuple((
    "a ai aɪ aɪə aɪɚ aʊ b d dʒ e ei eə eɪ eʊ f h i iou iɑ iə iɛ j k kʰ l m n o ou oŋ oɪ oʊ p pʰ "
    "r s t ts tsʰ tɕ tɕʰ tʂ tʂʰ tʃ tʰ u ua uai uei uo uə v w x y yi yæ yə yɛ z æ ð ŋ ɐ ɑ ɑu ɑɹ "
    "ɒ ɔ ɔɪ ɔɹ ɕ ə əl ər əʊ ɚ ɛ ɛɹ ɜ ɡ ɣ ɤ ɨ ɪ ɪɹ ɲ ɹ ɾ ʂ ʃ ʊ ʊə ʊɹ ʌ ʎ ʐ ʒ ʔ ʝ β θ χ ᵻ"
).split())
_KNOWN = frozenset(PHONEMES)

# --- the engine -----------------------------------------------------------------------------------
_SYNCHRONOUS, _UTF8, _IPA = 2, 1, 2 | ord("_") << 8     # "_" between phonemes
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4             # espeak_PARAMETER
_LIST_END, _WORD, _CLAUSE_END = 0, 1, 5                 # espeak_EVENT_TYPE


class _Event(ctypes.Structure):
    """espeak_EVENT: a word begins, say."""

    _fields_ = [(name, ctypes.c_int) for name in ("type", "serial", "position", "length", "ms",
                                                  "sample")]
    _fields_ += [("user", ctypes.c_void_p), ("id", ctypes.c_char * 8)]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_LOCK = threading.Lock()
if hasattr(os, "register_at_fork"):     # no fork in mid-utterance: a child finds the lock free
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release,
                        after_in_child=_LOCK.release)


def _paths() -> tuple[str, Path]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError("text to speech needs espeakng-loader, a package with the engine and its "
                          "voices: pip install espeakng-loader") from error
    return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())


def _close(library: ctypes.CDLL) -> None:
    """Unload the library, and with it the hidden state that would make utterances differ."""
    import _ctypes
    library.espeak_Terminate()
    (getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary)(library._handle)


@contextmanager
def _engine(language: str, variant: str = ""):
    """A fresh espeak-ng, set to one language and voice variant, for one utterance."""
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}: use one of {', '.join(LANGUAGES)}")
    path, data = _paths()
    if variant and not (data / "voices" / "!v" / variant).is_file():
        raise ValueError(f"unknown voice variant {variant!r}: take a voice from speech.VOICES")
    with _LOCK:
        library = ctypes.CDLL(path)
        try:
            if library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), 0) != ENGINE_RATE:
                raise RuntimeError(f"espeak-ng did not start with the voices in {data}: "
                                   "pip install --force-reinstall espeakng-loader")
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))     # it seeds itself with the time
            name = LANGUAGES[language] + (f"+{variant}" if variant else "")
            library.espeak_SetVoiceByName(name.encode())
            yield library
        finally:
            _close(library)


def _encode(text: str, doing: str) -> bytes:
    if not any(c.isalnum() for c in text):
        raise ValueError(f"nothing to {doing} in {text!r}: give at least one letter or digit")
    return text.replace("\0", " ").encode("utf-8", "ignore")


def _render(text: str, voice: Voice, language: str,
            prosody: Prosody) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """int16 samples at 22,050 Hz as espeak gives them, and its marks (position, length, sample).

    A mark is the first sample of a word, or, with length 0, of what follows a clause.
    """
    blocks: list[bytes] = []
    marks: list[tuple[int, int, int]] = []

    @_CALLBACK
    def keep(samples, n_samples, events):
        if samples and n_samples > 0:
            blocks.append(ctypes.string_at(samples, 2 * n_samples))
        for event in takewhile(lambda e: e.type != _LIST_END, map(events.__getitem__, count())):
            if event.type in (_WORD, _CLAUSE_END):
                marks.append((event.position - 1, event.length, event.sample))
        return 0

    data = _encode(text, "speak")
    with _engine(language, voice.variant) as library:
        rate = int(np.clip(round(voice.rate_wpm * prosody.rate), 80, 450))
        pitch = int(np.clip(voice.pitch + prosody.pitch, 0, 99))
        for key, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, prosody.range), (_VOLUME, 70)):
            library.espeak_SetParameter(key, value, 0)      # volume 70: loud variants clip at 100
        library.espeak_SetSynthCallback(keep)
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _UTF8, None, None)
    return np.frombuffer(b"".join(blocks), np.int16), marks


def _trim(waveform: np.ndarray) -> np.ndarray:
    """Cut the silence (50 dB under the peak) at both ends, but for 20 ms."""
    loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() * 10 ** (-50 / 20))
    keep = round(KEEP_SILENCE_S * SAMPLE_RATE)
    return waveform[max(loud[0] - keep, 0):loud[-1] + keep + 1]


def speak(text: str, voice: Voice, language: str = "en", emotion: str = "normal") -> np.ndarray:
    """Speak a text; the same arguments always give the same samples.

    Parameters
    ----------
    text : str
        Plain words; pass replies with markdown, numbers or symbols through `speakable` first.
    voice : Voice
        One of `VOICES` (`TRAIN_VOICES`, `HELD_OUT_VOICES`), or your own.
    language : str
        "en" or "en-us", "en-gb", "es", "cmn" or "zh" (Chinese characters).
    emotion : str
        One of `EMOTIONS`, rendered by rate, pitch, liveliness and loudness only.

    Returns
    -------
    float32 array [n_samples], 16 kHz, RMS 0.08 times the emotion's gain, peak <= 0.95, 20 ms of
    silence at each end.

    Raises
    ------
    ValueError
        Unknown language, emotion or voice variant, or a text without any letter or digit.
    ImportError
        `espeakng-loader` is not installed.
    """
    import soxr
    if emotion not in EMOTIONS:
        raise ValueError(f"unknown emotion {emotion!r}: use one of {', '.join(EMOTIONS)}")
    prosody = EMOTIONS[emotion]
    samples, _ = _render(text, voice, language, prosody)
    if not samples.any():
        raise ValueError(f"{language!r} has no sounds for {text!r}: give words of that language")
    waveform = _trim(soxr.resample(samples.astype(np.float32) / 2**15, ENGINE_RATE, SAMPLE_RATE))
    gain = LEVEL_RMS * 10 ** (prosody.gain_db / 20) / np.sqrt(np.mean(waveform**2))
    return (waveform * min(gain, 0.95 / np.abs(waveform).max())).astype(np.float32)


def speak_words(text: str, voice: Voice,
                language: str = "en") -> tuple[np.ndarray, tuple[SpokenWord, ...]]:
    """Speak a text and tell when each of its words is said.

    Parameters
    ----------
    text, voice, language : as in `speak`

    Returns
    -------
    float32 array [n_samples], 16 kHz, untrimmed and at the engine's level; and the words.

    Raises
    ------
    ValueError
        As `speak`.
    """
    import soxr
    samples, marks = _render(text, voice, language, EMOTIONS["normal"])
    tokens = list(_TOKEN.finditer(text))
    starts, spans = [token.start() for token in tokens], []
    for (position, length, start), (_, _, end) in pairwise([*marks, (0, 0, len(samples))]):
        token = max(bisect(starts, position) - 1, 0)
        if length and (not spans or spans[-1][0] != token):
            spans.append([token, start, end])
        elif length:                                        # a mark for every letter or part
            spans[-1][2] = end
    nexts = [token for token, _, _ in spans[1:]] + [len(tokens)]    # "of the" may share a mark
    words = tuple(SpokenWord(" ".join(t[0] for t in tokens[token:after]), start / ENGINE_RATE,
                             end / ENGINE_RATE)
                  for (token, start, end), after in zip(spans, nexts, strict=True))
    waveform = soxr.resample(samples.astype(np.float32) / 2**15, ENGINE_RATE, SAMPLE_RATE)
    return waveform, words


# --- phonemes -------------------------------------------------------------------------------------
# espeak spells some Mandarin sounds in ASCII; order matters.
_TO_IPA = (("ts.", "tʂ"), ("s.", "ʂ"), ("i.", "ɨ"), ("i̪", "ɨ"), ("o-", "ɤ"), ("onɡ", "oŋ"))


def _symbol(token: str) -> str:
    """One espeak token as a bare symbol: no stress ˈˌ, length ː, ties ͡ , syllabic mark or tone."""
    for espeak, ipa in _TO_IPA:
        token = token.replace(espeak, ipa)
    token = re.sub("[ˈˌː̩͜͡0-9-]", "", token)
    if len(token) > 1:
        token = token.removesuffix("ɜ")                     # the rising tone, where it is no vowel
        token = re.sub("(?<=[ptkɕsʂ])h$", "ʰ", token)        # th -> tʰ
    return token


def phonemes(text: str, language: str = "en") -> list[str]:
    """The phonemes espeak-ng would speak, as symbols fit for CTC targets.

    Stress, length, tie and syllabic marks and Mandarin tones are dropped; diphthongs and affricates
    (aɪ, tʃ, tɕʰ) stay one symbol; word and clause borders leave nothing.  Symbols outside
    `PHONEMES` (rare foreign sounds) are left out.

    Parameters
    ----------
    text, language : str
        As in `speak`.

    Returns
    -------
    list of str, each a member of `PHONEMES`.

    Raises
    ------
    ValueError
        Unknown language, or a text without any letter or digit.
    """
    return list(_phonemes(text, language))


@lru_cache(maxsize=20_000)
def _phonemes(text: str, language: str) -> tuple[str, ...]:
    buffer = ctypes.create_string_buffer(_encode(text, "transcribe"))
    cursor, clauses = ctypes.c_void_p(ctypes.addressof(buffer)), []
    with _engine(language) as library:
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        while cursor.value:                                 # one clause a call
            clauses.append(library.espeak_TextToPhonemes(ctypes.byref(cursor), _UTF8, _IPA) or b"")
    spelled = b" ".join(clauses).decode("utf-8", "ignore")
    spelled = re.sub(r"\([a-z-]+\)", "_", spelled)          # "(en)": a change of language
    return tuple(s for s in map(_symbol, re.split(r"[_\s]+", spelled)) if s in _KNOWN)
