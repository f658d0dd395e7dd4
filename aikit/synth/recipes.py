"""What happens in a stream of each sub-task: 28 recipes, and three more for training.

Knows the order of instructions, sounds and questions (paper §3.2, §3.3). Does not know wordings
(`dialogue.py`) or which reply is due (`rules.py`). Taught in notebook 01.

A recipe is a generator over a `Dialogue`: it says and plays things, and yields where something unrelated
may happen. The driver then slips in a benign sound, a chat between strangers or a hazard, so that in
every ability the model must keep silent for much of what it hears. Many recipes begin before their
instruction does, or go on after it was taken back: the same sounds then deserve nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from aikit.synth.clips import Clip
from aikit.synth.dialogue import Dialogue
from aikit.synth.grammar import own_words
from aikit.synth.ontology import ontology
from aikit.synth.script import phrases, words

Turns = Iterator[None]
Recipe = Callable[[Dialogue], Turns]
FAR = 3  # turns that an answer reviewing history lies behind
MOST = 6  # times that a sound is counted


def benign_labels(s: Dialogue) -> list[str]:
    """Labels of benign sounds that may happen here."""
    return [sound.label for sound in s.here("ignore")]


def countable(s: Dialogue) -> list[str]:
    """Labels of benign sounds that can be counted."""
    return [label for label in s.countable() if ontology()[label].policy == "ignore"]


# --- proactive response: nobody asks, but somebody may have said what is no hazard today ---------------
def proactive(criterion: str) -> Recipe:
    """Hazards of one criterion among benign sounds, half of the time under a rule about them."""

    def recipe(s: Dialogue) -> Turns:
        able = [x.label for x in s.here("respond", criterion)]
        named = s.pick(able)
        rule = s.rng.choice(
            ["", "ignore", "watch", "only", "wait"], p=(0.35, 0.30, 0.12, 0.16, 0.07)
        )
        if rule and s.chance(0.3):  # it counts before
            s.sound(named)
        if rule in ("ignore", "watch"):
            s.expect(named)
        elif rule == "only":
            s.instruct(f"only {named}")
        elif rule == "wait":
            s.instruct("wait")
        yield
        for i in range(15):
            if s.chance(0.35):
                s.benign()
            s.sound(named if rule and s.chance(0.75) else s.pick(able))
            yield
            if rule == "watch" and i == 1:
                s.instruct(f"watch {named}")

    return recipe


# --- real-time ASR and streaming translation: the same lines, asked for or not --------------------------
def task_on_lines(
    instruction: str, line: Callable[[Dialogue], None], other: Callable[[Dialogue], None] | None
) -> Recipe:
    """Lines before, during and after a task; ``other`` ones are not meant by it."""

    def recipe(s: Dialogue) -> Turns:
        s.quiet = True
        if s.chance(0.3):
            line(s)
        s.instruct(instruction)
        yield
        until = int(s.rng.integers(2, 5)) if s.chance(0.3) else 15
        for i in range(15):
            if i == until:
                s.instruct("stop")
            line(s)
            if other and s.chance(0.25):
                other(s)
            yield

    return recipe


def transcribe(kind: str, noisy: bool = False) -> Recipe:
    """Digits as digits, other lines as they are said; ``noisy`` lowers the SNR to 0-8 dB."""
    sentences = (lambda s: s.line("sentences")) if kind == "digits" else None
    recipe = task_on_lines(f"write {kind}", lambda s: s.line(kind), sentences)

    def in_noise(s: Dialogue) -> Turns:
        s.snr_db = float(s.rng.uniform(0, 8))
        yield from recipe(s)

    return in_noise if noisy else recipe


def translate(source: str, target: str, simultaneous: bool = False) -> Recipe:
    """Phrases, translated one by one; simultaneous = with hardly a pause between two."""

    def phrase(s: Dialogue) -> None:
        for i in range(2 if simultaneous else 1):
            s.phrase(source, target)
            if i:
                s.items[-1] = replace(s.items[-1], gap_s=float(s.rng.uniform(0.25, 0.4)))

    english = None if source == "en" else (lambda s: s.speech(s.statement(), "talk en"))
    return task_on_lines(f"translate {source} {target}", phrase, english)


# --- voice chatting: to the assistant, or to somebody else ----------------------------------------------
def chat(ask: Callable[[Dialogue], None]) -> Recipe:
    """Words to the assistant among words that are not, and at times a while when none is."""

    def recipe(s: Dialogue) -> Turns:
        leave, come = (s.rng.integers(0, 3), s.rng.integers(4, 6)) if s.chance(0.4) else (-1, -1)
        for i in range(15):
            if i in (leave, come):
                s.instruct("quiet" if i == leave else "back")
            if s.chance(0.3) and not s.listener.quiet:
                s.others()
            else:
                ask(s)
            yield

    return recipe


def home_or_talk(s: Dialogue) -> None:
    """A command to the house, or a word about the same things."""
    if s.chance(0.8):
        return s.home()
    book = phrases()["chat"]["smart_home"]
    thing, room = (s.pick(phrases_of(name)) for name in ("thing", "room"))
    text = s.worded_as(s.pick(book["talk"]), thing=thing, room=room)
    s.speech(text, "talk en")


def phrases_of(slot: str) -> list[str]:
    """The values of a slot of the first grammar of the house."""
    from aikit.synth.grammar import language

    return language()["home"][0]["slots"][slot]


def slots(s: Dialogue) -> Turns:
    """A name, a city, a colour ... told early and asked for later (history review, paper §3.3)."""
    kinds = [str(kind) for kind in s.rng.permutation(list(phrases()["chat"]["slots"]))]
    tell_slot(s, kinds[0])
    if s.chance(0.5):
        tell_slot(s, kinds[1])
    for i in range(12):
        told = {
            k: turn for k, (turn, _) in s.listener.told.items() if s.listener.turn + 1 - turn >= FAR
        }
        if told and s.chance(0.85):
            kind = s.pick(sorted(told))
            text = s.worded_as(s.pick(phrases()["chat"]["slots"][kind]["ask"]))
            s.speech(s.called(text), f"recall {kind}")
        elif i and s.chance(0.15):
            tell_slot(s, s.pick(kinds[:2]))  # also again: the last value holds
        else:
            filler(s)
        yield


def tell_slot(s: Dialogue, kind: str) -> None:
    """Tell a value to be remembered."""
    book = phrases()["chat"]["slots"][kind]
    value = s.pick(book["values"])
    answer = book["told"].format(value=value)
    s.speech(s.worded_as(s.pick(book["tell"]), value=value), f"my {kind} {value}", answer=answer)


def filler(s: Dialogue) -> None:
    """A short turn in between."""
    what = s.rng.random()
    if what < 0.4:
        s.small_talk()
    elif what < 0.55:
        s.others()
    else:
        s.once(s.pick(countable(s)))


# --- streaming audio understanding ----------------------------------------------------------------------
def may_wait(s: Dialogue) -> None:
    """At times hazards are not to be told either: the listener is only to answer."""
    if s.chance(0.5):
        s.instruct("wait")


def untold(s: Dialogue) -> None:
    """A hazard now and then, where none is to be told."""
    if s.listener.waiting and s.chance(0.5):
        s.hazard()


def name_sound(s: Dialogue) -> Turns:
    """What was that? Not every sound is asked about, and not every question is for the assistant."""
    s.alone = True
    may_wait(s)
    for _ in range(15):
        s.hazard() if s.chance(0.35) else s.benign()
        if s.chance(0.7):
            s.ask("what")
        yield


def count_sounds(s: Dialogue) -> Turns:
    """How many of one sound were there? The listener must have kept count, for at least `FAR` turns."""
    able = countable(s)
    label = s.pick(able)
    others = [x for x in able if x != label]
    s.excluded.add(label)
    may_wait(s)
    n, asked = int(s.rng.integers(1, MOST + 1)), 0
    order = [label] * n + [
        s.pick(others) for _ in range(int(s.rng.integers(0, 3)) + max(0, FAR - n))
    ]
    rest = [str(x) for x in s.rng.permutation(order[1:])]
    for x in [label, *rest]:
        s.once(x)
    while asked < 3:
        s.ask("howmany", label, plural=ontology()[label].plural)
        asked += 1
        untold(s)
        yield
        s.once(s.pick(others))
        if s.chance(0.6) and n < MOST:
            s.once(label)
            n += 1
        yield


def tally(s: Dialogue) -> Turns:
    """How many so far? Asked again and again, of one sound or another: many counts in one stream, high ones too."""
    often, *seldom = s.rng.permutation(countable(s))[:3].tolist()
    s.excluded |= {often, *seldom}
    may_wait(s)
    sounds = int(s.rng.integers(1, MOST + 2))  # before the first question; few streams last for more than two
    while True:
        for _ in range(sounds):
            label = often if s.chance(0.8) else s.pick(seldom)
            if len(s.listener.turns_of(label)) < MOST:
                s.once(label)
        about = s.pick([label for label in (often, *seldom) if s.listener.turns_of(label)])
        s.ask("howmany", about, plural=ontology()[about].plural)
        sounds = int(s.rng.integers(1, 4))
        yield


def order(s: Dialogue) -> Turns:
    """Which of the sounds came first, or second? At least `FAR` turns ago."""
    s.alone = True
    may_wait(s)
    for _ in range(int(s.rng.integers(3, 5))):
        s.once(s.pick(countable(s))) if s.chance(0.5) else s.benign()
    for _ in range(10):
        far = {
            k: s.listener.turn + 1 - s.listener.heard[i][0] >= FAR
            for i, k in enumerate(("first", "second"))
        }
        if s.chance(0.7):
            s.ask(s.pick([kind for kind, able in far.items() if able]))
        else:
            s.benign()
        untold(s)
        yield


def place(s: Dialogue) -> Turns:
    """Where am I? The sounds of a place tell."""
    places = phrases()["understanding"]["places"]
    where = s.pick(list(places))
    s.settle(where)
    s.settle(where)
    here = [label for label in places[where] if label in s.sources.sounds.labels]
    elsewhere = {label for name, labels in places.items() if name != where for label in labels}
    s.excluded |= elsewhere - set(here)
    answer = phrases()["understanding"]["answers"]["where"]
    may_wait(s)
    for _ in range(10):
        s.sound(s.pick(here))
        if s.chance(0.3):
            s.benign()
        untold(s)
        s.ask("where", answer=s.worded_as(answer, place=where.replace("_", " ")))
        yield


# --- streaming instruction following --------------------------------------------------------------------
def begin(s: Dialogue, task: str) -> list[str]:
    """Give a task about sounds; return the labels that now matter."""
    if task == "tell":
        hazards = [x.label for x in s.known("respond")]
        # where "name every sound" came before, no benign one may be left
        labels = [s.pick((benign_labels(s) if s.chance(0.75) else hazards) or hazards)]
        act = f"tell {labels[0]}"
    elif task == "count":
        first, second = (str(x) for x in s.rng.permutation(s.countable())[:2])
        act = f"count {first}" + s.pick(["", "", f" -{second}", f" {second}"])
        labels = [first] if act.endswith(first) else [first, second]
    else:
        group = s.pick(["all", "animals", "music", "but"])
        known = [sound.label for sound in s.known("ignore")]
        free = known if group in phrases()["groups"] else benign_labels(s)
        act = f"name but {s.pick(free)}" if group == "but" else f"name {group}"
        labels = (
            free
            if group in ("all", "but")
            else [x for x in phrases()["groups"][group] if x in free]
        )
    s.excluded |= set(labels)
    if task != "name" and s.chance(0.4):
        play(s, task, labels)  # before anybody asked
    s.instruct(act)
    return labels


def play(s: Dialogue, task: str, labels: list[str]) -> None:
    """One of the sounds that matter, or would."""
    label = s.pick(labels)
    s.once(label) if task == "count" else s.sound(label)


def follow(task: str) -> Recipe:
    """One task about sounds, from its instruction to the end."""

    def recipe(s: Dialogue) -> Turns:
        labels = begin(s, task)
        yield
        for _ in range(15):
            if s.listener.counted == 6:
                return s.instruct("stop")
            if task != "count" and s.chance(0.3):
                s.hazard() if s.chance(0.5) else s.benign()
            play(s, task, labels)
            yield

    return recipe


def stop(s: Dialogue) -> Turns:
    """An instruction holds until it is taken back, or until another takes its place."""
    task = s.pick(["tell", "count", "name", "tell", "count"])
    labels = begin(s, task)
    for _ in range(s.rng.integers(1, 4)):
        play(s, task, labels)
        yield
    if s.chance(0.4):
        before, task = labels, s.pick(["tell", "count"])
        labels = begin(s, task)
        labels = labels + [x for x in before if task != "count" or x in s.countable()][:2]
    else:
        s.instruct("stop")
    for _ in range(12):
        if s.listener.counted == 6:
            return
        play(s, task, labels)
        yield


# --- environment-aware agent ----------------------------------------------------------------------------
def agent(kind: str) -> Recipe:
    """A machine that will beep, or a sound that is a reminder, until the matter is settled."""

    def recipe(s: Dialogue) -> Turns:
        slots = phrases()["acts"][kind]["slots"]
        label = "appliance_beep"
        if kind == "remind":
            label = s.pick([x for x in slots["label"] if x in s.sources.sounds.labels])
        s.excluded.add(label)
        if s.chance(0.3):
            s.sound(label)
        if kind == "machine":
            machine = s.pick(slots["machine"])
            s.instruct(f"machine {machine}", machine=machine)
        else:
            todo = s.pick(slots["todo"])
            s.instruct(f"remind {label} {todo}", todo=todo)
        until = int(s.rng.integers(1, 3)) if s.chance(0.3) else 15
        for i in range(12):
            yield
            if i == until:
                s.instruct("stop")
            if s.chance(0.5):
                s.benign()
            s.sound(label)

    return recipe


def instrument(s: Dialogue) -> Turns:
    """Which instrument is playing? Asked now and then, or once for all."""
    able = [x for x in phrases()["groups"]["music"] if x in s.sources.sounds.labels]
    s.excluded |= set(able)
    if by_name := s.chance(0.4):
        s.instruct("name music")
    for _ in range(12):
        s.sound(s.pick(able))
        if not by_name and s.chance(0.7):
            s.ask("instrument")
        yield


def too_noisy(s: Dialogue) -> Turns:
    """A question drowned in noise deserves a question back; a chat of others drowned in it does not."""
    for _ in range(10):
        if s.chance(0.2):
            s.others()
        elif s.chance(0.6):
            s.fact()
            noisy = phrases()["understanding"]["answers"]["noisy"]
            s.items[-1] = replace(s.items[-1], clip=drowned(s.items[-1].clip, s.rng), reply=noisy)
        else:
            s.fact()
        yield


def drowned(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip under a roar 12 dB louder than itself."""
    power = np.sqrt(np.mean(np.square(clip.waveform)))
    roar = np.cumsum(rng.normal(size=len(clip.waveform)).astype(np.float32))
    roar = rng.normal(size=len(roar)).astype(np.float32) + np.diff(roar, prepend=0.0)
    roar *= 4.0 * power / np.sqrt(np.mean(np.square(roar)))
    return replace(clip, waveform=0.2 * (clip.waveform + roar), source="speech in a roar")


# --- beside the abilities -------------------------------------------------------------------------------
def silence(s: Dialogue) -> Turns:
    """Nothing here deserves a reply (comprehension-aware silence, paper §3.3), at times by a written rule."""
    act = s.pick(["", "", "quiet", "wait", "only", "ignore"])
    hazards = [x.label for x in s.known("respond")]
    named = s.pick(hazards)
    if act:
        s.rule = f"{act} {named}" if act in ("only", "ignore") else act
        s.instruction, _ = s.worded(s.rule)
        s.listener.obey(s.rule)
    free = {"only": [x for x in hazards if x != named], "ignore": [named], "wait": hazards}.get(
        act, []
    )
    while True:
        if act == "quiet" and s.chance(0.4):
            s.fact() if s.chance(0.5) else s.home()
        elif free and s.chance(0.4):
            s.sound(s.pick(free))
        else:
            s.benign() if s.chance(0.6) else s.chatter()
        yield


def dictation(s: Dialogue) -> Turns:
    """Words in random order, which only ears can tell; half of the time somebody wants them written."""
    s.quiet = True
    if s.chance(0.5):
        s.instruct("write sentences")
    while True:
        language = "es" if s.chance(0.15) else "en"
        known = words(language) if s.chance(0.3) else own_words(language)
        text = " ".join(s.rng.choice(known, s.rng.integers(2, 8)))
        s.speech(text, f"talk {language}", language, written=text)
        s.items[-1] = replace(s.items[-1], gap_s=float(s.rng.uniform(0.1, 0.6)))
        if s.chance(0.3):  # every sentence another voice
            s.voice = s.pick(s.sources.voices)
        yield
