"""A student learns what a larger model expects: the two must hear and read alike, and the teacher stays as it is."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.synth.abilities import Sources
from aikit.tokens import Tokenizer
from aikit.train import recipe
from aikit.train.data import StageData
from aikit.train.distil import Teacher
from aikit.train.loop import TrainConfig, train

NANO = preset("nano")
WIDER = replace(NANO, decoder=replace(NANO.decoder, width=32))
STREAMING = replace(recipe.STAGES[3], steps=25, batch=2, learning_rate=1e-2, masked=0.0)


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources.embedded(variants=1)


def _train(out, sources, **changes):
    values = dict(model=NANO, stages=(STREAMING,), n_chunks=45, workers=0, precision="fp32", log_every=1)
    return train(TrainConfig(out, **values | changes), progress=False, sources=sources)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, sources):
    """The folder of a wider model, and of the run that made it."""
    return _train(tmp_path_factory.mktemp("teacher"), sources, model=WIDER, seed=7)


@pytest.fixture(scope="module")
def batch(sources, teacher):
    """Two streams, as the teacher reads them."""
    data = StageData(STREAMING, sources, Tokenizer.load(teacher.parent / "tokenizer.json"), WIDER, 3, 45, 0)
    return data.collate([data[0], data[1]]).batch


def test_a_student_comes_nearer_to_its_teacher_and_keeps_nothing_of_it(tmp_path, sources, teacher):
    before = {path.name: path.read_bytes() for path in teacher.iterdir()}
    student = _train(tmp_path, sources, teacher=teacher)
    apart = [json.loads(line)["distil"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(apart) == STREAMING.steps and np.mean(apart[-5:]) < 0.5 * np.mean(apart[:5])
    own = set(AudioInteractionModel.from_preset(NANO).state_dict())
    assert set(load_file(student / "model.safetensors")) <= own
    saved = torch.load(tmp_path / "checkpoint" / "state.pt", weights_only=True)["trainee"]
    assert {name.removeprefix("model.") for name in saved if not name.startswith("head.")} == own
    assert before == {path.name: path.read_bytes() for path in teacher.iterdir()}


def test_nothing_parts_a_teacher_from_itself_and_only_the_student_gets_gradients(teacher, batch):
    wise = Teacher(teacher, WIDER, teacher.parent / "tokenizer.json")
    counts = wise.model.count_targets(batch.labels_lm, batch.labels_stream)
    assert abs(wise.loss(wise.model, wise.hidden(batch), batch, counts)) < 1e-5

    new = AudioInteractionModel.from_preset(WIDER, seed=5)
    out = new(batch.input_ids, mel=batch.mel, labels_stream=batch.labels_stream, labels_lm=batch.labels_lm)
    apart = wise.loss(new, out.last_hidden_state, batch, counts)
    apart.backward()
    assert apart > 0.1 and new.tower.stem.project.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in wise.model.parameters())


def test_the_divergence_weighs_targets_as_the_labels_do(teacher, batch):
    """Against labels that a teacher is sure of, it is their cross-entropy."""
    wise = Teacher(teacher, WIDER, teacher.parent / "tokenizer.json")
    new = AudioInteractionModel.from_preset(WIDER, seed=5)
    out = new(batch.input_ids, mel=batch.mel, labels_stream=batch.labels_stream, labels_lm=batch.labels_lm)
    counts = new.count_targets(batch.labels_lm, batch.labels_stream)
    for labels, expected in ((batch.labels_lm, out.loss_lm), (batch.labels_stream, out.loss_stream)):
        nothing = torch.full_like(labels, -100)
        only = replace(batch, labels_lm=nothing, labels_stream=nothing)
        only = replace(only, **{"labels_lm" if labels is batch.labels_lm else "labels_stream": labels})
        sure = torch.nn.functional.one_hot(labels[:, 1:].clamp(min=0), WIDER.decoder.vocab).float() * 60.0
        kept = labels[:, 1:] != -100
        wise.model.logits = lambda hidden, sure=sure[kept]: sure if len(hidden) else hidden.new_zeros(0, sure.shape[1])
        apart = wise.loss(new, out.last_hidden_state, only, counts)
        assert apart.item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_teacher_that_hears_or_reads_otherwise_is_refused(tmp_path, sources, teacher):
    deafer = replace(NANO, audio=replace(NANO.audio, n_mels=32))
    with pytest.raises(ValueError, match="hears or reads otherwise"):
        _train(tmp_path / "student", sources, model=deafer, teacher=teacher)
    other = shutil.copy(teacher / "tokenizer.json", tmp_path / "tokenizer.json")
    other.write_text(other.read_text() + "\n")
    with pytest.raises(ValueError, match="another vocabulary"):
        Teacher(teacher, NANO, other)
