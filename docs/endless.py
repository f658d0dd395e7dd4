"""Let one session hear hours of audio as fast as the machine can: `python docs/endless.py --hours 24`.

Every minute is the same: half a minute of faint noise, then the kitchen scene. So every minute must cost the
same, take no more memory, and end in the same replies. Writes docs/results/endless.json: for each hour,
milliseconds a chunk (CPU time of this process, one thread), resident memory, and in how many minutes the
replies were those of the second minute (in the first, the session has not yet filled its window).
"""

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import torch

import aikit
from aikit.audio import load_audio
from aikit.bench.report import write_json
from aikit.doctor import report

ROOT = Path(__file__).resolve().parent.parent
CHUNK, CHUNKS_A_MINUTE = 6_400, 150


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def minute() -> np.ndarray:
    """60 s: noise, then the scene, then noise again."""
    sound = 0.002 * np.random.default_rng(0).normal(size=CHUNK * CHUNKS_A_MINUTE)
    scene = load_audio(ROOT / "data_samples" / "scenes" / "kitchen.flac")[: 29 * 16_000]
    sound[30 * 16_000 : 30 * 16_000 + len(scene)] += scene
    return sound.astype(np.float32)


def hear(session, sound: np.ndarray) -> list[tuple[int, str]]:
    """One minute, chunk by chunk; its replies as (chunk of the minute, text)."""
    replies = []
    for chunk in range(CHUNKS_A_MINUTE):
        events = session.push(sound[chunk * CHUNK : (chunk + 1) * CHUNK])
        replies += [(chunk, event.text) for event in events if event.kind == "end"]
    return replies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--model", help="a model folder; default: the shipped one")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "endless.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    session, sound, hours = aikit.load(arguments.model, "cpu").session(), minute(), []
    hear(session, sound)
    first_mb, expected = resident_mb(), hear(session, sound)
    minutes = round(arguments.hours * 60) - 2
    began, same, ms = time.process_time(), 0, []
    for done in range(1, minutes + 1):
        same += hear(session, sound) == expected
        ms.append((time.process_time() - began) * 1000 / CHUNKS_A_MINUTE)
        began = time.process_time()
        if done % 60 == 0 or done == minutes:
            row = {"minutes": len(ms), "same_replies": same, "resident_mb": round(resident_mb(), 2),
                   "ms_per_chunk": round(float(np.median(ms)), 3),
                   "remembers_s": session.remembers_s}  # fmt: skip
            hours, same, ms = [*hours, row], 0, []
            print(f"{session.time_s / 3600:5.2f} h", row, flush=True)
    machine = next(check.value for check in report() if check.name == "machine")
    result = {
        "machine": machine, "torch": torch.__version__, "python": platform.python_version(),
        "chunks": session.state.chunk, "replies_a_minute": expected, "resident_mb_after_1_min": round(first_mb, 2),
        "last_over_first_hour": round(hours[-1]["ms_per_chunk"] / hours[0]["ms_per_chunk"], 3),
        "hours": hours,
    }  # fmt: skip
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
