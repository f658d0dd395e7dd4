"""The 7 abilities and 28 sub-tasks as recipes: what happens in a stream, and what is asked for.

Knows instructions, sounds and the replies they deserve (paper §3.2; the names of the sub-tasks are ours).
Does not know clips or levels (`script.py`, `compose.py`). Wordings live in ``texts/``. Taught in notebook 01.

A recipe is a generator over a `Script`: it says and plays things, and yields where something unrelated
may happen. The driver then slips in a benign sound, a chat between strangers or a hazard, so that in
every ability the model must keep silent for most of what it hears.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from aikit.config import AudioConfig
from aikit.synth.clips import Clip
from aikit.synth.compose import Stream, compose
from aikit.synth.ontology import Sound, ontology
from aikit.synth.script import Recipe, Script, Sources, backdrop, noise_tracks, phrases, words, write_script
from aikit.tokens import DEFAULT_INSTRUCTION

N_CHUNKS = 60  # 24 s, the paper's longest training stream


# --- proactive response: nobody asks ---------------------------------------------------------------
def proactive(criterion: str) -> Recipe:
    """Hazards of one criterion among benign sounds."""

    def recipe(s: Script) -> Iterator[None]:
        while True:
            for _ in range(s.rng.integers(0, 3)):
                s.benign()
            s.hazard(criterion)
            yield

    return recipe


# --- real-time ASR ---------------------------------------------------------------------------------
def asr_digits(s: Script) -> Iterator[None]:
    """Digit strings, written as digits."""
    s.quiet = True
    s.instruct(**{k: phrases()["asr"]["digits"][k] for k in ("instructions", "ack")})
    while True:
        s.digits("".join(str(d) for d in s.rng.integers(0, 10, s.rng.integers(1, 6))))
        yield


def transcribe(kind: str, noisy: bool = False) -> Recipe:
    """Lines, written as they are said; ``noisy`` lowers the SNR to 0-8 dB."""

    def recipe(s: Script) -> Iterator[None]:
        book, s.quiet = phrases()["asr"][kind], True
        if noisy:
            s.snr_db = float(s.rng.uniform(0, 8))
        s.instruct(book["instructions"], book["ack"])
        while True:
            line = s.pick(book["lines"])
            s.say(line, line)
            yield

    return recipe


# --- streaming translation -------------------------------------------------------------------------
def translate(pair: str, source: str, phrase_by_phrase: bool = False) -> Recipe:
    """Phrases, translated one by one; simultaneous = two phrases with hardly a pause."""

    def recipe(s: Script) -> Iterator[None]:
        book, s.quiet = phrases()["translation"][pair], True
        s.instruct(book["instructions"], book["ack"])
        while True:
            for i in range(2 if phrase_by_phrase else 1):
                said, meant = s.pick(book["pairs"])
                s.say(said, meant, source)
                if i:
                    s.items[-1] = replace(s.items[-1], gap_s=float(s.rng.uniform(0.25, 0.4)))
            yield

    return recipe


# --- voice chatting --------------------------------------------------------------------------------
def chat(kind: str) -> Recipe:
    """Questions with one right answer."""

    def recipe(s: Script) -> Iterator[None]:
        while True:
            s.say(*s.pick(phrases()["chat"][kind]))
            yield

    return recipe


def slots(s: Script) -> Iterator[None]:
    """A name told early and asked for later (history review, paper §3.3)."""
    book = phrases()["chat"]["slots"]
    value = s.pick(book["values"])
    s.say(book["tell"].format(value=value), book["told"].format(value=value))
    yield
    for _ in range(2):
        s.say(*s.pick(phrases()["chat"]["small_talk"]))
        yield
    while True:
        s.say(book["ask"], book["answer"].format(value=value))
        yield
        s.benign()
        yield


def smart_home(s: Script) -> Iterator[None]:
    """Commands from a grammar, confirmed."""
    book = phrases()["chat"]["smart_home"]
    while True:
        values = {k: s.pick(book[k + "s"]) for k in ("state", "thing", "room")}
        s.say(book["say"].format(**values), book["reply"].format(**values))
        yield


# --- streaming audio understanding -----------------------------------------------------------------
def name_sound(s: Script) -> Iterator[None]:
    """What was that?"""
    while True:
        s.benign()
        s.say(s.pick(phrases()["understanding"]["name"]["questions"]), ontology()[s.heard[-1]].answer)
        yield


def count_sounds(s: Script) -> Iterator[None]:
    """How many of one sound were there? The listener must have kept count."""
    book, numbers = phrases()["understanding"]["count"], phrases()["numbers"]
    sound = _countable(s)
    s.excluded.add(sound.label)
    while True:
        for _ in range(s.rng.integers(1, 4)):
            s.sound(sound.label)
            if s.rng.random() < 0.3:
                s.benign()
        if s.heard.count(sound.label) >= len(numbers):
            return
        number = numbers[s.heard.count(sound.label)].capitalize()
        question = s.pick(book["questions"]).format(plural=sound.plural)
        s.say(question, book["answer"].format(number=number))
        yield


def order(s: Script) -> Iterator[None]:
    """Which of the sounds came first?"""
    book = phrases()["understanding"]["order"]
    s.benign()
    s.benign()
    while True:
        answer = book["answer"].format(name=ontology()[s.heard[0]].name)
        s.say(s.pick(book["questions"]), answer)
        yield
        s.benign()


def place(s: Script) -> Iterator[None]:
    """Where am I? The ambience and the sounds of a place tell."""
    book = phrases()["understanding"]["place"]
    where = s.pick(book["places"])
    typical = [x.label for x in s.known("ignore") if where in x.places]
    s.excluded |= {x.label for x in ontology().values() if where not in x.places}
    while True:
        for _ in range(2):
            s.sound(s.pick(typical))
        s.say(s.pick(book["questions"]), book["answer"].format(place=where.replace("_", " ")))
        yield


# --- streaming instruction following ---------------------------------------------------------------
def tell_when(s: Script) -> Iterator[None]:
    """A benign sound becomes one to report, because of the instruction."""
    book, sound = phrases()["following"]["tell_when"], s.pick(s.known("ignore"))
    s.instruct(book["instructions"], book["ack"], name=sound.name)
    s.excluded.add(sound.label)
    while True:
        yield
        for _ in range(s.rng.integers(0, 2)):
            s.benign()
        s.sound(sound.label, book["reply"].format(name=sound.name))


def count_live(s: Script) -> Iterator[None]:
    """Count one sound aloud while others happen."""
    book, numbers, sound = phrases()["following"]["count_live"], phrases()["numbers"], _countable(s)
    s.instruct(book["instructions"], book["ack"], plural=sound.plural)
    s.excluded.add(sound.label)
    for number in numbers[1:]:
        yield
        s.sound(sound.label, number.capitalize() + ".")
    yield


def stop(s: Script) -> Iterator[None]:
    """An instruction holds until it is taken back."""
    book, sound = phrases()["following"], s.pick(s.known("ignore"))
    s.excluded.add(sound.label)
    s.instruct(book["tell_when"]["instructions"], book["tell_when"]["ack"], name=sound.name)
    for _ in range(s.rng.integers(1, 3)):
        s.sound(sound.label, book["tell_when"]["reply"].format(name=sound.name))
        yield
    s.say(s.pick(book["stop"]["instructions"]), book["stop"]["ack"])
    while True:
        s.sound(sound.label)
        yield


def one_word(s: Script) -> Iterator[None]:
    """Name every sound, in a given form."""
    book = phrases()["following"]["form"]
    s.instruct(book["instructions"], book["ack"])
    s.excluded |= {x.label for x in s.known("ignore")}  # every sound is named, also by chance ones
    labels = sorted(s.excluded)
    while True:
        label = s.pick(labels)
        s.sound(label, ontology()[label].name.capitalize() + ".")
        yield


# --- environment-aware agent -----------------------------------------------------------------------
def appliance(s: Script) -> Iterator[None]:
    """The washing machine is done."""
    book = phrases()["agent"]["appliance"]
    s.instruct(book["instructions"], book["ack"])
    s.excluded.add("appliance_beep")
    while True:
        yield
        s.benign()
        s.sound("appliance_beep", book["reply"])


def reminder(s: Script) -> Iterator[None]:
    """When this sounds, remind me of that."""
    label, instruction, ack, reply = s.pick(phrases()["agent"]["reminder"]["pairs"])
    s.instruct([instruction], ack)
    s.excluded.add(label)
    while True:
        yield
        s.benign()
        s.sound(label, reply)


def instrument(s: Script) -> Iterator[None]:
    """Which instrument is playing?"""
    book = phrases()["agent"]["instrument"]
    while True:
        label = s.pick(book["labels"])
        s.sound(label)
        s.say(s.pick(book["questions"]), book["answer"].format(name=ontology()[label].name))
        yield


def too_noisy(s: Script) -> Iterator[None]:
    """A question drowned in noise deserves a question back."""
    while True:
        if s.rng.random() < 0.6:
            question, _ = s.pick(phrases()["chat"]["facts"])
            s.say(question, phrases()["agent"]["noisy"]["reply"])
            s.items[-1] = replace(s.items[-1], clip=_drowned(s.items[-1].clip, s.rng))
        else:
            s.say(*s.pick(phrases()["chat"]["facts"]))
        yield


def _drowned(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip under a roar 12 dB louder than itself."""
    power = np.sqrt(np.mean(np.square(clip.waveform)))
    roar = np.cumsum(rng.normal(size=len(clip.waveform)).astype(np.float32))
    roar = rng.normal(size=len(roar)).astype(np.float32) + np.diff(roar, prepend=0.0)
    roar *= 4.0 * power / np.sqrt(np.mean(np.square(roar)))
    return replace(clip, waveform=0.2 * (clip.waveform + roar))


def _countable(s: Script) -> Sound:
    """A benign sound short enough to be counted."""
    short = ("dog_bark", "cat_meow", "rooster", "church_bell", "switch_click", "camera_click", "laughter",
             "frog", "car_passby")  # fmt: skip
    return ontology()[s.pick([label for label in short if label in s.sources.sounds.labels])]


# ability -> sub-task -> (recipe, how often it is drawn)
ABILITIES: dict[str, dict[str, tuple[Recipe, float]]] = {
    "proactive response": {
        "body in distress": (proactive("body"), 3.0),
        "weather or natural hazard": (proactive("weather"), 3.0),
        "equipment or fire": (proactive("equipment"), 3.0),
        "traffic and alarms": (proactive("safety"), 3.0),
    },
    "real-time ASR": {
        "digit strings": (asr_digits, 1.5),
        "short commands": (transcribe("commands"), 0.7),
        "read sentences": (transcribe("sentences"), 0.7),
        "speech in noise": (transcribe("sentences", noisy=True), 0.3),
    },
    "streaming translation": {
        "en→es": (translate("en_es", "en"), 1.0),
        "es→en": (translate("es_en", "es"), 0.7),
        "en→zh": (translate("en_zh", "en"), 0.7),
        "simultaneous": (translate("en_es", "en", phrase_by_phrase=True), 0.3),
    },
    "voice chatting": {
        "small talk": (chat("small_talk"), 0.7),
        "closed-set facts": (chat("facts"), 0.7),
        "slots remembered": (slots, 0.5),
        "smart home": (smart_home, 0.7),
    },
    "streaming audio understanding": {
        "name the sound": (name_sound, 1.0),
        "count": (count_sounds, 0.7),
        "order": (order, 0.4),
        "place": (place, 0.4),
    },
    "streaming instruction following": {
        "tell me when": (tell_when, 1.2),
        "count live": (count_live, 1.2),
        "stop the instruction": (stop, 0.5),
        "answer in one word": (one_word, 0.7),
    },
    "environment-aware agent": {
        "appliance finished": (appliance, 0.5),
        "reminder on a sound": (reminder, 0.5),
        "instrument": (instrument, 0.5),
        "too noisy": (too_noisy, 0.4),
    },
}


def silence(s: Script) -> Iterator[None]:
    """Nothing here deserves a reply (comprehension-aware silence, paper §3.3)."""
    while True:
        s.benign() if s.rng.random() < 0.75 else s.say(s.pick(phrases()["chatter"]))
        yield


def dictation(s: Script) -> Iterator[None]:
    """Words in random order, for stage 0 alone: nobody has to answer them."""
    while True:
        language = "es" if s.rng.random() < 0.15 else "en"
        s.say(" ".join(s.rng.choice(words(language), s.rng.integers(2, 8))), language=language)
        s.items[-1] = replace(s.items[-1], gap_s=float(s.rng.uniform(0.1, 0.6)))
        if s.rng.random() < 0.3:  # every sentence another voice
            s.voice = s.pick(s.sources.voices)
        yield


# what a stream may also be made of, beside the sub-tasks
EXTRA: dict[str, Recipe] = {"silence": silence, "dictation": dictation}

# groups of sub-tasks that the training recipe mixes (paper §3.3)
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(task for tasks in ABILITIES.values() for task in tasks),
    "proactive": tuple(ABILITIES["proactive response"]),
    "history": ("slots remembered", "count", "order", "stop the instruction"),
    "silence": ("silence",),
    "dictation": ("dictation",),
}


def sub_tasks(ability: str | None = None) -> dict[str, tuple[str, Recipe, float]]:
    """Sub-task -> (ability, recipe, weight), of one ability or of all.

    Raises
    ------
    ValueError
        For an unknown ability.
    """
    if ability is not None and ability not in ABILITIES:
        raise ValueError(f"no ability {ability!r}; choose one of: {', '.join(ABILITIES)}")
    chosen = ABILITIES if ability is None else {ability: ABILITIES[ability]}
    return {task: (name, *entry) for name, tasks in chosen.items() for task, entry in tasks.items()}


def make_stream(
    sources: Sources,
    seed: int,
    ability: str | None = None,
    sub_task: str | None = None,
    n_chunks: int = N_CHUNKS,
    keep_layers: bool = False,
) -> Stream:
    """Make one stream; the same sources and arguments give the same bytes.

    Parameters
    ----------
    ability, sub_task : fix either, or leave them to chance
    n_chunks : length in chunks of 400 ms
    """
    rng = np.random.default_rng((seed, int(sources.held_out)))
    tasks = sub_tasks(ability)
    if sub_task in EXTRA:
        tasks = {sub_task: ("", EXTRA[sub_task], 1.0)}
    if sub_task is None:
        weights = np.array([weight for _, _, weight in tasks.values()])
        sub_task = list(tasks)[rng.choice(len(tasks), p=weights / weights.sum())]
    elif sub_task not in tasks:
        raise ValueError(f"no sub-task {sub_task!r}; choose one of: {', '.join(tasks)}")
    ability, recipe, _ = tasks[sub_task]
    script = Script(sources, rng, n_chunks * AudioConfig().chunk_s - 0.9)
    write_script(recipe, script, interludes=sub_task not in EXTRA)
    stream = compose(
        [*script.items, *backdrop(script)],
        rng,
        noise=noise_tracks(script),
        snr_db=script.snr_db,
        n_chunks=n_chunks,
        gain_db=float(rng.uniform(-18, 3)),
        keep_layers=keep_layers,
    )
    return replace(
        stream, ability=ability, sub_task=sub_task, instruction=script.instruction, seed=seed
    )


def all_texts() -> list[str]:
    """Every wording of the kit once, with its slots filled: what the tokenizer is trained on."""
    texts: list[str] = [DEFAULT_INSTRUCTION]
    for sound in ontology().values():
        texts += [sound.name, sound.name.capitalize() + ".", sound.plural, sound.answer, *sound.replies]

    def collect(node) -> None:
        if isinstance(node, str):
            texts.append(node)
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(child)

    collect(phrases())
    texts += [number.capitalize() + "." for number in phrases()["numbers"]]
    home = phrases()["chat"]["smart_home"]
    texts += [home["reply"].format(state=a, thing=b, room=c)
              for a in home["states"] for b in home["things"] for c in home["rooms"]]  # fmt: skip
    texts += [f"{a} {b} {c}" for a in range(10) for b in range(10) for c in range(10)]
    return texts
