"""Folders of weights, read and written tensor by tensor: no model is ever in memory twice.

Knows files and tensors; what they are called and how a model is shaped is in `published.py`. Does not
know tokens or sessions. Taught in notebook 07.

Reading is strict: every stored tensor is used exactly once, every tensor of the model is filled, every
shape fits, and a pickle may hold tensors and nothing else. What is wrong is said by name, before anything
is copied.
"""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aikit.model.modeling import AudioInteractionConfig, AudioInteractionModel
from aikit.model.published import (
    FORMS,
    OMNI_UNUSED,
    TOWER_FILE,
    form_of,
    grouped_names,
    read_config,
    write_config,
)  # fmt: skip

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SHARD_BYTES = 4_000_000_000
BESIDE = (  # files that go along when a folder is converted
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "session.json",
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its shape is known, its numbers are read on demand."""

    file: Path
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


# --- reading ---------------------------------------------------------------------------------------
def load_model(
    folder: Path, device: str = "cpu", dtype: torch.dtype | None = None
) -> AudioInteractionModel:
    """A model from a folder of any form, its tensors copied one by one to where they belong.

    Parameters
    ----------
    dtype : of all weights; None = each as it is stored

    Raises
    ------
    FileNotFoundError, ValueError
        If a file or tensor is missing, left over, misshapen, torn or not a tensor; by name.
    """
    from accelerate import init_empty_weights

    form = form_of(folder)
    config = AudioInteractionConfig(shape=read_config(folder, form).to_dict())
    with init_empty_weights(include_buffers=False):
        model = AudioInteractionModel(config)
    groups = grouped_names(_tensors(model), form)
    stored = _stored(folder, form)
    _check(folder, stored, groups, _tensors(model))
    # a pickle stays mapped as a whole until its last tensor is read, so it is read first; then the
    # largest tensors, while there is room
    for name in sorted(stored, key=lambda n: (stored[n].file.suffix != ".pth", -_numel(stored[n]))):
        _fill(model, groups[name], stored.pop(name).read(), device, dtype)
    for name, buffer in model.named_buffers():
        _put(model, name, buffer.to(device))
    model.tie_weights()
    return model.eval()


def _numel(stored: Stored) -> int:
    return torch.Size(stored.shape).numel()


def _tensors(model: AudioInteractionModel) -> dict[str, Tensor]:
    """What a file has to hold: a tied LM head is the embedding."""
    tensors = model.state_dict(keep_vars=True)
    if model.shape.decoder.tied:
        tensors.pop("decoder.lm_head.weight")
    return tensors


def _fill(model: nn.Module, names: list[str], value: Tensor, device: str, dtype) -> None:
    """Cut a stored tensor into ours and put a copy of each in its place."""
    rows = [model.get_parameter(name).shape[0] for name in names] if len(names) > 1 else None
    for name, part in zip(names, value.split(rows) if rows else [value], strict=True):
        wanted = dtype if dtype and part.is_floating_point() else part.dtype
        # a copy even where type and device fit: the part is a view into the file
        _put(model, name, torch.empty(part.shape, dtype=wanted, device=device).copy_(part))


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    setattr(module, leaf, nn.Parameter(value) if leaf in module._parameters else value)


def _stored(folder: Path, form: str) -> dict[str, Stored]:
    """Every tensor of a folder that concerns us, under the form's name."""
    found: dict[str, Stored] = {}
    for path in _files(folder, form):
        for name, tensor in (_pickled if path.suffix == ".pth" else _safetensors)(path):
            if form == "omni":
                name = name.removeprefix("thinker.")
                if name.startswith(OMNI_UNUSED):
                    continue
            if name in found:
                raise ValueError(
                    f"{name} is in {found[name].file} and in {path}; remove one of the two"
                )
            found[name] = tensor
    return found


def _files(folder: Path, form: str) -> list[Path]:
    files = [folder / SINGLE]
    if (folder / INDEX).exists():
        index = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        files = [folder / name for name in sorted(set(index.values()))]
    if form == "published":
        files.append(folder / TOWER_FILE)
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"no model in {folder}: {path.name} is missing")
    return files


def _safetensors(path: Path) -> Iterator[tuple[str, Stored]]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> Tensor:
        # opened anew for each: what a file has mapped counts as ours until it is closed
        with safe_open(path, "pt") as file:
            return file.get_tensor(name)

    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is torn or no safetensors file ({error}); copy it again"
        ) from error
    for name, shape in shapes.items():
        yield name, Stored(path, shape, lambda name=name: read(name))


def _pickled(path: Path) -> Iterator[tuple[str, Stored]]:
    """A state dict in PyTorch's own format, which could hold any code: only tensors are let in."""
    try:
        tensors = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} holds more than tensors and was not run: {reason}") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is torn or no PyTorch file ({error}); copy it again") from error
    for name in list(tensors):
        value = tensors.pop(name)
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {name} is a {type(value).__name__}, not a tensor")
        yield name, Stored(path, tuple(value.shape), lambda value=value: value)


def _check(folder: Path, stored: dict[str, Stored], groups: dict, ours: dict[str, Tensor]) -> None:
    """Exactly the wanted tensors, in the wanted shapes; else a ValueError that names them."""
    wrong = [f"{name} is missing" for name in sorted(groups.keys() - stored.keys())]
    wrong += [f"{name} belongs nowhere" for name in sorted(stored.keys() - groups.keys())]
    for name in sorted(groups.keys() & stored.keys()):
        parts = [tuple(ours[part].shape) for part in groups[name]]
        wanted = (sum(p[0] for p in parts), *parts[0][1:]) if len(parts) > 1 else parts[0]
        if stored[name].shape != wanted:
            wrong.append(f"{name} has shape {list(stored[name].shape)}, expected {list(wanted)}")
    if wrong:
        rest = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(
            f"{folder}: {'; '.join(wrong[:4])}{rest}. Its weights and its configuration do not match: "
            "fetch the folder again, or correct the configuration"
        )


# --- writing ---------------------------------------------------------------------------------------
def save_model(
    model: AudioInteractionModel, folder: Path, form: str = "own", shard_bytes: int = SHARD_BYTES
) -> Path:
    """Write a model as a folder of a form, shard by shard; no tokenizer, see `convert`.

    Raises
    ------
    ValueError
        For an unknown form, one that cannot hold this model, or a folder that is not empty.
    """
    if form not in FORMS:
        raise ValueError(f"no form {form!r}; choose one of {', '.join(FORMS)}")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_config(model.shape, folder, form)
    ours = _tensors(model)
    if form == "published" and model.shape.decoder.tied:
        ours["decoder.lm_head.weight"] = model.decoder.lm_head.weight
    groups = grouped_names(ours, form)
    in_pickle = [n for n in groups if form == "published" and groups[n][0].startswith("tower.")]
    if in_pickle:
        torch.save({n: ours[groups[n][0]].detach().cpu() for n in in_pickle}, folder / TOWER_FILE)
    rest = {n: [ours[part] for part in groups[n]] for n in groups if n not in in_pickle}
    _write_shards(rest, folder, form, shard_bytes)
    return folder


def _write_shards(tensors: dict[str, list[Tensor]], folder: Path, form: str, limit: int) -> None:
    from safetensors.torch import save_file

    prefix = "thinker." if form == "omni" else ""

    shards, size = [[]], 0
    for name, parts in tensors.items():
        n_bytes = sum(part.nbytes for part in parts)
        if shards[-1] and size + n_bytes > limit:
            shards, size = [*shards, []], 0
        shards[-1].append(name)
        size += n_bytes
    index, indexed = {}, len(shards) > 1 or form == "published"  # whose code reads nothing else
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if indexed else SINGLE
        shard = {prefix + n: torch.cat([p.detach() for p in tensors[n]]).cpu() if len(tensors[n]) > 1
                 else tensors[n][0].detach().cpu().contiguous() for n in names}  # fmt: skip
        save_file(shard, folder / file, {"format": "pt"})
        index |= dict.fromkeys(shard, file)
    if indexed:
        total = sum(part.nbytes for parts in tensors.values() for part in parts)
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
        (folder / INDEX).write_text(text + "\n", "utf-8")


def convert(source: str | Path, target: str | Path, form: str) -> Path:
    """Write a model folder in another form, bit for bit, with its tokenizer and settings.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_model` and `save_model`.
    """
    source, target = Path(source), Path(target)
    return copy_beside(source, save_model(load_model(source), target, form))


def copy_beside(source: Path, target: Path) -> Path:
    """Take the tokenizer and the settings along to another model folder; returns that."""
    for name in BESIDE:
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    return target
