"""Writing a stream: where clips come from, and the page on which a recipe writes them down.

Knows sources (sounds, digits, voices; training or held out), what the listener has heard so far, and
interludes. Does not know abilities (`abilities.py`) or sample positions (`compose.py`). Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from aikit.synth.clips import DIGIT_NAMES, Clip, ClipLibrary
from aikit.synth.compose import Item
from aikit.synth.ontology import Sound, ontology
from aikit.synth.speech import HELD_OUT_VOICES, TRAIN_VOICES, Voice, speak
from aikit.synth.tfjp import TFJPConfig, tfjp
from aikit.synth.waves import draw_variation, vary
from aikit.tokens import DEFAULT_INSTRUCTION

LONGEST_S = 5.0  # of a real recording in a stream
HELD_OUT_SPEAKER = "lucas"  # of the digits


@cache
def phrases() -> dict:
    """The phrase book ``texts/phrases.yaml``."""
    import yaml

    return yaml.safe_load((Path(__file__).parent / "texts" / "phrases.yaml").read_text("utf-8"))


@cache
def words(language: str) -> tuple[str, ...]:
    """The word list ``texts/words.yaml`` of a language."""
    import yaml

    path = Path(__file__).parent / "texts" / "words.yaml"
    return tuple(yaml.safe_load(path.read_text("utf-8"))[language].split())


def preprocessed(waveform: np.ndarray) -> np.ndarray:
    """A clip ready for a junction (TFJP)."""
    return tfjp(waveform).waveform


def with_own_noise(waveform: np.ndarray) -> np.ndarray:
    """The same, but its steady noise is left in (γ = 0)."""
    return tfjp(waveform, TFJPConfig(gamma=0.0)).waveform


@dataclass
class Sources:
    """What recipes draw from. Two `Sources` with disjoint clips and voices make a split."""

    sounds: ClipLibrary
    voices: tuple[Voice, ...]
    digits: ClipLibrary | None = None
    held_out: bool = False  # also vary rooms, speeds and equalisers outside the training ranges

    def preload(self, progress: bool = False) -> None:
        """Load every clip now, so that worker processes share them."""
        for library in filter(None, (self.sounds, self.digits)):
            library.preload(progress)

    @classmethod
    def embedded(cls, held_out: bool = False, variants: int = 32) -> Sources:
        """The kit's own sounds and voices; the held-out half shares no sound and no voice."""
        voices = HELD_OUT_VOICES if held_out else TRAIN_VOICES
        sounds = ClipLibrary.bundled(variants, held_out).prepared(preprocessed)
        return cls(sounds, voices, None, held_out)

    @classmethod
    def with_real(cls, folders: Sequence[str | Path], held_out: bool = False) -> Sources:
        """The embedded sources, and real recordings from ESC-10/ESC-50, FSDD or labelled folders.

        ESC's folds 1-3 are for training, 4 and 5 held out; of the digits, speaker lucas is held out.
        """
        sources = cls.embedded(held_out)
        for folder in map(Path, folders):
            if any(folder.glob("*/[1-5]-*-[A-Z].*")):
                real = ClipLibrary.esc10(folder, (4, 5) if held_out else (1, 2, 3))
                # with and without their own noise, for a microphone denoises nothing
                sources.sounds += real.prepared(preprocessed)
                sources.sounds += real.prepared(with_own_noise, "-noisy")
            elif any(folder.glob("[0-9]_*_*.wav")):
                digits = ClipLibrary.fsdd(folder)
                sources.digits = digits.only(lambda e: (e.speaker == HELD_OUT_SPEAKER) == held_out)
            else:
                sources.sounds += ClipLibrary.folder(folder).prepared(preprocessed)
        return sources


class Script:
    """A stream being written: foreground items in order, and what the listener has heard so far."""

    def __init__(self, sources: Sources, rng: np.random.Generator, limit_s: float):
        self.sources, self.rng, self.limit_s = sources, rng, limit_s
        self.voice = sources.voices[rng.integers(len(sources.voices))]  # one voice a dialogue
        self.instruction = DEFAULT_INSTRUCTION
        self.items: list[Item] = []
        self.heard: list[str] = []  # labels, in order
        self.excluded: set[str] = set()  # labels that only the recipe itself may play
        self.quiet = False  # no chatter: somebody is being transcribed
        self.snr_db: float | None = None
        self.ambience: str | None = None

    def pick(self, options):
        """One of a sequence."""
        return options[int(self.rng.integers(len(options)))]

    def gap(self) -> float:
        """Silence before the next clip, in seconds."""
        return float(self.rng.uniform(0.5, 1.6))

    def say(self, text: str, reply: str | None = None, language: str = "en") -> None:
        """Somebody speaks; ``reply`` is due when they end."""
        waveform = speak(text, self.voice, language)
        clip = Clip(waveform, "speech", "speech", text, text, language, self.voice.name)
        self.items.append(Item(clip, reply=reply, gap_s=self.gap()))

    def digits(self, string: str) -> None:
        """Somebody says digits one by one and wants them written."""
        library, written = self.sources.digits, " ".join(string)
        if library is None or self.rng.random() < 0.3:
            return self.say(", ".join(DIGIT_NAMES[int(d)] for d in string), written)
        speaker = self.pick(sorted({entry.speaker for entry in library.entries}))
        own = library.only(lambda entry: entry.speaker == speaker)
        parts = []
        for digit in string:
            pause = np.zeros(int(self.rng.uniform(0.05, 0.2) * 16_000), np.float32)
            parts += [own.draw("speech", self.rng, digit).waveform, pause]
        how = draw_variation(self.rng, self.sources.held_out)
        waveform = vary(np.concatenate(parts[:-1]), how, self.rng)
        spoken = " ".join(DIGIT_NAMES[int(d)] for d in string)
        clip = Clip(waveform, "speech", "fsdd", written, spoken, "en", speaker)
        self.items.append(Item(clip, reply=written, gap_s=self.gap()))

    def clip(self, label: str) -> Clip:
        """A clip of a label, preprocessed (TFJP), cut to at most 5 s and varied."""
        clip = self.sources.sounds.draw(label, self.rng)
        waveform = clip.waveform
        if clip.source != "procedural":  # procedural ones come varied
            waveform = vary(waveform, draw_variation(self.rng, self.sources.held_out), self.rng)
            longest = int(self.rng.uniform(1.5, LONGEST_S) * 16_000)
            start = int(self.rng.integers(0, max(1, len(waveform) - longest)))
            waveform = waveform[start : start + longest]
        return replace(clip, waveform=waveform)

    def sound(self, label: str, reply: str | None = None, clip: Clip | None = None) -> None:
        """A sound happens; ``reply`` is due when it ends."""
        sound, clip = ontology()[label], clip or self.clip(label)
        emotion = sound.emotion if reply in sound.replies else "normal"
        self.items.append(Item(clip, reply=reply, emotion=emotion, gap_s=self.gap()))
        self.heard.append(label)

    def hazard(self, criterion: str | None = None) -> None:
        """A sound that asks for help by itself (paper §3.3), with its advice."""
        wanted = [
            s for s in self.known("respond") if criterion is None or s.criterion == criterion
        ]
        if wanted:
            sound = self.pick(wanted)
            self.sound(sound.label, self.pick(sound.replies))

    def benign(self) -> None:
        """A sound that deserves no reply, if the recipe leaves any."""
        if able := self.known("ignore"):
            self.sound(self.pick(able).label)

    def known(self, policy: str) -> list[Sound]:
        """Sounds of a policy that may happen by themselves here."""
        have = set(self.sources.sounds.labels) - self.excluded
        return [s for s in ontology().values() if s.policy == policy and s.label in have]

    def instruct(self, instructions: list[str], ack: str, **values: str) -> None:
        """Give an instruction: mostly spoken and acknowledged, at times as the stream's text."""
        text = self.pick(instructions).format(**values)
        if self.rng.random() < 0.2 and not self.items:
            self.instruction = text
        else:
            self.say(text, ack.format(**values))

    def length_s(self) -> float:
        """Seconds that the foreground takes at most."""
        return sum(item.gap_s + item.clip.duration_s + 0.11 for item in self.items)

    def interlude(self) -> None:
        """Something unrelated: half of the time a benign sound, chatter, or a hazard."""
        what = self.rng.random()
        if what < 0.30:
            self.benign()
        elif what < 0.40 and not self.quiet:
            self.say(self.pick(phrases()["chatter"]))
        elif what < 0.52:
            self.hazard()


Recipe = Callable[[Script], Iterator[None]]


def write_script(recipe: Recipe, script: Script, interludes: bool = True) -> None:
    """Run a recipe, with interludes, until the stream is full; what does not fit is taken back."""
    kept = 0
    for _ in recipe(script):
        if script.length_s() > script.limit_s:
            break
        kept = len(script.items)
        if interludes:
            script.interlude()
        if script.length_s() > script.limit_s:
            break
        kept = len(script.items)
    del script.items[kept:]
    if not script.items:  # the first turn alone was too long: one short sound always fits
        labels = sorted(set(script.sources.sounds.labels) & set(ontology()))
        script.sound("switch_click" if "switch_click" in labels else labels[0])


def backdrop(s: Script) -> list[Item]:
    """Up to two quiet benign sounds somewhere behind."""
    items = []
    for role in ("background", "ambient"):
        able = [x.label for x in s.known("ignore") if role in x.role]
        if able and s.rng.random() < 0.3:
            items.append(Item(s.clip(s.pick(able)), role))
    return items


def noise_tracks(s: Script) -> tuple[Clip, Clip] | None:
    """The two noise tracks; three streams in ten have none."""
    if s.snr_db is None and s.rng.random() < 0.3:
        return None
    able = [x.label for x in s.known("ignore") if "ambient" in x.role]
    return (s.clip(s.pick(able)), s.clip(s.pick(able))) if able else None
