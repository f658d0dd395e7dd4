"""Writing a stream: where clips come from, and the page on which a recipe writes them down.

Knows sources (sounds, digits, voices; training or held out), the planned scene, what the listener
has heard so far, and interludes. Does not know abilities (`abilities.py`) or sample positions
(`compose.py`). Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from aikit.synth.clips import DIGIT_NAMES, Clip, ClipLibrary
from aikit.synth.compose import Item
from aikit.synth.grounding import Decision, Embed, Grounder, Planner, Rules
from aikit.synth.loaders import folder_clips
from aikit.synth.ontology import Sound, ontology
from aikit.synth.places import excluded, fitting
from aikit.synth.scenario import LAYERS, admit, event_of, joined, pick_fair
from aikit.synth.speech import HELD_OUT_VOICES, TRAIN_VOICES, Voice, speak
from aikit.synth.tfjp import TFJPConfig, tfjp
from aikit.synth.verifier import LONGEST_S
from aikit.synth.waves import draw_variation, vary
from aikit.tokens import DEFAULT_INSTRUCTION

HELD_OUT_SPEAKER = "lucas"  # of the digits
DIGITS_PAUSE_S = 0.35  # after digits: longer than between two of them, for nothing else tells that these were all
# how the digits of the other speakers are varied for training (`waves.Variation`), more than anything else is
SPEAKERS = {"speed": (0.8, 1.25), "tilt_db": (-4.0, 4.0), "peak_db": (-10.0, 10.0)}
TELEPHONE = 0.5  # share of the strings said by the kit's own voices that have a telephone's band in training
TRIM_DB = 35  # a recorded digit begins and ends where it is this much under its loudest frame
SWALLOWED = 0.5  # share of the recorded digits whose beginning or end is hardly said in training
MOST_TURNS = 15  # of a stream, as in the paper


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


def without_edges(waveform: np.ndarray) -> np.ndarray:
    """A recorded digit without the silence around it, which in some is as long as that between two strings."""
    from librosa.effects import trim

    return trim(waveform, top_db=TRIM_DB, frame_length=512, hop_length=128)[0]


def at_rate(waveform: np.ndarray, rate: float) -> np.ndarray:
    """Words said faster or slower by the same throat."""
    from librosa.effects import time_stretch

    return waveform if rate == 1.0 else time_stretch(waveform, rate=rate, n_fft=512)


def swallowed(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A word whose beginning or end is hardly said: 6 to 30 dB quieter there, over 10 to 30 % of its length.

    Of "nine" and "five" a listener may hear little more than the vowel. Who has only met clear ones takes the vowel
    alone for one of the two.
    """
    n = int(len(waveform) * rng.uniform(0.1, 0.3))
    gain = np.ones(len(waveform), np.float32)
    gain[:n] += (10 ** (-rng.uniform(6, 30) / 20) - 1) * (1 - np.linspace(0, 1, n, dtype=np.float32) ** 2)
    return waveform * (gain if rng.random() < 0.6 else gain[::-1])


def by_telephone(waveform: np.ndarray) -> np.ndarray:
    """Nothing above 4 kHz, as in the recorded digits."""
    from librosa import resample

    return resample(resample(waveform, orig_sr=16_000, target_sr=8_000), orig_sr=8_000, target_sr=16_000)


def with_own_noise(waveform: np.ndarray) -> np.ndarray:
    """The same, but its steady noise is left in (γ = 0)."""
    return tfjp(waveform, TFJPConfig(gamma=0.0)).waveform


@dataclass
class Sources:
    """What recipes draw from. Two `Sources` with disjoint clips and voices make a split."""

    sounds: ClipLibrary
    voices: tuple[Voice, ...]
    digits: ClipLibrary = field(default_factory=lambda: ClipLibrary([]))  # recorded ones
    recorded: float = 0.7  # share of the strings of digits that are said by recordings, where there are some
    held_out: bool = False  # also vary rooms, speeds and equalisers outside the training ranges
    planner: Planner = field(
        default_factory=Rules
    )  # plans, refines, verifies; see `chat.planner_from`
    embed: Embed | None = None  # sentence embeddings for retrieval; TF-IDF when None
    speak: Callable = speak  # or `roundtrip.checked_speak`, which hears every line again
    _grounder: Grounder | None = field(default=None, init=False, repr=False)

    @property
    def grounder(self) -> Grounder:
        """Finds clips in the sounds as they are now; what it measured is kept."""
        if self._grounder is None or self._grounder.library is not self.sounds:
            self._grounder = Grounder(self.sounds, self.planner, self.held_out, self.embed)
        return self._grounder

    def preload(self, progress: bool = False) -> None:
        """Load every clip now, so that worker processes share them."""
        for library in filter(None, (self.sounds, self.digits)):
            library.preload(progress)

    @classmethod
    def embedded(cls, held_out: bool = False, variants: int = 32) -> Sources:
        """The kit's own sounds and voices; the held-out half shares no sound and no voice."""
        voices = HELD_OUT_VOICES if held_out else TRAIN_VOICES
        sounds = ClipLibrary.bundled(variants, held_out).prepared(preprocessed)
        return cls(sounds, voices, held_out=held_out)

    @classmethod
    def with_real(cls, folders: Sequence[str | Path], held_out: bool = False) -> Sources:
        """The embedded sources, and real recordings from ESC-10/ESC-50, FSDD or labelled folders.

        ESC's folds 1-3 are for training, 4 and 5 held out; of the digits, speaker lucas is held
        out.
        """
        sources = cls.embedded(held_out)
        for folder in map(Path, folders):
            if any(folder.glob("*/[1-5]-*-[A-Z].*")):
                real = ClipLibrary.esc10(folder, (4, 5) if held_out else (1, 2, 3))
                # with and without their own noise, for a microphone denoises nothing
                sources.sounds += real.prepared(preprocessed)
                sources.sounds += real.prepared(with_own_noise, "-noisy")
            elif any(folder.glob("[0-9]_*_*.wav")):
                digits = ClipLibrary.fsdd(folder).only(lambda e: (e.speaker == HELD_OUT_SPEAKER) == held_out)
                if not held_out:  # with and without their own noise, which not every microphone lets through
                    digits += digits.prepared(preprocessed, "-denoised")
                sources.digits += digits.prepared(without_edges)
            else:
                split = "test" if held_out else "train"
                sources.sounds += folder_clips(folder, split).prepared(preprocessed)
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
        self.decisions: list[Decision] = []  # why each clip was taken
        self.layers: list[str] = []  # labels heard behind the foreground
        # apart, so that what is planned does not shift what a recipe draws
        self.scene_rng = rng.spawn(1)[0]
        self._plan()

    def _plan(self, bag: Sequence[str] | None = None, place: str | None = None) -> None:
        planner, labels = self.sources.planner, self.sources.sounds.labels
        self.scenario = planner.refine(planner.plan(self.scene_rng, labels, bag, place))
        self.place = self.scenario.places[0]  # where the listener is
        self.waiting = list(self.scenario.events)  # planned, and not heard yet

    def settle(self, place: str) -> None:
        """Let the scene be in a place, before anything is heard."""
        self._plan(place=place)

    def pick(self, options):
        """One of a sequence."""
        return options[int(self.rng.integers(len(options)))]

    def gap(self) -> float:
        """Silence before the next clip, in seconds."""
        return float(self.rng.uniform(0.5, 1.6))

    def say(self, text: str, reply: str | None = None, language: str = "en") -> None:
        """Somebody speaks; ``reply`` is due when they end."""
        waveform = self.sources.speak(text, self.voice, language)
        clip = Clip(waveform, "speech", "speech", text, text, language, self.voice.name)
        self.items.append(Item(clip, reply=reply, gap_s=self.gap()))
        self._note(clip, "spoken", f"said by voice {self.voice.name}")
        self.scenario = joined(self.scenario, "person")

    def digits(self, string: str) -> None:
        """Somebody says digits one by one, then no more for a while, and wants them written."""
        library, written = self.sources.digits, " ".join(string)
        recorded = bool(library) and self.rng.random() < self.sources.recorded
        if recorded:
            self._recorded(library, string, written)
        else:
            self.say(", ".join(DIGIT_NAMES[int(d)] for d in string), written)
        clip = self.items[-1].clip
        waveform = clip.waveform
        # many voices as the few recorded speakers sound, so that these are no dialect of their own
        if not recorded and not self.sources.held_out and self.rng.random() < TELEPHONE:
            waveform = by_telephone(waveform)
        waveform = np.pad(waveform, (0, int(DIGITS_PAUSE_S * 16_000)))
        self.items[-1] = replace(self.items[-1], clip=replace(clip, waveform=waveform))

    def _recorded(self, library: ClipLibrary, string: str, written: str) -> None:
        """Say digits by recordings of them, all of one speaker."""
        speaker = self.pick(sorted({entry.speaker for entry in library.entries}))
        own = library.only(lambda entry: entry.speaker == speaker)
        how, rate, parts = draw_variation(self.rng, self.sources.held_out), 1.0, []
        if not self.sources.held_out:  # a few speakers stand for many: other throats, microphones and rates
            wider = {name: self.rng.uniform(*bounds) for name, bounds in SPEAKERS.items()}
            how, rate = replace(how, **wider), self.rng.uniform(*SPEAKERS["speed"])
        for digit in string:
            pause = np.zeros(int(self.rng.uniform(0.05, 0.2) * 16_000), np.float32)
            said = at_rate(own.draw("speech", self.rng, digit).waveform, rate)
            if not self.sources.held_out and self.rng.random() < SWALLOWED:
                said = swallowed(said, self.rng)
            parts += [said, pause]
        waveform = vary(np.concatenate(parts[:-1]), how, self.rng)
        spoken = " ".join(DIGIT_NAMES[int(d)] for d in string)
        clip = Clip(waveform, "speech", "fsdd", written, spoken, "en", speaker)
        self.items.append(Item(clip, reply=written, gap_s=self.gap()))
        self._note(clip, "spoken", f"recorded digits of speaker {speaker}")

    def _note(self, clip: Clip, outcome: str, why: str) -> None:
        """Log a clip that was not searched for."""
        about = (clip.label, "foreground", clip.text, round(clip.duration_s, 2))
        self.decisions.append(Decision(*about, outcome, f"{clip.source}/{clip.name}", why))

    def clip(self, label: str, role: str = "foreground") -> Clip:
        """A clip for a label, as planned or as usual: found, judged (`grounding.py`), varied."""
        planned = next((e for e in self.waiting if (e.label, e.role) == (label, role)), None)
        if planned:
            self.waiting.remove(planned)
        event = planned or event_of(label, role, self.place, self.scene_rng)
        grounded = self.sources.grounder.ground(event, self.rng)
        self.decisions.append(grounded.decision)
        return self.varied(grounded.clip)

    def varied(self, clip: Clip) -> Clip:
        """The clip in another room, speed and colour; procedural ones come varied."""
        if clip.source == "procedural":
            return clip
        how = draw_variation(self.rng, self.sources.held_out)
        return replace(clip, waveform=vary(clip.waveform, how, self.rng)[: int(LONGEST_S * 16_000)])

    def sound(self, label: str, reply: str | None = None, clip: Clip | None = None) -> None:
        """A sound happens; ``reply`` is due when it ends. The scene adapts to it where it must."""
        sound = ontology()[label]
        if not self.heard and self.place not in sound.places:
            self._plan(bag=[label])
        self.scenario = admit(self.scenario, label, self.heard)
        self.place = next(p for p in (self.place, *self.scenario.places[::-1]) if p in sound.places)
        if clip is None:
            clip = self.clip(label)
        else:
            self._note(clip, "chosen", "the recipe asked for this clip")
        emotion = sound.emotion if reply in sound.replies else "normal"
        self.items.append(Item(clip, reply=reply, emotion=emotion, gap_s=self.gap()))
        self.heard.append(label)

    def hazard(self, criterion: str | None = None) -> None:
        """A sound that asks for help by itself (paper §3.3), with its advice."""
        if label := self.choose("respond", criterion):
            self.sound(label, self.pick(ontology()[label].replies))

    def benign(self) -> None:
        """A sound that deserves no reply, if the recipe leaves any."""
        if label := self.choose("ignore"):
            self.sound(label)

    def known(self, policy: str) -> list[Sound]:
        """Sounds of a policy that may happen by themselves here."""
        have = set(self.sources.sounds.labels) - self.excluded
        return [s for s in ontology().values() if s.policy == policy and s.label in have]

    def here(self, policy: str, criterion: str | None = None) -> list[Sound]:
        """Known sounds that fit the scene; if hardly any does, all, and the scene will move."""
        able = [s for s in self.known(policy) if criterion in (None, s.criterion)]
        fits = fitting(self.place, self.scenario.time, self.scenario.people)
        here = [s for s in able if s.label in fits]
        return here if len(here) > 1 else able

    def choose(self, policy: str, criterion: str | None = None) -> str | None:
        """The label of the next planned sound of a policy, or of another that may happen here."""
        about = (self.scenario.time, self.scenario.people)
        able = {s.label for s in self.known(policy) if criterion in (None, s.criterion)}
        for event in self.waiting:
            if event.role == "foreground" and event.label in able & fitting(event.place, *about):
                return event.label
        here = {s.label for s in self.here(policy, criterion)}
        return pick_fair(self.scene_rng, here) if here else None

    def layer(self, role: str) -> str | None:
        """A benign label for a layer, planned or fitting; nothing that is heard excludes it."""
        heard = [*(item.clip.label for item in self.items), *self.layers]
        able = {s.label for s in self.known("ignore") if role in s.role
                and not any(excluded(s.label, other) for other in heard)}  # fmt: skip
        about = (self.scenario.time, self.scenario.people)
        here = able & set().union(*(fitting(p, *about) for p in self.scenario.places))
        if not (here := here or (able if self.snr_db is not None else set())):
            return None
        here = here - set(self.layers) or here
        planned = (e.label for e in self.waiting if e.role == role and e.label in here)
        self.layers.append(next(planned, None) or pick_fair(self.scene_rng, here))
        return self.layers[-1]

    def used(self) -> tuple[Decision, ...]:
        """The decisions behind the clips that the stream has kept."""
        kept = {item.clip.name for item in self.items}  # not the source: "speech in a roar"
        log = ((d, d.clip.split("/", 1)[1]) for d in self.decisions)
        return tuple(d for d, name in log if d.role != "foreground" or name in kept)

    def length_s(self) -> float:
        """Seconds that the foreground takes at most."""
        return sum(item.gap_s + item.clip.duration_s + 0.11 for item in self.items)

    def chatter(self) -> None:
        """People talk, to nobody here."""
        self.say(self.pick(phrases()["chatter"]))

    def interlude(self) -> None:
        """Something unrelated: two times in five a benign sound, chatter, or a hazard."""
        what = self.rng.random()
        if what < 0.17:
            self.benign()
        elif what < 0.29 and not self.quiet:
            self.chatter()
        elif what < 0.40:
            self.hazard()


Recipe = Callable[[Script], Iterator[None]]


def write_script(recipe: Recipe, script: Script, interludes: bool = True) -> None:
    """Run a recipe, with interludes, until the stream is full; what does not fit is taken back."""

    def full() -> bool:
        return script.length_s() > script.limit_s or len(script.items) > MOST_TURNS

    for _ in recipe(script):
        if interludes and not full():
            script.interlude()
        if full():
            break
    while script.items and full():
        script.items.pop()
    if not script.items:  # the first turn alone was too long: one short sound always fits
        labels = sorted(set(script.sources.sounds.labels) & set(ontology()))
        script.sound("switch_click" if "switch_click" in labels else labels[0])


def backdrop(s: Script) -> list[Item]:
    """Up to two quiet benign sounds somewhere behind."""
    roles = [role for role in LAYERS if s.rng.random() < 0.3]
    return [Item(s.clip(label, role), role) for role in roles if (label := s.layer(role))]


def noise_tracks(s: Script) -> tuple[Clip, Clip] | None:
    """The two noise tracks; three streams in ten have none, nor has one in which nothing may be
    heard."""
    if s.snr_db is None and s.rng.random() < 0.3:
        return None
    ambient, event = s.layer("ambient"), s.layer("ambient")
    if not ambient or not event:
        return None
    return s.clip(event, "noise_event"), s.clip(ambient, "noise_ambient")
