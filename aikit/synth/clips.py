"""Clips and where they come from: procedural sounds, folders, ESC-10/ESC-50, Free Spoken Digits.

Knows files, labels, licences and splits. Does not know streams, replies or models. Taught in notebook 01.

A library holds *entries* (what a clip is and how to get it) and loads waveforms when they are drawn, so
that thousands of files cost nothing until they are heard. A clip that cannot be used (a broken file,
0.05 s, pure silence) is skipped where it is drawn, and noted.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from aikit.audio import load_audio
from aikit.synth.ontology import ontology
from aikit.synth.sounds import make_sound

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff"}
ESC_NAME = re.compile(r"(?P<fold>\d)-(?P<recording>\d+)-(?P<take>[A-Z])")
FSDD_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)\.wav")
ESC_LABELS = {  # ESC's class names -> the kit's labels, where they differ
    "person_sneeze": "sneeze", "crying_baby": "baby_cry", "dog": "dog_bark", "clock_alarm": "alarm_clock",
    "thunderstorm": "thunder", "wind": "strong_wind", "coughing": "cough", "clapping": "applause",
    "vacuum_cleaner": "vacuum_cleaner", "church_bells": "church_bell", "chirping_birds": "bird_song",
    "keyboard_typing": "typing", "glass_breaking": "glass_break", "engine": "engine_idle", "cat": "cat_meow",
    "hand_saw": "hand_saw", "pouring_water": "pouring_water", "water_drops": "water_drip",
    "door_wood_knock": "door_knock", "laughing": "laughter", "sneezing": "sneeze",
    "crackling_fire": "fire_crackling",
}  # fmt: skip
KEPT = 8192  # waveforms that a library holds in memory
FSDD_SPEAKERS = {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}  # others' recordings have other licences
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Clip:
    """A waveform (float32 ``[n]``, 16 kHz) and what is known about it."""

    waveform: np.ndarray
    label: str  # a label of the ontology, or "speech"
    source: str  # "procedural", "esc10", "fsdd", "speech", or a folder's name
    name: str  # unique within the source; splits are made by it
    text: str = ""  # what is said, for speech
    language: str = ""
    speaker: str = ""
    licence: str = ""
    translation: str = ""  # of the text, where a data set has one

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / 16_000


@dataclass(frozen=True)
class Entry:
    """A clip not loaded yet."""

    load: Callable[[], np.ndarray]
    label: str
    source: str
    name: str
    caption: str = ""
    text: str = ""
    language: str = ""
    speaker: str = ""
    licence: str = ""
    translation: str = ""


class ClipError(ValueError):
    """A clip that cannot be used; the message says why."""


@dataclass
class ClipLibrary:
    """Entries by label. Libraries add up: ``ClipLibrary.bundled() + ClipLibrary.esc10(path)``."""

    entries: list[Entry]
    skipped: list[str] = field(default_factory=list, repr=False)  # a note a clip asked for in vain
    # what was loaded last, or why it cannot be
    _waveforms: dict[Entry, np.ndarray | str] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self._by_label: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            self._by_label[entry.label].append(entry)

    def __len__(self) -> int:
        return len(self.entries)

    def __add__(self, other: ClipLibrary) -> ClipLibrary:
        return ClipLibrary([*self.entries, *other.entries])

    def prepared(
        self, prepare: Callable[[np.ndarray], np.ndarray], suffix: str = ""
    ) -> ClipLibrary:
        """The same clips, each passed through ``prepare`` once when it is loaded (TFJP, say)."""
        return ClipLibrary([
            replace(e, load=partial(_load_and, prepare, e.load), source=e.source + suffix)
            for e in self.entries
        ])  # fmt: skip

    def preload(self, progress: bool = False) -> None:
        """Load everything now, so that worker processes share it."""
        from tqdm import tqdm

        for entry in tqdm(self.entries, "loading clips", disable=not progress, mininterval=2.0):
            with suppress(ClipError):
                self.get(entry)
        if bad := sorted(set(self.skipped)):
            warnings.warn(f"{len(bad)} clips cannot be used: {'; '.join(bad)}", stacklevel=2)

    def only(self, keep: Callable[[Entry], bool]) -> ClipLibrary:
        """The entries for which ``keep`` is true; loaded waveforms are shared."""
        return ClipLibrary([e for e in self.entries if keep(e)], self.skipped, self._waveforms)

    @property
    def labels(self) -> list[str]:
        """All labels that have a clip, sorted."""
        return sorted(self._by_label)

    def sources(self, label: str) -> list[str]:
        """The sources that have clips of a label, sorted."""
        return sorted({entry.source for entry in self._by_label.get(label, ())})

    def get(self, entry: Entry) -> Clip:
        """Load an entry; the last `KEPT` waveforms stay in memory.

        Raises
        ------
        ClipError
            If the clip cannot be used; it is noted in ``skipped``.
        """
        if entry not in self._waveforms:
            while len(self._waveforms) >= KEPT:
                self._waveforms.pop(next(iter(self._waveforms)))
            self._waveforms[entry] = _loaded(entry)
        waveform = self._waveforms[entry]
        if isinstance(waveform, str):
            self.skipped.append(f"{entry.source}/{entry.name}: {waveform}")
            raise ClipError(self.skipped[-1])
        values = {k: v for k, v in vars(entry).items() if k not in ("load", "caption")}
        return Clip(waveform=waveform.astype(np.float32), **values)

    def draw(self, label: str, rng: np.random.Generator, text: str | None = None) -> Clip:
        """A random clip of a label: first a source, then a clip, so that a large source does not
        drown a small one. A clip that cannot be used is skipped, and another drawn.

        Raises
        ------
        ValueError
            If the library has no such clip; the message lists what it has.
        """
        found = [e for e in self._by_label.get(label, ()) if text is None or e.text == text]
        while found:
            source = str(rng.choice(sorted({entry.source for entry in found})))
            of_source = [entry for entry in found if entry.source == source]
            drawn = of_source[rng.integers(len(of_source))]
            with suppress(ClipError):
                return self.get(drawn)
            found.remove(drawn)
        raise ValueError(
            f"no clip of {label!r} {text or ''} that can be used; there are: {', '.join(self.labels)}"
        )

    def search(self, query: str, k: int = 3) -> list[tuple[Entry, float]]:
        """The ``k`` entries whose captions are nearest to a text query, best first, with scores (TF-IDF)."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        captions = [f"{e.label.replace('_', ' ')} {e.caption} {e.text}" for e in self.entries]
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([*captions, query])
        scores = (vectors[:-1] @ vectors[-1].T).toarray()[:, 0]
        return [(self.entries[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]

    @classmethod
    def bundled(cls, variants: int = 32, held_out: bool = False, seed: int = 0) -> ClipLibrary:
        """The kit's own procedural sounds: ``variants`` of every label, no download.

        ``held_out`` draws from parameter ranges that training never uses.
        """
        entries = []
        for label, sound in ontology().items():
            for i in range(variants):
                clip_seed = (seed * 1_000_003 + i) * 2 + held_out
                load = partial(make_sound, label, clip_seed, held_out=held_out)
                entry = Entry(load, label, "procedural", f"{label}-{clip_seed}", sound.caption)
                entries.append(entry)
        return cls(entries)

    @classmethod
    def folder(cls, path: str | Path) -> ClipLibrary:
        """Any folder with one sub-folder a label, as AudioSet dumps and `audiofolder` have it."""
        root = _existing(path)
        entries = [
            Entry(partial(load_audio, f), f.parent.name, root.name, str(f.relative_to(root)))
            for f in sorted(root.rglob("*"))
            if f.suffix.lower() in AUDIO_SUFFIXES
        ]
        return cls(_some(entries, root, "audio files in sub-folders named after their label"))

    @classmethod
    def esc10(cls, path: str | Path, folds: Iterable[int] = (1, 2, 3, 4, 5)) -> ClipLibrary:
        """ESC-10 or ESC-50 as folders of classes; ``folds`` keep recordings of one origin together."""
        root, wanted, entries = _existing(path), set(folds), []
        for file in sorted(root.rglob("*")):
            match = ESC_NAME.match(file.name)
            if file.suffix.lower() not in AUDIO_SUFFIXES or not match:
                continue
            if int(match["fold"]) in wanted:
                label = esc_label(file.parent.name)
                entry = Entry(
                    partial(load_audio, file), label, "esc10", file.stem, label.replace("_", " "),
                    licence="CC-BY 3.0",
                )  # fmt: skip
                entries.append(entry)
        return cls(_some(entries, root, "ESC files such as '001 - Dog bark/1-100032-A.ogg'"))

    @classmethod
    def fsdd(cls, path: str | Path, speakers: Iterable[str] | None = None) -> ClipLibrary:
        """Free Spoken Digits, or a folder like it: ``3_george_7.wav``; the text of a clip is its digit."""
        root, wanted, entries = _existing(path), set(speakers or ()), []
        for file in sorted(root.glob("*.wav")):
            match = FSDD_NAME.match(file.name)
            if match and (not wanted or match["speaker"] in wanted):
                entry = Entry(
                    partial(load_audio, file), "speech", "fsdd", file.stem, DIGIT_NAMES[int(match["digit"])],
                    match["digit"], "en", match["speaker"],
                    "CC-BY-SA 4.0" if match["speaker"] in FSDD_SPEAKERS else "",
                )  # fmt: skip
                entries.append(entry)
        return cls(_some(entries, root, "digit files such as '3_george_7.wav'"))


def _loaded(entry: Entry) -> np.ndarray | str:
    """The waveform, or why there is none, without folders: a note must not depend on the machine."""
    try:
        return entry.load().astype(np.float16)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return re.sub(r"\S*/", "", " ".join(reason.split()))


def _load_and(prepare: Callable, load: Callable) -> np.ndarray:
    return prepare(load())


def esc_label(folder: str) -> str:
    """The kit's label for an ESC class folder: ``'006 - Person sneeze'`` -> ``'sneeze'``."""
    name = folder.split(" - ")[-1].strip().lower().replace(" ", "_")
    return ESC_LABELS.get(name, name)


def _existing(path: str | Path) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {path}; give the folder that holds the recordings")
    return root


def _some(entries: list[Entry], root: Path, expected: str) -> list[Entry]:
    if not entries:
        raise ValueError(f"{root} holds no clip; expected {expected}")
    return entries
