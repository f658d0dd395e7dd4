"""How much more training would bring: `python docs/curve.py 4800=FOLDER 8800=FOLDER ...` writes docs/results/curve.json.

Each folder is a run's `checkpoint/`, or a model folder, of the preset `tiny`; the number before it says how many
streams it was trained on, with a word behind it if there is more to say ("70000 averaged=FOLDER"). All are judged on
the same held-out streams, which are not those of `aikit eval`.
"""

import argparse
import json
from pathlib import Path

import torch

import aikit
from aikit.bench import pairs
from aikit.bench.report import write_json
from aikit.bench.streams import evaluate, heard
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.assistant import Assistant
from aikit.synth.abilities import Sources, sub_tasks
from aikit.synth.pairs import FAMILIES
from aikit.tokens import Tokenizer
from aikit.train.loop import Trainee

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "data_samples" / "checkpoint"


def load(folder: Path) -> Assistant:
    """An assistant from a model folder or from the checkpoint of a run."""
    if not (folder / "state.pt").exists():
        return aikit.load(folder, "cpu")
    trainee = Trainee(AudioInteractionModel.from_preset(preset("tiny")))
    trainee.load_state_dict(torch.load(folder / "state.pt", "cpu", weights_only=True)["trainee"])
    return Assistant(trainee.model, Tokenizer.load(SHIPPED / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", metavar="STREAMS=FOLDER")
    parser.add_argument("--streams", type=int, default=56, help="to judge on")
    parser.add_argument("--pairs", type=int, default=10, help="of each family, to judge on")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "curve.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sources, points = Sources.embedded(held_out=True), []
    for trained, folder in (item.split("=", 1) for item in arguments.checkpoints):
        assistant = load(Path(folder))
        scores = evaluate(*heard(assistant, sources, list(sub_tasks()), arguments.streams, 7, 0.5))
        judged = {f: pairs.run(assistant, sources, arguments.pairs, 7, 0.5, f) for f in FAMILIES}
        streams, _, note = trained.partition(" ")
        points.append({
            "streams": int(streams), **({"note": note} if note else {}),
            "n": scores["n"], "balanced_accuracy": scores["balanced_accuracy"],
            "hit_rate": scores["hit_rate"], "false_alarm_rate": scores["false_alarm_rate"],
            "reply_right": scores["reply_right"]["share"], "digit_error_rate": scores["digit_errors"]["wer"],
            "word_error_rate": scores["word_errors"]["wer"], "best_threshold": scores["best_threshold"],
            "pairs": {family: {"n": s["n"], "both_right": s["both_right"]["share"]} for family, s in judged.items()},
        })  # fmt: skip
        print(json.dumps(points[-1]), flush=True)
    points.sort(key=lambda point: point["streams"])
    write_json(arguments.out, points)


if __name__ == "__main__":
    main()
