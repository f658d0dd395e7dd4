"""Scenes: six small stories, written once, that everybody can listen to.

Knows what happens in each scene and what a listener should say to it. Does not know files
(`samples.py`) or levels (`compose.py`). The script is that of `abilities.py`; nothing is left to
chance. Heard in notebook 00, taken apart in notebook 01.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aikit.config import AudioConfig
from aikit.synth.clips import Clip
from aikit.synth.compose import Stream, compose, place_foreground
from aikit.synth.ontology import ontology
from aikit.synth.script import Script, Sources, phrases

LONGEST_S = 4.0  # of one sound
SNR_DB = 20.0  # foreground over the noise of the place
GAIN_DB = -6.0  # of the whole scene
SHORTEST_S = 20.0  # a scene
TAIL_S = 2.0  # after the last event: time to hear that it is over
DRAWS = 12  # clips to choose a short one from


class SceneScript(Script):
    """A script of short sounds with a breath between them."""

    pause_s = (1.0, 2.0)

    def gap(self) -> float:
        """Silence before the next clip, in seconds."""
        return float(self.rng.uniform(*self.pause_s))

    def clip(self, label: str, role: str = "foreground") -> Clip:
        """A clip as it is drawn: these scenes were chosen by ear, so no verifier decides."""
        return self.varied(self.sources.sounds.draw(label, self.rng))

    def play(
        self,
        label: str,
        reply: str | None = None,
        longest_s: float = LONGEST_S,
        at_s: float | None = None,
    ) -> None:
        """A sound of at most ``longest_s`` if there is one; a hazard gets its advice."""
        drawn = [self.clip(label) for _ in range(DRAWS)]
        short = [clip for clip in drawn if clip.duration_s <= longest_s]
        advice = self.pick(ontology()[label].replies or [None])
        clip = short[0] if short else min(drawn, key=lambda clip: clip.duration_s)
        self.sound(label, reply or advice, clip)
        if at_s is not None:
            _, now = place_foreground(self.items[:-1])
            self.items[-1] = replace(self.items[-1], gap_s=max(1.0, at_s - now))


# --- the docstring is the title -------------------------------------------------------------------
def kitchen(s: SceneScript) -> None:
    """A kitchen where a smoke alarm goes off."""
    for label in ("chopping", "frying", "pouring_water", "clock_tick"):
        s.play(label, longest_s=2.2)
    s.play("smoke_alarm", at_s=15.0)
    s.play("pouring_water")
    s.play("chopping")


def office(s: SceneScript) -> None:
    """An office where people talk; late, somebody knocks."""
    for label in ("typing", "paper_crumple", "switch_click"):
        s.play(label, longest_s=3.0)
    s.say(phrases()["chatter"][1])
    s.play("typing", longest_s=3.0)
    s.say(phrases()["chatter"][7])
    s.play("door_knock", at_s=24.0)
    s.play("footsteps")


def street(s: SceneScript) -> None:
    """A street with birds; an ambulance comes."""
    for label in ("car_passby", "footsteps", "bird_song", "siren", "car_passby", "bird_song"):
        s.play(label)


def count_barks(s: SceneScript) -> None:
    """Count the barks: each gets the next number, nothing else gets a word."""
    book, numbers = phrases()["acts"]["count"], iter(phrases()["numbers"][1:])
    values = {"plural": ontology()["dog_bark"].plural}
    s.say(book["say"][0].format(**values), book["ack"].format(**values))
    for label in ("dog_bark", "dog_bark", "cat_meow", "dog_bark", "car_passby", "dog_bark"):
        if label == "dog_bark":  # one bark, not a dog that goes on
            s.play(label, next(numbers).capitalize() + ".", longest_s=0.7)
        else:
            s.play(label, longest_s=3.0)


def translate(s: SceneScript) -> None:
    """Translate what I say, phrase by phrase."""
    book, s.pause_s = phrases()["acts"]["translate en es"], (2.0, 3.0)
    s.say(book["say"][0], book["ack"])
    pairs = phrases()["translation"]["en_es"]["pairs"]
    for i in s.rng.permutation(len(pairs))[:4]:
        s.say(*pairs[i])


def cough_and_music(s: SceneScript) -> None:
    """A cough deserves a word, the music after it does not."""
    for label in ("clock_tick", "cough", "piano", "guitar", "drum_kit", "piano"):
        s.play(label)


@dataclass(frozen=True)
class Scene:
    """A recipe, what can be heard of the place (very quietly), and a seed."""

    recipe: Callable[[SceneScript], None]
    noise: tuple[str, str]
    seed: int = 0
    ability: str = "proactive response"


SCENES = {
    scene.recipe.__name__: scene
    for scene in (
        Scene(kitchen, ("fan_hum", "rain")),
        Scene(office, ("fan_hum", "engine_idle"), 2),
        Scene(street, ("engine_idle", "car_passby")),
        Scene(count_barks, ("rain", "fan_hum"), 6, "streaming instruction following"),
        Scene(translate, ("fan_hum", "engine_idle"), 0, "streaming translation"),
        Scene(cough_and_music, ("fan_hum", "rain"), 1),
    )
}


def make_scene(name: str, seed: int = 0, sources: Sources | None = None) -> Stream:
    """Make one of `SCENES`: 20-60 s; the same name and seed give the same bytes.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if name not in SCENES:
        raise ValueError(f"no scene {name!r}; choose one of: {', '.join(SCENES)}")
    scene, config = SCENES[name], AudioConfig()
    rng = np.random.default_rng((seed, scene.seed, zlib.crc32(name.encode())))
    script = SceneScript(sources or Sources.embedded(held_out=True), rng, limit_s=60.0)
    scene.recipe(script)
    length_s = max(SHORTEST_S, place_foreground(script.items)[1] + TAIL_S)
    stream = compose(
        script.items,
        rng,
        noise=tuple(script.clip(label) for label in scene.noise),
        snr_db=SNR_DB,
        n_chunks=int(np.ceil(length_s / config.chunk_s)),
        gain_db=GAIN_DB,
    )
    return replace(stream, ability=scene.ability, sub_task=name, seed=seed)
