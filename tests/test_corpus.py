"""A corpus on disk: what is written is read again, and a kill loses and doubles nothing."""

import json
from functools import cache

import numpy as np
import pytest
import soundfile

from aikit.synth import corpus
from aikit.synth.abilities import ABILITIES, Sources, make_stream
from aikit.synth.corpus import (
    METADATA,
    build_corpus,
    describe,
    export_items,
    read_corpus,
    read_rows,
)
from aikit.tokens import SILENT_MARKER


@cache
def sources() -> Sources:
    return Sources.embedded(variants=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("corpora") / "a", sources(), 7, seed=1)


def content(folder) -> dict:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_what_is_written_is_read_again(built):
    rows, streams = read_rows(built), list(read_corpus(built))
    assert [row["ability"] for row in rows] == list(ABILITIES)
    for row, stream in zip(rows, streams, strict=True):
        made = make_stream(sources(), stream.seed, stream.ability)
        np.testing.assert_allclose(stream.waveform, made.waveform, atol=1 / 32768)
        for name in ("timeline", "events", "ability", "sub_task", "instruction", "n_chunks"):
            assert getattr(stream, name) == getattr(made, name)
        info = soundfile.info(built / row["file_name"])
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")


def test_metadata_is_what_audiofolder_reads(built):
    lines = (built / METADATA).read_text("utf-8").splitlines()
    assert len(lines) == 7
    for row in map(json.loads, lines):
        assert (built / row["file_name"]).is_file()
        assert None not in row.values() and all(
            None not in event.values() for event in row["events"]
        )
    assert len({tuple(json.loads(line)) for line in lines}) == 1  # the same columns everywhere


def test_the_same_call_again_changes_nothing(built):
    before = content(built)
    assert build_corpus(built, sources(), 7, seed=1) == built
    assert content(built) == before


def test_a_killed_build_goes_on(built, tmp_path, monkeypatch):
    calls = iter(range(100))

    def dies(*args):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return make_stream(*args)

    monkeypatch.setattr(corpus, "make_stream", dies)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(tmp_path / "b", sources(), 7, seed=1)
    monkeypatch.undo()
    metadata = tmp_path / "b" / METADATA
    assert len(read_rows(tmp_path / "b")) == 3
    (tmp_path / "b" / "0000" / ".0000003.flac").write_bytes(
        b"half a fi"
    )  # killed while writing audio
    metadata.write_bytes(metadata.read_bytes() + b'{"file_name": "0000/00')  # and a torn line
    (tmp_path / "b" / "0000" / "0000001.flac").unlink()  # and somebody tidied up
    assert len(read_rows(tmp_path / "b")) == 3  # a torn line does not hinder reading
    build_corpus(tmp_path / "b", sources(), 7, seed=1)
    mine, whole = content(tmp_path / "b"), content(built)
    assert sorted(mine.pop(METADATA).splitlines()) == sorted(whole.pop(METADATA).splitlines())
    assert mine == whole


def test_a_corpus_grows(built, tmp_path):
    build_corpus(tmp_path / "c", sources(), 2, seed=1)
    build_corpus(tmp_path / "c", sources(), 3, seed=1)
    assert read_rows(tmp_path / "c") == read_rows(built)[:3]


def test_what_does_not_fit_is_refused(built, tmp_path):
    with pytest.raises(ValueError, match="other seed: 1, not 2"):
        build_corpus(built, sources(), 7, seed=2)
    with pytest.raises(ValueError, match="other sources"):
        build_corpus(built, Sources.embedded(variants=3), 7, seed=1)
    with pytest.raises(ValueError, match="no ability 'singing'"):
        build_corpus(tmp_path / "d", sources(), 1, abilities=["singing"])
    with pytest.raises(ValueError, match="at least one"):
        build_corpus(tmp_path / "d", sources(), 0)
    assert not (tmp_path / "d").exists()
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        build_corpus(tmp_path, sources(), 1)


def test_reading_what_is_not_there_says_so(built, tmp_path):
    with pytest.raises(FileNotFoundError, match="aikit synth"):
        read_corpus(tmp_path)
    (tmp_path / METADATA).write_text("{}\nnot json\n{}\n")
    with pytest.raises(ValueError, match="line 2 is broken"):
        read_rows(tmp_path)


def test_abilities_can_be_chosen(tmp_path):
    build_corpus(tmp_path / "e", sources(), 2, abilities=["voice chatting"])
    assert describe(tmp_path / "e")["ability"] == {"voice chatting": 2}


def test_description_counts(built):
    about = describe(built)
    assert about["streams"] == 7 and about["hours"] == round(7 * 24 / 3600, 3)
    assert about["replies"] == sum(len(stream.timeline) for stream in read_corpus(built))
    assert about["turns"] >= about["replies"] and 0.7 < about["silent_share"] < 1
    assert about["label"]["speech"] > 0 and set(about["ability"]) == set(ABILITIES)


def test_export_in_the_published_item_format(built, tmp_path):
    lines = export_items(built, tmp_path / "items").read_text("utf-8").splitlines()
    streams = list(read_corpus(built))
    for item, stream in zip(map(json.loads, lines), streams, strict=True):
        assert list(item) == ["id", "stream_scene_type", "num_turns", "turns"]
        assert item["stream_scene_type"] == stream.ability and item["num_turns"] == len(
            item["turns"]
        )
        audio = []
        for turn in item["turns"]:
            assert list(turn) == ["user", "assistant", "emotion", "scene_type", "audio_path"]
            audio.append(
                soundfile.read(tmp_path / "items" / turn["audio_path"], dtype="float32")[0]
            )
        np.testing.assert_array_equal(np.concatenate(audio), stream.waveform)
        said = [turn["assistant"] for turn in item["turns"] if turn["assistant"] != SILENT_MARKER]
        assert said == [reply.text for reply in stream.timeline]
    assert any(SILENT_MARKER in line for line in lines)
