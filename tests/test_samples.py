"""The bundled samples: made the same way every time, complete, held out, with right sums."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest
import soundfile

from aikit import samples
from aikit.audio import load_audio
from aikit.bench.manifest import read_manifest
from aikit.samples import bench_clips, bench_row, make_bench, save_scene, with_serial, write_sums
from aikit.synth.abilities import Sources, phrases
from aikit.synth.ontology import ontology
from aikit.synth.scenes import SCENES, make_scene
from aikit.synth.speech import TRAIN_VOICES

REMAKE = "data_samples/ is not what the code makes: run `aikit samples`"


@cache
def sources() -> Sources:
    return Sources.embedded(held_out=True, variants=2)


@pytest.fixture(scope="module")
def clips():
    return bench_clips()


@pytest.fixture(scope="module")
def bundled(root):
    folder = root / "data_samples"
    assert (folder / "scenes").is_dir(), "run `aikit samples`"
    return folder


def test_a_scene_is_made_the_same_way_every_time(tmp_path):
    for folder in ("a", "b"):
        save_scene(tmp_path / folder, "count_barks", make_scene("count_barks", 5, sources()))
    for name in ("count_barks.flac", "count_barks.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = make_scene("count_barks", 6, sources()).waveform
    assert other.tobytes() != make_scene("count_barks", 5, sources()).waveform.tobytes()


def test_an_unknown_scene_says_what_there_is():
    with pytest.raises(ValueError, match="no scene 'opera'.*kitchen"):
        make_scene("opera")


@pytest.mark.parametrize("name", SCENES)
def test_a_bundled_scene_holds_what_it_says(bundled, name):
    about = json.loads((bundled / "scenes" / f"{name}.json").read_text("utf-8"))
    waveform = load_audio(bundled / "scenes" / f"{name}.flac")
    assert len(waveform) / 16_000 == pytest.approx(about["duration_s"])
    assert 20 <= about["duration_s"] <= 60
    replies = [(event["end_s"], event["reply"]) for event in about["events"] if event["reply"]]
    assert [text for _, text in replies] == [reply["text"] for reply in about["timeline"]]
    for (end_s, _), reply in zip(replies, about["timeline"], strict=True):
        assert 0.09 < reply["time_s"] - end_s <= 0.4
        assert reply["time_s"] == pytest.approx(0.4 * (reply["chunk"] + 1))
    for event in about["events"]:
        assert event["end_s"] - event["start_s"] <= 4.001
        assert not any(voice.name in event["name"] for voice in TRAIN_VOICES)
    assert {"title", "instruction", "seed", "licence", "made_by", "how"} <= about.keys()


def test_the_bundled_kitchen_is_what_the_code_makes(bundled):
    made = make_scene("kitchen")
    about = json.loads((bundled / "scenes" / "kitchen.json").read_text("utf-8"))
    assert [e["label"] for e in about["events"]] == [e.label for e in made.events], REMAKE
    ends = [event["end_s"] for event in about["events"]]
    np.testing.assert_allclose(
        ends, [event.end_s for event in made.events], atol=0.01, err_msg=REMAKE
    )
    alarm = next(event for event in made.events if event.label == "smoke_alarm")
    assert 14 < alarm.start_s < 17
    assert [reply.text for reply in made.timeline] == [alarm.reply]  # silent before and after


def test_counting_and_translating_follow_the_phrase_book():
    counted = [reply.text for reply in make_scene("count_barks", 0, sources()).timeline]
    assert counted == ["Okay, I count the barks.", "One.", "Two.", "Three.", "Four."]
    stream, pairs = (
        make_scene("translate", 0, sources()),
        dict(phrases()["translation"]["en_es"]["pairs"]),
    )
    said = [event for event in stream.events if event.text in pairs]
    assert len(said) == 4 and all(pairs[event.text] == event.reply for event in said)


def test_mini_bench_clips_are_made_the_same_way_every_time(clips, tmp_path):
    make_bench(tmp_path / "a", clips[::20])
    make_bench(tmp_path / "b", bench_clips()[::20])
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert len(files) == len(clips[::20]) + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_serial_number_changes_nothing_that_is_heard(tmp_path):
    soundfile.write(tmp_path / "a.ogg", np.sin(np.arange(20_000) / 5).astype(np.float32), 16_000)
    original = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "b.ogg").write_bytes(with_serial(original))
    np.testing.assert_array_equal(load_audio(tmp_path / "a.ogg"), load_audio(tmp_path / "b.ogg"))
    serial = int.from_bytes(original[14:18], "little")
    assert with_serial(with_serial(original), serial) == original  # so the check sums are Ogg's


def test_the_manifest_is_complete(bundled):
    folder = bundled / "mini_bench"
    rows = [
        json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    ]
    files = {f"./{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.ogg")}
    assert {row["path"] for row in rows} == files and len(files) == len(rows)
    described = [row["description"] for row in rows]
    assert all(described.count(sound.name) == 2 for sound in ontology().values())
    assert described.count("people talking") == len(phrases()["chatter"])
    for row in rows:
        _, effect, _, _, decision, name = row["path"].split("/")
        assert effect == "proactive-sound-effect" and decision == row["decision"]
        assert name == f"{row['id']}.ogg" and len(row["id"]) == 8 and int(row["id"], 16) >= 0
        assert ("standard_answers" in row) == (decision == "RESPOND")
    places = {tuple(row["path"].split("/")[2:4]) for row in rows}
    assert len(places) == 17 and len({domain for domain, _ in places}) == 6


def test_every_domain_has_both_answers_and_every_reply_has_several_forms(bundled):
    cases = read_manifest(bundled / "mini_bench" / "manifest.jsonl")
    assert len(cases) >= 120
    by_domain = {domain: {c.decision for c in cases if c.domain == domain} for domain in {c.domain for c in cases}}
    assert all(decisions == {"RESPOND", "IGNORE"} for decisions in by_domain.values()) and len(by_domain) == 6
    due = [case for case in cases if case.decision == "RESPOND"]
    assert min(len(case.standard_answers) for case in due) >= 3
    criteria = {sound.criterion for sound in ontology().values() if sound.name in {c.description for c in due}}
    assert criteria == {"body", "weather", "equipment", "safety"}  # the four of paper §3.3


def test_the_manifest_is_what_the_code_makes(bundled, clips):
    rows = (bundled / "mini_bench" / "manifest.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row) for row in rows] == [bench_row(clip) for clip in clips], REMAKE


def test_mini_bench_clips_are_short_mono_and_held_out(bundled, clips):
    for path in (bundled / "mini_bench").rglob("*.ogg"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (16_000, 1) and 0.8 < info.duration < 6.5
    # other seeds than the training half and the held-out streams
    assert samples.BENCH_SEED != 0
    names = {clip.name for clip in clips}
    assert not names & {entry.name for entry in Sources.embedded().sounds.entries}
    assert not names & {entry.name for entry in Sources.embedded(held_out=True).sounds.entries}


def test_sums_cover_every_file_and_are_right(bundled, tmp_path):
    lines = (bundled / "SHA256SUMS").read_text("utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = {p.relative_to(bundled).as_posix() for p in bundled.rglob("*") if p.is_file()}
    assert set(listed) == there - {"SHA256SUMS"}, "run aikit.samples.write_sums('data_samples')"
    for name, digest in listed.items():
        assert hashlib.sha256((bundled / name).read_bytes()).hexdigest() == digest, name
    (tmp_path / "x").write_bytes(b"hello")
    assert write_sums(tmp_path).read_text().startswith("2cf24dba5fb0a30e26e83b2ac5b9e29e")


def test_samples_stay_small(bundled):
    size = sum(
        p.stat().st_size
        for p in bundled.rglob("*")
        if p.is_file() and "checkpoint" not in p.relative_to(bundled).parts
    )
    assert size < 8e6
    assert "CC0" in (bundled / "README.md").read_text("utf-8")
