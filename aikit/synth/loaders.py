"""Clips of public data sets: from a folder on disk, or from the hub through Hugging Face `datasets`.

Knows the columns and the folders of seven data sets. Does not know what clips are used for
(`script.py`). The hub, and its files on disk, need the extra ``[data]``. Named in notebook 01.

Nothing is decoded before it is heard, and then by `load_audio`, so that torchcodec is not needed. A folder
is read by its index alone; the hub is streamed, and the clips taken stay in memory as they came.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np

from aikit.audio import load_audio
from aikit.synth.clips import AUDIO_SUFFIXES, ClipLibrary, Entry, esc_label
from aikit.synth.ontology import ontology

ITEMS = "items.jsonl"  # of StreamAudio-2M
SILENCE = "silence"  # scene_type of what follows its last event
Row = dict  # the hub's columns; "audio" is a path, or {"bytes", "path"}


@dataclass(frozen=True)
class DataSet:
    """Where a data set is, how its folder is told and read, and what its columns mean."""

    hub: str  # repository@revision; "" where none has a form that `datasets` reads
    config: str | None
    sign: str  # a glob that only its folder has
    rows: Callable[[Path, str], Iterator[Row]]  # of the folder and a split, in the hub's columns
    about: Callable[[Row], dict]  # the fields of an `Entry`


def load_clips(
    name: str,
    path: str | Path | None = None,
    split: str = "train",
    config: str | None = None,
    language: str = "",
    limit: int | None = None,
) -> ClipLibrary:
    """The clips of a data set, not loaded yet.

    Parameters
    ----------
    name : one of `DATA_SETS`
    path : its folder as published, or a copy of the hub's files; None = the hub, streamed
    split : "train", "test", "validation" ...; LibriSpeech, AudioSet and StreamAudio have a folder for each
    config : of the hub's repository; the data set's usual one when None
    language : of the speech, where the columns do not tell
    limit : at most so many clips; 1000 when None and from the hub

    Raises
    ------
    ValueError
        For an unknown data set, or one without a clip.
    FileNotFoundError
        If there is no such folder.
    ModuleNotFoundError
        If `datasets` is needed and not installed.
    """
    if name not in DATA_SETS:
        raise ValueError(f"no data set {name!r}; choose one of: {', '.join(DATA_SETS)}")
    found, root = DATA_SETS[name], path and Path(path).expanduser()
    if root and not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; give the folder of {name}")
    if root and any(root.glob(found.sign)):
        rows = found.rows(root, split)
    else:
        rows = _from_hub(found, root, split, config)
        limit = limit or (None if root else 1000)
    source = root.name if root else name
    entries = [_entry(source, row, found.about(row), language) for row in islice(rows, limit)]
    if not (entries := [entry for entry in entries if entry.label]):
        raise ValueError(f"{name} has no clip in {root or found.hub}, split {split!r}")
    return ClipLibrary(entries)


def folder_clips(path: str | Path, split: str = "train") -> ClipLibrary:
    """The clips of any folder: a data set told by its files, or one sub-folder a label.

    Errors as `load_clips` and `ClipLibrary.folder`.
    """
    root = Path(path).expanduser()
    for name, found in DATA_SETS.items():
        if any(root.glob(found.sign)):
            return load_clips(name, root, split)
    return ClipLibrary.folder(root)


def _from_hub(found: DataSet, root: Path | None, split: str, config: str | None) -> Iterator[Row]:
    """Rows of the hub's files, streamed; audio as bytes, class numbers as names."""
    from datasets import Audio, ClassLabel, load_dataset

    if not (root or found.hub):
        raise ValueError("this data set has no copy on the hub that can be read; give its folder")
    if root:
        data = load_dataset(str(root), split=split, streaming=True)
    else:
        repository, _, revision = found.hub.partition("@")
        config = config or found.config
        data = load_dataset(
            repository, config, split=split, revision=revision or None, streaming=True
        )
    data = data.cast_column("audio", Audio(decode=False))
    names = {k: kind for k, kind in data.features.items() if isinstance(kind, ClassLabel)}
    for row in data:
        yield row | {k: kind.int2str(row[k]) for k, kind in names.items()}


def _entry(source: str, row: Row, about: dict, language: str) -> Entry:
    audio = row["audio"]
    if isinstance(audio, dict):
        audio = audio["bytes"] or audio["path"]
    load = partial(_decode, audio) if isinstance(audio, bytes) else partial(load_audio, audio)
    return Entry(load, source=source, **({"language": language} | about))


def _decode(content: bytes) -> np.ndarray:
    return load_audio(io.BytesIO(content))


# --- folders as they are published ----------------------------------------------------------------
def _table(file: Path, delimiter: str = "\t") -> Iterator[Row]:
    with open(file, encoding="utf-8", newline="") as lines:
        quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        yield from csv.DictReader(lines, delimiter=delimiter, quoting=quoting)


def _esc50(root: Path, split: str) -> Iterator[Row]:
    """Folds 1-3 are for training, 4 and 5 for tests: a fold keeps recordings of one origin together."""
    folds = {"train": "123", "test": "45"}.get(split, "12345")
    for row in _table(root / "meta" / "esc50.csv", ","):
        if row["fold"] in folds:
            yield row | {"audio": root / "audio" / row["filename"]}


def _speech_commands(root: Path, split: str) -> Iterator[Row]:
    lists = {"test": root / "testing_list.txt", "validation": root / "validation_list.txt"}
    held = {key: set(file.read_text().split()) for key, file in lists.items() if file.exists()}
    for file in sorted(root.glob("*/*_nohash_*.wav")):
        word, speaker = file.parent.name, file.stem.split("_")[0]
        name = f"{word}/{file.name}"
        if next((key for key, names in held.items() if name in names), "train") == split:
            yield {"audio": file, "file": name, "label": word, "speaker_id": speaker}


def _librispeech(root: Path, split: str) -> Iterator[Row]:
    for chapter in sorted(root.rglob("*.trans.txt")):
        for line in chapter.read_text("utf-8").splitlines():
            name, text = line.split(" ", 1)
            file = chapter.parent / f"{name}.flac"
            yield {"audio": file, "id": name, "text": text, "speaker_id": name.split("-")[0]}


def _common_voice(root: Path, split: str) -> Iterator[Row]:
    for row in _table(root / f"{split}.tsv"):
        yield row | {"audio": root / "clips" / row["path"]}


def _covost2(root: Path, split: str) -> Iterator[Row]:
    for file in sorted(root.glob(f"covost_v2.*.{split}.tsv")):
        for row in _table(file):
            yield row | {
                "audio": root / "clips" / row["path"],
                "locale": file.name[10:].split("_")[0],
            }


def _audioset(root: Path, split: str) -> Iterator[Row]:
    for file in sorted(root.glob("*/*")):
        if file.suffix.lower() in AUDIO_SUFFIXES:
            yield {"audio": file, "video_id": file.relative_to(root).as_posix(),
                   "human_labels": [file.parent.name]}  # fmt: skip


def _stream_audio(root: Path, split: str) -> Iterator[Row]:
    with open(root / ITEMS, encoding="utf-8") as items:
        for item in map(json.loads, items):
            for turn in item["turns"]:
                yield turn | {"audio": root / turn["audio_path"]}


# --- what columns mean ----------------------------------------------------------------------------
def _speech(
    name, text: str, speaker, licence: str, language: str = "", translation: str = ""
) -> dict:
    about = {"language": language} if language else {}
    return about | {
        "label": "speech", "name": str(name), "text": text, "caption": text, "speaker": str(speaker),
        "licence": licence, "translation": translation,
    }  # fmt: skip


@cache
def _audioset_labels() -> dict[str, str]:
    import yaml

    return yaml.safe_load((Path(__file__).parent / "texts" / "audioset.yaml").read_text("utf-8"))


def _of_audioset(row: Row) -> dict:
    """The first label that the kit knows, or just the first."""
    kit = [_audioset_labels().get(name, esc_label(name)) for name in row["human_labels"]]
    label = next((label for label in kit if label in ontology()), kit[0] if kit else "")
    return {"label": label, "name": row["video_id"], "caption": ", ".join(row["human_labels"])}


def _of_turn(row: Row) -> dict:
    """A turn's file; the silence after a conversation is no clip."""
    label = row.get("scene_type") or "speech"
    text = "" if label in ontology() else row["user"]
    label = "" if label == SILENCE else label
    return {"label": label, "name": row["audio_path"], "caption": row["user"], "text": text}


DATA_SETS = {
    "esc50": DataSet("ashraq/esc50", None, "meta/esc50.csv", _esc50, lambda row: {
        "label": esc_label(row["category"]), "name": row["filename"],
        "caption": row["category"].replace("_", " "), "licence": "CC-BY-NC 3.0"}),
    "speech_commands": DataSet(
        "google/speech_commands@refs/convert/parquet", "v0.02", "*/*_nohash_*.wav", _speech_commands,
        lambda row: _speech(row["file"], row["label"], row["speaker_id"], "CC-BY 4.0", "en")),
    "librispeech": DataSet(
        "openslr/librispeech_asr", "clean", "**/*.trans.txt", _librispeech,
        lambda row: _speech(row["id"], row["text"].lower(), row["speaker_id"], "CC-BY 4.0", "en")),
    "covost2": DataSet(
        "fixie-ai/covost2", "en_de", "covost_v2.*.tsv", _covost2,
        lambda row: _speech(row.get("path") or row.get("file"), row["sentence"], row["client_id"], "CC0",
                            row.get("locale", ""), row["translation"])),
    "common_voice": DataSet(
        "fixie-ai/common_voice_17_0", "en", "clips/*.mp3", _common_voice,
        lambda row: _speech(row["path"], row["sentence"], row["client_id"], "CC0", row["locale"])),
    "streamaudio": DataSet("", None, ITEMS, _stream_audio, _of_turn),
    "audioset": DataSet(  # or any folder with one sub-folder a label
        "agkphysics/AudioSet@refs/convert/parquet", "balanced", "*/*.[wWfFoOmM]*", _audioset, _of_audioset),
}  # fmt: skip
