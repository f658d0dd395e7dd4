"""Where the milliseconds go: `aikit profile`.

Knows stages, bytes and operations. Does not know a session under load (`paced.py`, with the definitions of
stalls, latencies and deadlines). Taught in notebook 03.

Definitions. *Stages*, each one call on a full window, in wall-clock time: ``mel`` (400 ms of samples),
``encode`` (tower and adapter, one chunk), ``listen`` (one chunk into the decoder: 13 positions, the
logits of two tokens), ``drain`` (eight chunks at once), ``decode`` (one token of a reply: one position,
all logits). The *floor* of a stage is the time to read once what it must read (weights, keys, values) at
the bandwidth measured here; ``share`` = floor / p50. It can be over 1 where the weights fit into a
processor's cache; far below 1, the time goes to arithmetic or, in a small model, to starting operations.
``growing``: the two decoder steps on transformers' `DynamicCache` after so many positions; the ring's
do not depend on how long a session has listened.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from aikit.audio import MelStream
from aikit.config import preset
from aikit.doctor import machine, pick_device
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.assistant import Assistant, load
from aikit.stream.paced import Run, ScriptedSession, run_fifo, run_synchronous, script, summary
from aikit.tokens import Tokenizer

REPLY_S = 3.0  # a scripted reply is what this machine writes in this time: 7 or 8 chunks
MAX_REPLY_TOKENS = 600
LOAD = 0.95  # pauses are so long that a synchronous session would be busy for this share of the time ...
LEAST_SPOKEN = (
    0.1  # ... but it speaks for this share at least, if its steps alone are more than it can do
)
DRAIN = 8  # chunks: what waits after such a reply
POSITIONS = (200, 1_000, 3_000)  # of a growing cache


@dataclass
class Profile:
    """All that was measured. ``numbers`` is what ``--json`` writes; the rest is for figures."""

    numbers: dict
    stages_ms: dict[str, dict[str, list[float]]] = field(
        default_factory=dict
    )  # path -> stage -> ms
    runs: list[Run] = field(default_factory=list)


def random_assistant(name: str, device: str | None = None, dtype: str | None = None) -> Assistant:
    """A preset's shapes with random weights: as slow as a trained one."""
    from aikit.synth.abilities import all_texts

    best, best_dtype = pick_device()
    dtype = dtype or (best_dtype if device in (None, best) else "float32")
    model = AudioInteractionModel.from_preset(preset(name)).to(
        device or best, getattr(torch, dtype)
    )
    return Assistant(model, Tokenizer.train(all_texts()))


def scripted(
    assistant: Assistant, reply_tokens: int, path: str = "auto", kind: type = ScriptedSession
) -> ScriptedSession:
    """A session whose replies have so many tokens, with a window in which one finds room."""
    blocks = math.ceil(reply_tokens / 13) + 2  # a reply must fit into the window
    window = max(assistant.config.window_chunks, blocks + 30)
    config = replace(
        assistant.config, max_reply_tokens=reply_tokens, window_chunks=window, path=path
    )
    return kind(assistant.model, assistant.tokenizer, assistant.model.layout.instruction, config)


# --- the machine ------------------------------------------------------------------------------------
def bandwidth(device: str) -> float:
    """Bytes a second that this device reads or copies at best, from far more memory than a cache."""
    data = torch.ones(2**26 if device == "cpu" else 2**28, device=device)  # 256 MB or 1 GB
    read, copied = (_best(run, device) for run in (data.sum, data.clone))
    return data.numel() * 4 * max(1 / read, 2 / copied)


def peak_flops(device: str, dtype: torch.dtype) -> float:
    """Operations a second of one large matrix product."""
    a = torch.ones(2048, 2048, device=device, dtype=dtype)
    return 2 * 2048**3 / _best(lambda: a @ a, device)


def _best(run: Callable, device: str, n: int = 5) -> float:
    return min(_timed(run, device) for _ in range(n))


def _timed(run: Callable, device: str) -> float:
    finish = getattr(torch, device.split(":")[0]).synchronize  # a GPU lags behind its caller
    finish()
    began = time.perf_counter()
    run()
    finish()
    return time.perf_counter() - began


# --- stages -----------------------------------------------------------------------------------------
def stages(session: ScriptedSession) -> dict[str, Callable]:
    """Each stage as a function to call again and again; fills the session's window first."""
    audio, path, rng = session.audio, session.path, np.random.default_rng(0)
    block = rng.normal(0, 0.1, audio.chunk_samples).astype(np.float32)
    mel_stream, mel = MelStream(audio), torch.zeros(1, audio.n_mels, audio.mel_per_chunk)
    frames, tower = path.encode(mel, None)
    for _ in range(math.ceil(session.config.window_chunks / DRAIN)):
        session.decide([frames] * DRAIN)
    return {
        "mel": lambda: mel_stream.push(block),
        "encode": lambda: path.encode(mel, tower),
        "listen": lambda: session.decide([frames]),
        "drain": lambda: session.decide([frames] * DRAIN),
        "decode": lambda: path.decode({0: 0}),
    }


def stage_ms(steps: dict[str, Callable], device: str, n: int) -> dict[str, list[float]]:
    """Milliseconds of ``n`` calls of each stage, after three to warm up."""
    return {
        name: [1000 * _timed(step, device) for _ in range(n + 3)][3:]
        for name, step in steps.items()
    }


def stage_bytes(session: ScriptedSession) -> dict[str, int]:
    """Bytes that each stage must read once: weights, and keys and values of a full window."""
    model, ring = session.model, session.path.ring
    size, decoder = model.dtype.itemsize, model.decoder.model
    body = sum(weight.numel() for weight in decoder.layers.parameters()) * size + ring.n_bytes
    heard = sum(w.numel() for part in (model.tower, model.adapter) for w in part.parameters())
    head = model.decoder.lm_head.weight.numel() * size
    return {"encode": heard * size, "listen": body, "drain": body, "decode": body + head}


def stage_table(session: ScriptedSession, n: int, bytes_s: float, device: str) -> tuple[dict, dict]:
    """The numbers of every stage, and all its times."""
    steps, must_read, table = stages(session), stage_bytes(session), {}
    ms = stage_ms(steps, device, n)
    for name, step in steps.items():
        table[name] = summary(ms[name])
        if name in must_read:
            with FlopCounterMode(display=False) as counter:
                step()
            floor_ms = 1000 * must_read[name] / bytes_s
            table[name] |= {"bytes": must_read[name], "flops": counter.get_total_flops()}
            table[name] |= {"floor_ms": floor_ms, "share": floor_ms / table[name]["p50"]}
    return table, ms


@torch.inference_mode()
def growing_ms(model: AudioInteractionModel, positions: int, n: int = 7) -> dict[str, float]:
    """Median times of a listening and a decode step on a cache that holds everything."""
    shape, cache, device = model.shape.decoder, DynamicCache(), model.device
    past = torch.zeros(1, shape.kv_heads, positions, shape.width // shape.heads, device=device)
    for layer in range(shape.layers):
        cache.update(past.to(model.dtype), past.to(model.dtype), layer)
    controls = torch.tensor(model.layout.controls, device=device)

    def step(n_positions: int, ids: torch.Tensor | None) -> float:
        began = time.perf_counter()
        embeddings = model.embed(torch.zeros(1, n_positions, dtype=torch.long, device=device))
        model.logits(model.decode(embeddings, cache)[0, -1], ids).argmax().item()
        took = time.perf_counter() - began
        cache.crop(-n_positions)
        return 1000 * took

    kinds = {"listen": (13, controls), "decode": (1, None)}
    return {
        name: float(np.median([step(*kind) for _ in range(n)][2:])) for name, kind in kinds.items()
    }


# --- everything -------------------------------------------------------------------------------------
def profile(assistant: Assistant, seconds: float = 60.0, n: int = 50) -> Profile:
    """Measure all stages, then ``seconds`` of paced audio twice: synchronously and around the queue.

    Raises
    ------
    ValueError
        If ``seconds`` are too few for one reply.
    """
    if not seconds >= 10:
        raise ValueError(
            f"{seconds:g} s are too few for a reply and what follows; give at least 10"
        )
    model, device = assistant.model, assistant.model.device.type
    done = Profile({"setting": _setting(model, device)} | _roofs(model, device))
    done.numbers["stages"], numbers = {}, done.numbers
    for path in ("eager", "graph") if device == "cuda" else ("eager",):
        session = scripted(assistant, 8, path)
        table, ms = stage_table(session, n, numbers["bytes_s"], device)
        numbers["stages"][path], done.stages_ms[path] = table, ms
    numbers["growing"] = {str(k): growing_ms(model, k) for k in POSITIONS}
    p50_s = {stage: row["p50"] / 1000 for stage, row in table.items()}
    step_s = p50_s["encode"] + p50_s["listen"]
    numbers["live"], done.runs = live(assistant, seconds, step_s, p50_s["decode"])
    return done


def live(
    assistant: Assistant, seconds: float, step_s: float, token_s: float
) -> tuple[dict, list[Run]]:
    """The same audio and the same script in both ways.

    Parameters
    ----------
    step_s, token_s : what a chunk (encode and listen) and a token take on this machine; they set the load
    """
    chunk_s, runs = assistant.model.shape.audio.chunk_s, []
    tokens, n_chunks = int(np.clip(REPLY_S / token_s, 8, MAX_REPLY_TOKENS)), int(seconds / chunk_s)
    reply_s = tokens * token_s
    spoken = max(LOAD - step_s / chunk_s, LEAST_SPOKEN)
    pause_s = max(reply_s / spoken - reply_s - chunk_s, 0.0)
    for way in (run_synchronous, run_fifo):
        session = scripted(assistant, tokens)
        session.warm_up()
        session.due = script(n_chunks, reply_s, pause_s)
        runs.append(way(session, n_chunks))
    about = {"reply_tokens": tokens, "reply_s": reply_s, "pause_s": pause_s}
    return {"script": about} | {run.name: run.numbers() for run in runs}, runs


def run(
    model: Path | None = None,
    shapes: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    seconds: float = 60.0,
    threads: int | None = None,
    json_path: Path | None = None,
    figures: Path | None = None,
) -> Profile:
    """`aikit profile`: measure, print, and write what is wanted."""
    if threads is not None:
        if threads < 1:
            raise ValueError(f"{threads} threads; give at least 1")
        torch.set_num_threads(threads)
    assistant = random_assistant(shapes, device, dtype) if shapes else load(model, device, dtype)
    done = profile(assistant, seconds)
    print(*describe(done.numbers), sep="\n")
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(done.numbers, indent=2) + "\n")
    if figures:
        draw(done, figures)
    return done


def draw(done: Profile, folder: Path) -> None:
    """The three figures, as PNG files."""
    from aikit import viz

    folder.mkdir(parents=True, exist_ok=True)
    waits = {f"{one.name}: decision": one.decision_ms() for one in done.runs}
    waits |= {f"{one.name}: first token": one.first_chunk_ms() for one in done.runs}
    viz.gantt(done.runs).savefig(folder / "gantt.png")
    viz.latency(waits).savefig(folder / "latency.png")
    viz.roofline(done.numbers).savefig(folder / "roofline.png")


def _setting(model: AudioInteractionModel, device: str) -> dict:
    where = torch.cuda.get_device_name() if device == "cuda" else machine()
    return {
        "model": model.shape.name, "parameters": model.n_parameters(), "device": device,
        "machine": where, "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip


def _roofs(model: AudioInteractionModel, device: str) -> dict:
    return {"bytes_s": bandwidth(device), "flops_s": peak_flops(device, model.dtype)}


def describe(numbers: dict) -> Iterator[str]:
    """The numbers as lines of text."""
    about = numbers["setting"]
    yield f"{about['model']}: {about['parameters'] / 1e6:.1f} M parameters, {about['dtype']}"
    yield f"{about['machine']}, {about['threads']} threads; torch {about['torch']}"
    yield f"reads {numbers['bytes_s'] / 1e9:.1f} GB/s, computes {numbers['flops_s'] / 1e9:.0f} GFLOP/s"
    for path, table in numbers["stages"].items():
        yield f"\n{path + ' stage':14} {'p50 ms':>8} {'p95':>8} {'p99':>8} {'floor ms':>9} {'share':>6}"
        for stage, row in table.items():
            line = f"{stage:14} {row['p50']:8.2f} {row['p95']:8.2f} {row['p99']:8.2f}"
            yield line + (f" {row['floor_ms']:9.2f} {row['share']:6.0%}" if "share" in row else "")
    yield "\ngrowing cache  listen ms  decode ms"
    for positions, row in numbers["growing"].items():
        yield f"{positions:>13} {row['listen']:10.2f} {row['decode']:10.2f}"
    yield from _describe_live(numbers["live"])


def _describe_live(live: dict) -> Iterator[str]:
    about, ways = live["script"], [live[name] for name in live if name != "script"]
    yield f"\nreplies of {about['reply_tokens']} tokens: {about['reply_s']:.1f} s"
    yield f"pauses between them: {about['pause_s']:.1f} s on average"
    yield f"{'':30}" + "".join(f"{name:>14}" for name in live if name != "script")
    for name in ("chunks", "replies", "stalls", "late", "dropped_s", "realtime_factor"):
        form = "14.1%" if name in ("stalls", "late") else "14.4g"
        yield f"{name:30}" + "".join(format(way[name], form) for way in ways)
    for name in ("first_chunk_ms", "resume_ms", "on_time_ms", "decision_ms"):
        for part in ("mean", "p50", "p95", "p99"):
            shown = (f"{way[name][part]:14.0f}" if way[name] else f"{'–':>14}" for way in ways)
            yield f"{name + ' ' + part:30}" + "".join(shown)
