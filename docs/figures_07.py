"""The picture of notebook 07: what the published model needs of a GPU, for each thing done with it.

python docs/figures_07.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

from aikit import viz
from aikit.config import preset
from aikit.model.memory import GPUS, USES, needed_gib

OUT = Path(__file__).parent / "figures" / "07_scale_up.png"


def memory():
    """One bar a use, one line a GPU."""
    plt.rcParams.update(viz.STYLE)
    shape = preset("qwen2.5-omni-3b")
    needed = {name: needed_gib(shape, use) for name, use in USES.items()}
    figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
    ax.barh(list(needed), list(needed.values()), color=viz.BLUE)
    for name, (size, _) in GPUS.items():
        ax.axvline(size, color=viz.ORANGE, lw=1)
        ax.text(size, -0.8, name, ha="center", color=viz.ORANGE)
    ax.set(xscale="log", xlim=(2, 200), xlabel="GiB, estimated")
    ax.invert_yaxis()
    return figure


if __name__ == "__main__":
    memory().savefig(OUT, dpi=150)
