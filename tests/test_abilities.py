"""Abilities: 28 sub-tasks that make sense, always the same way, and a held-out half."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from aikit.bench import evaluate
from aikit.synth import script
from aikit.synth.abilities import (
    ABILITIES,
    EXTRA,
    GROUPS,
    Sources,
    make_stream,
    outline,
    phrases,
    sub_tasks,
)
from aikit.synth.clips import ClipLibrary
from aikit.synth.dialogue import Dialogue
from aikit.synth.ontology import ontology
from aikit.synth.pairs import PAIRS
from aikit.synth.recipes import begin
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
    assert all(set(group) <= {*sub_tasks(), *EXTRA, *PAIRS} for group in GROUPS.values())


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
    assert all(a.end_s < b.start_s for a, b in pairwise(front))
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


def test_silence_is_not_only_for_benign_sounds():
    streams = [outline(sources(), seed, sub_task="silence") for seed in range(40)]
    events = [(s.rule, e) for s in streams for e in s.events]
    assert all(e.reply is None for _, e in events)
    hazards = [
        rule
        for rule, e in events
        if e.label != "speech" and ontology()[e.label].policy == "respond"
    ]
    assert hazards and all(rule.split()[0] in ("only", "ignore", "wait") for rule in hazards)
    acts = {e.act for _, e in events}
    assert {"others", "others rhetorical", "talk en", "ask"} <= acts


def test_hazards_get_advice_and_benign_sounds_none_unless_told_otherwise():
    for task in ABILITIES["proactive response"]:
        for event in stream(task).events:
            if event.role == "foreground" and event.label != "speech":
                assert event.reply in (*ontology()[event.label].replies, None)


def test_counting_aloud_counts():
    counted = [reply.text for reply in stream("count live").timeline]
    numbers = [f"{number.capitalize()}." for number in phrases()["numbers"][1:]]
    assert [text for text in counted if text in numbers] == numbers[
        : sum(t in numbers for t in counted)
    ]


@cache
def mix() -> list:
    return [outline(sources(), seed) for seed in range(50)]


def turns_of(s) -> list:
    return [event for event in s.events if event.role == "foreground"]


@pytest.mark.parametrize("task", ["slots remembered", "count", "order"])
def test_answers_about_the_past_lie_at_least_three_turns_back(task):
    back = []
    for seed in range(12):
        front = turns_of(outline(sources(), seed, sub_task=task))
        found = [(i, e) for i, e in enumerate(front) if e.refers_to is not None]
        back += [i - e.refers_to for i, e in found]
        for i, event in found:
            told = front[event.refers_to]
            if task == "slots remembered":
                assert told.act.split()[:2] == ["my", event.act.split()[1]]
                value = told.act.split(maxsplit=2)[2]
                assert value in told.text and event.reply.endswith(f"{value}.")
            elif task == "order":
                assert ontology()[told.label].name in event.reply
            else:
                label = event.act.split()[1]
                n = sum(e.label == label for e in front[:i])
                assert (
                    told.label == label
                    and event.reply == phrases()["numbers"][n].capitalize() + "."
                )
    assert len(back) >= 8 and min(back) >= 3


def test_a_tally_is_asked_for_again_and_again_of_more_than_one_sound():
    """Every answer is the number heard so far; which sound is meant, the question alone tells."""
    asked = []
    for seed in range(12):
        front = turns_of(outline(sources(), seed, sub_task="tally"))
        questions = [(i, e) for i, e in enumerate(front) if e.act.startswith("howmany")]
        for i, event in questions:
            n = sum(e.label == event.act.split()[1] for e in front[:i])
            assert event.reply == f"{phrases()['numbers'][n].capitalize()}."
        asked.append({event.act for _, event in questions})
    assert sum(map(len, asked)) >= 12 and any(len(acts) > 1 for acts in asked)


def test_counted_sounds_come_once_a_clip():
    for seed in range(12):
        s = outline(sources(), seed, sub_task="count live")
        labels = [
            x.lstrip("-") for e in s.events for x in e.act.split()[1:] if e.act.startswith("count")
        ]
        labels += [x.lstrip("-") for x in s.rule.split()[1:]]
        lengths = [(e.label, e.end_s - e.start_s) for e in s.events if e.label in labels]
        assert lengths and all(n <= phrases()["countable"][label] + 1e-3 for label, n in lengths)


def test_streams_have_three_to_fifteen_turns():
    lengths = [len(turns_of(s)) for s in mix()]
    assert 3 <= min(lengths) and max(lengths) <= 15


def test_half_of_the_events_are_speech_and_nearly_half_are_met_with_silence():
    events = [e for s in mix() for e in turns_of(s)]
    assert 0.35 < np.mean([e.label == "speech" for e in events]) < 0.65
    assert 0.30 < np.mean([e.reply is None for e in events]) < 0.60


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


def digits_of_anna(folder, edge_s: float = 0.0) -> ClipLibrary:
    """A recording of every digit, a quarter of a second between silent edges, as Free Spoken Digit names them."""
    for digit in range(10):
        recording = np.pad(np.sin(np.arange(4000) / 9), int(edge_s * 16_000))
        soundfile.write(folder / f"{digit}_anna_0.wav", recording, 16_000)
    return Sources.with_real([folder]).digits


def test_a_few_speakers_are_played_as_many(tmp_path, monkeypatch):
    """Recorded digits are trained on at many speeds; the held-out half keeps its own."""
    speeds, library = {}, digits_of_anna(tmp_path)
    for held_out in (False, True):
        told = speeds.setdefault(held_out, [])
        monkeypatch.setattr(script, "vary", lambda x, how, rng, told=told: (told.append(how.speed), x)[1])
        digits = replace(sources(held_out), digits=library)
        for seed in range(12):
            outline(digits, seed, sub_task="digit strings")
    assert min(speeds[False]) < 0.9 and max(speeds[False]) > 1.15
    assert min(speeds[True]) >= 0.84 and max(speeds[True]) <= 1.18
    assert not [speed for speed in speeds[True] if 0.92 <= speed <= 1.08]


@pytest.mark.parametrize("edge_s", [0.0, 0.2])
def test_only_the_silence_after_digits_is_long(tmp_path, edge_s):
    """Nothing but a pause tells that no further digit comes: two are never so far apart, however they were cut."""
    digits = replace(sources(False), digits=digits_of_anna(tmp_path, edge_s))
    silences = []
    for seed in range(12):
        said = script.Script(digits, np.random.default_rng(seed), 20.0)
        said.digits("40536")
        loud = np.flatnonzero(np.abs(said.items[0].clip.waveform) > 0.02) / 16_000
        silences.append((np.diff(loud).max(), said.items[0].clip.duration_s - loud[-1]))
    assert 0.05 < max(within for within, _ in silences) < 0.33 < min(after for _, after in silences)


def test_another_rate_is_no_other_pitch():
    word = np.sin(np.arange(8000) / 9).astype(np.float32)
    faster = script.at_rate(word, 1.25)
    assert len(faster) == 6400 and script.at_rate(word, 1.0) is word
    crossings = [np.diff(np.signbit(x[1000:-1000])).mean() for x in (word, faster)]
    assert crossings[1] == pytest.approx(crossings[0], rel=0.03)


def test_what_is_swallowed_is_quieter_at_one_end_only():
    word, heard = np.ones(8000, np.float32), set()
    for seed in range(20):
        said = script.swallowed(word, np.random.default_rng(seed))
        quiet = np.flatnonzero(said < 0.99)
        heard.add("beginning" if quiet[0] == 0 else "end")
        assert 10 ** (-30 / 20) - 1e-6 <= said.min() <= 10 ** (-6 / 20) + 1e-6
        assert (quiet[0] == 0) != (quiet[-1] == 7999)
        assert len(said) == 8000 and said.dtype == np.float32 and 600 < np.ptp(quiet) < 2400
    assert heard == {"beginning", "end"} and (word == 1).all()


def test_only_training_swallows_recorded_digits(tmp_path, monkeypatch):
    library, told = digits_of_anna(tmp_path), {False: 0, True: 0}
    for held_out in told:
        monkeypatch.setattr(script, "swallowed", lambda x, rng, h=held_out: (told.update({h: told[h] + 1}), x)[1])
        said = script.Script(replace(sources(held_out), digits=library, recorded=1.0), np.random.default_rng(0), 20.0)
        for _ in range(5):
            said.digits("40536")
    assert told[True] == 0 and 5 < told[False] < 20


def test_in_training_some_digits_come_by_telephone():
    """Nothing above 4 kHz, as in recordings, have half of those that the kit's own voices say; held out, none."""

    def narrow(held_out: bool) -> int:
        said = script.Script(sources(held_out), np.random.default_rng(0), 20.0)
        for _ in range(12):
            said.digits("46")
        spectra = [np.abs(np.fft.rfft(item.clip.waveform[: 16_000])) ** 2 for item in said.items]
        return sum(power[4200:].sum() < 1e-4 * power.sum() for power in spectra)

    assert narrow(held_out=True) == 0 and 2 <= narrow(held_out=False) <= 10


def test_recorded_digits_are_trained_on_with_and_without_their_own_noise(tmp_path):
    digits_of_anna(tmp_path)
    train, held = (Sources.with_real([tmp_path], held_out).digits.entries for held_out in (False, True))
    assert {entry.source for entry in train} == {"fsdd", "fsdd-denoised"} and len(train) == 20 and not held


def test_folders_of_digits_add_up_and_may_hold_nobody_who_is_unseen(tmp_path):
    """Who asks for held-out digits of a folder for training hears the kit's own voices."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        digits_of_anna(tmp_path / name)
    folders = (tmp_path / "one", tmp_path / "other")
    train, held = (Sources.with_real(folders, held_out) for held_out in (False, True))
    assert len(train.digits) == 40 and not held.digits
    assert {entry.licence for entry in train.digits.entries} == {""}  # nobody of Free Spoken Digit's
    said = script.Script(held, np.random.default_rng(0), 20.0)
    for _ in range(4):
        said.digits("40")
    assert {item.clip.source for item in said.items} == {"speech"}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_digits_are_said_by_recordings_as_often_as_wanted(tmp_path, share):
    wanted = replace(sources(True), digits=digits_of_anna(tmp_path), recorded=share)
    said = script.Script(wanted, np.random.default_rng(0), 20.0)
    for _ in range(12):
        said.digits("40")
    assert {item.clip.source == "fsdd" for item in said.items} == {share == 1.0}


def test_digits_of_the_unseen_speaker_are_counted_alone(tmp_path, monkeypatch):
    """Who hears nothing has every digit wrong; all that count were recorded."""
    recorded, sources_ = [], replace(sources(True), digits=digits_of_anna(tmp_path))
    say = script.Script._recorded
    monkeypatch.setattr(script.Script, "_recorded", lambda self, *a: (recorded.append(a[1]), say(self, *a)))
    found = evaluate.digits(SimpleNamespace(listen=lambda *a: []), sources_, n_streams=2)
    assert found["wer"] == 1.0 and 0 < found["n_words"] <= len("".join(recorded))


def test_questions_how_many_are_counted_alone():
    """Whoever says "two" has right what was two; what is only acknowledged does not count."""

    def two(waveform, rate, instruction, threshold):
        yield from (SimpleNamespace(kind="silent", p_respond=0.0) for _ in range(60))
        yield from (SimpleNamespace(kind="end", time_s=0.4 * (c + 1), text="Two.") for c in due.pop(0))

    count = [make_stream(sources(True), 2**41 + 1_000_000 + i, None, "count") for i in range(3)]
    due = [[event.chunk(s.audio) for event in s.events if event.reply] for s in count]
    wanted = [e.reply for s in count for e in s.events if e.reply and e.act.startswith("howmany")]
    found = evaluate.counts(SimpleNamespace(listen=two), sources(True), n_streams=3)
    assert found["n"] == len(wanted) < sum(map(len, (s.timeline for s in count)))
    assert found["share"] == wanted.count("Two.") / len(wanted) < 1.0
    assert found["by_number"]["two"]["share"] == 1.0


def test_who_was_to_name_every_sound_can_still_be_asked_for_one():
    """No benign sound may be left then; a hazard always is."""
    for seed in range(8):
        said = Dialogue(sources(), np.random.default_rng(seed), 20.0)
        said.excluded |= {sound.label for sound in said.known("ignore")}
        (label,) = begin(said, "tell")
        assert ontology()[label].policy == "respond" and said.listener.task == ["tell", label]


def test_wrong_names_say_what_there_is():
    with pytest.raises(ValueError, match="no ability 'singing'.*voice chatting"):
        make_stream(sources(), 0, ability="singing")
    with pytest.raises(ValueError, match="no sub-task 'opera'.*small talk"):
        make_stream(sources(), 0, sub_task="opera")
