"""The files of Proactive-Sound-Bench: manifests, and predictions of any model (paper §4.3, App. D).

Knows the published formats, and says with a line number what does not follow them; nothing is dropped
in silence. Does not know models or scores. Taught in notebook 04.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DECISIONS = ("RESPOND", "IGNORE")


@dataclass(frozen=True)
class Case:
    """One row of a manifest."""

    id: str
    audio: Path
    decision: str  # RESPOND or IGNORE
    domain: str
    sub_domain: str
    description: str = ""
    standard_answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a model said to one clip; a ``decision`` of None could not be read."""

    decision: str | None
    reply: str = ""
    p_max: float | None = None  # the highest p(respond) of any chunk

    @classmethod
    def parse(cls, text: str, p_max: float | None = None) -> Answer:
        """Read a raw reply; only a closed ``<Decision>`` block counts, as in the published scorer."""
        word = re.search(r"\b(RESPOND|IGNORE)\b", _block("Decision", text).upper())
        readable = word and not text.strip().startswith("Error:")
        return cls(word[1] if readable else None, _block("Reply", text), p_max)

    def raw(self) -> str:
        """The answer in the published format."""
        reply = self.reply if self.decision == "RESPOND" else "No Reply"
        return f"<Decision>{self.decision}</Decision>\n<Reply>{reply}</Reply>"


def _block(tag: str, text: str) -> str:
    found = re.search(rf"<\s*{tag}\s*>(.*?)<\s*/\s*{tag}\s*>", text, re.IGNORECASE | re.DOTALL)
    return found[1].strip() if found else ""


def _lines(path: Path) -> Iterator[tuple[int, dict | str]]:
    """(line, row) of a JSONL file, or (line, what is wrong with it); empty lines are passed over."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                yield number, row if isinstance(row, dict) else "not an object {…}"
            except ValueError as error:  # bad JSON, or no text at all
                yield number, f"not JSON ({getattr(error, 'msg', error)})"


def _refuse(path: Path, problems: list[str]) -> None:
    """Raise for problems, if any: all of them counted, the first ones told."""
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{path}: {'; '.join(problems[:5])}{more}")


def read_manifest(
    path: str | Path, root: str | Path | None = None, need_audio: bool = True
) -> list[Case]:
    """Read a benchmark in the published format.

    Parameters
    ----------
    path : JSONL, each row with ``id``, ``path``, ``decision``, perhaps ``description`` and
        ``standard_answers``
    root : the folder that the rows' paths start from; None = the manifest's own
    need_audio : False to score the predictions of others without having the clips

    Raises
    ------
    ValueError
        With line number and reason of rows that cannot be used; none is dropped in silence.
    """
    path, cases, problems = Path(path), {}, []
    root = path.parent if root is None else Path(root)
    for line, row in _lines(path):
        reason = row if isinstance(row, str) else _unusable(row, cases, root if need_audio else None)
        if reason:
            problems.append(f"line {line}: {reason}")
        else:
            cases[str(row["id"])] = _case(row, root)
    _refuse(path, problems if problems or cases else ["no rows"])
    return list(cases.values())


def _unusable(row: dict, known: dict[str, Case], root: Path | None) -> str:
    """Why a manifest row cannot be used; "" if it can."""
    if missing := [key for key in ("id", "path", "decision") if row.get(key) in (None, "")]:
        return f"{' and '.join(missing)} missing"
    if str(row["decision"]).strip().upper() not in DECISIONS:
        return f"decision {row['decision']!r}, expected RESPOND or IGNORE"
    if str(row["id"]) in known:
        return f"id {row['id']} was there before"
    if root is not None and not (root / str(row["path"])).is_file():
        return f"no audio at {root / str(row['path'])}"
    return ""


def _case(row: dict, root: Path) -> Case:
    """A checked row; domain and sub-domain are the two folders above RESPOND or IGNORE."""
    folders = PurePosixPath(str(row["path"])).parent.parts
    if len(folders) >= 3 and folders[-1] in DECISIONS:
        domain, sub_domain = folders[-3:-1]
    else:  # not in the published layout
        domain, sub_domain = "no domain", folders[-1] if folders else "no folder"
    decision, answers = str(row["decision"]).strip().upper(), tuple(row.get("standard_answers") or ())
    about = str(row.get("description", ""))
    return Case(str(row["id"]), root / str(row["path"]), decision, domain, sub_domain, about, answers)


def read_predictions(path: str | Path, cases: Sequence[Case]) -> tuple[dict[str, Answer], list[str]]:
    """Read any model's predictions: rows with ``id`` and ``_raw_reply`` (or ``reply``).

    Returns
    -------
    answers : by id; of two rows of one id the last counts, as in the published scorer
    problems : everything that is amiss: unknown, repeated, missing and unreadable answers

    Raises
    ------
    ValueError
        With the line numbers of rows that are not JSON or have no id.
    """
    path, known, answers, broken, problems = Path(path), {case.id for case in cases}, {}, [], []
    for line, row in _lines(path):
        if isinstance(row, str) or row.get("id") in (None, ""):
            broken.append(f"line {line}: {row if isinstance(row, str) else 'id missing'}")
            continue
        id_, text = str(row["id"]), str(row.get("_raw_reply") or row.get("reply") or "")
        answer = Answer.parse(text, row.get("p_max"))
        if id_ not in known:
            problems.append(f"line {line}: id {id_} is not in the manifest; not counted")
        if id_ in answers:
            problems.append(f"line {line}: id {id_} was there before; the last row counts")
        if answer.decision is None:
            problems.append(f"line {line}: no decision in {text[:40]!r}; counted as wrong")
        answers[id_] = answer
    _refuse(path, broken)
    problems += [f"id {i} has no row; counted as wrong" for i in sorted(known - answers.keys())]
    return answers, problems


def write_predictions(path: str | Path, answers: dict[str, Answer]) -> None:
    """Write predictions in the published format, with ``p_max`` added to each row."""
    rows = ({"id": i, "_raw_reply": a.raw(), "p_max": a.p_max} for i, a in answers.items())
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path(path).write_text("".join(lines), encoding="utf-8")
