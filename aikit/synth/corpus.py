"""A corpus of streams on disk: build it, resume it, read it, describe it, export it.

Knows files and metadata. Does not know how a stream is made (`abilities.py`) or used. Taught in
notebook 01.

A corpus is a folder that ``datasets.load_dataset("audiofolder", data_dir=...)`` reads too::

    corpus.json           what it was asked for: a resumed build must ask for the same
    metadata.jsonl        a line a stream: file_name, ability, instruction, timeline, events ...
    0000/0000000.flac     a thousand streams a shard

A line is written only after its audio has its final name, so a build that was killed goes on where
it stopped: nothing is lost or there twice, and the bytes are those of a build without a stop.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np

from aikit.audio import SAMPLE_RATE, load_audio, save_audio
from aikit.config import AudioConfig
from aikit.synth.abilities import ABILITIES, make_stream, sub_tasks
from aikit.synth.compose import SoundEvent, Stream
from aikit.synth.ontology import ontology
from aikit.synth.script import Sources
from aikit.tokens import SILENT_MARKER, Reply

METADATA, SETTINGS, ITEMS = "metadata.jsonl", "corpus.json", "items.jsonl"
PER_SHARD = 1000
COLUMNS = ("ability", "sub_task", "instruction", "seed", "n_chunks")


def build_corpus(
    out: str | Path,
    sources: Sources,
    n_streams: int,
    seed: int = 0,
    abilities: Sequence[str] | None = None,
) -> Path:
    """Make ``n_streams`` streams, one ability after the other; the same call resumes.

    Parameters
    ----------
    out : folder to make, or to go on in
    n_streams : a larger number than before lets the corpus grow
    seed : stream i is a function of sources, seed, abilities and i alone
    abilities : some of `ABILITIES`; all seven when None

    Raises
    ------
    ValueError
        For an unknown ability, no streams, or a folder that holds something else.
    """
    from tqdm import tqdm

    if n_streams < 1:
        raise ValueError(f"n_streams is {n_streams}; a corpus has at least one stream")
    out, names = Path(out), list(abilities or ABILITIES)
    for name in names:
        sub_tasks(name)  # an unknown ability is refused before anything is written
    _claim(out, {"seed": seed, "abilities": names, "sources": fingerprint(sources)})
    done = _resume(out)
    todo = [i for i in range(n_streams) if f"{i:07d}" not in done]
    with open(out / METADATA, "a", encoding="utf-8") as metadata:
        for i in tqdm(todo, "streams", initial=len(done), total=len(done) + len(todo)):
            # hashed, so that corpora of different seeds share no stream
            stream_seed = int(np.random.default_rng((seed, i)).integers(2**40))
            stream = make_stream(sources, stream_seed, names[i % len(names)])
            metadata.write(json.dumps(_save(out, i, stream), ensure_ascii=False) + "\n")
            metadata.flush()
    return out


def fingerprint(sources: Sources) -> str:
    """8 hex digits that differ where clips, voices or the split differ."""
    libraries = filter(None, (sources.sounds, sources.digits))
    clips = sorted((e.source, e.name) for library in libraries for e in library.entries)
    voices = [voice.name for voice in sources.voices]
    return sha256(repr((clips, voices, sources.held_out)).encode()).hexdigest()[:8]


def _claim(out: Path, settings: dict) -> None:
    """Write the settings, or check that they are those of the corpus in the folder."""
    path = out / SETTINGS
    out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        if wrong := [key for key in settings if found.get(key) != settings[key]]:
            was, now = found.get(wrong[0]), settings[wrong[0]]
            raise ValueError(
                f"{out} holds a corpus of other {wrong[0]}: {was}, not {now}; ask for the same, or "
                "choose another folder"
            )
    elif any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no {SETTINGS}; choose another folder")
    else:
        _replace(path, json.dumps(settings, ensure_ascii=False) + "\n")


def _resume(out: Path) -> set[str]:
    """Ids of finished streams; a torn last line and lines without audio leave the file."""
    if not (out / METADATA).exists():
        return set()
    rows = [row for row in read_rows(out) if (out / row["file_name"]).exists()]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if (out / METADATA).read_bytes() != text.encode():
        _replace(out / METADATA, text)
    return {row["id"] for row in rows}


def _replace(path: Path, text: str) -> None:
    path.with_name(f".{path.name}").write_text(text, encoding="utf-8")
    os.replace(path.with_name(f".{path.name}"), path)


def _save(out: Path, i: int, stream: Stream) -> dict:
    """Write the audio under a hidden name, rename it; return its row.

    No value is null: `datasets` wants one type a column.
    """
    path = out / f"{i // PER_SHARD:04d}" / f"{i:07d}.flac"
    save_audio(path.with_name(f".{path.name}"), stream.waveform)
    os.replace(path.with_name(f".{path.name}"), path)
    row = {"file_name": path.relative_to(out).as_posix(), "id": path.stem}
    row |= {column: getattr(stream, column) for column in COLUMNS}
    row["timeline"] = [asdict(reply) for reply in stream.timeline]
    row["events"] = [asdict(event) | {"reply": event.reply or ""} for event in stream.events]
    return row


def read_rows(path: str | Path) -> list[dict]:
    """The metadata of all finished streams, in order.

    Raises
    ------
    FileNotFoundError
        If the folder holds no corpus.
    ValueError
        If a line is broken (the last may be: a build was killed there).
    """
    metadata, rows = Path(path) / METADATA, []
    if not metadata.exists():
        raise FileNotFoundError(f"no {METADATA} in {path}; make one with: aikit synth --out {path}")
    for number, line in enumerate(metadata.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{metadata}, line {number} is broken ({error}); remove it") from error
    return sorted(rows, key=lambda row: row["id"])


def read_corpus(path: str | Path) -> Iterator[Stream]:
    """Streams in order, loaded one by one; errors as `read_rows`."""
    return (_stream(Path(path), row) for row in read_rows(path))


def _stream(path: Path, row: dict) -> Stream:
    events = tuple(SoundEvent(**e | {"reply": e["reply"] or None}) for e in row["events"])
    timeline = tuple(Reply(**reply) for reply in row["timeline"])
    about = {column: row[column] for column in COLUMNS if column != "n_chunks"}
    return Stream(load_audio(path / row["file_name"]), timeline, events, **about)


def describe(path: str | Path) -> dict:
    """What a corpus holds: streams, hours, turns, replies, share of silent chunks, counts."""
    rows = read_rows(path)
    events = [event for row in rows for event in row["events"]]
    chunks = sum(row["n_chunks"] for row in rows)
    due = sum(len({reply["chunk"] for reply in row["timeline"]}) for row in rows)
    counted = {key: dict(Counter(row[key] for row in rows)) for key in ("ability", "sub_task")}
    return {
        "streams": len(rows),
        "hours": round(chunks * AudioConfig().chunk_s / 3600, 3),
        "turns": sum(event["role"] == "foreground" for event in events),
        "replies": sum(len(row["timeline"]) for row in rows),
        "silent_share": round(1 - due / max(chunks, 1), 4),
        **counted,
        "label": dict(Counter(event["label"] for event in events).most_common()),
    }


def export_items(path: str | Path, out: str | Path) -> Path:
    """Write a corpus in the published StreamAudio-2M item format: ``items.jsonl`` and ``audio/``.

    Every foreground event is a turn with its own file: what was heard since the turn before. The
    files of an item in a row are the stream.
    """
    out, lines = Path(out), []
    for row in read_rows(path):
        stream = _stream(Path(path), row)
        turns = [_turn(out, f"{row['id']}-{k}", *part) for k, part in enumerate(_turns(stream))]
        item = {"id": row["id"], "stream_scene_type": stream.ability, "num_turns": len(turns)}
        lines.append(json.dumps(item | {"turns": turns}, ensure_ascii=False) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / ITEMS, "".join(lines))
    return out / ITEMS


def _turns(stream: Stream) -> Iterator[tuple[np.ndarray, SoundEvent, str]]:
    """The stream cut after every foreground event: audio, event and emotion of its reply."""
    front = [event for event in stream.events if event.role == "foreground"]
    ends = [round(event.end_s * SAMPLE_RATE) for event in front[:-1]]
    emotions = {(reply.chunk, reply.text): reply.emotion for reply in stream.timeline}
    for audio, event in zip(np.split(stream.waveform, ends), front, strict=True):
        yield audio, event, emotions.get((event.chunk(), event.reply), "normal")


def _turn(out: Path, name: str, audio: np.ndarray, event: SoundEvent, emotion: str) -> dict:
    save_audio(out / "audio" / f"{name}.flac", audio)
    sound = ontology().get(event.label)
    heard = event.text or (sound.caption if sound else event.label)
    return {"user": heard, "assistant": event.reply or SILENT_MARKER, "emotion": emotion,
            "scene_type": event.label, "audio_path": f"audio/{name}.flac"}  # fmt: skip
