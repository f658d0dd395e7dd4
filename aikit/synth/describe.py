"""What a corpus holds, and whether it is whole.

Knows metadata and files. Does not know how streams are made (`abilities.py`) or written (`corpus.py`);
the figure is `aikit.charts.corpus`. Taught in notebook 01.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from aikit.audio import SAMPLE_RATE
from aikit.config import AudioConfig
from aikit.synth.abilities import ABILITIES
from aikit.synth.compose import SoundEvent
from aikit.synth.corpus import LOCK, METADATA, PER_SHARD, SETTINGS, digest, read_rows, shards
from aikit.synth.ontology import ontology
from aikit.tokens import EMOTIONS

FIGURE = "corpus.png"  # what `aikit synth --describe` draws


# --- what it holds --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Facts:
    """One stream in numbers."""

    ability: str
    sub_task: str
    chunks: int
    rounds: int  # foreground events: each asks for a decision
    reply_words: tuple[int, ...]  # of every reply; a Chinese one counts its characters
    silence: float  # share of the chunks without a reply
    sample: str  # the first event that is answered, and its reply


def facts(path: str | Path) -> list[Facts]:
    """The facts of every stream of a corpus; errors as `read_rows`."""
    return [_facts(row) for row in read_rows(path)]


def _facts(row: dict) -> Facts:
    front = [event for event in row["events"] if event["role"] == "foreground"]
    answered = next((event for event in front if event["reply"]), None)
    return Facts(
        row["ability"], row["sub_task"], row["n_chunks"], len(front),
        tuple(_words(reply["text"]) for reply in row["timeline"]),
        1 - len({reply["chunk"] for reply in row["timeline"]}) / row["n_chunks"],
        f"{heard(answered['label'], answered['text'])} → {answered['reply']}" if answered else "",
    )  # fmt: skip


def _words(text: str) -> int:
    return len(text.split()) if text.isascii() or " " in text else len(text)


def heard(label: str, text: str) -> str:
    """An event in words: what is said, or what the sound is."""
    sound = ontology().get(label)
    return text or (sound.caption if sound else label)


def by_sub_task(streams: Sequence[Facts]) -> list[dict]:
    """A row for each of the 28 sub-tasks (0 streams where it is missing), then for what else there is.

    Means a stream: ``rounds``, ``replies``, ``silence`` (share); ``words`` a reply; and a sample.
    """
    found: dict[tuple[str, str], list[Facts]] = defaultdict(list)
    for one in streams:
        found[one.ability, one.sub_task].append(one)
    names = [(ability, task) for ability, tasks in ABILITIES.items() for task in tasks]
    return [
        {"ability": ability, "sub_task": task} | _means(found[ability, task])
        for ability, task in dict.fromkeys([*names, *found])
    ]


def _means(streams: list[Facts]) -> dict:
    n, words = max(1, len(streams)), [count for one in streams for count in one.reply_words]
    return {
        "streams": len(streams),
        "rounds": round(sum(one.rounds for one in streams) / n, 1),
        "replies": round(len(words) / n, 1),
        "words": round(sum(words) / max(1, len(words)), 1),
        "silence": round(sum(one.silence for one in streams) / n, 3),
        "sample": next((one.sample for one in streams if one.sample), ""),
    }


def table(streams: Sequence[Facts]):
    """`by_sub_task` as a table of `rich`."""
    from rich.table import Table

    rows = by_sub_task(streams)
    shown = Table(title=f"{len(streams)} streams", title_justify="left", pad_edge=False)
    for name in rows[0]:
        number = not isinstance(rows[0][name], str)
        shown.add_column(
            name.replace("_", " "), justify="right" if number else "left", no_wrap=name != "sample"
        )
    for row in rows:
        shown.add_row(*map(str, row.values()))
    return shown


def describe(path: str | Path) -> dict:
    """A corpus in numbers: streams, hours, rounds, replies, silent share, skipped clips, digest, counts.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_rows`.
    """
    rows, streams = list(read_rows(path)), facts(path)
    chunks, labels = sum(one.chunks for one in streams), Counter()
    for row in rows:
        labels.update(event["label"] for event in row["events"])
    return {
        "streams": len(streams),
        "hours": round(chunks * AudioConfig().chunk_s / 3600, 3),
        "rounds": sum(one.rounds for one in streams),
        "replies": sum(len(one.reply_words) for one in streams),
        "silent_share": round(sum(one.silence * one.chunks for one in streams) / max(chunks, 1), 4),
        "skipped": sorted({note for row in rows for note in row["skipped"].splitlines()}),
        "digest": digest(path),
        "ability": dict(Counter(one.ability for one in streams)),
        "sub_task": dict(Counter(one.sub_task for one in streams)),
        "label": dict(labels.most_common()),
    }


# --- whether it is whole --------------------------------------------------------------------------
def check_corpus(path: str | Path) -> list[str]:
    """Everything that is wrong with a corpus, a line each, with the file and line it was found in.

    Missing, corrupt, doubled and foreign files; checksums; whether timeline, events and length of
    every stream agree. An empty list means: whole.

    Raises
    ------
    FileNotFoundError
        If the folder holds no corpus.
    """
    path = Path(path)
    if not (path / SETTINGS).exists():
        raise FileNotFoundError(f"no corpus in {path}; make one with: aikit synth --out {path}")
    seen: dict[str, str] = {}  # id or checksum -> where it was first
    problems = [problem for shard in shards(path) for problem in _check_shard(shard, seen)]
    known = {path / name for name in (SETTINGS, LOCK, FIGURE)}
    known |= {shard / METADATA for shard in shards(path)}
    known |= {path / f"{int(i) // PER_SHARD:04d}" / f"{i}.flac" for i in seen if i.isdecimal()}
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file not in known):
        left = " (a build was stopped here; the next removes it)" if file.name[0] == "." else ""
        problems.append(f"{file}: not part of the corpus{left}")
    wanted = json.loads((path / SETTINGS).read_text("utf-8"))["streams"]
    if missing := [i for i in (f"{n:07d}" for n in range(wanted)) if i not in seen]:
        problems.append(
            f"{path / SETTINGS}: {len(missing)} of {wanted} streams are missing, {missing[0]} first; "
            "the command that began the corpus makes them"
        )
    return problems


def _check_shard(shard: Path, seen: dict[str, str]) -> Iterator[str]:
    *lines, torn = (shard / METADATA).read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        where = f"{shard / METADATA}, line {number}"
        try:
            row = json.loads(line)
            reasons = [
                *_check_once(row, where, seen),
                *_check_audio(shard, row),
                *_check_timeline(row),
            ]
        except (ValueError, KeyError, TypeError) as error:
            reasons = [f"broken ({type(error).__name__}: {error})"]
        yield from (f"{where}: {reason}" for reason in reasons)
    if torn:
        yield f"{shard / METADATA}, line {len(lines) + 1}: torn, a build was stopped here"


def _check_once(row: dict, where: str, seen: dict[str, str]) -> Iterator[str]:
    for key in ("id", "sha256"):
        if (first := seen.setdefault(row[key], where)) != where:
            yield f"{key} {row[key][:12]} is there twice, first in {first}"
    if row["file_name"] != f"{row['id']}.flac":
        yield f"file_name {row['file_name']!r} does not fit id {row['id']!r}"


def _check_audio(shard: Path, row: dict) -> Iterator[str]:
    import soundfile

    file = shard / row["file_name"]
    if not file.exists():
        yield f"{file.name} is missing"
        return
    if sha256(content := file.read_bytes()).hexdigest() != row["sha256"]:
        yield f"{file.name} is not what was written: its checksum differs; remove it and resume"
        return
    info, samples = (
        soundfile.info(io.BytesIO(content)),
        row["n_chunks"] * AudioConfig().chunk_samples,
    )
    if (info.samplerate, info.channels, info.frames) != (SAMPLE_RATE, 1, samples):
        yield f"{file.name} has {info.frames} samples at {info.samplerate} Hz, not {samples}"


def _check_timeline(row: dict) -> Iterator[str]:
    """Replies lie in order within the stream, one a chunk, and each belongs to an event that ends there."""
    chunks, length_s = (
        [r["chunk"] for r in row["timeline"]],
        row["n_chunks"] * AudioConfig().chunk_s,
    )
    if chunks != sorted(set(chunks)):
        yield f"timeline is not in order, one reply a chunk: {chunks}"
    ends = {(SoundEvent("", e["start_s"], e["end_s"]).chunk(), e["reply"]) for e in row["events"]}
    for reply in row["timeline"]:
        what = f"reply {reply['text']!r} at chunk {reply['chunk']}"
        if not 0 <= reply["chunk"] < row["n_chunks"]:
            yield f"{what} lies outside the {row['n_chunks']} chunks"
        elif (reply["chunk"], reply["text"]) not in ends:
            yield f"{what} belongs to no event that ends there"
        if reply["emotion"] not in EMOTIONS:
            yield f"{what} has emotion {reply['emotion']!r}; expected one of {', '.join(EMOTIONS)}"
    for event in row["events"]:
        if not 0 <= event["start_s"] < event["end_s"] <= length_s + 1e-3:
            span = f"{event['start_s']}-{event['end_s']} s"
            yield f"event {event['label']!r} at {span} does not lie within {length_s:g} s"
