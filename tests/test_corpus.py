"""A corpus on disk: what is written is read again, and whatever happens, nothing is lost or doubled."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from aikit.audio import save_audio
from aikit.synth import corpus
from aikit.synth.abilities import ABILITIES, make_stream
from aikit.synth.clips import ClipLibrary
from aikit.synth.compose import Item, SoundEvent, Stream, compose
from aikit.synth.corpus import (
    METADATA,
    build_corpus,
    digest,
    fill,
    read_corpus,
    read_rows,
    save,
    shards,
    stream_of,
)
from aikit.synth.describe import check_corpus, describe
from aikit.synth.engines import plain
from aikit.synth.record import columns
from aikit.synth.script import Sources
from aikit.tokens import Reply

BUILD = """
import sys
from aikit.synth.corpus import build_corpus
from aikit.synth.record import columns
from aikit.synth.script import Sources
build_corpus(sys.argv[1], Sources.embedded(variants=2), 7, seed=1, workers=2)
"""


@cache
def sources() -> Sources:
    return Sources.embedded(variants=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("corpora") / "a", sources(), 7, seed=1, workers=2)


def content(folder: Path) -> dict:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@dataclass(frozen=True)
class Beep:
    """Quick streams of a second: for what does not depend on what streams are."""

    out: Path

    def __call__(self, i: int) -> str:
        waveform = np.sin(np.arange(3 * 6400) * (0.1 + i / 100)).astype(np.float32) / 2
        event = SoundEvent("speech", 0.2, 0.7, text="hello", reply="Hi.", refers_to=i or None)
        return save(self.out, i, Stream(waveform, (Reply(1, "Hi."),), (event,), "a", "b", seed=i))


def beeps(out: Path, n: int, **settings) -> Path:
    return fill(out, {"test": 1}, n, Beep(out), **settings)


# --- written and read -----------------------------------------------------------------------------
def test_what_is_written_is_read_again(built):
    rows, streams = list(read_rows(built)), list(read_corpus(built))
    assert [row["ability"] for row in rows] == list(ABILITIES)
    for row, stream in zip(rows, streams, strict=True):
        made = make_stream(sources(), stream.seed, stream.ability)
        np.testing.assert_allclose(stream.waveform, made.waveform, atol=1 / 32768)
        for name in columns():
            assert getattr(stream, name) == getattr(made, name), name
        info = soundfile.info(built / row["file_name"])
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")


def test_missing_values_come_back(tmp_path):
    streams = list(read_corpus(beeps(tmp_path / "b", 2)))
    assert [stream.events[0].refers_to for stream in streams] == [None, 1]
    assert streams[0].events[0].language == "" and streams[0].rule == ""


def test_audiofolder_reads_it(built, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the extra [data]")
    monkeypatch.setattr(corpus, "PER_SHARD", 2)
    codec = ModuleType(
        "torchcodec.encoders"
    )  # `datasets` asks for it before it looks what it needs
    codec.AudioEncoder = None
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.encoders", codec)
    out = build_corpus(tmp_path / "c", sources(), 3, seed=1)
    assert [shard.name for shard in shards(out)] == ["0000", "0001"]
    data = datasets.load_dataset(
        "audiofolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "cache")
    ).cast_column("audio", datasets.Audio(decode=False))
    rows = list(read_rows(out))
    assert sorted(data["id"]) == [row["id"] for row in rows]
    for loaded in data:
        row = next(row for row in rows if row["id"] == loaded["id"])
        assert Path(loaded["audio"]["path"]).read_bytes() == (out / row["file_name"]).read_bytes()
        assert loaded["timeline"] == row["timeline"] and loaded["sha256"] == row["sha256"]
        assert [event["label"] for event in loaded["events"]] == [e["label"] for e in row["events"]]


def test_reading_what_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="aikit synth"):
        read_corpus(tmp_path)
    metadata = beeps(tmp_path / "b", 2) / "0000" / METADATA
    metadata.write_bytes(metadata.read_bytes() + b"not json\n")
    with pytest.raises(ValueError, match="line 3 is broken"):
        list(read_rows(tmp_path / "b"))


# --- stopped and resumed --------------------------------------------------------------------------
def test_the_same_call_again_changes_nothing(built):
    before = content(built)
    assert build_corpus(built, sources(), 7, seed=1) == built
    assert content(built) == before


def test_bytes_do_not_depend_on_the_number_of_workers(built, tmp_path):
    assert content(build_corpus(tmp_path / "b", sources(), 7, seed=1, workers=3)) == content(built)


@pytest.mark.slow
def test_ray_gives_the_same_bytes(built, tmp_path):
    pytest.importorskip("ray", reason="needs the extra [ray]")
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    try:
        out = build_corpus(tmp_path / "r", sources(), 7, seed=1, workers=2, engine="ray")
    finally:
        ray.shutdown()
    assert content(out) == content(built)


def test_a_build_killed_at_any_moment_goes_on(built, tmp_path):
    out = tmp_path / "b"
    build = subprocess.Popen([sys.executable, "-c", BUILD, str(out)], stderr=subprocess.DEVNULL)
    while not (out / "0000" / METADATA).exists() and build.poll() is None:
        time.sleep(0.02)
    with pytest.raises(ValueError, match="another process is building"):
        build_corpus(out, sources(), 7, seed=1)
    build.send_signal(signal.SIGKILL)
    build.wait()
    assert 1 <= len(list(read_rows(out)))
    build_corpus(out, sources(), 7, seed=1)
    assert content(out) == content(built) and digest(out) == digest(built)


def test_whatever_a_kill_may_leave_is_mended(built, tmp_path):
    out = tmp_path / "b"
    shutil.copytree(built, out)
    metadata, shard = out / "0000" / METADATA, out / "0000"
    lines = metadata.read_bytes().splitlines(keepends=True)
    metadata.write_bytes(b"".join(lines[:5]) + lines[5][:40])  # a torn line
    (shard / ".0000006-77.flac").write_bytes(b"half a fi")  # killed while writing audio
    (shard / "0000001.flac").unlink()  # and somebody tidied up
    assert len(list(read_rows(out))) == 5  # a torn line does not hinder reading
    assert len(check_corpus(out)) >= 3
    build_corpus(out, sources(), 7, seed=1, workers=2)
    assert content(out) == content(built)


def test_a_full_disk_ends_in_a_message_and_a_corpus_that_goes_on(tmp_path, monkeypatch):
    out, write = tmp_path / "b", Path.write_bytes

    def full(path, data):
        if path.name.startswith(".0000004"):
            write(path, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device; 4 of 7 streams are whole"):
        beeps(out, 7)
    monkeypatch.undo()
    assert len(list(read_rows(out))) == 4
    beeps(out, 7)
    assert check_corpus(out) == [] and content(out) == content(beeps(tmp_path / "c", 7))


def test_a_worker_that_dies_is_not_waited_for(tmp_path):
    with pytest.raises(ChildProcessError, match="killed"):
        list(plain(os._exit, [3], 1))


def test_a_corpus_grows(built, tmp_path):
    build_corpus(tmp_path / "c", sources(), 2, seed=1)
    build_corpus(tmp_path / "c", sources(), 3, seed=1)
    assert list(read_rows(tmp_path / "c")) == list(read_rows(built))[:3]


def test_what_does_not_fit_is_refused(built, tmp_path):
    with pytest.raises(ValueError, match="other seed: 1, not 2"):
        build_corpus(built, sources(), 7, seed=2)
    with pytest.raises(ValueError, match="other sources"):
        build_corpus(built, Sources.embedded(variants=3), 7, seed=1)
    with pytest.raises(ValueError, match="no ability 'singing'"):
        build_corpus(tmp_path / "d", sources(), 1, abilities=["singing"])
    with pytest.raises(ValueError, match="at least 1"):
        build_corpus(tmp_path / "d", sources(), 0)
    with pytest.raises(ValueError, match="no engine 'steam'"):
        build_corpus(tmp_path / "d", sources(), 1, engine="steam")
    assert not (tmp_path / "d").exists()
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        build_corpus(tmp_path, sources(), 1)


# --- bad recordings -------------------------------------------------------------------------------
@pytest.fixture
def bad_folder(tmp_path):
    """Sneezes of which one is good."""
    folder = tmp_path / "real" / "sneeze"
    rng = np.random.default_rng(0)
    for i in range(4):
        sneeze = rng.normal(0, 0.1, 12_800) * np.hanning(12_800)
        save_audio(folder / f"{i}.flac", sneeze.astype(np.float32))
    (folder / "1.flac").write_bytes((folder / "1.flac").read_bytes()[:3000])
    save_audio(folder / "2.flac", np.zeros(16_000, np.float32))
    save_audio(folder / "3.flac", rng.normal(0, 0.1, 800).astype(np.float32))
    (folder / "4.flac").write_bytes(b"no sound at all")
    (folder / "5.flac").symlink_to(tmp_path / "gone.flac")
    return folder.parent


def sneezes(sources, seed, ability) -> Stream:
    """Three sneezes and nothing else."""
    rng = np.random.default_rng(seed)
    clips = [sources.sounds.draw("sneeze", rng) for _ in range(3)]
    items = [Item(clip, gap_s=float(rng.uniform(0.5, 1.5))) for clip in clips]
    return replace(compose(items, rng), seed=seed)


def test_bad_recordings_are_skipped_and_counted(bad_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "make_stream", sneezes)

    def build(name: str, workers: int) -> Path:
        real = Sources.with_real([bad_folder])
        real.sounds = real.sounds.only(lambda entry: entry.source == "real")
        return build_corpus(tmp_path / name, real, 12, 1, workers=workers)

    one, two = build("one", 1), build("two", 2)
    assert content(one) == content(two) and check_corpus(one) == []
    names = {event["name"] for row in read_rows(one) for event in row["events"]}
    assert describe(one)["streams"] == 12 and names == {"sneeze/0.flac"}
    notes = describe(one)["skipped"]
    assert len(notes) == 5 and all(str(tmp_path) not in note for note in notes)
    for name, reason in (
        ("1.flac", "cannot be read"), ("2.flac", "only silence"), ("3.flac", "0.050 s"),
        ("4.flac", "cannot be read"), ("5.flac", "no such file"),
    ):  # fmt: skip
        assert any(name in note and reason in note for note in notes), (name, notes)


def test_a_stream_that_fails_is_made_of_another_seed(tmp_path, monkeypatch):
    def moody(sources, seed, ability):
        if seed == first:
            raise ValueError("the dialogue was dropped")
        return make_stream(sources, seed, ability)

    first = int(np.random.default_rng((1, 2)).integers(2**40))
    monkeypatch.setattr(corpus, "make_stream", moody)
    out = build_corpus(tmp_path / "b", sources(), 3, seed=1)
    assert [row["skipped"] for row in read_rows(out)] == [
        "",
        "",
        "stream 2: the dialogue was dropped",
    ]
    monkeypatch.setattr(corpus, "make_stream", lambda *_: ClipLibrary([]).draw("rain", None))
    with pytest.raises(ValueError, match="stream 0 failed 10 times, at last: no clip of 'rain'"):
        build_corpus(tmp_path / "c", sources(), 3, seed=1)


def test_rows_give_streams_one_by_one(built):
    row = next(read_rows(built))
    assert stream_of(built, row).seed == row["seed"]
