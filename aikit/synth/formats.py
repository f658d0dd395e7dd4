"""The published StreamAudio-2M item format, out and in.

Knows items and turns (paper §3.2). Does not know how a corpus is written (`corpus.py`). Taught in
notebook 01.

An item is a conversation, a line of ``items.jsonl``::

    {"id", "stream_scene_type", "num_turns",
     "turns": [{"user", "assistant", "emotion", "scene_type", "audio_path"}]}

Here every foreground event is a turn with its own file: what was heard since the turn before. What
follows the last one is a turn too, a silent one. So the files of an item in a row are the stream,
and what was written is read again: waveform, replies and their chunks. Quiet sounds behind are heard
in it, but no longer known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path

import numpy as np

from aikit.audio import SAMPLE_RATE, load_audio, save_audio
from aikit.config import AudioConfig
from aikit.synth.compose import SoundEvent, Stream
from aikit.synth.corpus import fill, read_rows, save, stream_of
from aikit.synth.describe import heard
from aikit.synth.loaders import ITEMS, SILENCE
from aikit.synth.ontology import ontology
from aikit.tokens import EMOTIONS, SILENT_MARKER, Reply

FRAME_S = 0.04  # unit of the silences in records of the published pipeline


# --- out ------------------------------------------------------------------------------------------
def export_items(path: str | Path, out: str | Path) -> Path:
    """Write a corpus as items: ``items.jsonl`` and ``audio/``. Errors as `read_rows`."""
    out = Path(out)
    rows = read_rows(path)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ITEMS, "w", encoding="utf-8") as items:
        for row in rows:
            stream = stream_of(Path(path), row)
            turns = [_turn(out, f"{row['id']}-{k}", *part) for k, part in enumerate(_turns(stream))]
            item = {"id": row["id"], "stream_scene_type": stream.ability, "num_turns": len(turns)}
            items.write(json.dumps(item | {"turns": turns}, ensure_ascii=False) + "\n")
    return out / ITEMS


def _turns(stream: Stream) -> Iterator[tuple[np.ndarray, SoundEvent, str]]:
    """The stream cut after every foreground event: audio, event and emotion of its reply."""
    front = [event for event in stream.events if event.role == "foreground"]
    ends = [round(event.end_s * SAMPLE_RATE) for event in front]
    front.append(SoundEvent(SILENCE, front[-1].end_s, stream.duration_s))
    emotions = {(reply.chunk, reply.text): reply.emotion for reply in stream.timeline}
    for audio, event in zip(np.split(stream.waveform, ends), front, strict=True):
        if len(audio):
            yield audio, event, emotions.get((event.chunk(), event.reply), "normal")


def _turn(out: Path, name: str, audio: np.ndarray, event: SoundEvent, emotion: str) -> dict:
    save_audio(out / "audio" / f"{name}.flac", audio)
    return {"user": heard(event.label, event.text), "assistant": event.reply or SILENT_MARKER,
            "emotion": emotion, "scene_type": event.label, "audio_path": f"audio/{name}.flac"}  # fmt: skip


# --- in -------------------------------------------------------------------------------------------
def import_items(items: str | Path, out: str | Path, gap_s: float = 0.0, workers: int = 1) -> Path:
    """Make a corpus of published items; the same call resumes. An item that cannot be read is left out.

    Parameters
    ----------
    items : a file such as ``items.jsonl``; its audio paths count from its folder
    gap_s : silence before every turn; 0 for what `export_items` wrote, 1 for clips cut tight

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        If there is no such file; and as `build_corpus`.
    """
    make = ItemMaker(Path(out), Path(items), gap_s)
    settings = {"items": make.fingerprint, "gap_s": gap_s}
    return fill(Path(out), settings, len(make.offsets), make, workers)


@dataclass(frozen=True)
class ItemMaker:
    """Makes a stream of item i and saves it; runs in any process."""

    out: Path
    items: Path
    gap_s: float

    def __call__(self, i: int) -> str:
        try:
            stream = item_stream(self.item(i), self.items.parent, self.gap_s)
        except (ValueError, KeyError, FileNotFoundError) as error:
            return f"{self.items}, line {i + 1} is left out: {error}"
        return save(self.out, i, stream)

    def item(self, i: int) -> dict:
        """Item i, read from its place in the file."""
        with open(self.items, "rb") as file:
            file.seek(self.offsets[i])
            return json.loads(file.readline())

    @cached_property
    def offsets(self) -> list[int]:
        """Where each line begins, so that a file of millions needs no memory."""
        with open(self.items, "rb") as file:
            starts = np.cumsum([0, *map(len, file)])
        return starts[:-1].tolist()

    @property
    def fingerprint(self) -> str:
        """8 hex digits of the file."""
        with open(self.items, "rb") as file:
            return file_digest(file, "sha256").hexdigest()[:8]


def item_stream(item: dict, root: Path, gap_s: float = 0.0) -> Stream:
    """The stream of an item: its turns one after the other, each reply due in the chunk where its turn ends.

    A record of the published pipeline says how much silence goes before a turn
    (``leading_silence_frames``, 40 ms each) and after the last (``tail_silence_frames_actual``). A
    turn that would end in the chunk of the one before waits: two replies in one chunk would lose one.

    Raises
    ------
    ValueError
        For an item without turns.
    AudioError, FileNotFoundError, KeyError
        For audio that cannot be read, or a turn that lacks a field.
    """
    if not item["turns"]:
        raise ValueError(f"item {item.get('id')!r} has no turns")
    chunk_s, pieces, events, timeline, now = AudioConfig().chunk_s, [], [], [], 0.0
    for turn in item["turns"]:
        audio, start = load_audio(root / turn["audio_path"]), now + _gap(turn, gap_s)
        if timeline and turn["assistant"] != SILENT_MARKER:
            start = max(start, (timeline[-1].chunk + 1) * chunk_s + 0.01 - len(audio) / SAMPLE_RATE)
        event = _event(turn, start, start + len(audio) / SAMPLE_RATE)
        pieces += [np.zeros(round((start - now) * SAMPLE_RATE), np.float32), audio]
        now = sum(map(len, pieces)) / SAMPLE_RATE
        events += [event] if event.label != SILENCE else []
        if event.reply is not None:
            emotion = turn.get("emotion")
            timeline.append(
                Reply(event.chunk(), event.reply, emotion if emotion in EMOTIONS else "normal")
            )
    tail = item.get("tail_silence_frames_actual", 0) * FRAME_S + gap_s
    samples = int(np.ceil(round((now + tail) / chunk_s, 6))) * AudioConfig().chunk_samples
    mix = np.concatenate(pieces)
    mix = np.pad(mix, (0, max(0, samples - len(mix))))
    return Stream(mix, tuple(timeline), tuple(events), item.get("stream_scene_type", ""))


def _gap(turn: dict, gap_s: float) -> float:
    return turn["leading_silence_frames"] * FRAME_S if "leading_silence_frames" in turn else gap_s


def _event(turn: dict, start_s: float, end_s: float) -> SoundEvent:
    """A turn as an event: a sound of the ontology, or speech."""
    label, said = turn.get("scene_type", "speech"), turn.get("user", "")
    reply = None if turn["assistant"] == SILENT_MARKER else turn["assistant"]
    text = "" if label in ontology() else said
    return SoundEvent(
        label, round(start_s, 4), round(end_s, 4), text=text, source="items", reply=reply
    )
