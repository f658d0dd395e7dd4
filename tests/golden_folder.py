"""The recorded runs of the published code, and the weights that they were made with, as a folder."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from aikit.model.published import TOWER_FILE
from aikit.tokens import Tokenizer


class StubTokenizer:
    """The table of texts and ids that the recordings were made with."""

    def __init__(self, golden: Path):
        meta = json.loads((golden / "meta.json").read_text())
        self.texts, self.system = meta["texts"], meta["system_ids"]

    def encode(self, text):
        return self.texts.get(text, self.system)


def rebuild(golden: Path, out: Path) -> Path:
    """Write the recorded model as the published code would: two shards and a ``.pth``."""
    sys.path.insert(0, str(golden))
    from rebuild_weights import build

    source = golden / "checkpoint"
    spec = json.loads((source / "weights_spec.json").read_text())
    (out / "qwen25OmniConfig").mkdir(parents=True)
    for name in (
        "model_config.yaml",
        "model.safetensors.index.json",
        "qwen25OmniConfig/config.json",
    ):
        (out / name).write_bytes((source / name).read_bytes())
    where = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    built = {kind: {name: torch.from_numpy(array) for name, array in
             build(spec[kind]["tensors"], spec[kind]["seed"]).items()}
             for kind in ("gpt", "audio_tower")}  # fmt: skip
    for file in set(where.values()):
        save_file({n: t for n, t in built["gpt"].items() if where[n] == file}, out / file)
    torch.save(built["audio_tower"], out / TOWER_FILE)
    Tokenizer.train(["a kettle whistles", "你好，世界 🙂"]).save(out / "tokenizer.json")
    return out


def recorded(golden: Path, name: str) -> dict[str, np.ndarray]:
    """A recording as a dict of arrays."""
    with np.load(golden / f"{name}.npz") as file:
        return dict(file)
