"""The files of Proactive-Sound-Bench: manifests, and predictions of any model (paper §4.3, App. D).

Knows the published formats, and says with a line number what does not follow them; nothing is dropped
in silence. Does not know models or scores. Taught in notebook 04.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

DECISIONS = ("RESPOND", "IGNORE")


@dataclass(frozen=True)
class CaseEvent:
    """One sound in a stream of the multiple tier."""

    id: str  # the single-tier clip that it is
    description: str
    decision: str  # RESPOND or IGNORE
    start_s: float
    end_s: float
    role: str = "foreground"  # or background: a distractor


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
    events: tuple[CaseEvent, ...] = ()  # multiple tier; () = the clip is one event


@dataclass(frozen=True)
class Answer:
    """What a model said to one clip; a ``decision`` of None could not be read."""

    decision: str | None
    reply: str = ""
    p_max: float | None = None  # the highest p(respond) of any chunk
    trigger_s: tuple[float, ...] | None = None  # when it responded; None = not known
    heard_s: float | None = None  # how long it listened

    @classmethod
    def parse(cls, text: str, **known) -> Answer:
        """Read a raw reply; only a closed ``<Decision>`` block counts, as in the published scorer."""
        word = re.search(r"\b(RESPOND|IGNORE)\b", _block("Decision", text).upper())
        readable = word and not text.strip().startswith("Error:")
        return cls(word[1] if readable else None, _block("Reply", text), **known)

    @property
    def given(self) -> str | None:
        """The decision, if it is a whole answer: the reply's text must come with RESPOND."""
        return None if self.decision == "RESPOND" and not self.reply.strip() else self.decision

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
            except (ValueError, RecursionError) as error:  # bad JSON, or no text at all
                yield number, f"not JSON ({getattr(error, 'msg', error)})"


def _refuse(path: Path, problems: list[str]) -> None:
    """Raise for problems, if any: all of them counted, the first ones told."""
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{path}: {'; '.join(problems[:5])}{more}")


def read_manifest(
    path: str | Path,
    root: str | Path | None = None,
    need_audio: bool = True,
    answers: str | Path | None = None,
) -> list[Case]:
    """Read a benchmark in the published format.

    Parameters
    ----------
    path : JSONL, each row with ``id``, ``path``, ``decision``, perhaps ``description``,
        ``standard_answers``, (multiple tier) ``events``, and ``domain`` and ``sub_domain`` if the path
        does not say them
    root : the folder that the rows' paths start from; None = the manifest's own
    need_audio : False to score the predictions of others without having the clips
    answers : JSONL with ``id`` and ``standard_answers``, where they are in a file of their own

    Raises
    ------
    ValueError
        With line number and reason of rows that cannot be used; none is dropped in silence.
    """
    path, cases, problems = Path(path), {}, []
    root = path.parent if root is None else Path(root)
    standard = _read_answers(Path(answers)) if answers else {}
    for line, row in _lines(path):
        reason = row if isinstance(row, str) else _unusable(row, cases)
        if not reason and need_audio and not (root / row["path"]).is_file():
            reason = f"no audio at {root / row['path']}"
        if reason:
            problems.append(f"line {line}: {reason}")
        else:
            cases[str(row["id"])] = _case(row, root, standard)
    _refuse(path, problems if problems or cases else ["no rows"])
    if unknown := standard.keys() - cases.keys():
        raise ValueError(
            f"{answers}: id {min(unknown)} is not in {path}, nor are {len(unknown) - 1} more"
        )
    return list(cases.values())


def _read_answers(path: Path) -> dict[str, tuple[str, ...]]:
    problems, found = [], {}
    for line, row in _lines(path):
        reason = row if isinstance(row, str) else _not_answers(row.get("standard_answers"))
        if reason or row.get("id") in (None, ""):
            problems.append(f"line {line}: {reason or 'id missing'}")
        else:
            found[str(row["id"])] = tuple(row["standard_answers"])
    _refuse(path, problems)
    return found


def _not_answers(value: object) -> str:
    listed = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return "" if listed else f"standard_answers {value!r:.40}, expected a list of texts"


def _unusable(row: dict, known: Collection[str]) -> str:
    """Why a manifest row cannot be used; "" if it can."""
    if missing := [key for key in ("id", "path", "decision") if row.get(key) in (None, "")]:
        return f"{' and '.join(missing)} missing"
    if not isinstance(row["path"], str):
        return f"path {row['path']!r}, expected a text"
    if str(row["decision"]).strip().upper() not in DECISIONS:
        return f"decision {row['decision']!r}, expected RESPOND or IGNORE"
    if str(row["id"]) in known:
        return f"id {row['id']} was there before"
    if row.get("standard_answers") and (reason := _not_answers(row["standard_answers"])):
        return reason
    try:
        events = [CaseEvent(**event) for event in row.get("events") or ()]
        able = all(e.decision in DECISIONS and 0 <= e.start_s < e.end_s for e in events)
    except TypeError:
        able = False
    return "" if able else "events that are not [{id, description, decision, start_s, end_s, role}]"


def _case(row: dict, root: Path, standard: dict[str, tuple[str, ...]]) -> Case:
    """A checked row; unless it names them, domain and sub-domain are the folders above RESPOND or IGNORE."""
    folders, id_ = PurePosixPath(row["path"]).parent.parts, str(row["id"])
    if len(folders) >= 3 and folders[-1] in DECISIONS:
        domain, sub_domain = folders[-3:-1]
    else:  # not in the published layout
        domain, sub_domain = "no domain", folders[-1] if folders else "no folder"
    return Case(
        id_, root / row["path"], str(row["decision"]).strip().upper(),
        str(row.get("domain", domain)), str(row.get("sub_domain", sub_domain)),
        str(row.get("description", "")),
        standard.get(id_, tuple(row.get("standard_answers") or ())),
        tuple(CaseEvent(**event) for event in row.get("events") or ()),
    )  # fmt: skip


def write_manifest(path: str | Path, cases: Sequence[Case], root: str | Path) -> None:
    """Write cases in the published format, their paths relative to ``root``."""
    rows = []
    for case in cases:
        row = {
            "id": case.id,
            "path": f"./{case.audio.relative_to(root).as_posix()}",
            "description": case.description,
            "decision": case.decision,
        }
        if case.audio.parent.parts[-3:] != (case.domain, case.sub_domain, case.decision):
            row |= {"domain": case.domain, "sub_domain": case.sub_domain}
        row |= {"standard_answers": case.standard_answers} if case.standard_answers else {}
        row |= {"events": [asdict(event) for event in case.events]} if case.events else {}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    Path(path).write_text("".join(rows), encoding="utf-8")


def read_predictions(
    path: str | Path, cases: Sequence[Case]
) -> tuple[dict[str, Answer], list[str]]:
    """Read any model's predictions: rows with ``id`` and ``_raw_reply`` (or ``reply``).

    The kit's own rows also have ``p_max``, ``trigger_s`` and ``heard_s``.

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
        known_of, reason = _measured(row)
        answer = Answer.parse(text, **known_of)
        if reason:
            problems.append(f"line {line}: {reason}; left out")
        if id_ not in known:
            problems.append(f"line {line}: id {id_} is not in the manifest; not counted")
        if id_ in answers:
            problems.append(f"line {line}: id {id_} was there before; the last row counts")
        if answer.decision is None:
            problems.append(f"line {line}: no decision in {text[:40]!r}; counted as wrong")
        elif answer.given is None:
            problems.append(f"line {line}: RESPOND without a reply; counted as wrong")
        answers[id_] = answer
    _refuse(path, broken)
    problems += [f"id {i} has no row; counted as wrong" for i in sorted(known - answers.keys())]
    return answers, problems


def _measured(row: dict) -> tuple[dict, str]:
    """What a row says beyond the answer, and what is wrong with it."""
    p_max, heard_s, trigger_s = (row.get(key) for key in ("p_max", "heard_s", "trigger_s"))
    try:
        known = {
            "p_max": None if p_max is None else float(p_max),
            "heard_s": None if heard_s is None else float(heard_s),
            "trigger_s": None if trigger_s is None else tuple(map(float, trigger_s)),
        }
    except (TypeError, ValueError):
        return {}, "p_max, heard_s or trigger_s is not a number"
    if known["p_max"] is not None and not 0 <= known["p_max"] <= 1:
        return {}, f"p_max {p_max}, expected 0 to 1"
    return known, ""


def write_predictions(path: str | Path, answers: dict[str, Answer]) -> None:
    """Write predictions in the published format, with what was measured added to each row."""
    lines = []
    for id_, answer in answers.items():
        row = {"id": id_, "_raw_reply": answer.raw(), "p_max": answer.p_max}
        row |= {"trigger_s": answer.trigger_s, "heard_s": answer.heard_s}
        row = {key: value for key, value in row.items() if value is not None}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    Path(path).write_text("".join(lines), encoding="utf-8")
