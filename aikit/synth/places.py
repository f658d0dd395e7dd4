"""Places, times of day, company and exclusions: what can be heard where, and what never together.

Knows ``texts/places.yaml`` beside the ontology's facts, and finds overlaps of excluded sounds. Does
not plan (`scenario.py`). Taught in notebook 01.

Two sounds exclude each other if the ontology says so, or if no place, no time of day or no company
has both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Protocol

from aikit.synth.ontology import Sound, ontology


class Timed(Protocol):
    """Anything that sounds from ``start_s`` to ``end_s``."""

    label: str
    start_s: float
    end_s: float


@cache
def world() -> dict:
    """``texts/places.yaml``, checked against the ontology; ValueError names what is wrong."""
    import yaml

    text = (Path(__file__).parent / "texts" / "places.yaml").read_text("utf-8")
    facts = yaml.safe_load(text)
    who = {"", *(w for present in facts["people"].values() for w in present)}
    for sound in ontology().values():
        for kind, said, allowed in (("places", sound.places, facts["places"]), ("who", [sound.who], who),
                                    ("times", sound.times, facts["times"]),
                                    ("excludes", sound.excludes, ontology())):  # fmt: skip
            if unknown := sorted(set(said) - set(allowed)):
                raise ValueError(
                    f"{sound.label}: {kind} {unknown}, expected some of {sorted(allowed)}"
                )
    return facts


@cache
def fitting(place: str, time: str, people: str) -> frozenset[str]:
    """The labels that a place, a time of day and the people there allow."""
    present = {"", *world()["people"][people]}
    return frozenset(x.label for x in ontology().values() if place in x.places and at_time(x, time)
                     and x.who in present)  # fmt: skip


def at_time(sound: Sound, time: str) -> bool:
    return not sound.times or time in sound.times


@cache
def _exclusions() -> frozenset[frozenset[str]]:
    return frozenset(frozenset((a.label, b.label)) for a, b in combinations(ontology().values(), 2)
                     if b.label in a.excludes or a.label in b.excludes or not _meet(a, b))  # fmt: skip


def _meet(a: Sound, b: Sound) -> bool:
    """Whether some place, time and company has both."""
    times = any(at_time(a, time) and at_time(b, time) for time in world()["times"])
    company = any({a.who, b.who} <= {"", *present} for present in world()["people"].values())
    return bool(set(a.places) & set(b.places)) and times and company


def excluded(a: str, b: str) -> bool:
    """Whether two labels are never heard at the same time; speech goes with everything."""
    return frozenset((a, b)) in _exclusions()


def conflicts(events: Sequence[Timed], everywhere: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Pairs that exclude each other and yet overlap; ``everywhere`` are labels that never stop, as
    noise tracks do."""
    always = list(everywhere)
    pairs = [(a.label, b.label) for a, b in combinations(events, 2)
             if a.start_s < b.end_s and b.start_s < a.end_s]  # fmt: skip
    pairs += [(event.label, label) for event in events for label in always]
    return [pair for pair in [*pairs, *combinations(always, 2)] if excluded(*pair)]


@cache
def doors(place: str) -> dict[str, str]:
    """Places next door, and the doors to them."""
    ways = world()["doors"]
    return {b: door for a, b, door in ways if a == place} | {
        a: door for a, b, door in ways if b == place
    }


def door(a: str, b: str) -> str:
    """The door between two places, or a walk."""
    return doors(a).get(b, "a walk")
