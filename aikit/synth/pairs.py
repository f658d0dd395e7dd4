"""Counterfactual pairs: the same sounds after another instruction, and other replies.

Knows which two instructions tell a listener from a classifier. Does not know how well anybody does on them
(`bench`). Taught in notebook 04.

Both streams of a pair are the same sample by sample from the end of the instruction on; who only recognises
sounds gives the same replies in both, and at least one is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aikit.audio import SAMPLE_RATE
from aikit.config import AudioConfig
from aikit.synth.compose import TAIL_S, Item, Stream, compose, place_foreground
from aikit.synth.dialogue import Dialogue
from aikit.synth.grammar import translated
from aikit.synth.ontology import ontology
from aikit.synth.rules import Listener
from aikit.synth.script import Sources, noise_tracks, phrases

GAIN_DB = -8.0  # of both streams: two instructions seldom clip
LENGTH_S = 18.0  # of a stream in which an instruction and some events find room
SPARE_S = 2.0  # for the longer of two instructions
MOST_TURNS = 6  # and no count beyond six
ATTEMPTS = 50

Instruction = tuple[str, dict[str, str]]  # an act, and what its wording needs beside labels
Event = Callable[[Dialogue], None]


# --- two instructions, and what may follow ----------------------------------------------------------------
def _tell(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    x, y = _two(s, [sound.label for sound in s.known("ignore")])
    return (f"tell {x}", {}), (f"tell {y}", {}), [_sound(x), _sound(y)]


def _count(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    x, y = _two(s, s.countable())
    other = s.pick([f"count {y}", f"count {x} {y}", f"count {y} -{x}", f"tell {x}"])
    return (f"count {x}", {}), (other, {}), [_once(x), _once(y)]


def _hazard(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    x, y = _two(s, [sound.label for sound in s.known("respond")])
    one, other = s.pick([(f"ignore {x}", f"ignore {y}"), (f"ignore {x}", f"only {x}"), (f"only {x}", f"only {y}"),
                         (f"ignore {x}", f"tell {x}"), ("wait", f"only {y}")])  # fmt: skip
    return (one, {}), (other, {}), [_sound(x), _sound(y)]


def _name(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    groups = phrases()["groups"]
    events = [_sound(s.pick(groups["animals"])), _sound(s.pick(groups["music"])), Dialogue.benign]
    one, other = _two(s, ["all", "animals", "music"])
    return (f"name {one}", {}), (f"name {other}", {}), events


def _lines(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    one, other = _two(s, ["write sentences", "write digits", "translate en es", "translate en zh"])
    digits = "write digits" in (one, other)
    return (one, {}), (other, {}), [_phrase, *([lambda s: s.line("digits")] if digits else [])]


def _talk(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    return ("quiet", {}), ("wait", {}), [Dialogue.fact, Dialogue.home, Dialogue.hazard]


def _agent(s: Dialogue) -> tuple[Instruction, Instruction, list[Event]]:
    if s.chance(0.5):
        one, other = _two(s, phrases()["acts"]["machine"]["slots"]["machine"])
        instructions = [(f"machine {m}", {"machine": m}) for m in (one, other)]
        return *instructions, [_sound("appliance_beep"), Dialogue.benign]
    slots = phrases()["acts"]["remind"]["slots"]
    x, y = _two(s, [label for label in slots["label"] if label in s.sources.sounds.labels])
    one, other = _two(s, slots["todo"])
    instructions = [
        (f"remind {x} {one}", {"todo": one}),
        (f"remind {s.pick([x, y])} {other}", {"todo": other}),
    ]
    return *instructions, [_sound(x), _sound(y)]


FAMILIES: dict[str, Callable[[Dialogue], tuple[Instruction, Instruction, list[Event]]]] = {
    "tell": _tell,
    "count": _count,
    "hazard": _hazard,
    "name": _name,
    "lines": _lines,
    "talk": _talk,
    "agent": _agent,
}
PAIRS = {"pair": None} | {f"pair: {family}": family for family in FAMILIES}  # as sub-tasks to train on


def _two(s: Dialogue, options: list[str]) -> list[str]:
    return [str(x) for x in s.rng.permutation(options)[:2]]


def _phrase(s: Dialogue) -> None:
    """A sentence that can be written down or translated into either language."""
    text = translated(s.rng, s.held)
    s.speech(text.en, "talk en", written=text.en, es=text.es, zh=text.zh)


def _sound(label: str) -> Event:
    return lambda s: s.sound(label)


def _once(label: str) -> Event:
    return lambda s: s.once(label)


# --- the pair ---------------------------------------------------------------------------------------------
def make_pair(
    sources: Sources,
    seed: int,
    n_chunks: int | None = None,
    audio: AudioConfig = AudioConfig(),
    family: str | None = None,
) -> tuple[Stream, Stream]:
    """Two streams with the same sounds after different instructions, whose replies differ.

    Parameters
    ----------
    n_chunks : length of each in chunks; None = 18 s
    audio : the grid; chunks of 400 ms
    family : what the two instructions are about, a key of `FAMILIES`; None = any

    Returns
    -------
    (Stream, Stream)
        Their waveforms are equal from the end of the instruction on (from the start, if it is written);
        as many foreground events in both, at the same times; at least one asks for another reply.
    """
    n_chunks = n_chunks or round(LENGTH_S / audio.chunk_s)
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((seed, attempt, 2 + int(sources.held_out)))
        script = Dialogue(sources, rng, n_chunks * audio.chunk_s - 1.0)
        pair = _attempt(script, family, n_chunks, audio)
        if pair and _after(pair[0]) != _after(pair[1]):
            return tuple(replace(stream, sub_task="pair", seed=seed) for stream in pair)
    raise ValueError(
        f"no pair in {ATTEMPTS} attempts; the sources need the kit's sounds, short ones among them, "
        f"and a stream {LENGTH_S:.0f} s (this one has {n_chunks * audio.chunk_s:.0f})"
    )


def _after(stream: Stream) -> list[str | None]:
    """What is due at each event after the instruction."""
    front = [event for event in stream.events if event.role == "foreground"]
    return [event.reply for event in front[0 if stream.rule else 1 :]]


def _attempt(
    s: Dialogue, family: str | None, n_chunks: int, audio: AudioConfig
) -> tuple[Stream, Stream] | None:
    """Write one script, hear it again after the other instruction, and mix both; None if too little fits."""
    write = FAMILIES[family or list(FAMILIES)[int(s.rng.integers(len(FAMILIES)))]]
    *instructions, events = write(s)
    (one, said, ack), (other, also, also_ack) = (
        (act, *s.worded(act, **slots)) for act, slots in instructions
    )
    spoken = s.chance(0.5)
    if spoken:
        s.speech(said, one, answer=ack)
    else:
        s.listener.obey(one)
    while s.length_s() + SPARE_S < s.limit_s and len(s.items) < MOST_TURNS:
        s.pick(events)(s)
    while s.length_s() + SPARE_S > s.limit_s:
        if len(s.items) <= 1:
            return None
        s.items.pop()
    first, second = s.items, _heard_again(s, other, also_ack if spoken else None)
    if spoken:
        clip = replace(first[0].clip, waveform=s.sources.speak(also, s.voice), name=also, text=also)
        second[0] = replace(second[0], clip=clip, act=other)
        first, second = _ending_together(first, second)
        if place_foreground(first, audio)[1] + TAIL_S > n_chunks * audio.chunk_s:
            return None  # the other instruction takes so much longer to give
    rules = (
        [{}, {}]
        if spoken
        else [{"rule": one, "instruction": said}, {"rule": other, "instruction": also}]
    )
    pair = zip(_mixed(s, first, second, n_chunks, audio), rules, strict=True)
    return tuple(replace(stream, **about) for stream, about in pair)


def _heard_again(s: Dialogue, act: str, ack: str | None) -> list[Item]:
    """The script's items with the replies of a listener that got another instruction, spoken if acknowledged."""
    listener, items, log = Listener(s.rng), [], s.log[: len(s.items)]
    if ack is None:
        listener.obey(act)
    else:
        log[0] = ("speech", act, {"answer": ack})
    for item, turn in zip(s.items, log, strict=True):
        reply, sound = listener.hear(*turn), ontology().get(turn[0])
        advised = sound is not None and reply in sound.replies
        if advised and item.reply in sound.replies:
            reply = item.reply  # the same piece of advice
        emotion = sound.emotion if advised else "normal"
        items.append(replace(item, reply=reply, emotion=emotion, refers_to=listener.refers_to))
    return items


def _ending_together(first: list[Item], second: list[Item]) -> tuple[list[Item], list[Item]]:
    """Let two instructions of different length end at the same sample."""
    lengths = [len(items[0].clip.waveform) for items in (first, second)]
    gap, longest = round(first[0].gap_s * SAMPLE_RATE), max(lengths)
    return tuple([replace(items[0], gap_s=(gap + longest - n) / SAMPLE_RATE), *items[1:]]
                 for items, n in zip((first, second), lengths, strict=True))  # fmt: skip


def _mixed(
    s: Dialogue, first: list[Item], second: list[Item], n_chunks: int, audio: AudioConfig
) -> tuple[Stream, Stream]:
    """Mix both alike: the second is the first, but for what is said until the instruction ends."""
    noise, seed = noise_tracks(s), int(s.rng.integers(2**40))
    one, other = (
        compose(
            items,
            np.random.default_rng(seed),
            noise=noise,
            n_chunks=n_chunks,
            gain_db=GAIN_DB,
            keep_layers=True,
            config=audio,
        )
        for items in (first, second)
    )
    start = round(place_foreground(first[:1])[1] * SAMPLE_RATE)
    mine, its = (stream.layers["foreground"] for stream in (one, other))
    louder = np.dot(mine[start:], its[start:]) / np.dot(
        its[start:], its[start:]
    )  # as one may clip, and not the other
    waveform = one.waveform.copy()
    waveform[:start] += louder * its[:start] - mine[:start]
    return replace(one, layers={}), replace(other, waveform=waveform, layers={})
