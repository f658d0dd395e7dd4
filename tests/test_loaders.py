"""Public data sets: tiny ones of the same shape, as folders are published and as the hub has them."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from aikit.audio import save_audio
from aikit.synth.clips import ClipLibrary
from aikit.synth.loaders import DATA_SETS, folder_clips, load_clips
from aikit.synth.ontology import ontology
from aikit.synth.script import preprocessed
from aikit.tokens import SILENT_MARKER


def sound(file: Path, seed: int = 0) -> str:
    """Half a second of noise, of its own loudness."""
    level = 0.02 * (1 + seed)
    save_audio(file, np.random.default_rng(seed).normal(0, level, 8000).astype(np.float32))
    return file.name


def table(file: Path, rows: list[dict], delimiter: str = "\t") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def esc50(root: Path) -> None:
    names = ["1-100032-A-0.wav", "2-1000-A-12.wav"]
    rows = [{"filename": n, "fold": n[0], "target": 0, "category": c, "esc10": True, "src_file": 1, "take": "A"}
            for n, c in zip(names, ("dog", "crackling_fire"), strict=True)]  # fmt: skip
    table(root / "meta" / "esc50.csv", rows, ",")
    for i, name in enumerate(names):
        sound(root / "audio" / name, i)


def speech_commands(root: Path) -> None:
    sound(root / "yes" / "0a7c2a8d_nohash_0.wav")
    sound(root / "stop" / "0b09edd3_nohash_1.wav", 1)
    sound(root / "_background_noise_" / "white_noise.wav")


def librispeech(root: Path) -> None:
    chapter = root / "84" / "121123"
    for i in range(2):
        sound(chapter / f"84-121123-000{i}.flac", i)
    text = "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN FIVE MINUTES\n"
    (chapter / "84-121123.trans.txt").write_text(text)


def common_voice(root: Path) -> None:
    rows = [{"client_id": f"c{i}", "path": f"common_voice_es_{i}.mp3", "sentence": s, "locale": "es"}
            for i, s in enumerate(('"Hola", dijo ella.', "¿Qué hora es?"))]  # fmt: skip
    with open(_made(root) / "train.tsv", "w", encoding="utf-8") as out:  # as published: no quoting
        out.write(
            "\t".join(rows[0]) + "\n" + "".join("\t".join(row.values()) + "\n" for row in rows)
        )
    for i, row in enumerate(rows):
        sound(root / "clips" / row["path"], i)


def covost2(root: Path) -> None:
    rows = [{"path": "common_voice_en_7.mp3", "sentence": "Good morning.", "translation": "Guten Morgen.",
             "client_id": "c7"}]  # fmt: skip
    table(root / "covost_v2.en_de.train.tsv", rows)
    sound(root / "clips" / "common_voice_en_7.mp3")


def streamaudio(root: Path) -> None:
    turns = [{"user": "a dog barks", "assistant": SILENT_MARKER, "emotion": "normal", "scene_type": "dog_bark"},
             {"user": "What was that?", "assistant": "A dog.", "emotion": "happy", "scene_type": "speech"}]  # fmt: skip
    for i, turn in enumerate(turns):
        turn["audio_path"] = f"audio/{sound(root / 'audio' / f'{i}.flac', i)}"
    item = {"id": "0", "stream_scene_type": "understanding", "num_turns": 2, "turns": turns}
    (root / "items.jsonl").write_text(json.dumps(item) + "\n")


def audioset(root: Path) -> None:
    sound(root / "Baby cry, infant cry" / "YuC9dtwG3E0.wav")
    sound(root / "Siren" / "zzya4dDVRLk.flac", 1)
    sound(root / "Theremin" / "00000000000.flac", 2)


def _made(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    return root


FOLDERS = {
    f.__name__: f
    for f in (esc50, speech_commands, librispeech, common_voice, covost2, streamaudio, audioset)
}
SPEECH = {
    "speech_commands": [("stop", "en", "0b09edd3", ""), ("yes", "en", "0a7c2a8d", "")],
    "librispeech": [
        ("go do you hear", "en", "84", ""),
        ("but in less than five minutes", "en", "84", ""),
    ],
    "common_voice": [('"Hola", dijo ella.', "es", "c0", ""), ("¿Qué hora es?", "es", "c1", "")],
    "covost2": [("Good morning.", "en", "c7", "Guten Morgen.")],
}
SOUNDS = {
    "esc50": ["dog_bark", "fire_crackling"],
    "streamaudio": ["dog_bark", "speech"],
    "audioset": ["baby_cry", "siren", "theremin"],
}


def check(name: str, library: ClipLibrary, source: str) -> None:
    """The clips are what the data set says, load as 16 kHz mono, and serve a recipe."""
    found = [library.get(entry) for entry in library.entries]
    assert all(c.waveform.dtype == np.float32 and 7000 < len(c.waveform) < 10_000 for c in found)
    assert len({float(np.abs(c.waveform).mean()) for c in found}) == len(found)  # each its own file
    if name in SPEECH:
        about = [(c.text, c.language, c.speaker, c.translation) for c in found]
        assert about == SPEECH[name] and {c.label for c in found} == {"speech"}
    else:
        assert [c.label for c in found] == SOUNDS[name]
    drawn = library.prepared(preprocessed).draw(found[0].label, np.random.default_rng(0))
    assert drawn.source == source and drawn.duration_s >= 0.2


def test_there_is_a_folder_for_every_data_set():
    assert set(FOLDERS) == set(DATA_SETS) == set(SPEECH) | set(SOUNDS)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_as_they_are_published(tmp_path, name):
    FOLDERS[name](tmp_path)
    check(name, load_clips(name, tmp_path), tmp_path.name)
    check(name, folder_clips(tmp_path), tmp_path.name)  # told by its files
    assert len(load_clips(name, tmp_path, limit=1)) == 1


@pytest.mark.parametrize("name", [name for name, found in DATA_SETS.items() if found.hub])
def test_files_of_the_hub(tmp_path, name):
    """Parquet with the hub's columns, read as the hub is: streamed, and decoded without torchcodec."""
    datasets = pytest.importorskip("datasets", reason="needs the extra [data]")
    FOLDERS[name](tmp_path / "raw")
    rows = [
        row | {"audio": str(row["audio"])}
        for row in DATA_SETS[name].rows(tmp_path / "raw", "train")
    ]
    data = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    if name == "speech_commands":  # its labels are numbers there
        data = data.class_encode_column("label")
    data = data.map(partial(with_bytes), features=data.features)
    data.to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    language = "en" if name == "covost2" else ""
    check(name, load_clips(name, tmp_path / "hub", language=language), "hub")


def with_bytes(row: dict) -> dict:
    return {"audio": {"bytes": Path(row["audio"]["path"]).read_bytes(), "path": None}}


def test_splits_share_no_clip(tmp_path):
    speech_commands(tmp_path / "words")
    (tmp_path / "words" / "testing_list.txt").write_text("stop/0b09edd3_nohash_1.wav\n")
    for split, texts in (("train", ["yes"]), ("test", ["stop"])):
        assert [e.text for e in folder_clips(tmp_path / "words", split).entries] == texts
    esc50(tmp_path / "esc")
    with pytest.raises(ValueError, match="esc50 has no clip in .* split 'test'"):
        folder_clips(tmp_path / "esc", "test")


def test_nothing_is_decoded_before_it_is_heard(tmp_path):
    esc50(tmp_path)
    for file in (tmp_path / "audio").iterdir():
        file.write_bytes(b"no sound")
    library = load_clips("esc50", tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        library.get(library.entries[0])


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="no data set 'esc51'; choose one of: esc50"):
        load_clips("esc51")
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_clips("esc50", tmp_path / "gone")
    with pytest.raises(ValueError, match="no copy on the hub"):
        load_clips("streamaudio")
    with pytest.raises(ValueError, match="expected audio files"):
        folder_clips(tmp_path)


def test_audioset_names_are_the_kits_sounds():
    from aikit.synth.loaders import _audioset_labels

    assert set(_audioset_labels().values()) <= set(ontology())
