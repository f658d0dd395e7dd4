"""The published item format: what is written is read again, and a published record falls into its chunks."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
import soundfile

from aikit.audio import save_audio
from aikit.cli import main
from aikit.synth.corpus import build_corpus, read_corpus
from aikit.synth.formats import export_items, import_items, item_stream
from aikit.synth.script import Sources
from aikit.tokens import SILENT_MARKER, Reply


@cache
def sources() -> Sources:
    return Sources.embedded(variants=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("corpora") / "a", sources(), 4, seed=3, workers=2)


def test_export_in_the_published_item_format(built, tmp_path):
    lines = export_items(built, tmp_path / "items").read_text("utf-8").splitlines()
    for item, stream in zip(map(json.loads, lines), read_corpus(built), strict=True):
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


def test_what_is_exported_is_imported(built, tmp_path):
    assert main(["synth", "--export", str(built), "--out", str(tmp_path / "items")]) == 0
    items, out = tmp_path / "items" / "items.jsonl", tmp_path / "b"
    assert main(["synth", "--items", str(items), "--out", str(out), "--workers", "2"]) == 0
    assert main(["synth", "--check", str(out)]) == 0
    for made, read in zip(read_corpus(built), read_corpus(out), strict=True):
        np.testing.assert_array_equal(made.waveform, read.waveform)
        assert (made.timeline, made.ability) == (read.timeline, read.ability)
        front = [event for event in made.events if event.role == "foreground"]
        for a, b in zip(front, read.events, strict=True):
            assert (a.label, a.reply, a.text) == (b.label, b.reply, b.text)
            assert a.end_s == pytest.approx(b.end_s, abs=1e-3)


def item(root, *turns, **more) -> dict:
    """An item whose turns are (seconds, reply)."""
    rows = []
    for k, (seconds, reply) in enumerate(turns):
        save_audio(root / f"{k}.flac", np.full(int(seconds * 16_000), 0.1, np.float32))
        row = {"user": "hello", "assistant": reply, "emotion": "happy", "scene_type": "speech"}
        rows.append(row | {"audio_path": f"{k}.flac"})
    return {"id": "x", "stream_scene_type": "talk", "num_turns": len(rows), "turns": rows} | more


def test_a_gap_goes_before_every_turn(tmp_path):
    stream = item_stream(item(tmp_path, (1.0, "one"), (1.0, SILENT_MARKER)), tmp_path, gap_s=0.7)
    assert [(e.start_s, e.end_s) for e in stream.events] == [(0.7, 1.7), (2.4, 3.4)]
    assert stream.timeline == (Reply(4, "one", "happy"),) and stream.n_chunks == 11


def test_no_reply_is_lost_to_a_short_turn(tmp_path):
    """The published code loses the reply of a turn that spans no chunk boundary."""
    stream = item_stream(item(tmp_path, (0.5, "one"), (0.1, "two"), (0.1, "three")), tmp_path)
    assert [(reply.chunk, reply.text) for reply in stream.timeline] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]


def test_unusable_items_are_left_out_and_told(tmp_path, capfd):
    good, bad = item(tmp_path, (1.0, "one")), item(tmp_path, (1.0, "one"))
    bad["turns"][0]["audio_path"] = "gone.flac"
    lines = [json.dumps(good), json.dumps(bad), '{"id": 3, "turns": []}', "not json"]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n")
    out = import_items(tmp_path / "items.jsonl", tmp_path / "out")
    assert len(list(read_corpus(out))) == 1
    err = capfd.readouterr().err
    for says in (
        "line 2 is left out: no such file",
        "line 3 is left out: item 3 has no turns",
        "line 4",
    ):
        assert says in err


def test_a_published_record_falls_into_its_chunks(golden, tmp_path):
    """Blocks of the replies as the published code laid them out."""
    record = json.loads((golden / "online_record.json").read_text())
    published = record["step3"] | {"id": "0"}
    stream = item_stream(published, golden)
    ids, blocks, chunk = record["step4"]["input_ids"], [], -1
    for id_ in ids:
        chunk += id_ == 151647  # AUDIO_BEGIN
        if id_ == 151644 and chunk >= 0:  # TEXT_BEGIN
            blocks.append(chunk)
    assert [reply.chunk for reply in stream.timeline] == blocks == [18, 46]
    assert [reply.emotion for reply in stream.timeline] == ["urgent", "happy"]
    assert stream.n_chunks == chunk + 1 == 50


def test_items_of_another_file_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(item(tmp_path, (1.0, "one"))) + "\n")
    import_items(tmp_path / "a.jsonl", tmp_path / "out")
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    import_items(tmp_path / "b.jsonl", tmp_path / "out")  # the same content
    (tmp_path / "b.jsonl").write_text(json.dumps(item(tmp_path, (1.0, "two"))) + "\n")
    with pytest.raises(ValueError, match="corpus of other items"):
        import_items(tmp_path / "b.jsonl", tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        import_items(tmp_path / "gone.jsonl", tmp_path / "out")
