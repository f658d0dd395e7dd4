"""The rules: instructions change what sounds deserve, and no classifier of sounds can know."""

from dataclasses import replace

import numpy as np
import pytest

from aikit.synth.abilities import outline
from aikit.synth.ontology import ontology
from aikit.synth.pairs import make_pair
from aikit.synth.rules import Listener, judgement, turns
from aikit.synth.script import Sources


@pytest.fixture(scope="module")
def sources():
    return Sources.embedded(variants=4)


def listened(*turns_: str, rule: str = ""):
    """Every turn, the reply to it, and the listener right after it."""
    listener = Listener()
    listener.obey(rule)
    for t in turns_:
        yield t, listener.hear(*([t] if t in ontology() else ["speech", t, {"answer": "yes"}])), listener


def heard(*turns_: str, rule: str = "") -> list[str | None]:
    return [reply for _, reply, _ in listened(*turns_, rule=rule)]


ADVICE = {label: sound.replies[0] for label, sound in ontology().items() if sound.replies}


@pytest.mark.parametrize(
    "said, replies",
    [
        (["dog_bark", "tell dog_bark", "dog_bark", "cat_meow", "stop", "dog_bark"],
         [None, "yes", "There is the dog bark.", None, "yes", None]),
        (["ignore siren", "siren", "scream", "watch siren", "siren"],
         ["yes", None, ADVICE["scream"], "yes", ADVICE["siren"]]),
        (["only siren", "siren", "scream"], ["yes", ADVICE["siren"], None]),
        (["count sneeze -cough", "sneeze", "cough", "sneeze"], ["yes", "One.", None, "Two."]),
        (["count dog_bark cat_meow", "dog_bark", "cat_meow", "frog"], ["yes", "One.", "Two.", None]),
        (["name animals", "frog", "piano", "siren"], ["yes", "Frog croak.", None, None]),
        (["name but frog", "frog", "piano"], ["yes", None, "Piano."]),
        (["wait", "siren", "what"], ["yes", None, "That was an emergency siren."]),
        (["quiet", "ask", "siren", "back", "ask"], ["yes", None, ADVICE["siren"], "yes", "yes"]),
        (["ask", "others", "talk en"], ["yes", None, None]),
        (["frog", "piano", "frog", "first", "second", "howmany frog"],
         [None, None, None, "First came the frog croak.", "Second came the piano.", "Two."]),
        (["machine oven", "appliance_beep"], ["yes", "The oven is done."]),
        (["remind rain buy bread", "rain", "frog"], ["yes", "Remember to buy bread.", None]),
        (["my name Anna", "frog", "my name Peter", "recall name"], ["yes", None, "yes", "Your name is Peter."]),
    ],
)  # fmt: skip
def test_a_listener_follows_what_it_was_told(said, replies):
    assert heard(*said) == replies


@pytest.mark.parametrize(
    "said, notes, times",
    [
        (["siren", "ignore siren", "siren", "scream", "watch siren", "siren"],
         ["siren", "siren ignore", "scream", "siren"], [1, 2, 1, 3]),
        (["only siren", "siren", "scream"], ["siren only", "scream"], [1, 1]),
        (["tell dog_bark", "dog_bark", "stop", "dog_bark"], ["dog bark tell", "dog bark"], [1, 2]),
        (["frog", "count frog -cat_meow", "frog", "cat_meow", "frog"],
         ["frog croak", "frog croak count", "cat meow", "frog croak count"], [1, 1, 1, 2]),
        (["count dog_bark cat_meow", "dog_bark", "cat_meow", "count frog", "frog", "dog_bark"],
         ["dog bark count", "cat meow count", "frog croak count", "dog bark"], [1, 2, 1, 2]),
        (["frog", "name animals", "frog", "piano"], ["frog croak", "frog croak name", "piano"], [1, 2, 1]),
        (["frog"] * 7, ["frog croak"] * 7, [1, 2, 3, 4, 5, 6, 7]),
    ],
)  # fmt: skip
def test_of_a_sound_is_noted_what_was_said_of_it_and_how_often_it_was_heard(said, notes, times):
    found = [(i.note(turn), i.times(turn)) for turn, _, i in listened(*said) if turn in ontology()]
    assert found == list(zip(notes, times, strict=True))


def test_a_written_instruction_is_as_good_as_a_spoken_one():
    assert heard("dog_bark", rule="tell dog_bark") == ["There is the dog bark."]


def test_lines_deserve_what_the_instruction_asks_for():
    listener, meaning = Listener(), {"written": "w", "es": "e", "zh": "z"}
    got = []
    for act in ("write sentences", "translate en zh", "write digits", "stop"):
        listener.obey(act)
        got.append(
            [listener.hear("speech", f"talk {kind}", meaning) for kind in ("en", "es", "digits")]
        )
    assert got == [["w", "w", None], ["z", None, None], [None, None, "w"], [None, None, None]]


def test_no_classifier_of_sounds_solves_the_corpus_and_the_rules_do(sources):
    streams = [turns(outline(sources, seed)) for seed in range(80)]
    scores = judgement(streams)
    assert scores["rules"] == 1.0
    assert scores["classifier"] < 0.85
    assert scores["ruled"] > 1 / 3
    assert scores["classifier"] >= max(np.mean([t.due for s in streams for t in s]), 0.5)
    with pytest.raises(ValueError, match="no events"):
        judgement([])


def test_rules_that_do_not_fit_are_noticed(sources):
    stream = next(
        s for s in (outline(sources, i, sub_task="tell me when") for i in range(99)) if s.rule
    )
    assert judgement([turns(replace(stream, rule=""))])["rules"] < 1.0


def test_a_pair_that_finds_no_room_says_how_much_it_needs(sources):
    with pytest.raises(ValueError, match="18 s .this one has 3"):
        make_pair(sources, 0, 8)


def test_a_pair_whose_other_instruction_finds_no_room_is_written_anew(sources):
    """The rest of the stream is written after one instruction; the other may take longer to give."""

    def slowly(text, voice, language="en"):
        return np.pad(sources.speak(text, voice, language), (0, 16_000 * (len(text) % 5)))

    for side in make_pair(replace(sources, speak=slowly), 22):  # whose first attempt needs 47
        assert side.n_chunks == 45


def test_a_pair_is_about_what_was_asked_for(sources):
    acts = {"hazard": {"ignore", "only", "tell", "wait"}, "tell": {"tell"}, "agent": {"machine", "remind"}}
    for family, verbs in acts.items():
        for seed in range(3):
            for side in make_pair(sources, seed, family=family):
                act = side.rule or next(e.act for e in side.events if e.role == "foreground")
                assert act.split()[0] in verbs


def test_a_pair_has_the_same_sounds_and_other_replies(sources):
    spoken = 0
    for seed in range(8):
        one, other = make_pair(sources, seed)
        front = [[e for e in s.events if e.role == "foreground"] for s in (one, other)]
        first, start = 0, 0
        if not one.rule:
            spoken, first = spoken + 1, 1
            start = round(max(events[0].end_s for events in front) * 16_000) + 1
            assert front[0][0].text != front[1][0].text
            assert (one.waveform[:start] != other.waveform[:start]).any()
        else:
            assert one.instruction != other.instruction and one.rule != other.rule
        np.testing.assert_array_equal(one.waveform[start:], other.waveform[start:])
        sounds = [
            [(e.label, e.text, e.start_s, e.end_s) for e in events[first:]] for events in front
        ]
        assert sounds[0] == sounds[1]
        assert [e.reply for e in front[0][first:]] != [e.reply for e in front[1][first:]]
        for stream in (one, other):
            assert judgement([turns(stream)])["rules"] == 1.0 and np.abs(stream.waveform).max() <= 1
            due = sorted((e.chunk(), e.reply) for e in stream.events if e.reply is not None)
            assert due == sorted((reply.chunk, reply.text) for reply in stream.timeline)
    assert 0 < spoken < 8
    again = make_pair(sources, 7)
    assert (
        again[1].waveform.tobytes() == other.waveform.tobytes()
        and again[1].timeline == other.timeline
    )
