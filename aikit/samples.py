"""The bundled samples: scenes to listen to, a mini benchmark, their licences and sums.

Knows how `data_samples/` is laid out. Does not know what happens in a scene (`synth/scenes.py`) or
models. The mini benchmark follows Proactive-Sound-Bench (paper §4.3) and is scored in notebook 04.

Everything comes from the *held-out* half of the kit's own sources: no sound and no voice of it is
ever trained on. The same seed and the same library versions give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from aikit.audio import SAMPLE_RATE, save_audio
from aikit.config import AudioConfig
from aikit.synth.clips import Clip, ClipLibrary
from aikit.synth.compose import Stream
from aikit.synth.ontology import ontology
from aikit.synth.scenes import SCENES, SNR_DB, make_scene
from aikit.synth.script import Sources, phrases
from aikit.synth.speech import HELD_OUT_VOICES, speak

LICENCE = "CC0-1.0"
CLIPS_PER_LABEL = 2
CHATTER_PLACE = "Human Sound Signals/Collective Ambience"
MARGIN_S = (0.2, 0.4)  # silence before and after a clip of the mini benchmark
BENCH_SEED = 7  # the mini benchmark shares no clip with scenes and held-out streams (seed 0)
OGG_SERIAL = 0x41494B54


# --- scenes ---------------------------------------------------------------------------------------
def save_scene(folder: Path, name: str, stream: Stream) -> None:
    """Write NAME.flac and NAME.json."""
    save_audio(folder / f"{name}.flac", stream.waveform)
    scene, chunk_s = SCENES[name], AudioConfig().chunk_s
    place = " and ".join(ontology()[label].name for label in scene.noise)
    timeline = [asdict(r) | {"time_s": round((r.chunk + 1) * chunk_s, 3)} for r in stream.timeline]
    about = {
        "title": scene.recipe.__doc__,
        "instruction": stream.instruction,
        "ability": stream.ability,
        "duration_s": stream.duration_s,
        "timeline": timeline,
        "events": [asdict(event) for event in stream.events],
        "seed": stream.seed,
        "licence": LICENCE,
        "made_by": f"aikit samples --seed {stream.seed}",
        "how": f"held-out procedural sounds and voices, {SNR_DB:.0f} dB over {place}",
    }
    text = json.dumps(about, ensure_ascii=False, indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


# --- the mini benchmark ---------------------------------------------------------------------------
def bench_clips() -> list[Clip]:
    """Two held-out clips of every label, raw as a microphone would bring them, and some chatter."""
    library = ClipLibrary.bundled(CLIPS_PER_LABEL, held_out=True, seed=BENCH_SEED)
    clips = [library.get(entry) for entry in library.entries]
    for i, text in enumerate(phrases()["chatter"]):
        voice = HELD_OUT_VOICES[i % len(HELD_OUT_VOICES)]
        name = f"chatter-{i}-{voice.name}"
        clips.append(Clip(speak(text, voice), "speech", "speech", name, text, "en", voice.name))
    return clips


def bench_row(clip: Clip) -> dict:
    """A clip's manifest row in the published format; decision and answers are the ontology's."""
    id_ = hashlib.sha256(clip.name.encode()).hexdigest()[:8]
    place, policy, description, answers = CHATTER_PLACE, "IGNORE", "people talking", ()
    if sound := ontology().get(clip.label):
        place, policy = f"{sound.domain}/{sound.sub_domain}", sound.policy.upper()
        description, answers = sound.name, sound.replies
    path = f"./proactive-sound-effect/{place}/{policy}/{id_}.ogg"
    row = {"id": id_, "path": path, "description": description, "decision": policy}
    return row | ({"standard_answers": list(answers)} if answers else {})


def make_bench(folder: Path, clips: Iterable[Clip]) -> list[dict]:
    """Write the clips (ogg) and manifest.jsonl; return its rows."""
    before, after = (np.zeros(int(s * SAMPLE_RATE), np.float32) for s in MARGIN_S)
    rows = []
    for clip in clips:
        rows.append(bench_row(clip))
        path = folder / rows[-1]["path"]
        save_audio(path, np.concatenate([before, clip.waveform, after]))
        path.write_bytes(with_serial(path.read_bytes()))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    return rows


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def with_serial(ogg: bytes, serial: int = OGG_SERIAL) -> bytes:
    """Give all pages of an Ogg file one serial number: libsndfile draws it (RFC 3533, §6)."""
    data, at = bytearray(ogg), 0
    while at < len(data):
        end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        data[at + 14 : at + 18] = serial.to_bytes(4, "little")
        data[at + 22 : at + 26] = bytes(4)
        # Ogg's CRC is zlib's with all bits the other way round, and nothing inverted
        crc = ~zlib.crc32(data[at:end].translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
        data[at + 22 : at + 26] = int(f"{crc:032b}"[::-1], 2).to_bytes(4, "little")
        at = end
    return bytes(data)


# --- all of it ------------------------------------------------------------------------------------
README = """# Samples

`aikit samples --seed {seed}` writes everything here but `checkpoint/`. These files were made with
libsndfile {libsndfile} and numpy {numpy}; other versions may round or encode differently. To check:
`sha256sum -c SHA256SUMS`.

| group | what | how it was made | licence |
|---|---|---|---|
| `scenes/` | {scenes}: each a FLAC, and a JSON with events, timeline and instruction | procedural \
sounds and espeak-ng voices, composed by `aikit/synth/scenes.py` | {licence} |
| `mini_bench/` | {n} clips of {domains} domains and {subs} sub-domains, {respond} of them to \
respond to; `manifest.jsonl` in the format of Proactive-Sound-Bench | two procedural clips of each \
sound in the kit's ontology, which also decides and answers; chatter by espeak-ng | {licence} |
| `checkpoint/` | the shipped tiny model | `aikit train`; its own README gives recipe and data | \
Apache-2.0 |

The sounds are computed, not recorded, and what espeak-ng says is free to use: both are dedicated to
the public domain. All of it is held out: seeds, speeds, rooms and voices that training never draws.
The mini benchmark is *not* Proactive-Sound-Bench: compare its scores only with each other.
"""


def make_samples(out: str | Path = "data_samples", seed: int = 0) -> Path:
    """Write scenes/, mini_bench/, README.md and SHA256SUMS; other folders there are left alone."""
    from tqdm import tqdm

    out, sources = Path(out), Sources.embedded(held_out=True)
    for name in tqdm(SCENES, "scenes"):
        save_scene(out / "scenes", name, make_scene(name, seed, sources))
    rows = make_bench(out / "mini_bench", tqdm(bench_clips(), "mini benchmark"))
    (out / "README.md").write_text(_readme(rows, seed), encoding="utf-8")
    write_sums(out)
    print(f"wrote {len(SCENES)} scenes and {len(rows)} benchmark clips to {out}")
    return out


def _readme(rows: list[dict], seed: int) -> str:
    import soundfile

    places = [row["path"].split("/")[2:5] for row in rows]
    return README.format(
        seed=seed, libsndfile=soundfile.__libsndfile_version__, numpy=np.__version__,
        licence=LICENCE, scenes=", ".join(SCENES), n=len(rows), domains=len({p[0] for p in places}),
        subs=len({tuple(p[:2]) for p in places}), respond=sum(p[2] == "RESPOND" for p in places),
    )  # fmt: skip


def write_sums(folder: str | Path) -> Path:
    """Write FOLDER/SHA256SUMS over every file below it, as `sha256sum -c` reads it."""
    sums = Path(folder) / "SHA256SUMS"
    files = {p.relative_to(folder).as_posix(): p for p in Path(folder).rglob("*") if p.is_file()}
    files.pop(sums.name, None)
    digests = {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in sorted(files)}
    lines = (f"{digest}  {name}\n" for name, digest in digests.items())
    sums.write_text("".join(lines), encoding="utf-8")
    return sums
