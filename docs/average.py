"""Average the weights of two models of one run: `python docs/average.py EARLIER LATER --share 0.5 --out FOLDER`.

The shipped weights are one half those shipped before and one half those trained on from them: fewer decisions are wrong
than with the later ones alone (the model card has the curve), as what was forgotten on the way comes back.
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("earlier", type=Path, help="model folder")
    parser.add_argument("later", type=Path, help="model folder of the same shape")
    parser.add_argument("--share", type=float, default=0.5, help="of the earlier one")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    before, after = (load_file(folder / "model.safetensors") for folder in (arguments.earlier, arguments.later))
    if {k: w.shape for k, w in before.items()} != {k: w.shape for k, w in after.items()}:
        parser.error(f"{arguments.earlier} and {arguments.later} are not of the same shape")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(arguments.later / name, arguments.out / name)
    mixed = {
        key: before[key].float().lerp(weight.float(), 1 - arguments.share).to(weight.dtype)
        if weight.is_floating_point() else weight
        for key, weight in after.items()
    }  # fmt: skip
    save_file(mixed, arguments.out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
