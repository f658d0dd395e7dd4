"""What a quarter of an hour on two cores teaches from nothing: `python docs/quarter.py` writes docs/results/quarter.json.

The run is that of notebook 02 with FAST = False: the preset `mini` with a third layer in its decoder, eleven sounds
(here in all their variants), streams of 18 s, one core that computes and one that makes streams. It is judged as the
models of `aikit train --ablate` are, on streams of 24 s; the hazards are also told apart by whether anybody has
spoken or written in their stream.
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
N_CHUNKS = 45  # 18 s, as much as a pair needs
LAYERS = 3  # of the decoder: what was said of a sound is noted after the second, which the third can read
LESSON = {  # stage -> what differs from the recipe, as notebook 02 has it
    "hear": {"steps": 585, "mix": (("dictation", 0.3), ("proactive", 0.4), ("rules", 0.3))},
    "streaming": {"steps": 1170, "mix": (("proactive", 0.6), ("rules", 0.32), ("silence", 0.08)), "hear_weight": 1.0,
                  "masked": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--streams", type=int, default=120, help="to judge on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "quarter.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stages = tuple(replace(stage, learning_rate=RATE, **LESSON[stage.name]) for stage in STAGES if stage.name in LESSON)
    stages = tuple(replace(stage, steps=round(arguments.scale * stage.steps)) for stage in stages)
    mini = preset("mini")
    shape = replace(mini, decoder=replace(mini.decoder, layers=LAYERS))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(Path(folder), shape, stages, seed=arguments.seed, n_chunks=N_CHUNKS, precision="fp32")
        assistant = aikit.load(train(config, sources=sources_made("carefully")), "cpu")
    minutes = (time.perf_counter() - began) / 60
    rows, threshold, _ = judged(assistant, GROUPS["proactive"], arguments.streams)
    hazards = [row for row in rows if row.label != "speech"]  # not the instructions about them
    result = {
        "machine": next(check.value for check in report() if check.name == "machine"),
        "minutes": round(minutes, 1), "scale": arguments.scale,
        "streams_trained": sum(stage.steps * stage.batch for stage in stages),
        "threshold": threshold, **summary(rows), "hazards": summary(hazards),
        "hazards_untold": summary([row for row in hazards if not row.told]),
        "hazards_told": summary([row for row in hazards if row.told]),
    }  # fmt: skip
    write_json(arguments.out, result)
    print(json.dumps({k: v for k, v in result.items() if not isinstance(v, dict)}))
    for part in ("hazards", "hazards_untold", "hazards_told"):
        scores = result[part]
        print(f"{part}: right {scores['reply_right']}, false alarms {scores['false_alarm_rate']}")


if __name__ == "__main__":
    main()
