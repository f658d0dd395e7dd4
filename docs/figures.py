"""Draw every picture that the README and the first cells of the notebooks show, into docs/figures/.

    python docs/figures.py               all of them
    python docs/figures.py timeline      some, by name

Each is made by `aikit.viz` from the bundled scenes and the shipped model, so it shows what a reader
will see: draw them again when the model changes. A new picture is a function that returns a figure
(or several, to stand one below the other) and its name in `FIGURES`; a script beside this one,
``figures_*.py``, is run as well.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

import aikit
from aikit import viz
from aikit.audio import load_audio
from aikit.synth.abilities import Sources, all_texts, make_stream
from aikit.synth.compose import SoundEvent, Stream
from aikit.tokens import OWN_LAYOUT, Reply, Tokenizer, online_sequence

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "figures"
DPI = 150


def scene(name: str) -> tuple[Stream, str]:
    """A bundled scene and its title."""
    file = ROOT / "data_samples" / "scenes" / f"{name}.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    timeline = tuple(Reply(reply["chunk"], reply["text"]) for reply in about["timeline"])
    events = tuple(SoundEvent(**event) for event in about["events"])
    waveform = load_audio(file.with_suffix(".flac"))
    stream = Stream(waveform, timeline, events, instruction=about["instruction"])
    return stream, about["title"].rstrip(".")


def heard(name: str):
    """A scene and what the shipped model did."""
    stream, title = scene(name)
    events = list(aikit.load().listen(stream.waveform, 16_000, stream.instruction))
    return viz.timeline(stream, events, title=title)


def streaming_data():
    """A mix in its layers, and the tokens around one of its replies."""
    stream = make_stream(Sources.embedded(variants=2), 6, sub_task="count live", keep_layers=True)
    tokenizer = Tokenizer.train(all_texts())
    sequence = online_sequence(tokenizer, stream.timeline, stream.n_chunks, stream.instruction)
    blocks = np.flatnonzero(sequence.input_ids == OWN_LAYOUT.audio_begin)
    chunk = stream.timeline[0].chunk
    first, end = blocks[chunk - 1], blocks[chunk + 3]
    tokens = viz.tokens(sequence, tokenizer, OWN_LAYOUT, first=int(first), count=int(end - first))
    return viz.timeline(stream), viz.layers(stream), tokens


FIGURES = {
    "timeline": lambda: heard("street"),
    "00_start_here": lambda: heard("kitchen"),
    "01_streaming_data_synthesis": streaming_data,
}


def as_pixels(figure) -> np.ndarray:
    """A drawn figure as ``[height, width, 3]``."""
    file = io.BytesIO()
    figure.savefig(file, dpi=DPI)
    file.seek(0)
    return plt.imread(file)[..., :3]


def below(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures one below the other, on white."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([
        np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=1.0) for p in pictures
    ])  # fmt: skip


def main(names: list[str]) -> None:
    """Draw the named figures, or all."""
    if unknown := set(names) - set(FIGURES):
        raise SystemExit(f"no figure {', '.join(unknown)}; there are: {', '.join(FIGURES)}")
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names or FIGURES:
        made = FIGURES[name]()
        figures = made if isinstance(made, tuple) else (made,)
        path = OUT / f"{name}.png"
        picture = below([as_pixels(figure) for figure in figures])
        plt.imsave(path, picture, metadata={"Software": None})
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
    for script in [] if sys.argv[1:] else sorted(Path(__file__).parent.glob("figures_*.py")):
        subprocess.run([sys.executable, str(script)], check=True)
