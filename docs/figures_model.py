"""Draw the pictures of notebooks 02, 03 and 05, which show the shipped model, into docs/figures/.

    python docs/figures_model.py                  all three
    python docs/figures_model.py 05_inside_the_model

That of 03 takes 20 s: its audio comes in real time.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from figures import FIGURES, ROOT, main

import aikit
from aikit import viz
from aikit.audio import load_audio
from aikit.bench import inside
from aikit.stream.assistant import SHIPPED
from aikit.stream.paced import ScriptedSession, run_fifo, run_synchronous
from aikit.stream.profile import scripted

PAPER = {"tower": 0.25, "adapter": 0.25, "layer 0": 0.80}  # paper §5


def scene(name: str, n_chunks: int) -> np.ndarray:
    """The first chunks of a bundled scene, repeated if it is shorter."""
    waveform = load_audio(ROOT / "data_samples" / "scenes" / f"{name}.flac")
    return np.resize(waveform, n_chunks * 6_400)


def training():
    """The losses of the shipped model, stage by stage."""
    return viz.losses(SHIPPED / "metrics.jsonl")


class Large(ScriptedSession):
    """The tiny model at the pace of a large one: 200 ms a step, 100 ms a token."""

    def decide(self, frames):
        time.sleep(0.2)
        return super().decide(frames)

    def write(self):
        time.sleep(0.1)
        return super().write()


def queue():
    """The same audio and replies without the queue and with it, in real time."""
    runs = []
    for run in (run_synchronous, run_fifo):
        session = scripted(aikit.load(), reply_tokens=24, kind=Large)
        session.due = frozenset({3, 11})
        runs.append(run(session, n_chunks=20))
    return viz.gantt(runs, to_s=10)


def inside_the_model():
    """The continuity ratio beside the paper's, and what each head decides."""
    ai = aikit.load()
    waveforms = [scene(name, 55) for name in ("kitchen", "street", "cough_and_music")]
    rows = [inside.continuity(ai, waveform) for waveform in waveforms]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return viz.continuity(mean, PAPER), viz.heads(inside.ablate_heads(ai, waveforms))


if __name__ == "__main__":
    FIGURES.clear()
    FIGURES |= {
        "02_train_a_tiny_model": training,
        "03_low_latency_inference": queue,
        "05_inside_the_model": inside_the_model,
    }
    main(sys.argv[1:])
