"""The seven other benchmarks of the paper (§4.2): find their files, ask a model, resume, score.

Knows what each benchmark asks, and keeps answers in ``<out>/<task>.jsonl``, a line as soon as it is given:
the same command goes on where it was stopped. Does not know files' columns (`items.py`) nor how text is
scored (`scorers.py`). Taught in notebook 07.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from aikit.audio import SAMPLE_RATE, load_audio
from aikit.bench import scorers
from aikit.bench.items import Item, hub_rows, read_rows, to_item

MAX_TOKENS = 256  # of an answer: half a minute of speech written down
PAUSE_S = 0.5  # between a clip and a spoken question about it
TRANSCRIBE = "Write down what is said."


@dataclass(frozen=True)
class Task:
    """A benchmark: where its data are, what is asked, how it is scored, and what the paper reports."""

    hub: tuple[str, str | None, str]  # data set, configuration, split
    reference: tuple[str, ...]  # columns that may hold the accepted answer or answers
    score: Callable[..., dict]
    paper: float  # its model's number
    ask: str | None = (
        None  # what is asked in text; None = the question of the row, if it has audio too
    )
    spoken: bool = False  # the question is in the audio, or spoken after it
    judge: tuple[str, range] | None = None  # prompt and verdicts, where a language model scores
    file: str = ""  # another name that its file may have


TASKS: dict[str, Task] = {
    "librispeech-clean": Task(
        ("openslr/librispeech_asr", "clean", "test"), ("text",), scorers.word_error_rate, 3.17, TRANSCRIBE),
    "librispeech-other": Task(
        ("openslr/librispeech_asr", "other", "test"), ("text",), scorers.word_error_rate, 6.04, TRANSCRIBE),
    "covost2-en-zh": Task(
        ("fixie-ai/covost2", "en_zh-CN", "test"), ("translation",), scorers.bleu_zh, 55.22,
        "Translate the speech into Chinese."),
    "covost2-zh-en": Task(
        ("fixie-ai/covost2", "zh-CN_en", "test"), ("translation",), scorers.bleu, 35.21,
        "Translate the speech into English."),
    "mmau-text": Task(
        ("gamma-lab-umd/MMAU-test-mini", None, "test"), ("answer",), scorers.choices, 55.68,
        file="mmau"),
    "mmau-audio": Task(
        ("gamma-lab-umd/MMAU-test-mini", None, "test"), ("answer",), scorers.choices, 58.15,
        spoken=True, file="mmau"),
    "llama-questions": Task(
        ("fixie-ai/llama-questions", None, "test"), ("answer", "answers", "Answer"), scorers.contained,
        67.31, spoken=True),
    "web-questions": Task(
        ("fixie-ai/spoken-web-questions", None, "test"), ("answers", "answer"), scorers.contained, 54.34,
        spoken=True),
    "alpacaeval": Task(
        ("hlt-lab/voicebench", "alpacaeval", "test"), (), scorers.opinion, 4.28, spoken=True,
        judge=(scorers.OPEN_QUESTION, range(1, 6))),
    "sd-qa": Task(
        ("hlt-lab/voicebench", "sd-qa", "usa"), ("reference",), scorers.verdicts, 52.14, spoken=True,
        judge=(scorers.CLOSED_QUESTION, range(2))),
}  # fmt: skip


def read_items(name: str, data: str | Path | None, hub: bool = False) -> Iterator[Item]:
    """The items of a task, one by one.

    Raises
    ------
    ValueError
        For an unknown task, or a row without what it needs, by number.
    FileNotFoundError
        If the data folder has nothing of the task.
    """
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; choose from {', '.join(TASKS)}")
    rows, root = (
        hub_rows(TASKS[name].hub) if hub else read_rows(name, TASKS[name].file, Path(data or "."))
    )
    for number, row in enumerate(rows):
        try:
            yield to_item(row, TASKS[name].reference, root, number)
        except KeyError as error:
            raise ValueError(
                f"{name}, row {number}: no {error.args[0]} in {sorted(row)}"
            ) from error


# --- asking ------------------------------------------------------------------------------------------
def heard_and_asked(task: Task, item: Item) -> tuple[np.ndarray | None, str | None]:
    """The waveform and the words that a model gets for an item."""
    waveform = None if item.audio is None else load_audio(item.audio)
    if not task.spoken:
        return waveform, task.ask or _with_choices(item)
    if item.choices:  # the clip, then the question about it
        spoken = (
            load_audio(item.question_audio) if item.question_audio else _spoken(_with_choices(item))
        )
        return np.concatenate(
            [waveform, np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32), spoken]
        ), None
    return (_spoken(item.question) if waveform is None else waveform), None


def _with_choices(item: Item) -> str:
    return " ".join(
        [item.question, *(["Choose one: " + "; ".join(item.choices) + "."] if item.choices else [])]
    )


def _spoken(text: str) -> np.ndarray:
    from aikit.synth.speech import VOICES, speak

    return speak(text, VOICES[0])


def ask(assistant, waveform: np.ndarray | None, question: str | None, online: bool = False) -> str:
    """One answer: after all of a clip, or (``online``) what is said while it is heard chunk by chunk."""
    from aikit.stream.answer import answer_offline

    if online and waveform is not None:
        events = assistant.listen(waveform, SAMPLE_RATE, instruction=question)
        return " ".join(event.text for event in events if event.kind == "end").strip()
    return answer_offline(assistant.model, assistant.tokenizer, waveform, question, MAX_TOKENS)


# --- a run -------------------------------------------------------------------------------------------
def run_task(
    assistant,
    name: str,
    items: Iterator[Item],
    out: Path,
    judge: scorers.Judge | None = None,
    online: bool = False,
    progress: bool = True,
) -> dict:
    """Ask what has not been asked yet, judge what has not been judged, score everything.

    Returns
    -------
    dict
        As the scorers return it; ``score`` is None where a judge is needed and there is none.
    """
    from tqdm import tqdm

    task, items = TASKS[name], list(items)
    if len({item.id for item in items}) < len(items):
        raise ValueError(f"{name}: two items have the same id; answers could not be told apart")
    bar = tqdm(items, name, disable=not progress)
    replies = _resumed(
        out / f"{name}.jsonl", bar, lambda i: ask(assistant, *heard_and_asked(task, i), online)
    )
    if task.judge is None:
        return task.score(items, replies)
    if judge is None:
        how = "answers are kept; give --judge to have them scored"
        return {"n": len(items), "score": None, "interval": None, "how": how}
    said, (prompt, allowed) = dict(zip([i.id for i in items], replies, strict=True)), task.judge
    scores = _resumed(
        out / f"{name}.judged.jsonl", items,
        lambda i: scorers.judged(i, said[i.id], prompt, judge, allowed),
    )  # fmt: skip
    return task.score(scores, getattr(judge, "model", "") or "without a name")


def _resumed(path: Path, items, make: Callable[[Item], Any]) -> list:
    """A value for every item: from the file where it has one, else made and written down at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.read_bytes() if path.exists() else b""
    lines = whole[: whole.rfind(b"\n") + 1]  # a torn last line was never finished
    done = {row["id"]: row["value"] for row in map(json.loads, lines.splitlines())}
    with path.open("ab") as file:
        file.truncate(len(lines))
        for item in items:
            if item.id not in done:
                done[item.id] = make(item)
                row = json.dumps({"id": item.id, "value": done[item.id]}, ensure_ascii=False)
                file.write(row.encode() + b"\n")
                file.flush()
    return [done[item.id] for item in items]


def run(
    assistant,
    names: Sequence[str],
    data: str | Path | None,
    out: str | Path,
    model: str = "",
    hub: bool = False,
    judge: scorers.Judge | None = None,
    online: bool = False,
    limit: int | None = None,
) -> dict[str, dict]:
    """Run tasks, print a table beside the paper's rows, and write ``scores.json`` into ``out``.

    Parameters
    ----------
    names : of `TASKS`
    model : what ``out`` is of; another model's answers are never mixed in
    limit : only so many items of each task

    Raises
    ------
    ValueError
        If ``out`` holds answers of another model or another way of asking.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    asked = {"model": model, "online": online}
    settings = out / "settings.json"
    if settings.exists() and (found := json.loads(settings.read_text("utf-8"))) != asked:
        raise ValueError(f"{out} holds answers of {found}, not of {asked}; choose another folder")
    settings.write_text(json.dumps(asked), "utf-8")
    scores = {}
    for name in names:
        items = islice(read_items(name, data, hub), limit)
        scores[name] = run_task(assistant, name, items, out, judge, online)
        hidden = out / ".scores.json"
        hidden.write_text(json.dumps(scores, indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(hidden, out / "scores.json")
    show(scores)
    return scores


def show(scores: dict[str, dict]) -> None:
    """Print scores beside the paper's."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "n", "score", "95 %", "paper", box=SIMPLE)
    table.add_column("how", overflow="fold")  # a signature is worth nothing if it is cut
    for name, s in scores.items():
        number = "–" if s["score"] is None else f"{s['score']:.2f}"
        bounds = "–" if s["interval"] is None else "{:.1f}..{:.1f}".format(*s["interval"])
        table.add_row(name, str(s["n"]), number, bounds, f"{TASKS[name].paper:.2f}", s["how"])
    Console().print(table)
