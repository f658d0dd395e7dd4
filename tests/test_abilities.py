"""Abilities: 28 sub-tasks that make sense, always the same way, and a held-out half."""

from functools import cache

import numpy as np
import pytest

from aikit.synth.abilities import ABILITIES, GROUPS, Sources, make_stream, phrases, sub_tasks
from aikit.synth.ontology import ontology
from aikit.synth.speech import HELD_OUT_VOICES, TRAIN_VOICES
from aikit.tokens import DEFAULT_INSTRUCTION, EMOTIONS

TASKS = [(ability, task) for ability, tasks in ABILITIES.items() for task in tasks]


@cache
def sources(held_out: bool = False) -> Sources:
    return Sources.embedded(held_out, variants=2)


@cache
def stream(task: str, seed: int = 3):
    return make_stream(sources(), seed, sub_task=task)


def answered(s) -> list:
    """Foreground events with a reply, by the chunk in which they end."""
    return sorted((e.chunk(), e.reply) for e in s.events if e.reply is not None)


def test_there_are_seven_abilities_of_four_sub_tasks():
    assert [len(tasks) for tasks in ABILITIES.values()] == [4] * 7
    assert set(GROUPS["all"]) == set(sub_tasks()) and len(sub_tasks()) == 28
    assert all(set(group) <= {*sub_tasks(), "silence"} for group in GROUPS.values())


@pytest.mark.parametrize("ability, task", TASKS, ids=[task for _, task in TASKS])
def test_every_sub_task_makes_a_stream_whose_replies_belong_to_its_events(ability, task):
    s = stream(task)
    assert (s.ability, s.sub_task, s.seed, s.n_chunks) == (ability, task, 3, 60)
    assert s.waveform.dtype == np.float32 and s.waveform.shape == (60 * 6400,)
    assert np.isfinite(s.waveform).all() and 0 < np.abs(s.waveform).max() <= 0.981
    assert s.timeline, "a stream of an ability asks for something"
    assert answered(s) == sorted((reply.chunk, reply.text) for reply in s.timeline)
    assert len({reply.chunk for reply in s.timeline}) == len(s.timeline)
    assert all(reply.emotion in EMOTIONS and 0 <= reply.chunk < 60 for reply in s.timeline)


@pytest.mark.parametrize("task", [*ABILITIES["proactive response"], "count", "digit strings"])
def test_foreground_events_come_one_after_the_other(task):
    front = [event for event in stream(task).events if event.role == "foreground"]
    assert all(a.end_s < b.start_s for a, b in zip(front, front[1:], strict=False))
    assert all(event.label == "speech" or event.label in ontology() for event in front)


@pytest.mark.parametrize("task", ["body in distress", "count live", "en→es", "slots remembered"])
def test_the_same_seed_gives_the_same_bytes(task):
    again = make_stream(Sources.embedded(variants=2), 3, sub_task=task)
    assert again.waveform.tobytes() == stream(task).waveform.tobytes()
    assert (again.timeline, again.events) == (stream(task).timeline, stream(task).events)
    assert stream(task, 4).waveform.tobytes() != stream(task).waveform.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_silence_deserves_no_reply(seed):
    s = stream("silence", seed)
    assert s.timeline == () and len(s.events) >= 3
    benign = {label for label, sound in ontology().items() if sound.policy == "ignore"}
    assert {event.label for event in s.events} <= benign | {"speech"}
    assert all(event.text in phrases()["chatter"] for event in s.events if event.label == "speech")


def test_hazards_get_advice_and_benign_sounds_none():
    for task in ABILITIES["proactive response"]:
        for event in stream(task).events:
            if event.role == "foreground" and event.label != "speech":
                assert event.reply in (ontology()[event.label].replies or (None,))


def test_counting_aloud_counts():
    counted = [reply.text for reply in stream("count live").timeline]
    numbers = [f"{number.capitalize()}." for number in phrases()["numbers"][1:]]
    assert [text for text in counted if text in numbers] == numbers[
        : sum(t in numbers for t in counted)
    ]


def test_a_remembered_name_comes_from_at_least_three_turns_back():
    asked_for = 0
    for seed in range(4):
        replies = [reply.text for reply in stream("slots remembered", seed).timeline]
        told = next(i for i, text in enumerate(replies) if text.startswith("Nice to meet you"))
        for asked in [i for i, text in enumerate(replies) if text.startswith("Your name is")]:
            assert asked - told >= 3
            assert replies[told].split(", ")[1] == replies[asked].split("is ")[1]
            asked_for += 1
    assert asked_for >= 3


def test_instructions_are_spoken_or_written():
    written = {stream("tell me when", seed).instruction for seed in range(12)}
    assert DEFAULT_INSTRUCTION in written and len(written) > 1


def test_held_out_and_training_sources_are_disjoint():
    names = [{entry.name for entry in sources(half).sounds.entries} for half in (False, True)]
    assert names[0] and names[1] and not names[0] & names[1]
    assert sources(False).voices == TRAIN_VOICES and sources(True).voices == HELD_OUT_VOICES
    assert not {v.variant for v in TRAIN_VOICES} & {v.variant for v in HELD_OUT_VOICES}
    assert sources(False).sounds.labels == sources(True).sounds.labels == sorted(ontology())
    held = make_stream(sources(True), 3, sub_task="count live")
    assert held.waveform.tobytes() != stream("count live").waveform.tobytes()


def test_real_sources_are_disjoint(shared_data):
    folders = [shared_data / "esc10", shared_data / "fsdd"]
    train, held = (Sources.with_real(folders, half) for half in (False, True))
    for library in ("sounds", "digits"):
        names = [{e.name.split("-")[1] if e.source.startswith("esc10") else e.name  # ESC's origin
                  for e in getattr(half, library).entries} for half in (train, held)]  # fmt: skip
        assert names[0] and names[1] and not names[0] & names[1]
    assert not {e.speaker for e in train.digits.entries} & {e.speaker for e in held.digits.entries}


def test_wrong_names_say_what_there_is():
    with pytest.raises(ValueError, match="no ability 'singing'.*voice chatting"):
        make_stream(sources(), 0, ability="singing")
    with pytest.raises(ValueError, match="no sub-task 'opera'.*small talk"):
        make_stream(sources(), 0, sub_task="opera")
