"""Draw the pictures of notebooks 02, 03 and 05, which show the shipped model, into docs/figures/.

    python docs/figures_model.py                  all three
    python docs/figures_model.py 05_inside_the_model

Timings (03) are those of this machine.
"""

from __future__ import annotations

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from figures import FIGURES, ROOT, main

import aikit
from aikit import viz
from aikit.audio import load_audio
from aikit.bench import inside
from aikit.model.processing import stream_mel
from aikit.stream.assistant import SHIPPED

PAPER = {"tower": 0.25, "adapter": 0.25, "layer 0": 0.80}  # paper §5


def scene(name: str, n_chunks: int) -> np.ndarray:
    """The first chunks of a bundled scene, repeated if it is shorter."""
    waveform = load_audio(ROOT / "data_samples" / "scenes" / f"{name}.flac")
    return np.resize(waveform, n_chunks * 6_400)


def training():
    """The losses of the shipped model, stage by stage."""
    return viz.losses(SHIPPED / "metrics.jsonl")


@torch.inference_mode()
def latency(n_chunks: int = 100):
    """The tower's time for one more chunk: everything again, and with a state."""
    torch.set_num_threads(1)
    model, state = aikit.load().model, None
    mel = torch.from_numpy(stream_mel(scene("kitchen", n_chunks), n_chunks, model.shape))[None]
    mel, rows = mel.to(model.device, model.dtype), []
    for end in range(40, mel.shape[2] + 1, 40):
        times = [time.perf_counter()]
        model.encode(mel[..., :end])
        times.append(time.perf_counter())
        _, state = model.encode(mel[..., end - 40 : end], state)
        times.append(time.perf_counter())
        rows.append(1000 * np.diff(times))
    with plt.rc_context(viz.STYLE):
        figure, ax = plt.subplots(figsize=(8, 2.8))
        ax.set_prop_cycle(color=("#D55E00", "#0072B2"))
        labels = ("everything again", "one chunk with a state")
        ax.plot(0.4 * np.arange(1, n_chunks + 1), np.array(rows), label=labels)
        ax.set(xlabel="seconds of history", ylabel="ms for one more chunk", ylim=(0, None))
        ax.legend()
    return figure


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
        "03_low_latency_inference": latency,
        "05_inside_the_model": inside_the_model,
    }
    main(sys.argv[1:])
