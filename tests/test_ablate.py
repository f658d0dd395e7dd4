"""Ablations: one thing is changed at a time, everything is judged alike, what is done is kept."""

import json
from dataclasses import fields

import pytest

from aikit.bench import ablate
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.synth.abilities import Sources, make_stream
from aikit.synth.clips import ClipLibrary

NANO = preset("nano")


@pytest.fixture(scope="module", autouse=True)
def few_clips():
    """Every way to make streams, from one clip of each sound."""
    patch = pytest.MonkeyPatch()
    one, library = Sources.embedded, ClipLibrary.bundled
    patch.setattr(Sources, "embedded", classmethod(lambda cls, held_out=False: one(held_out, variants=1)))
    patch.setattr(ClipLibrary, "bundled", classmethod(lambda cls, n=1, held_out=False: library(1, held_out)))
    patch.setitem(ablate.MADE, "carefully", lambda: one(variants=1))
    ablate.sources_made.cache_clear()
    yield
    ablate.sources_made.cache_clear()
    patch.undo()


def test_a_comparison_is_trained_once_judged_and_shown_beside_the_paper(tmp_path, monkeypatch, capfd):
    report = ablate.run("lambda", tmp_path, (3,), 0.01, NANO, n_streams=4, progress=False)
    assert [row["setting"] for row in report["rows"]] == ["λ = 0.5", "λ = 1", "λ = 2"]
    assert all(len(row["seeds"]) == 1 and row["seeds"][0]["n"] > 10 for row in report["rows"])
    assert json.loads((tmp_path / "lambda.json").read_text()) == report
    table = ablate.markdown(report).splitlines()
    assert len(table) == 5 and table[3].endswith("| 96.7 % | 58.2 |")
    assert len({line.count("|") for line in table}) == 1

    monkeypatch.setattr(ablate, "train", None)  # nothing is trained again
    assert ablate.run("lambda", tmp_path, (3,), 0.01, NANO, n_streams=4, progress=False) == report
    weights = [json.loads(p.read_text())["shape"]["stream_weight"] for p in tmp_path.glob("*/model/config.json")]
    assert sorted(weights) == [0.5, 1.0, 2.0]


def test_a_chunk_of_another_length_is_composed_trained_and_judged_on_its_own_grid(tmp_path):
    for setting in ablate.KINDS["chunk"]:
        audio, tower = (shape := setting.shape(preset("mini"))).audio, shape.tower
        assert tower.context_chunks * audio.chunk_s == pytest.approx(3.2, abs=0.3)
        stream = make_stream(ablate.sources_made("held out"), 5, None, "traffic and alarms",
                             round(24 / audio.chunk_s), audio=audio)  # fmt: skip
        assert stream.duration_s == pytest.approx(24.0)
        for event in (e for e in stream.events if e.role == "foreground"):
            end = (event.chunk(audio) + 1) * audio.chunk_s
            assert 0 <= end - event.end_s < audio.chunk_s + 1e-6
        due = [event.chunk(audio) for event in stream.events if event.reply is not None]
        assert due == [reply.chunk for reply in stream.timeline]
    slow = ablate.KINDS["chunk"][-1]
    found = ablate._one(slow, tmp_path / "run", NANO, 0, 0.01, 2, progress=False)
    assert found["n"] > 0 and found["seconds_heard"] == 48


def test_a_teacher_is_trained_and_judged_before_its_student(tmp_path):
    alone, taught, larger = ablate.KINDS["distilling"]
    ablate._one(taught, tmp_path, NANO, 0, 0.01, 2, progress=False)
    runs = {name: ablate.planned(setting, tmp_path, NANO, 0, 0.01) for name, setting in
            (("alone", alone), ("taught", taught), ("larger", larger))}  # fmt: skip
    assert runs["taught"].teacher == runs["larger"].out / "model" and runs["alone"].teacher is None
    assert runs["taught"].model == runs["alone"].model and not runs["alone"].out.exists()
    assert runs["larger"].model.decoder.width == 2 * NANO.decoder.width
    assert list(runs["larger"].out.glob("heard-*.json"))
    logs = {name: (runs[name].out / "metrics.jsonl").read_text() for name in ("taught", "larger")}
    assert '"distil"' in logs["taught"] and '"distil"' not in logs["larger"]
    assert [stage.steps for stage in ablate.stages(larger)] == [2 * stage.steps for stage in ablate.stages(alone)]


@pytest.mark.parametrize("how", ["without TFJP", "without selection"])
def test_streams_made_with_less_care_are_other_streams(how):
    careful, careless = (make_stream(ablate.sources_made(x), 3, None, "equipment or fire") for x in ("carefully", how))
    assert careful.waveform.shape == careless.waveform.shape
    assert careful.waveform.tobytes() != careless.waveform.tobytes()
    if how == "without selection":
        assert all(decision.outcome == "accept" for decision in careless.grounding)


def test_every_comparison_changes_one_thing():
    for kind, settings in ablate.KINDS.items():
        assert len({setting.key() for setting in settings}) == len(settings)
        for setting in settings:
            assert len(setting.paper) == len(ablate.PAPER_COLUMNS[kind])
            said = ("name", "heard", "paper")  # not what is trained
            usual = {f.name: f.default for f in fields(ablate.Setting) if f.name not in said}
            changed = [name for name, value in usual.items() if getattr(setting, name) != value]
            assert len(changed) <= 1, setting
            AudioInteractionModel.from_preset(setting.shape(preset("mini")))


def test_a_wrong_comparison_is_refused_in_a_line(tmp_path, capsys):
    from aikit.cli import main

    assert main(["train", "--ablate", "colour", "--out", str(tmp_path)]) == 2
    assert "lambda, chunk, tfjp" in capsys.readouterr().err
    assert main(["train", "--ablate", "chunk", "--out", str(tmp_path), "--seeds", "0"]) == 2
    assert main(["train", "--ablate", "chunk", "--out", str(tmp_path), "--real", "x"]) == 2
    assert "leave out --real" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
