"""What a quarter of an hour on two cores teaches from nothing: `python docs/quarter.py` writes docs/results/quarter.json.

The run is that of notebook 02 with FAST = False: the preset `mini`, eleven sounds (here in all their variants), streams
of 8 s, one core that computes and one that makes streams. It is judged as the models of `aikit train --ablate` are.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import aikit
from aikit.bench.ablate import RATE, judged, sources_made
from aikit.bench.report import write_json
from aikit.bench.streams import summary
from aikit.config import preset
from aikit.doctor import report
from aikit.synth.abilities import GROUPS
from aikit.train.loop import TrainConfig, train
from aikit.train.recipe import STAGES

ROOT = Path(__file__).resolve().parent.parent
STEPS = {"hear": 400, "streaming": 2_000}  # as notebook 02 has them
MIX = (("proactive", 0.8), ("silence", 0.2))


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
        assistant = aikit.load(train(config, sources=sources_made("carefully")), "cpu")
    minutes = (time.perf_counter() - began) / 60
    rows, threshold, _ = judged(assistant, GROUPS["proactive"], arguments.streams)
    result = {
        "machine": next(check.value for check in report() if check.name == "machine"),
        "minutes": round(minutes, 1), "scale": arguments.scale,
        "streams_trained": sum(stage.steps * stage.batch for stage in stages),
        "threshold": threshold, **summary(rows),
        "hazards": summary([row for row in rows if row.label != "speech"]),  # not the instructions about them
    }  # fmt: skip
    write_json(arguments.out, result)
    print(json.dumps({k: v for k, v in result.items() if not isinstance(v, dict)}))
    print("replies right:", result["reply_right"], "; to hazards:", result["hazards"]["reply_right"])


if __name__ == "__main__":
    main()
