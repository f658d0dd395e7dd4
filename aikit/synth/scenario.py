"""Scenes that make sense: planning and refinement by rules (paper §3.2).

Knows how a bag of random labels becomes one scene: the place, time and people that much of the bag
fits are likely, what does not fit may happen behind a door, and the rest is left out. Does not know
clips (`grounding.py`), language models (`chat.py`, which plays the same roles) or levels. The facts
are in `places.py`. Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np

from aikit.synth.ontology import ontology
from aikit.synth.places import at_time, door, doors, excluded, fitting, world

BAG = 12  # random annotations that a scene is planned from
N_EVENTS = (3, 15)  # of a scene, in the paper too
SECOND_PLACE = 0.25  # share of scenes that go through a door, if something in the bag is behind one
STRETCH = (0.7, 1.4)  # planned against usual length
LAYERS = ("background", "ambient")


@dataclass(frozen=True)
class PlannedEvent:
    """What should sound, as a plan says it; refinement adds the description and the query."""

    label: str
    role: str  # foreground | background | ambient; noise_event | noise_ambient for the noise tracks
    seconds: float
    place: str
    description: str = ""  # what can be heard
    query: str = ""  # 4-12 words for retrieval


@dataclass(frozen=True)
class Scenario:
    """One coherent scene; its foreground events are in the order in which they happen."""

    places: tuple[str, ...]  # in the order in which they are visited
    time: str
    people: str
    sentence: str
    events: tuple[PlannedEvent, ...]
    doors: tuple[str, ...] = ()  # doors[i] leads from places[i] to places[i + 1]
    notes: tuple[str, ...] = ()  # what refinement changed, and why
    planner: str = "rules"

    def record(self) -> dict:
        """The scenario as a stream's metadata keeps it."""
        events = [{k: v for k, v in asdict(e).items() if k != "query"} for e in self.events]
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return plain | {"events": events}


# --- planning -------------------------------------------------------------------------------------
def pick_fair(rng: np.random.Generator, labels: Collection[str]) -> str:
    """One label; those that fit many settings are in many scenes, so each counts for less."""
    labels = sorted(labels)
    weights = np.array([1 / _commonness()[label] for label in labels])
    return labels[int(rng.choice(len(labels), p=weights / weights.sum()))]


@cache
def _settings() -> tuple[tuple[str, str, str], ...]:
    """Every place, time and company that is planned with."""
    return tuple((place, time, people) for place, about in world()["places"].items()
                 for time in about.get("times", world()["times"]) for people in about["people"])  # fmt: skip


@cache
def _commonness() -> dict[str, int]:
    """How many settings each label fits."""
    return {label: 1 + sum(label in fitting(*s) for s in _settings()) for label in ontology()}


def plan(
    rng: np.random.Generator,
    available: Collection[str] | None = None,
    bag: Sequence[str] | None = None,
    place: str | None = None,
) -> Scenario:
    """Plan one coherent scene from a bag of labels (paper §3.2, scenario planning).

    Parameters
    ----------
    rng : the only source of chance
    available : labels to plan with; the whole ontology when None
    bag : labels the scene should be about; `BAG` random ones when None
    place : where it begins; left to the bag when None

    Returns
    -------
    Scenario
        3-15 events, at least one of them ambient where a label allows; not refined yet.

    Raises
    ------
    ValueError
        For an unknown place or label.
    """
    known = sorted(set(ontology() if available is None else available) & set(ontology()))
    if unknown := set(bag or ()) - set(ontology()) or {place} - {None, *world()["places"]}:
        raise ValueError(
            f"no place or label {sorted(unknown)}; there are: {', '.join(world()['places'])}"
        )
    bag = [known[i] for i in rng.permutation(len(known))[:BAG]] if bag is None else list(bag)
    start, time, people = _setting(rng, bag, place)
    able = fitting(start, time, people) & set(known)
    own = [label for label in bag if label in able]
    layer = _ambience(rng, able, own) or _ambience(rng, able, own[:1])
    able = [label for label in sorted(able) if not any(excluded(label, x) for x in layer)]
    own = [label for label in own if label in able]
    rest = [x for x in bag if x not in able and not any(excluded(x, y) for y in layer)]
    behind, others = _behind_a_door(rng, rest, start, time, people)
    n = int(rng.integers(N_EVENTS[0], N_EVENTS[1] + 1)) - len(layer)
    chosen = [(label, start) for label in own[:n]]
    chosen += [(label, behind) for label in others[: n - len(chosen)]]
    if able:
        chosen += [(pick_fair(rng, able), start) for _ in range(n - len(chosen))]
    mixed = [chosen[i] for i in rng.permutation(len(chosen))]
    front = sorted(mixed, key=lambda pair: pair[1] == behind)  # first here, then behind the door
    events = [event_of(label, "foreground", where, rng) for label, where in front]
    events += [event_of(label, "ambient", start, rng) for label in layer]
    places = tuple(dict.fromkeys([start, *(where for _, where in front)]))
    ways = tuple(door(start, where) for where in places[1:])
    return told(Scenario(places, time, people, "", tuple(events), ways))


def _setting(
    rng: np.random.Generator, bag: Sequence[str], place: str | None
) -> tuple[str, str, str]:
    """Place, time and people, each combination as likely as it fits much of the bag."""
    able, wanted = [s for s in _settings() if place in (None, s[0])], set(bag)
    weights = np.array([len(wanted & fitting(*setting)) for setting in able], float)
    weights = weights if weights.any() else np.ones(len(able))
    return able[int(rng.choice(len(able), p=weights / weights.sum()))]


def _behind_a_door(
    rng, rest: list[str], start: str, time: str, people: str
) -> tuple[str, list[str]]:
    """A place next door and what of the rest of the bag fits there, at times; else nothing."""
    found = {
        p: [label for label in rest if label in fitting(p, time, people)] for p in doors(start)
    }
    able = [p for p, labels in found.items() if labels]
    if not able or rng.random() >= SECOND_PLACE:
        return "", []
    chosen = able[int(rng.integers(len(able)))]
    return chosen, found[chosen]


def _ambience(rng, able: Collection[str], others: Sequence[str]) -> list[str]:
    """One benign ambient label that goes with all others, if there is one."""
    sounds = (ontology()[label] for label in able)
    labels = {x.label for x in sounds if "ambient" in x.role and x.policy == "ignore"
              and not any(excluded(x.label, other) for other in others)}  # fmt: skip
    return [pick_fair(rng, labels)] if labels else []


def event_of(label: str, role: str, place: str, rng: np.random.Generator) -> PlannedEvent:
    """An event of a label, about as long as such a sound usually is, described."""
    seconds = round(ontology()[label].seconds * float(rng.uniform(*STRETCH)), 2)
    return described(PlannedEvent(label, role, seconds, place))


def described(event: PlannedEvent) -> PlannedEvent:
    """The event with what can be heard and a query, where the plan did not give them."""
    caption = ontology()[event.label].caption
    text = event.description or f"{caption}, heard {world()['places'][event.place]['in']}"
    return replace(event, description=text, query=event.query or " ".join(caption.split()[:12]))


def told(scenario: Scenario) -> Scenario:
    """The scenario with its sentence."""
    there = [world()["places"][place]["in"] for place in scenario.places]
    ways = "".join(
        f" Then through {door}: {p}." for door, p in zip(scenario.doors, there[1:], strict=True)
    )
    start = f"{world()['times'][scenario.time]}, {there[0]}; {scenario.people} is there."
    return replace(scenario, sentence=start + ways)


# --- refinement -----------------------------------------------------------------------------------
def refine(scenario: Scenario) -> Scenario:
    """Check and repair a plan, whoever made it (paper §3.2, event refinement).

    What does not fit the place, time or people leaves; a layer that is excluded by anything else
    leaves; events are put in order; a missing ambient layer is added; every event gets a
    description and a query. The notes say what was done. Refining twice changes nothing.
    """
    notes: list[str] = []
    events = [e for e in (_consistent(event, scenario, notes) for event in scenario.events) if e]
    front = [event for event in events if event.role == "foreground"][: N_EVENTS[1] - 1]
    layers: list[PlannedEvent] = []
    for event in (event for event in events if event.role in LAYERS):
        others = [other.label for other in front + layers if excluded(event.label, other.label)]
        notes += [f"{event.label} left: {other} excludes it" for other in others[:1]]
        layers += [] if others else [event]
    if not any(event.role == "ambient" for event in layers):
        able = fitting(scenario.places[0], scenario.time, scenario.people)
        rng = np.random.default_rng(
            len(scenario.sentence)
        )  # any will do, the same one for the same plan
        found = _ambience(rng, able, [event.label for event in front + layers])
        notes += [f"{label} added: a scene has an ambient layer" for label in found]
        layers += [event_of(label, "ambient", scenario.places[0], rng) for label in found]
    events = [described(event) for event in _in_order(front, scenario.places) + layers][
        : N_EVENTS[1]
    ]
    return replace(scenario, events=tuple(events), notes=(*scenario.notes, *notes))


def _consistent(event: PlannedEvent, scenario: Scenario, notes: list[str]) -> PlannedEvent | None:
    """The event in a place and role that it can have and of a possible length, or None."""
    sound = ontology()[event.label]
    able = [p for p in scenario.places if sound.label in fitting(p, scenario.time, scenario.people)]
    if not able:
        where = f"{scenario.places[0]}, {scenario.time}, {scenario.people}"
        notes.append(f"{sound.label} left: it does not fit {where}")
        return None
    hidden = event.role in LAYERS and (sound.policy == "respond" or event.role not in sound.role)
    if hidden or event.role not in (*LAYERS, "foreground"):
        notes.append(f"{sound.label} moved to the foreground: it cannot be {event.role}")
        event = replace(event, role="foreground")
    seconds = float(np.clip(event.seconds, sound.seconds / 2, sound.seconds * 2))
    return replace(event, place=event.place if event.place in able else able[0], seconds=seconds)


def _in_order(front: Sequence[PlannedEvent], places: tuple[str, ...]) -> list[PlannedEvent]:
    """Place after place, and within one as ``order`` in places.yaml says."""
    front, before = sorted(front, key=lambda event: places.index(event.place)), None
    while before != front:
        before = list(front)
        for (first, second), place in (
            (pair, p) for pair in world()["order"] for p in dict.fromkeys(places)
        ):
            slots = [
                i for i, e in enumerate(front) if e.place == place and e.label in (first, second)
            ]
            own = sorted((front[i] for i in slots), key=lambda event: event.label == second)
            for i, event in zip(slots, own, strict=True):
                front[i] = event
    return front


# --- a recipe asks for what was not planned --------------------------------------------------------
def admit(scenario: Scenario, label: str, heard: Sequence[str]) -> Scenario:
    """The scenario in which a label can happen next: people join, time shifts if all that was
    ``heard`` allows it, and a sound of another place is reached through a door, or by a walk if
    none leads there."""
    sound = ontology()[label]
    scenario, so_far = joined(scenario, sound.who), [sound, *(ontology()[x] for x in heard)]
    time, places, ways = scenario.time, scenario.places, scenario.doors
    if not at_time(sound, time):
        time = next((t for t in world()["times"] if all(at_time(x, t) for x in so_far)), time)
    if not set(places) & set(sound.places):
        near = [p for p in sound.places if p in doors(places[-1])] or [sound.places[0]]
        places, ways = (*places, near[0]), (*ways, door(places[-1], near[0]))
    changed = replace(scenario, places=places, doors=ways, time=time)
    return scenario if changed == scenario else told(changed)


def joined(scenario: Scenario, who: str) -> Scenario:
    """The scenario in the smallest company that has everybody and ``who``, or just ``who`` if none
    has."""
    companies = world()["people"]
    if not who or who in companies[scenario.people]:
        return scenario
    wanted = {*companies[scenario.people], who}
    able = [name for name, present in companies.items() if wanted <= set(present)]
    able = able or [name for name, present in companies.items() if who in present]
    return told(replace(scenario, people=min(able, key=lambda name: len(companies[name]))))
