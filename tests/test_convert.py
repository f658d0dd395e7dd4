"""Three forms of folder: there and back bit for bit, and nothing wrong gets in."""

import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_model import _small_published

import aikit
from aikit.cli import main
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.model.published import OMNI_CONFIG, TOWER_FILE, YAML
from aikit.model.shards import INDEX, convert, load_model, save_model
from aikit.stream.assistant import fetch
from aikit.tokens import Tokenizer


def shape():
    config = _small_published()
    decoder = replace(config.decoder, kv_heads=1, vocab=152_000, head_dim=8, half_positions=True)
    return replace(config, name="test", decoder=replace(decoder, tied=False, rope_theta=1e6))


@pytest.fixture(scope="module")
def model():
    return AudioInteractionModel.from_preset(shape(), seed=3)


@pytest.fixture
def folder(model, tmp_path):
    """The published layout in four shards, with a tokenizer."""
    folder = save_model(model, tmp_path / "published", "published", shard_bytes=20_000_000)
    Tokenizer.train(["listen"]).save(folder / "tokenizer.json")
    return folder


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    if (folder / TOWER_FILE).exists():
        found |= torch.load(folder / TOWER_FILE, weights_only=True)
    return found


def same(one, other):
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype and torch.equal(one[n], other[n]) for n in one
    )


# --- there and back ----------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["own", "omni"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_bit_identical(model, tmp_path, form, dtype):
    a = save_model(
        load_model(save_model(model, tmp_path / "0"), dtype=dtype), tmp_path / "a", "published"
    )
    b = convert(a, tmp_path / "b", form)
    c = convert(b, tmp_path / "c", "published")
    assert same(tensors(a), tensors(c)) and next(iter(tensors(a).values())).dtype == dtype
    assert same(tensors(b), tensors(convert(c, tmp_path / "d", form)))
    assert (a / YAML).read_text().replace("name: test", "") == (
        (c / YAML).read_text().replace("name: test", "").replace("name: qwen2.5-omni", "")
    )


def test_half_and_half_keeps_both_types(model, tmp_path):
    """Decoder in bfloat16, tower in float32: each tensor keeps its own."""
    mixed = load_model(save_model(model, tmp_path / "0"))
    mixed.decoder.bfloat16()
    a = save_model(mixed, tmp_path / "a", "published")
    assert same(
        tensors(a), tensors(convert(convert(a, tmp_path / "b", "own"), tmp_path / "c", "published"))
    )


def test_the_published_names(folder):
    index = json.loads((folder / INDEX).read_text())
    names = set(index["weight_map"])
    assert len(set(index["weight_map"].values())) > 1 and (folder / OMNI_CONFIG).exists()
    assert {"transformer.wte.weight", "lm_head.weight", "transformer.h.0.attn.qkv.weight"} <= names
    assert tensors(folder)["transformer.h.1.attn.qkv.weight"].shape == ((2 + 2) * 8, 32)
    assert index["metadata"]["total_size"] == sum(
        t.nbytes for path in folder.glob("*.safetensors") for t in load_file(path).values()
    )


def test_transformers_reads_our_omni_folder_and_we_read_its(model, tmp_path):
    """The thinker of transformers gives the same logits on text."""
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    small = replace(shape(), decoder=replace(shape().decoder, half_positions=False, vocab=200))
    ours = AudioInteractionModel.from_preset(small, seed=1).eval()
    folder = save_model(ours, tmp_path / "omni", "omni")
    config = json.loads((folder / "config.json").read_text())["thinker_config"]
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "num_heads": 2,
        "intermediate_size": 16,
        "out_hidden_size": 32,
    }
    theirs, said = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        folder,
        config=Qwen2_5OmniThinkerConfig(**config, vision_config=vision),
        output_loading_info=True,
    )
    assert not said["unexpected_keys"] and all(".visual." in name for name in said["missing_keys"])
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(ids).logits, ours(ids).logits, atol=1e-4, rtol=0)
    theirs.save_pretrained(tmp_path / "thinker")
    again = load_model(tmp_path / "thinker")  # with eyes, which are left aside
    assert same(again.state_dict(), ours.state_dict())


def test_the_command_line_and_load(folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "own")]) == 0
    assert main(["convert", str(tmp_path / "own"), str(tmp_path / "omni"), "--to", "omni"]) == 0
    for place in (folder, tmp_path / "own", tmp_path / "omni"):
        assert aikit.load(place, "cpu").model.layout.silent == 151605
    assert aikit.load(folder, "cpu", "bfloat16").model.dtype == torch.bfloat16
    assert main(["convert", str(folder), str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_what_only_the_kit_has_stays_in_its_own_form(tmp_path):
    nano = AudioInteractionModel.from_preset(preset("nano"))
    assert same(load_model(save_model(nano, tmp_path / "own")).state_dict(), nano.state_dict())
    with pytest.raises(ValueError, match="'causal' tower is the kit's own"):
        save_model(nano, tmp_path / "published", "published")


def test_memory_grows_by_the_model_and_no_more(folder, monkeypatch):
    """Every tensor is a copy of its own: nothing holds a file, or another tensor, alive."""
    loaded = load_model(folder)
    for weight in loaded.parameters():
        assert weight.untyped_storage().nbytes() == weight.nbytes
    assert not any(weight.is_meta for weight in loaded.state_dict(keep_vars=True).values())
    assert not any(buffer.is_meta for buffer in loaded.buffers())


# --- refused, by name --------------------------------------------------------------------------------
def rewrite(folder, change):
    """Change the shard that holds layer 0's norm, and the index with it."""
    index = json.loads((folder / INDEX).read_text())
    file = index["weight_map"]["transformer.h.0.norm_1.weight"]
    shard = load_file(folder / file)
    change(shard)
    save_file(shard, folder / file)


NORM = "transformer.h.0.norm_1.weight"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda s: s.pop(NORM), f"{NORM} is missing"),
        (lambda s: s.update(extra=torch.zeros(2)), "extra belongs nowhere"),
        (
            lambda s: s.update({NORM + "s": s.pop(NORM)}),
            f"{NORM} is missing; {NORM}s belongs nowhere",
        ),
        (lambda s: s.update({NORM: torch.ones(7)}), rf"{NORM} has shape \[7\], expected \[32\]"),
    ],
    ids=["missing", "extra", "renamed", "misshapen"],
)
def test_a_wrong_tensor_is_refused_by_name(folder, change, said):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=said):
        aikit.load(folder, "cpu")


def test_a_tensor_that_is_there_twice_is_refused(folder):
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    other = next(file for file in index.values() if file != index[NORM])
    shard = load_file(folder / other) | {NORM: torch.ones(32)}
    save_file(shard, folder / other)
    with pytest.raises(ValueError, match=f"{NORM} is in .* and in"):
        aikit.load(folder, "cpu")


@pytest.mark.parametrize("name", ["model-00001", TOWER_FILE])
def test_a_truncated_file_is_refused_by_name(folder, name):
    (path,) = folder.glob(name + "*")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=f"{path.name} is torn"):
        aikit.load(folder, "cpu")


def test_a_missing_file_is_named(folder):
    (folder / TOWER_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=TOWER_FILE):
        aikit.load(folder, "cpu")


class Evil:
    """What a pickle may hold: a call."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("how", ["zip", "plain"])
def test_code_in_a_pickle_is_refused_and_not_run(folder, tmp_path, how):
    state = torch.load(folder / TOWER_FILE, weights_only=True) | {"x": Evil(tmp_path / "ran")}
    if how == "zip":
        torch.save(state, folder / TOWER_FILE)
    else:
        (folder / TOWER_FILE).write_bytes(pickle.dumps(state))
    with pytest.raises(ValueError, match=f"{TOWER_FILE} holds more than tensors"):
        aikit.load(folder, "cpu")
    assert not (tmp_path / "ran").exists()


def test_what_the_classes_do_not_compute_is_refused(folder):
    text = (folder / YAML).read_text()
    (folder / YAML).write_text(text.replace("RMSNorm", "LayerNorm"))
    with pytest.raises(ValueError, match="norm_class_name is 'LayerNorm'"):
        aikit.load(folder, "cpu")


# --- the hub -----------------------------------------------------------------------------------------
def test_a_hub_name_is_fetched(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **k: asked.append(name) or str(folder)
    )
    assert fetch("someone/some-model.v2") == folder and asked == ["someone/some-model.v2"]
    for path in (folder, "no/such/folder", "missing", "../up"):
        assert str(fetch(path)) == str(path)
    assert len(asked) == 1


def test_a_name_that_is_nowhere_is_one_line(capsys):
    with pytest.raises(FileNotFoundError, match="no folder here, and the hub gave no model"):
        aikit.load("someone/nothing")
    with pytest.raises(FileNotFoundError, match="neither config.json .* nor model_config.yaml"):
        aikit.load("no/such/folder")
