"""What a corpus holds, and whether it is whole: every damage is found, and told with its line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from aikit import charts
from aikit.cli import main
from aikit.synth.abilities import ABILITIES
from aikit.synth.compose import SoundEvent, Stream
from aikit.synth.corpus import METADATA, build_corpus, digest, fill, read_corpus, save
from aikit.synth.describe import by_sub_task, check_corpus, describe, facts
from aikit.synth.script import Sources


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpora") / "a"
    return build_corpus(out, Sources.embedded(variants=2), 7, seed=2, workers=2)


# --- what it holds --------------------------------------------------------------------------------
def test_description_counts(built):
    about, streams = describe(built), list(read_corpus(built))
    assert about["streams"] == 7 and about["hours"] == round(7 * 24 / 3600, 3)
    assert about["replies"] == sum(len(stream.timeline) for stream in streams)
    assert about["rounds"] >= about["replies"] and 0.7 < about["silent_share"] < 1
    assert about["label"]["speech"] > 0 and set(about["ability"]) == set(ABILITIES)
    assert about["digest"] == digest(built) and about["skipped"] == []


def test_the_table_has_a_row_for_every_sub_task(built):
    rows = by_sub_task(facts(built))
    assert len(rows) == 28 and sum(row["streams"] for row in rows) == 7
    for row in rows:
        assert bool(row["sample"]) == (row["streams"] > 0 and row["replies"] > 0)
        assert row["streams"] == 0 or (0.5 < row["silence"] <= 1 and row["rounds"] >= 1)


def test_words_of_a_chinese_reply_are_characters(tmp_path):
    import numpy as np

    from aikit.tokens import Reply

    def make(i):
        event = SoundEvent("speech", 0.1, 0.3, text="hello", reply="请打开灯")
        return save(
            tmp_path / "b",
            i,
            Stream(np.zeros(12_800, np.float32), (Reply(0, "请打开灯"),), (event,)),
        )

    (one,) = streams = facts(fill(tmp_path / "b", {}, 1, make))
    charts.corpus([*streams, replace(one, ability="silence", reply_words=())])
    charts.corpus([replace(one, reply_words=())])  # nobody replies
    assert one.reply_words == (4,) and one.silence == 0.5 and one.sample == "hello → 请打开灯"


def test_describe_prints_a_table_and_draws_a_figure(built, tmp_path, capsys):
    shutil.copytree(built, tmp_path / "b")
    assert main(["synth", "--describe", str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert all(task in out for tasks in ABILITIES.values() for task in tasks)
    assert "7 streams, 0.047 h" in out and digest(built) in out
    assert (tmp_path / "b" / "corpus.png").read_bytes().startswith(b"\x89PNG")
    assert main(["synth", "--check", str(tmp_path / "b")]) == 0
    assert "whole" in capsys.readouterr().out


# --- whether it is whole --------------------------------------------------------------------------
def edit_row(corpus: Path, number: int, change) -> None:
    metadata = corpus / "0000" / METADATA
    lines = metadata.read_text("utf-8").splitlines()
    row = json.loads(lines[number - 1])
    change(row)
    lines[number - 1] = json.dumps(row, ensure_ascii=False)
    metadata.write_text("\n".join(lines) + "\n", "utf-8")


def doubled(corpus: Path) -> None:
    metadata = corpus / "0000" / METADATA
    metadata.write_bytes(metadata.read_bytes() + metadata.read_bytes().splitlines(keepends=True)[1])


def answered(row: dict) -> dict:
    return next(event for event in row["events"] if event["reply"])


DAMAGES = {
    "missing audio": (lambda c: (c / "0000/0000001.flac").unlink(), "line 2: 0000001.flac is missing"),
    "a flipped byte": (
        lambda c: (c / "0000/0000002.flac").write_bytes((c / "0000/0000002.flac").read_bytes()[:-1] + b"x"),
        "line 3: 0000002.flac is not what was written",
    ),
    "a doubled line": (doubled, "line 8: id 0000001 is there twice, first in"),
    "doubled audio": (
        lambda c: edit_row(c, 4, lambda row: row.update(sha256="0" * 64))
        or edit_row(c, 5, lambda row: row.update(sha256="0" * 64)),
        "line 5: sha256 000000000000 is there twice",
    ),
    "a foreign file": (lambda c: (c / "0000/notes.txt").write_text("x"), "notes.txt: not part of the corpus"),
    "half-written audio": (lambda c: (c / "0000/.0000001-9.flac").write_bytes(b""), "a build was stopped here"),
    "a torn line": (
        lambda c: (c / "0000" / METADATA).write_bytes((c / "0000" / METADATA).read_bytes()[:-9]),
        "line 7: torn",
    ),
    "a lost line": (
        lambda c: (c / "0000" / METADATA).write_text(
            "".join((c / "0000" / METADATA).read_text("utf-8").splitlines(True)[:-1]), "utf-8"
        ),
        "1 of 7 streams are missing, 0000006 first",
    ),
    "a broken line": (
        lambda c: (c / "0000" / METADATA).write_text("{}\n" + (c / "0000" / METADATA).read_text("utf-8"), "utf-8"),
        "line 1: broken (KeyError: 'id')",
    ),
    "a late reply": (
        lambda c: edit_row(c, 1, lambda row: row["timeline"][-1].update(chunk=99)),
        "line 1: reply",
    ),
    "an early reply": (
        lambda c: edit_row(c, 1, lambda row: row["timeline"][0].update(chunk=0)),
        "belongs to no event that ends there",
    ),
    "two replies at once": (
        lambda c: edit_row(c, 1, lambda row: row["timeline"].append(row["timeline"][-1])),
        "not in order, one reply a chunk",
    ),
    "an odd emotion": (
        lambda c: edit_row(c, 1, lambda row: row["timeline"][0].update(emotion="smug")),
        "has emotion 'smug'",
    ),
    "an event past the end": (
        lambda c: edit_row(c, 1, lambda row: row["events"][-1].update(end_s=24.5, reply="", role="ambient")),
        "does not lie within 24 s",
    ),
    "another length": (
        lambda c: edit_row(c, 1, lambda row: row.update(n_chunks=61)),
        "has 384000 samples at 16000 Hz, not 390400",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found(built, tmp_path, capsys, damage):
    shutil.copytree(built, tmp_path / "b")
    harm, says = DAMAGES[damage]
    harm(tmp_path / "b")
    found = check_corpus(tmp_path / "b")
    assert any(says in problem for problem in found), found
    assert main(["synth", "--check", str(tmp_path / "b")]) == 1
    assert f"{len(found)} problems" in capsys.readouterr().out


def test_a_whole_corpus_has_no_problem(built):
    assert check_corpus(built) == []


def test_no_corpus_is_said_in_one_line(tmp_path, capsys):
    assert main(["synth", "--check", str(tmp_path)]) == 2
    assert main(["synth", "--describe", str(tmp_path)]) == 2
    assert main(["synth"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 3 and "no corpus in" in err and "give --out DIR" in err
