"""What a quarter of an hour on two cores teaches from nothing: `python docs/quarter.py` writes docs/results/quarter.json.

The run is that of notebook 02 with FAST = False: the preset `mini`, eleven sounds, streams of 8 s, one core that
computes and one that makes streams. It is judged as an assistant that runs freely, on held-out sounds; its threshold
is chosen on other held-out streams.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import aikit
from aikit.bench.ablate import NEVER, RATE, SOUNDS
from aikit.bench.stats import threshold_curve
from aikit.bench.streams import best_threshold, collect_p_respond, heard, summary
from aikit.config import preset
from aikit.doctor import report
from aikit.synth.abilities import GROUPS, Sources
from aikit.train.loop import TrainConfig, train
from aikit.train.recipe import STAGES

ROOT = Path(__file__).resolve().parent.parent
STEPS = {"hear": 400, "streaming": 2_000}  # as notebook 02 has them
MIX = (("proactive", 0.8), ("silence", 0.2))


def few_sounds(held_out: bool) -> Sources:
    """The eleven sounds."""
    sources = Sources.embedded(held_out)
    return replace(sources, sounds=sources.sounds.only(lambda entry: entry.label in SOUNDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--streams", type=int, default=120, help="to judge on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "quarter.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stages = tuple(
        replace(stage, steps=round(arguments.scale * STEPS[stage.name]), mix=MIX, learning_rate=RATE)
        for stage in STAGES if stage.name in STEPS
    )  # fmt: skip
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            Path(folder), preset("mini"), stages, seed=arguments.seed, n_chunks=20, precision="fp32"
        )
        assistant = aikit.load(train(config, sources=few_sounds(False)), "cpu")
    minutes = (time.perf_counter() - began) / 60
    sources, tasks = few_sounds(True), GROUPS["proactive"]
    other, _, _ = heard(assistant, sources, tasks, arguments.streams, 1, NEVER)
    threshold = best_threshold(threshold_curve(*collect_p_respond(other)))["threshold"]
    rows, _, _ = heard(assistant, sources, tasks, arguments.streams, 0, threshold)
    result = {
        "machine": next(check.value for check in report() if check.name == "machine"),
        "minutes": round(minutes, 1), "streams_trained": sum(stage.steps * stage.batch for stage in stages),
        "threshold": threshold, **summary(rows),
    }  # fmt: skip
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({k: v for k, v in result.items() if not isinstance(v, dict)}), result["reply_right"])


if __name__ == "__main__":
    main()
