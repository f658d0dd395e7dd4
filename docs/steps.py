"""What one step costs on one core: `python docs/steps.py` writes docs/results/steps.json.

Three tables: the shipped model, chunk by chunk; a mid-size model (the shapes on which the published code
was timed) with 200, 1,000 and 3,000 positions in its window; and pools of the shipped model. All times are
CPU time of one thread, medians in milliseconds: a busy machine slows them less than the clock's.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache

import aikit
from aikit.bench.report import write_json
from aikit.config import PRESETS, AudioConfig, DecoderConfig, ModelConfig
from aikit.doctor import report
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.pool import SessionPool
from aikit.stream.session import Session, SessionConfig

ROOT = Path(__file__).resolve().parent.parent
CHUNK, CHUNK_MS = 6_400, 400
DEAF = 1.1  # a threshold that nothing reaches: every chunk is a listening step
MID = ModelConfig(
    "mid",
    "published",
    AudioConfig(n_mels=128),
    replace(PRESETS["qwen2.5-omni-3b"].tower, width=256, layers=4, heads=4, mlp=1024),
    DecoderConfig(256, 6, 8, 2, 1024, 151_936, False, 32_768, 1e6),
)


def median_ms(function, n: int = 50) -> float:
    """CPU time of a call."""
    times = []
    for _ in range(n + 3):  # three to warm up
        began = time.process_time()
        function()
        times.append(1000 * (time.process_time() - began))
    return round(float(np.median(times[3:])), 2)


def shipped(ai) -> dict:
    """Perceive + decide of a session whose window is full."""
    session, noise = ai.session(threshold=DEAF), np.random.default_rng(0)
    blocks = iter(noise.normal(scale=0.1, size=(400, CHUNK)).astype(np.float32))
    for _ in range(80):
        session.push(next(blocks))
    ms = median_ms(lambda: session.push(next(blocks)), 200)
    return {"perceive_and_decide_ms": ms, "real_time_factor": round(ms / CHUNK_MS, 4)}


def mid(tokenizer, positions: int) -> dict:
    """Encode, listen and decode with this many positions in the window.

    Beside them, for the same load of the machine: the same steps as the published code takes them, over a
    growing cache and with all logits at every new position.
    """
    model = AudioInteractionModel.from_preset(MID)
    # one window a row of the table; sessions of a real size keep 60 chunks, 780 positions
    config = SessionConfig(DEAF, window_chunks=-(-positions // 13), sinks=0)
    session, mel = Session(model, tokenizer, config=config), torch.randn(1, 128, 40)
    frames, _ = session.path.encode(mel, None)
    row = session.state.ring.rows[0]
    while row.position < positions + 100:
        session.decide([frames])
    growing, head, block = (
        DynamicCache(),
        model.decoder.lm_head.weight.contiguous(),
        frames.repeat(1, 2, 1),
    )

    @torch.inference_mode()
    def naive(n: int):
        torch.nn.functional.linear(model.decode(block[:, :n], growing), head)
        growing.crop(-n)

    with torch.inference_mode():
        model.decode(torch.randn(1, positions, MID.decoder.width), growing)
    return {
        "positions": row.position - row.floor + row.pinned,
        "encode_ms": median_ms(lambda: session.path.encode(mel, None)),
        "listen_ms": median_ms(lambda: session.decide([frames])),
        "decode_ms": median_ms(lambda: session.path.decode({0: 100})),
        "growing_listen_ms": median_ms(lambda: naive(13)),
        "growing_decode_ms": median_ms(lambda: naive(1)),
    }


def pool(ai, size: int) -> dict:
    """All rows hear a chunk at once, as in a workshop in real time."""
    rows = SessionPool(ai.model, ai.tokenizer, size, replace(ai.config, threshold=DEAF))
    sound = np.random.default_rng(0).normal(scale=0.1, size=(size, CHUNK)).astype(np.float32)
    for _ in range(size):
        rows.open()

    def tick():
        for row in range(size):
            rows.hear(row, sound[row])
        rows.run()

    for _ in range(70):
        tick()
    ms = median_ms(tick, 20)
    return {"rows": size, "ms": ms, "streams_at_real_time": int(size * CHUNK_MS / ms)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "steps.json")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    ai = aikit.load(device="cpu")
    result = {
        "machine": next(check.value for check in report() if check.name == "machine"),
        "torch": torch.__version__,
        "tiny": shipped(ai),
        "mid": [mid(ai.tokenizer, positions) for positions in (200, 1_000, 3_000)],
        "pool": [pool(ai, size) for size in (1, 4, 16, 32)],
    }
    write_json(out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
