"""LoRA: only adapters learn, merging changes nothing, two processes equal one."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("peft", reason="fine-tuning needs peft: pip install 'aikit[lora]'")

from test_convert import shape

import aikit
from aikit.cli import main
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import collate, online_example
from aikit.model.shards import load_model, save_model
from aikit.stream.session import Session
from aikit.synth.compose import Stream
from aikit.synth.corpus import fill, save
from aikit.tokens import Reply, Tokenizer
from aikit.train.lora import LoraConfig, add_adapters, fine_tune, load_adapters, merge, quantise

NANO = preset("nano")
SHAPES = {"own": NANO, "published": replace(shape(), decoder=replace(shape().decoder, layers=1))}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the tone is here"])


def streams(n=20, n_chunks=4):
    """A tone in one chunk of noise, to be named there."""
    rng, made = np.random.default_rng(0), []
    for i in range(n):
        sound, chunk = rng.normal(0, 0.01, 6400 * n_chunks).astype(np.float32), i % n_chunks
        sound[6400 * chunk : 6400 * (chunk + 1)] += 0.3 * np.sin(0.3 * np.arange(6400))
        made.append(Stream(sound, (Reply(chunk, "the tone is here"),), ()))
    return made


def config(out, **changed):
    return LoraConfig(
        out, **{"rank": 4, "learning_rate": 1e-2, "epochs": 6, "precision": "fp32"} | changed
    )


@pytest.mark.parametrize("kind", SHAPES)
def test_the_loss_falls_and_only_adapters_change(kind, tokenizer, tmp_path):
    model = AudioInteractionModel.from_preset(SHAPES[kind])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = fine_tune(model, tokenizer, streams(), config(tmp_path), progress=False)
    # random vocabulary tables, which stay frozen, allow little more
    assert len(losses) == 30 and np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
    after = {name.replace(".base_layer", ""): v for name, v in model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    learned = {name for name in after if "lora_" in name}
    assert learned == after.keys() - before.keys()
    assert all(name.startswith("decoder.model.layers.") for name in learned)
    assert all(after[name].abs().max() > 0 for name in learned)  # B began at zero
    rows = [
        json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows == losses


def test_the_shipped_model_learns_twenty_streams(tmp_path):
    ai = aikit.load(device="cpu")
    losses = fine_tune(
        ai.model, ai.tokenizer, streams(20), config(tmp_path, rank=8, learning_rate=2e-3, epochs=3),
        progress=False,
    )  # fmt: skip
    assert len(losses) == 15 and np.mean(losses[-3:]) < 0.3 * np.mean(losses[:3])


@pytest.mark.parametrize("kind", SHAPES)
def test_merged_equals_unmerged_and_reloaded(kind, tokenizer, tmp_path):
    model = AudioInteractionModel.from_preset(SHAPES[kind])
    base = save_model(model, tmp_path / "base")
    fine_tune(model, tokenizer, streams(8), config(tmp_path, epochs=2), progress=False)
    batch = collate([online_example(streams(1)[0], tokenizer, model.shape)], model.shape)
    with torch.no_grad():
        unmerged = model(batch.input_ids, mel=batch.mel).logits
        adapted = load_adapters(load_model(base), tmp_path / "adapter")
        plain = load_model(base)(batch.input_ids, mel=batch.mel).logits
        merged = merge(adapted)
        torch.testing.assert_close(
            merged(batch.input_ids, mel=batch.mel).logits, unmerged, atol=1e-5, rtol=0
        )
    assert (unmerged - plain).abs().max() > 1e-3
    saved = load_model(save_model(merged, tmp_path / "merged"))
    assert saved.state_dict().keys() == load_model(base).state_dict().keys()


def test_a_session_speaks_through_the_adapters(tokenizer, tmp_path):
    model = AudioInteractionModel.from_preset(NANO)
    sound = streams(1)[0].waveform

    def heard():
        return [e.p_respond for e in Session(model, tokenizer).push(sound)]

    before = heard()
    fine_tune(model, tokenizer, streams(8), config(tmp_path, epochs=2), progress=False)
    assert max(abs(a - b) for a, b in zip(before, heard(), strict=False)) > 1e-3


def test_checkpointing_changes_memory_not_losses(tokenizer, tmp_path):
    runs = [
        fine_tune(
            AudioInteractionModel.from_preset(NANO), tokenizer, streams(8),
            config(tmp_path, epochs=2, checkpointing=on), progress=False,
        )
        for on in (True, False)
    ]  # fmt: skip
    np.testing.assert_allclose(*runs, atol=1e-6)


def test_the_arithmetic_of_memory():
    from aikit.model.memory import USES, cache_bytes, count_parameters, lora_parameters, needed_gib

    model = AudioInteractionModel.from_preset(SHAPES["published"])
    assert sum(count_parameters(model.shape)) == model.n_parameters()
    adapted = add_adapters(model, LoraConfig(None, rank=3))
    learned = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert learned == lora_parameters(model.shape, 3)
    cache = Session(model, Tokenizer.train(["x"])).state.ring  # float32, and slots to spare
    numbers = 2 * cache.keys[:, :, 1:].numel()
    assert cache_bytes(model.shape, cache.capacity) == 2 * numbers
    full = preset("qwen2.5-omni-3b")
    needed = [needed_gib(full, use) for use in USES.values()]
    assert needed[1] < needed[0] < needed[2] < needed[4] and needed[3] < needed[2]


def test_an_old_torchao_is_passed_over(monkeypatch):
    """On Colab, peft raises for its torchao 0.10 whatever the model."""
    from peft.tuners.lora import torchao

    def raises():
        raise ImportError("Found an incompatible version of torchao")

    monkeypatch.setattr(torchao, "is_torchao_available", raises)
    adapted = add_adapters(AudioInteractionModel.from_preset(NANO), LoraConfig(None))
    assert adapted.peft_config["default"].r == 16


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_base_learns_too(bits, tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes", reason="a quantised base needs bitsandbytes")
    big = replace(NANO, decoder=replace(NANO.decoder, width=64, mlp=128))
    model, exact = (AudioInteractionModel.from_preset(big) for _ in range(2))
    quantise(model, bits)
    layer = model.decoder.model.layers[0].mlp.up_proj
    assert layer.weight.dtype == {8: torch.int8, 4: torch.uint8}[bits]
    batch = collate([online_example(s, tokenizer, big) for s in streams(2)], big)
    with torch.no_grad():
        near, right = (m(**vars(batch)).loss for m in (model, exact))
    assert 0 < abs(near - right) < 0.05 * right
    losses = fine_tune(model, tokenizer, streams(), config(tmp_path), progress=False)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_what_cannot_work_is_said(tokenizer, tmp_path):
    model = AudioInteractionModel.from_preset(NANO)
    with pytest.raises(ValueError, match="2 streams do not fill one batch of 4"):
        fine_tune(model, tokenizer, streams(2), config(tmp_path))
    with pytest.raises(ValueError, match="8 or 4 bits, not 3"):
        quantise(model, 3)
    with pytest.raises(FileNotFoundError, match="adapter_config.json is missing"):
        load_adapters(model, tmp_path)


# --- the command line, in one process and in two -----------------------------------------------------
@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    save_model(AudioInteractionModel.from_preset(NANO), root / "model")
    tokenizer.save(root / "model" / "tokenizer.json")
    made = streams(8)
    fill(root / "corpus", {}, len(made), lambda i: save(root / "corpus", i, made[i]))
    return root


def command(folders, out, *more):
    return ["lora", "--corpus", str(folders / "corpus"), "--model", str(folders / "model"),
            "--out", str(out), "--epochs", "2", "--rank", "4", "--learning-rate", "0.01", "--precision", "fp32", *more]  # fmt: skip


def losses_in(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(folders, tmp_path, root):
    assert main(command(folders, tmp_path / "one", "--merge")) == 0
    assert load_model(tmp_path / "one" / "model").shape == NANO
    assert (tmp_path / "one" / "model" / "tokenizer.json").exists()
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "aikit")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run(
        [sys.executable, *launch, *command(folders, tmp_path / "two", "--merge")],
        check=True, timeout=240, cwd=root, env=environment, capture_output=True,
    )  # fmt: skip
    one, two = losses_in(tmp_path / "one"), losses_in(tmp_path / "two")
    assert len(one) == 4
    np.testing.assert_allclose(two, one, atol=1e-5)
    weights = [load_model(tmp_path / n / "model").state_dict() for n in ("one", "two")]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["fsdp", "zero2"])
def test_the_launch_configurations_are_accelerates(root, name):
    from accelerate.commands.config.config_args import load_config_from_file

    settings = load_config_from_file(str(root / "docs" / "accelerate" / f"{name}.yaml"))
    assert settings.distributed_type.value == {"fsdp": "FSDP", "zero2": "DEEPSPEED"}[name]
    kept = settings.fsdp_config if name == "fsdp" else settings.deepspeed_config
    assert kept.get("fsdp_version", 2) == 2 and kept.get("zero_stage", 2) == 2
    from transformers.models.qwen2 import modeling_qwen2

    wrapped = kept.get("fsdp_transformer_layer_cls_to_wrap", "Qwen2DecoderLayer")
    assert hasattr(modeling_qwen2, wrapped)
