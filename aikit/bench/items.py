"""The files of the seven other benchmarks, in their usual shapes, as one kind of item.

Knows rows and columns. Does not know what is asked or how it is scored (`tasks.py`). Taught in notebook 07.

A data folder holds, for a task, one of ``<task>.jsonl``, ``.json`` (a list), ``.tsv`` or ``.csv``, with audio
paths relative to it; or a folder ``<task>``: LibriSpeech's own tree, or what `datasets` saved to disk.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

IDS = ("id", "idx", "key", "file_name", "path")
AUDIOS = ("audio", "audio_path", "audio_id", "context", "file", "file_name", "path", "speech")
QUESTIONS = ("question", "Questions", "prompt", "instruction")
CHOICES = ("choices", "options")
SPOKEN_QUESTIONS = ("question_audio", "audio_instruction")


@dataclass(frozen=True)
class Item:
    """One question: a clip as a file or bytes, perhaps words, and what is accepted as an answer."""

    id: str
    audio: Any  # what `load_audio` takes; None if the row has only words
    question: str = ""
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    question_audio: Any = None


def read_rows(name: str, other_name: str, root: Path) -> tuple[Iterator[dict], Path]:
    """The rows of a task in a data folder, and where their paths start from; see the module."""
    for stem, (suffix, read) in product(filter(None, (name, other_name)), READERS.items()):
        if (path := root / f"{stem}{suffix}").exists():
            return read(path), root
    folder = root / name
    if (folder / "dataset_info.json").exists():
        from datasets import load_from_disk

        return _undecoded(load_from_disk(str(folder))), folder
    if folder.is_dir() and any(folder.rglob("*.trans.txt")):
        return _librispeech(folder), folder
    listed = ", ".join(f"{name}{suffix}" for suffix in READERS)
    raise FileNotFoundError(f"nothing of {name} in {root}: expected {listed}, or a folder {name}")


def _jsonl(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _json(path: Path) -> Iterator[dict]:
    yield from json.loads(path.read_text("utf-8"))


def _table(path: Path) -> Iterator[dict]:
    tabs = path.suffix == ".tsv"
    with path.open(encoding="utf-8", newline="") as file:
        # in a .tsv a quotation mark is a quotation mark
        quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        yield from csv.DictReader(file, delimiter="\t" if tabs else ",", quoting=quoting)


READERS = {".jsonl": _jsonl, ".json": _json, ".tsv": _table, ".csv": _table}


def _librispeech(folder: Path) -> Iterator[dict]:
    """``19/198/19-198.trans.txt``: an id and its words a line, ``19-198-0001.flac`` beside it."""
    for path in sorted(folder.rglob("*.trans.txt")):
        for line in path.read_text("utf-8").splitlines():
            id_, text = line.split(" ", 1)
            yield {
                "id": id_,
                "audio": str(path.with_name(f"{id_}.flac").relative_to(folder)),
                "text": text,
            }


def hub_rows(place: tuple[str, str | None, str]) -> tuple[Iterator[dict], Path]:
    """The rows of (data set, configuration, split) on the hub, as a stream."""
    from datasets import load_dataset

    name, configuration, split = place
    return _undecoded(load_dataset(name, configuration, split=split, streaming=True)), Path()


def _undecoded(rows) -> Iterator[dict]:
    """Audio columns as bytes: `datasets` would decode them with torchcodec, which breaks often."""
    from datasets import Audio

    for column, kind in (rows.features or {}).items():
        if isinstance(kind, Audio):
            rows = rows.cast_column(column, Audio(decode=False))
    yield from rows


def to_item(row: dict, answers: Sequence[str], root: Path, number: int) -> Item:
    """A row as an item; its accepted answers stand in the first of the columns ``answers`` that it has.

    Raises
    ------
    KeyError
        With the name of what it lacks.
    """
    references = _first(row, answers) if answers else ()
    if references is None:
        raise KeyError(" or ".join(answers))
    if isinstance(references, str) and references.startswith("["):  # a list, in a .csv
        references = json.loads(references)
    references = (references,) if isinstance(references, str) else tuple(map(str, references))
    audio, question = _audio(_first(row, AUDIOS), root), _first(row, QUESTIONS) or ""
    choices = tuple(map(_unlettered, _first(row, CHOICES) or ()))
    if choices:
        references = tuple(map(_unlettered, references))
    if audio is None and not question:
        raise KeyError("audio or question")
    return Item(
        str(_first(row, IDS[:3]) or number), audio, question, references,
        choices, _audio(_first(row, SPOKEN_QUESTIONS), root),
    )  # fmt: skip


def _unlettered(choice: str) -> str:
    """Without MMAU's "(A) ": the scorer counts words, and "a" would be one."""
    return re.sub(r"^\([A-Z]\) ", "", choice)


def _first(row: dict, columns: Sequence[str]) -> Any:
    return next((row[c] for c in columns if row.get(c) not in (None, "")), None)


def _audio(value: Any, root: Path) -> Any:
    """A path, or `datasets`' ``{"bytes", "path"}``, as something that `load_audio` takes."""
    if isinstance(value, dict):
        return io.BytesIO(value["bytes"]) if value.get("bytes") else Path(value["path"])
    return root / value if isinstance(value, str) else value
