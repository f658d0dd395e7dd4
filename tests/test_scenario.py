"""Scenes that make sense: planned, refined, changed by a recipe, never with what is excluded."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aikit.synth.clips import Clip
from aikit.synth.compose import Item, SoundEvent
from aikit.synth.ontology import ontology
from aikit.synth.places import conflicts, doors, excluded, fitting, world
from aikit.synth.scenario import LAYERS, PlannedEvent, Scenario, admit, joined, plan, refine
from aikit.synth.script import Script, Sources

LABELS = st.sampled_from(sorted(ontology()))
PLACES = st.sampled_from(sorted(world()["places"]))
EVENTS = st.builds(
    PlannedEvent, LABELS, st.sampled_from(("foreground", *LAYERS)), st.floats(0.1, 30), PLACES
)
SCENARIOS = st.builds(
    Scenario, st.lists(PLACES, min_size=1, max_size=2).map(tuple), st.sampled_from(sorted(world()["times"])),
    st.sampled_from(sorted(world()["people"])), st.just("A made-up scene."),
    st.lists(EVENTS, max_size=20).map(tuple),
)  # fmt: skip


def planned(seed: int, **wanted) -> Scenario:
    return refine(plan(np.random.default_rng(seed), **wanted))


@cache
def sources() -> Sources:
    return Sources.embedded(variants=2)


def is_sound(scene: Scenario) -> bool:
    """Whether a scene keeps all rules of the ontology."""
    fits = all(e.label in fitting(e.place, scene.time, scene.people) for e in scene.events)
    layers = [e for e in scene.events if e.role in LAYERS]
    apart = not any(excluded(a.label, b.label) for a in layers for b in scene.events)
    return fits and apart and all(e.place in scene.places and e.query for e in scene.events)


def test_exclusions_come_from_the_list_and_from_place_time_and_company():
    assert excluded("snoring", "vacuum_cleaner") and excluded("vacuum_cleaner", "snoring")  # listed
    assert excluded("brushing_teeth", "sea_waves")  # no place has both
    assert excluded("rooster", "crickets")  # morning; evening and night
    assert excluded("snoring", "applause")  # nobody sleeps in a crowd
    assert not excluded("frying", "chopping") and not excluded("speech", "applause")
    assert all(excluded(a, b) == excluded(b, a) for a in ontology() for b in ("rain", "piano"))


def test_scenes_are_sound_seeded_and_never_the_same():
    scenes = [planned(seed) for seed in range(500)]
    assert all(is_sound(scene) for scene in scenes)
    assert all(3 <= len(scene.events) <= 15 for scene in scenes)
    assert len(set(scenes)) == 500 and scenes[7] == planned(7)
    ambient = sum(any(e.role == "ambient" for e in scene.events) for scene in scenes)
    assert ambient > 450  # at the rest of places nothing ambient fits
    assert {scene.places[0] for scene in scenes} == set(world()["places"])
    assert {scene.time for scene in scenes} == set(world()["times"])
    assert {e.label for scene in scenes for e in scene.events} == set(ontology())


def test_a_door_leads_to_a_second_place():
    scenes = [scene for scene in map(planned, range(200)) if len(scene.places) > 1]
    assert 10 < len(scenes) < 100
    for scene in scenes:
        (start, behind), (door,) = scene.places, scene.doors
        assert doors(start)[behind] == door and door in scene.sentence
        visited = [e.place for e in scene.events if e.role == "foreground"]
        assert set(visited) <= {start, behind} and visited == sorted(
            visited, key=scene.places.index
        )


@given(SCENARIOS)
def test_refinement_makes_any_plan_sound_and_is_done_at_once(scene):
    refined = refine(scene)
    assert is_sound(refined) and len(refined.events) <= 15
    assert replace(refine(refined), notes=()) == replace(refined, notes=())
    left = [e.label for e in scene.events if e.label not in {r.label for r in refined.events}]
    noted = " ".join(refined.notes)
    assert all(label in noted for label in left) or len(scene.events) > 14


def test_refinement_says_what_it_did_and_puts_events_in_order():
    events = [("smoke_alarm", "foreground"), ("frying", "foreground"), ("rooster", "foreground"),
              ("chopping", "foreground"), ("snoring", "ambient")]  # fmt: skip
    scene = Scenario(("kitchen",), "evening", "one person", "Cooking.",
                     tuple(PlannedEvent(label, role, 2.0, "kitchen") for label, role in events))  # fmt: skip
    refined = refine(scene)
    front = [e.label for e in refined.events if e.role == "foreground"]
    assert front == ["chopping", "frying", "smoke_alarm"]
    assert "rooster left" in refined.notes[0] and "snoring left" in refined.notes[1]
    assert all(
        4 <= len(e.query.split()) <= 12 and "kitchen" in e.description for e in refined.events
    )


def test_a_recipe_may_ask_for_anything():
    scene = planned(3, place="kitchen", bag=["frying"])
    assert scene.places[0] == "kitchen" and "frying" in [e.label for e in scene.events]
    for label in sorted(ontology()):
        moved = admit(scene, label, [])
        assert any(label in fitting(p, moved.time, moved.people) for p in moved.places)
        assert set(scene.places) <= set(moved.places)
    assert admit(scene, "frying", []) == scene
    assert (
        "the back door" in admit(planned(0, place="kitchen", bag=["frying"]), "rooster", []).doors
    )
    asleep = replace(scene, people="someone asleep")
    assert joined(asleep, "person").people == "one awake and one asleep"


def test_wrong_names_say_what_there_is():
    with pytest.raises(ValueError, match=r"no place or label \['moon'\].*kitchen"):
        plan(np.random.default_rng(0), place="moon")
    with pytest.raises(ValueError, match="opera"):
        plan(np.random.default_rng(0), bag=["opera"])


def test_overlaps_of_excluded_sounds_are_found():
    events = [
        SoundEvent("snoring", 0, 3),
        SoundEvent("vacuum_cleaner", 3, 5),
        SoundEvent("frying", 4, 6),
    ]
    assert conflicts(events) == [("vacuum_cleaner", "frying")]
    later = [*events[:1], replace(events[1], start_s=2.0)]
    assert conflicts(later) == [("snoring", "vacuum_cleaner")]
    assert ("snoring", "drum_kit") in conflicts(events, ["drum_kit"])


def test_a_script_draws_what_fits_its_scene():
    script = Script(sources(), np.random.default_rng(5), 24.0)
    script.settle("kitchen")
    for _ in range(6):
        script.benign()
    fits = fitting("kitchen", script.scenario.time, script.scenario.people)
    assert set(script.heard) <= fits and script.place == "kitchen"
    script.sound("sea_waves")
    assert script.place in ontology()["sea_waves"].places and script.place in script.scenario.places


def test_a_script_follows_the_plan_first():
    script = Script(sources(), np.random.default_rng(8), 24.0)
    wanted = [e for e in script.scenario.events if e.role == "foreground"]
    benign = [e for e in wanted if ontology()[e.label].policy == "ignore"]
    for _ in benign:
        script.benign()
    assert sorted(script.heard) == sorted(e.label for e in benign) and len(benign) > 2
    assert [d.wanted_s for d in script.used()] == [e.seconds for e in benign]


def test_nothing_behind_a_stream_is_excluded_by_what_is_heard():
    for seed in range(30):
        script = Script(sources(), np.random.default_rng(seed), 24.0)
        script.items += [Item(Clip(np.zeros(1600), label, "", ""))
                         for label in script.rng.choice(sorted(ontology()), 3)]  # fmt: skip
        behind = [label for role in (*LAYERS, "ambient") if (label := script.layer(role))]
        heard = [item.clip.label for item in script.items]
        assert not any(excluded(label, other) for label in behind for other in heard + behind)
