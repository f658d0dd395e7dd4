"""The fields of a stream as JSON, and back.

Knows types, and what `datasets` wants of a column. Does not know files (`corpus.py`). A field that is
added to `Stream` is written and read without a change here. Notebook 01 reads such rows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from aikit.synth.compose import Stream

WAVEFORMS = ("waveform", "layers")  # the fields that metadata do not hold


def columns() -> dict[str, Any]:
    """The fields of a stream that metadata hold, with their types."""
    return {name: kind for name, kind in get_type_hints(Stream).items() if name not in WAVEFORMS}


def plain(value: Any, kind: Any) -> Any:
    """A field as JSON in which a column has one type, as `datasets` wants it.

    In records (dataclasses) a missing text is empty, a missing number -1; other nested values, which
    may have any shape, are JSON in a text.
    """
    if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
        return [_record(item) for item in value]
    return value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)


def _record(item: Any) -> dict:
    missing = {
        name: "" if str in get_args(kind) else -1
        for name, kind in get_type_hints(type(item)).items()
    }
    return {name: missing[name] if value is None else value for name, value in asdict(item).items()}


def typed(value: Any, kind: Any) -> Any:
    """What `plain` made of a value of a type, back again."""
    arguments = get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: typed(value[name], hint) for name, hint in hints.items()})
    if get_origin(kind) is UnionType:
        return None if value in ("", -1) else typed(value, arguments[0])
    if isinstance(value, str) and kind is not str:
        value = json.loads(value)
    return tuple(typed(v, arguments[0]) for v in value) if get_origin(kind) is tuple else value
