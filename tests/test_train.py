"""The loop: it learns, it resumes to the same losses, it stops on NaN; the recipe is a table."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from aikit.audio import SAMPLE_RATE
from aikit.config import preset
from aikit.synth.abilities import Sources, make_stream
from aikit.synth.ontology import ontology
from aikit.synth.pairs import make_pair
from aikit.synth.rules import Listener
from aikit.synth.speech import PHONEMES
from aikit.train import loop, recipe
from aikit.train.data import BANDS, WIDEST_BAND, StageData, draw_sub_task, masked
from aikit.train.hearing import (
    HearingHead,
    HearingTargets,
    counting_loss,
    half_way_up,
    hearing_targets,
    sound_labels,
    spoken_pieces,
    words_loss,
)
from aikit.train.loop import TrainConfig, train

NANO = preset("nano")


def _config(out, steps: int = 4, **changes) -> TrainConfig:
    stages = tuple(replace(s, steps=steps, batch=2) for s in recipe.STAGES if s.name in ("hear", "streaming"))
    values = dict(out=out, model=NANO, stages=stages, n_chunks=12, workers=0, precision="fp32", log_every=1,
                  save_every=3)  # fmt: skip
    return TrainConfig(**values | changes)


def _losses(out) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", autouse=True)
def few_variants():
    """A small library: the full one takes half a minute to render."""
    patch = pytest.MonkeyPatch()
    patch.setattr(Sources, "with_real", classmethod(lambda cls, folders, held_out=False: cls.embedded(variants=1)))
    yield
    patch.undo()


def test_an_interrupted_run_goes_on_to_the_same_losses(tmp_path, monkeypatch):
    whole = train(_config(tmp_path / "whole"), progress=False)

    checkpoint, calls = loop.folder.State.save, []

    def kill_after_two(*args):
        checkpoint(*args)
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.folder.State, "save", kill_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(_config(tmp_path / "cut"), progress=False)
    monkeypatch.undo()
    again = train(_config(tmp_path / "cut"), progress=False)
    np.testing.assert_allclose(_losses(tmp_path / "cut"), _losses(tmp_path / "whole"), atol=1e-4)
    files = sorted(path.name for path in whole.iterdir())
    assert files == sorted(path.name for path in again.iterdir()) and "tokenizer.json" in files


def test_a_finished_run_is_not_trained_again(tmp_path):
    train(_config(tmp_path), progress=False)
    before = _losses(tmp_path)
    train(_config(tmp_path), progress=False)
    assert _losses(tmp_path) == before


def test_what_a_finished_run_wrote_survives_a_second_start(tmp_path):
    first = load_file(train(_config(tmp_path), progress=False) / "model.safetensors")
    again = load_file(train(_config(tmp_path), progress=False) / "model.safetensors")
    assert all(torch.equal(again[name], weight) for name, weight in first.items())


def test_training_reduces_the_loss(tmp_path):
    stages = (replace(recipe.STAGES[0], steps=25, batch=2, learning_rate=5e-3),)
    train(_config(tmp_path, stages=stages), progress=False)
    losses = _losses(tmp_path)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_a_loss_that_is_not_finite_stops_the_run_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(HearingHead, "forward", lambda self, frames, targets: frames.sum() * torch.nan)
    with pytest.raises(FloatingPointError, match="step 1 of stage hear; lower its learning rate"):
        train(_config(tmp_path), progress=False)


def test_a_run_may_start_from_shipped_weights_which_are_float16(tmp_path):
    """At first with a stage that trains nothing but the head, which is new."""
    first = train(_config(tmp_path / "first", steps=1), progress=False)
    stages = tuple(replace(recipe.STAGES[n], steps=2, batch=2, trainable=parts)
                   for n, parts in ((0, ()), (3, recipe.EVERYTHING)))  # fmt: skip
    config = _config(tmp_path / "second", stages=stages, start_from=first, n_chunks=45)
    assert {w.dtype for w in loop._initial_model(config).parameters()} == {torch.float32}
    train(config, progress=False)
    heard, streamed = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()][1::2]
    assert heard["stage"] == "hear" and "lm" not in heard and streamed["lm"] > 0


@pytest.mark.parametrize("bf16_s, best", [(0.5, "bf16"), (0.9, "fp32"), (2.0, "fp32")])
def test_a_processor_computes_in_what_it_is_clearly_faster_in(monkeypatch, bf16_s, best):
    monkeypatch.setattr(loop, "matrix_product_s", {torch.bfloat16: bf16_s, torch.float32: 1.0}.get)
    assert loop.best_precision(torch.device("cpu")) == best


def test_frozen_parts_do_not_move(tmp_path):
    stages = (replace(recipe.STAGES[1], steps=2, batch=2),)  # format: the tower is frozen
    model = loop.AudioInteractionModel.from_pretrained(train(_config(tmp_path, stages=stages), progress=False))
    start = loop.AudioInteractionModel.from_preset(NANO, 0)
    moved = {
        part: any(
            not torch.equal(a.half(), b.half())
            for a, b in zip(getattr(model, part).parameters(), getattr(start, part).parameters(), strict=True)
        )
        for part in recipe.EVERYTHING
    }
    assert moved == {"tower": False, "adapter": True, "decoder": True}


def test_hearing_targets_say_what_sounds_when(tokenizer):
    stream = make_stream(Sources.embedded(variants=1), 5, sub_task="closed-set facts", n_chunks=30)
    targets, labels = hearing_targets(stream, NANO, tokenizer), sound_labels()
    for event in stream.events:
        middle = round((event.start_s + event.end_s) / 2 / 0.04)
        assert targets.active[middle, labels.index(event.label)]
        if event.role == "foreground":
            assert targets.ended[event.chunk(), labels.index(event.label)]
    assert targets.ended.sum() <= len(stream.events) and targets.phonemes
    assert all(1 <= p <= len(PHONEMES) for p in targets.phonemes)
    assert len(stream.waveform) == 30 * 0.4 * SAMPLE_RATE
    listener, heard = Listener(), []
    for event in (e for e in stream.events if e.role == "foreground"):
        listener.hear(event.label, event.act)
        heard.append(event.text or listener.note(event.label))
    said = " ".join(heard).lower()
    assert len({event.label for event in stream.events}) > 1  # not speech alone
    assert tokenizer.decode(targets.pieces).split() == re.sub(r"[^\w\s']", "", said).split()


def test_how_often_a_sound_was_heard_stands_where_it_ended(tokenizer):
    stream = make_stream(Sources.embedded(variants=1), 7, sub_task="count", n_chunks=60)
    targets, heard = hearing_targets(stream, NANO, tokenizer), Counter()
    for event in (e for e in stream.events if e.role == "foreground" and e.label != "speech"):
        heard[event.label] += 1
        assert targets.times[event.chunk()] == heard[event.label]
    assert max(heard.values()) > 2 and np.count_nonzero(targets.times) == heard.total()
    assert [tokenizer.decode([token]) for token in targets.numbers] == "One Two Three Four Five Six".split()


def test_the_frames_of_a_sound_spell_what_was_said_of_it(tokenizer):
    sources = Sources.embedded(variants=1)
    for seed in range(4):  # both sides of a pair sound alike after the instruction, and only that is noted apart
        sides = make_pair(sources, seed, family="tell")
        front = [[e for e in s.events if e.role == "foreground"] for s in sides]
        asked = [(s.rule or fore[0].act).split()[1] for s, fore in zip(sides, front, strict=True)]
        events = [[e for e in fore if e.label != "speech"] for fore in front]
        assert asked[0] != asked[1] and [e.label for e in events[0]] == [e.label for e in events[1]]
        for side, told, heard in zip(sides, asked, events, strict=True):
            words = tokenizer.decode(hearing_targets(side, NANO, tokenizer).pieces)
            name = ontology()[told].name
            assert words.count(f"{name} tell") == sum(e.label == told for e in heard)
            for other in {e.label for e in heard} - {told}:
                assert f"{ontology()[other].name} tell" not in words and ontology()[other].name in words


def test_the_words_loss_is_small_where_the_frames_spell_what_is_said(tokenizer):
    model = loop.AudioInteractionModel.from_preset(NANO, 0)
    ids = torch.tensor([[1, *[model.layout.frame] * 20, 2, *[model.layout.frame] * 20]])
    pieces = spoken_pieces("The door, please!", tokenizer)
    assert tokenizer.decode(pieces) == " the door please"
    target = HearingTargets(np.zeros((0, 0), bool), np.zeros((0, 0), bool), [], pieces, np.zeros(4, int), [])
    spelled = [model.layout.frame] * 42
    for place, piece in zip(range(3, 40, 6), pieces, strict=False):  # apart, as CTC wants it
        spelled[place] = piece
    assert len(pieces) <= 7
    hidden = 30.0 * F.one_hot(torch.tensor([spelled, spelled[::-1]]), model.shape.decoder.vocab).float()
    model.logits, model.decoder.model.norm = (lambda hidden: hidden), torch.nn.Identity()
    right, reversed_ = (words_loss(model, row[None, : ids.shape[1]], ids, [target]) for row in hidden)
    assert right < 0.01 < 1 < reversed_


def test_counts_are_read_in_the_frame_in_which_a_sound_has_ended_and_among_numbers_alone():
    numbers, blank, logits = [3, 5, 8], 0, torch.zeros(20, 9)  # four chunks of five frames
    logits[:, blank] = 50.0  # nothing is spelled there
    logits[9, 3], logits[14, 8] = 30.0, 30.0  # "one" as the second chunk ends, "three" as the third does

    def loss(*times):
        empty = np.zeros((0, 0), bool)
        return counting_loss([logits, logits[:10]], [
            HearingTargets(empty, empty, [], [], np.array(times), numbers),
            HearingTargets(empty, empty, [], [], np.zeros(2, int), numbers),  # a stream in which nothing ends
        ]).item()  # fmt: skip

    assert loss(0, 1, 3, 0) < 1e-6
    assert loss(0, 2, 3, 0) == pytest.approx(20.0 * 30.0 / 30)  # one of two is wrong, of thirty frames
    assert loss(0, 0, 0, 2) == pytest.approx(20.0 * np.log(3) / 30, rel=1e-4)  # no number is likelier than another


def test_what_the_decoder_knows_half_way_up_is_seen_while_asked_for():
    decoder = loop.AudioInteractionModel.from_preset(NANO, 0).decoder
    x = torch.zeros(1, 3, NANO.decoder.width)
    with half_way_up(decoder) as hidden:
        decoder.model(inputs_embeds=x)
    decoder.model(inputs_embeds=x)
    assert len(hidden) == 1 and hidden[0].shape == x.shape


def test_examples_depend_on_their_index_alone():
    from aikit.synth.abilities import all_texts
    from aikit.tokens import Tokenizer

    tokenizer, sources = Tokenizer.train(all_texts()), Sources.embedded(variants=1)
    stage = replace(recipe.STAGES[3], steps=4, batch=2)
    data = StageData(stage, sources, tokenizer, NANO, n_chunks=12, number=3)
    one, two = data[5][0], data[5][0]
    np.testing.assert_array_equal(one.mel, two.mel)
    assert not np.array_equal(one.mel, data[6][0].mel)


def test_both_sides_of_a_counterfactual_pair_are_in_one_batch(tokenizer):
    sources = Sources.embedded(variants=1)
    stage = replace(recipe.STAGES[3], steps=4, batch=2, mix=(("pairs", 1.0),), masked=0.0)
    data = StageData(stage, sources, tokenizer, NANO, n_chunks=12, number=3)  # too short for a pair
    examples = [data[i][0] for i in range(8)]
    assert all(example.mel.shape[1] == 45 * NANO.audio.mel_per_chunk for example in examples)
    for one, other in zip(examples[::2], examples[1::2], strict=True):
        np.testing.assert_array_equal(one.mel[:, -800:], other.mel[:, -800:])
        assert not torch.equal(torch.as_tensor(one.tokens.input_ids), torch.as_tensor(other.tokens.input_ids))
    assert not np.array_equal(examples[0].mel[:, -800:], examples[2].mel[:, -800:])


def test_both_sides_of_a_pair_lack_the_same(tokenizer):
    """Otherwise what is hidden would differ, too, and not the instruction alone."""
    stage = replace(recipe.STAGES[3], steps=2, batch=2, mix=(("pairs", 1.0),))
    plain, lacking = (
        StageData(replace(stage, masked=share), Sources.embedded(variants=1), tokenizer, NANO, number=3)
        for share in (0.0, 1.0)
    )
    one, other = (plain[i][0].mel != lacking[i][0].mel for i in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert 0.05 < one.mean() < 0.5
    np.testing.assert_array_equal(plain[0][0].tokens.labels_lm, lacking[0][0].tokens.labels_lm)


def test_masks_hide_narrow_bands_of_as_many_spans_as_wanted():
    mel = np.random.default_rng(0).normal(size=(NANO.audio.n_mels, 4000)).astype(np.float32)
    hidden = masked(mel, 0.5, NANO, np.random.default_rng(1)) != mel
    spans = hidden.reshape(len(mel), 10, 400)  # 4 s each
    assert 2 <= spans.any((0, 2)).sum() <= 8
    assert spans.all(2).sum(0).max() <= BANDS * WIDEST_BAND * len(mel)
    np.testing.assert_array_equal(masked(mel, 0.0, NANO, np.random.default_rng(1)), mel)
    assert masked(mel[:, :130], 1.0, NANO, np.random.default_rng(1)).shape == (len(mel), 130)  # shorter than a span


def test_beside_pairs_there_is_no_half_of_one(tokenizer):
    stage = replace(recipe.STAGES[3], steps=10, batch=2, mix=(("rules", 0.5), ("silence", 0.5)))
    data = StageData(stage, Sources.embedded(variants=1), tokenizer, NANO, n_chunks=45, number=3)
    paired = [data._stream(i).sub_task == "pair" for i in range(20)]
    assert paired[::2] == paired[1::2] and 0 < sum(paired) < 20


def test_the_mix_follows_its_shares():
    rng, stage = np.random.default_rng(0), recipe.STAGES[-1]
    tasks = [draw_sub_task(stage, rng) for _ in range(2_000)]
    assert np.mean([task == "silence" for task in tasks]) == pytest.approx(0.20, abs=0.03)


def test_the_recipe_is_a_table_with_the_papers_rows():
    rows = recipe.table()
    assert [row["paper steps"] for row in rows] == [None, 5_000, 20_000, 80_000, 15_000]
    assert recipe.stages("hear,streaming", scale=0.5)[0].steps == round(recipe.STAGES[0].steps / 2)
    with pytest.raises(ValueError, match="choose from"):
        recipe.stages("warp")
    assert loop.schedule(0, 100) < loop.schedule(2, 100) == 1.0 > loop.schedule(99, 100) >= 0.1


RUN = """
import sys
from pathlib import Path
from dataclasses import replace
from aikit.config import preset
from aikit.synth.script import Sources
from aikit.train import recipe
from aikit.train.loop import TrainConfig, train

stage = replace(recipe.STAGES[3], steps=int(sys.argv[2]), batch=4, trainable=("adapter", "decoder"))
train(TrainConfig(Path(sys.argv[1]), preset("nano"), (stage,), n_chunks=45, workers=0, precision="fp32",
                  log_every=1, save_every=2), False, Sources.embedded(variants=1))
"""


def _run(out, steps: int, *launcher: str, **options) -> subprocess.Popen:
    script = out.parent / "run.py"
    script.write_text(RUN)
    command = [sys.executable, *launcher, str(script), str(out), str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, **options)


def test_two_processes_equal_one_and_a_kill_changes_nothing(tmp_path):
    assert _run(tmp_path / "one", 6).wait() == 0

    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert _run(tmp_path / "two", 6, *launcher).wait() == 0
    np.testing.assert_allclose(_losses(tmp_path / "two"), _losses(tmp_path / "one"), atol=1e-4)

    victim = _run(tmp_path / "killed", 6)
    log = tmp_path / "killed" / "metrics.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert victim.poll() is None
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert _run(tmp_path / "killed", 6).wait() == 0
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    last = {row["step"]: row["loss"] for row in steps}  # steps after the last checkpoint are there twice
    np.testing.assert_allclose([last[i] for i in range(1, 7)], _losses(tmp_path / "one"), atol=1e-4)
