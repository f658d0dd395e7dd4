"""A corpus of streams on disk: build it, go on with it, read it.

Knows files and metadata. Does not know how a stream is made (`abilities.py`), who runs the work
(`engines.py`), what a corpus holds or whether it is whole (`describe.py`), or other formats
(`formats.py`). Taught in notebook 01.

A corpus is a folder that ``datasets.load_dataset("audiofolder", data_dir=...)`` reads too (it asks for
torchcodec; `read_corpus` does not)::

    corpus.json             what it was asked for: a resumed build must ask for the same
    0000/metadata.jsonl     a line a stream: file_name, sha256, ability, timeline, events ...
    0000/0000000.flac       a thousand streams a shard

Stream i is a function of sources, seed, abilities and i alone. Workers write its audio under a hidden
name and rename it; then the builder writes its line, in order. So a build that was killed goes on
where it stopped: nothing is lost or there twice, and the bytes are those of a build without a stop.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

import aikit
from aikit.audio import SAMPLE_RATE, load_audio
from aikit.synth.abilities import ABILITIES, make_stream, sub_tasks
from aikit.synth.clips import ClipError, ClipLibrary
from aikit.synth.compose import Stream
from aikit.synth.engines import ENGINES
from aikit.synth.record import columns, plain, typed
from aikit.synth.script import Sources

METADATA, SETTINGS, LOCK = "metadata.jsonl", "corpus.json", ".lock"
PER_SHARD = 1000  # streams a folder
PER_POOL = 5000  # streams; then fresh workers, for espeak-ng leaks 4 KB an utterance
ATTEMPTS = 10  # seeds tried for a stream whose clips or speech fail


# --- building -------------------------------------------------------------------------------------
def build_corpus(
    out: str | Path,
    sources: Sources,
    n_streams: int,
    seed: int = 0,
    abilities: Sequence[str] | None = None,
    workers: int = 1,
    engine: str = "plain",
) -> Path:
    """Make ``n_streams`` streams, one ability after the other; the same call resumes.

    Parameters
    ----------
    out : folder to make, or to go on in
    n_streams : a larger number than before lets the corpus grow
    seed : stream i is a function of sources, seed, abilities and i alone
    abilities : some of `ABILITIES`; all seven when None
    workers : processes; the bytes do not depend on their number
    engine : "plain", or "ray" for more than one machine

    Raises
    ------
    ValueError
        For an unknown ability or engine, no streams, or a folder that holds something else.
    OSError
        If a disk is full, say; what was made is whole, and the same call goes on.
    """
    names = tuple(abilities or ABILITIES)
    for name in names:
        sub_tasks(name)  # an unknown ability is refused before anything is written
    settings = {"seed": seed, "abilities": list(names), "sources": fingerprint(sources)}
    make = StreamMaker(Path(out), sources, seed, names)
    return fill(Path(out), settings, n_streams, make, workers, engine)


@dataclass(frozen=True)
class StreamMaker:
    """Makes stream i, saves its audio and gives its line of metadata; runs in any process."""

    out: Path
    sources: Sources
    seed: int
    abilities: tuple[str, ...]

    def __call__(self, i: int) -> str:
        stream, skipped = self.make(i)
        return save(self.out, i, stream, skipped)

    def make(self, i: int) -> tuple[Stream, list[str]]:
        """Stream i, and a note on everything that was skipped: unusable clips, failed attempts."""
        notes: list[str] = []
        for attempt in range(ATTEMPTS):
            # hashed, so that corpora of different seeds share no stream
            key = (self.seed, i, attempt) if attempt else (self.seed, i)
            seed = int(np.random.default_rng(key).integers(2**40))
            for library in _libraries(self.sources):
                library.skipped.clear()
            try:
                stream = make_stream(self.sources, seed, self.abilities[i % len(self.abilities)])
            except (ValueError, OSError) as error:
                failed = error
                notes += [] if isinstance(error, ClipError) else [f"stream {i}: {error}"]
            else:
                failed = None
            notes += [note for library in _libraries(self.sources) for note in library.skipped]
            if failed is None:
                return stream, list(dict.fromkeys(notes))
        raise ValueError(f"stream {i} failed {ATTEMPTS} times, at last: {failed}") from failed


def _libraries(sources: Sources) -> list[ClipLibrary]:
    return [value for value in vars(sources).values() if isinstance(value, ClipLibrary)]


def fingerprint(sources: Sources) -> str:
    """8 hex digits that differ where clips, voices, the split, the planner or the check of speech differ."""
    clips = sorted((e.source, e.name) for library in _libraries(sources) for e in library.entries)
    voices = [voice.name for voice in sources.voices]
    about = (clips, voices, sources.held_out, sources.planner.name, sources.speak.__name__)
    return sha256(repr(about).encode()).hexdigest()[:8]


def fill(
    out: Path,
    settings: dict,
    n_streams: int,
    make: Callable[[int], str],
    workers: int = 1,
    engine: str = "plain",
) -> Path:
    """Let ``make`` write the streams that a corpus lacks; see `build_corpus`.

    ``make(i)`` saves stream i and gives its line, or says in words why there is no stream i.
    """
    from tqdm import tqdm

    if n_streams < 1 or workers < 1:
        raise ValueError(f"{n_streams} streams by {workers} workers; both are at least 1")
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}; choose one of: {', '.join(ENGINES)}")
    with _claimed(out, {"version": aikit.__version__} | settings, n_streams):
        done = {int(row["id"]) for shard in shards(out) for row in _tidied(shard)}
        todo = [i for i in range(n_streams) if i not in done]
        with tqdm(desc="streams", total=len(done | set(todo)), initial=len(done)) as progress:
            try:
                for first in range(0, len(todo), PER_POOL):
                    ids = todo[first : first + PER_POOL]
                    for i, line in zip(ids, ENGINES[engine](make, ids, workers), strict=True):
                        if line.startswith("{"):
                            _append(out, i, line)
                        else:
                            progress.write(line, file=sys.stderr)
                        progress.update()
            except OSError as error:
                reason = (
                    f"{error.strerror or error}; {progress.n} of {progress.total} streams are whole"
                )
                what = f"{reason}, the same command makes the others"
                raise OSError(error.errno or 0, what, error.filename or str(out)) from error
        for shard in {out / f"{i // PER_SHARD:04d}" for i in todo}:
            _tidied(shard)  # where a lost stream was made again, its line stands last
    return out


@contextmanager
def _claimed(out: Path, settings: dict, n_streams: int) -> Iterator[None]:
    """Write the settings, or check that they are those of the corpus in the folder; keep others out."""
    path = out / SETTINGS
    out.mkdir(parents=True, exist_ok=True)
    if not path.exists() and any(file.name != LOCK for file in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no {SETTINGS}; choose another folder")
    with open(out / LOCK, "w") as lock:
        _lock(lock, out)
        found = json.loads(path.read_text("utf-8")) if path.exists() else settings
        if wrong := [key for key in settings if found.get(key) != settings[key]]:
            was, now = found.get(wrong[0]), settings[wrong[0]]
            raise ValueError(
                f"{out} holds a corpus of other {wrong[0]}: {was}, not {now}; ask for the same, or "
                "choose another folder"
            )
        settings = settings | {"streams": max(n_streams, found.get("streams", 0))}
        if found != settings:
            _replace(path, json.dumps(settings, ensure_ascii=False) + "\n")
        yield


def _lock(file, out: Path) -> None:
    """Lock a file until this process ends; a system without such locks has none."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(f"another process is building {out}; wait for it, or stop it") from error


def _tidied(shard: Path) -> list[dict]:
    """The rows of finished streams; torn lines, lines without audio and half-written audio go."""
    for left in shard.glob(".*.flac"):
        left.unlink(missing_ok=True)
    rows = [row for row in _rows(shard) if (shard / row["file_name"]).exists()]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if (shard / METADATA).exists() and (shard / METADATA).read_bytes() != text.encode():
        _replace(shard / METADATA, text)
    return rows


def _replace(path: Path, text: str) -> None:
    path.with_name(f".{path.name}").write_text(text, encoding="utf-8")
    os.replace(path.with_name(f".{path.name}"), path)


# --- one stream -----------------------------------------------------------------------------------
def save(out: Path, i: int, stream: Stream, skipped: Sequence[str] = ()) -> str:
    """Write the audio under a hidden name, rename it; return the line of metadata."""
    import soundfile

    path = out / f"{i // PER_SHARD:04d}" / f"{i:07d}.flac"
    # in memory first: libsndfile does not tell when a disk is full
    soundfile.write(flac := io.BytesIO(), stream.waveform, SAMPLE_RATE, format="FLAC")
    hidden = path.with_name(f".{path.stem}-{os.getpid()}.flac")
    path.parent.mkdir(exist_ok=True)
    hidden.write_bytes(flac.getvalue())
    os.replace(hidden, path)
    row = {"file_name": path.name, "id": path.stem, "sha256": sha256(flac.getvalue()).hexdigest()}
    row |= {name: plain(getattr(stream, name), kind) for name, kind in columns().items()}
    row |= {"n_chunks": stream.n_chunks, "skipped": "\n".join(skipped)}
    return json.dumps(row, ensure_ascii=False)


def _append(out: Path, i: int, line: str) -> None:
    with open(out / f"{i // PER_SHARD:04d}" / METADATA, "ab") as metadata:
        metadata.write(line.encode() + b"\n")


# --- reading --------------------------------------------------------------------------------------
def shards(path: str | Path) -> list[Path]:
    """The folders of a corpus that hold streams, in order."""
    return sorted(metadata.parent for metadata in Path(path).glob(f"[0-9]*/{METADATA}"))


def read_rows(path: str | Path) -> Iterator[dict]:
    """The metadata of all finished streams, in order; ``file_name`` counts from ``path``.

    Raises
    ------
    FileNotFoundError
        If the folder holds no corpus.
    ValueError
        If a line is broken (the last may be: a build was killed there).
    """
    if not (found := shards(path)):
        raise FileNotFoundError(f"no corpus in {path}; make one with: aikit synth --out {path}")
    return (
        row | {"file_name": f"{shard.name}/{row['file_name']}"}
        for shard in found
        for row in _rows(shard)
    )


def _rows(shard: Path) -> list[dict]:
    """The rows of a shard by id; a torn last line does not count."""
    if not (metadata := shard / METADATA).exists():
        return []
    rows = []
    for number, line in enumerate(metadata.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{metadata}, line {number} is broken ({error}); remove it") from error
    return sorted(rows, key=lambda row: row["id"])


def read_corpus(path: str | Path) -> Iterator[Stream]:
    """Streams in order, loaded one by one; errors as `read_rows`."""
    return (stream_of(Path(path), row) for row in read_rows(path))


def stream_of(path: Path, row: dict) -> Stream:
    """The stream of a row of `read_rows`; its audio is loaded."""
    # a field that is younger than the corpus keeps its default
    about = {name: typed(row[name], kind) for name, kind in columns().items() if name in row}
    return Stream(load_audio(path / row["file_name"]), **about)


def digest(path: str | Path) -> str:
    """SHA-256 of the sorted set of all streams' lines, which hold the SHA-256 of their audio."""
    lines = sorted(
        line for shard in shards(path) for line in (shard / METADATA).read_bytes().splitlines()
    )
    return sha256(b"\n".join(lines)).hexdigest()
