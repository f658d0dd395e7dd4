"""The first picture of notebook 04, from published numbers alone: python docs/figures_04.py"""

from __future__ import annotations

from pathlib import Path

from aikit.bench.baselines import PAPER
from aikit.charts import BLUE, RED, rows_of_axes, styled

PATH = Path(__file__).parent / "figures" / "04_proactive_bench.png"
MODELS = {
    "paper's model": 0.612, "MiniCPM-o-4.5": 0.589, "Qwen2.5-Omni-7B": 0.582, "Qwen2.5-Omni-3B": 0.410,
    "Kimi-Audio": 0.399, "Gemini-3-Flash": 0.370, "Step-Audio 2": 0.089,
}  # fmt: skip
SILENT = {  # share of Proactive-Sound-Bench's clips that want silence
    "Human Sound Signals": 83 / 156, "Daily Living Sounds": 136 / 181, "Equipment": 74 / 140,
    "Traffic": 27 / 49, "Nature & Environment": 49 / 103, "Music": 8 / 15,
}  # fmt: skip


@styled
def figure_04():
    """Above: published accuracies beside a model that never speaks. Below: the same by domain."""
    figure, (top, bottom) = rows_of_axes([2.1, 2.1], "Proactive-Sound-Bench, accuracy", sharex=True)
    for ax, names in ((top, MODELS), (bottom, PAPER["single"])):
        ax.barh(range(len(names)), names.values(), 0.6, color=BLUE)
        ax.set_yticks(range(len(names)), list(names))
        ax.invert_yaxis()
    top.axvline(377 / 644, color=RED, linestyle="--")
    top.text(377 / 644 + 0.01, len(MODELS) - 1, "a model that is switched off: 58.5 %", color=RED, va="center")
    bottom.plot(list(SILENT.values()), range(len(SILENT)), "D", color=RED, label="switched off")
    bottom.barh([0], [0], color=BLUE, label="paper's model")
    bottom.legend(loc="lower right")
    bottom.set(xlim=(0, 1), xlabel="share of clips right")
    return figure


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    figure_04().savefig(PATH, dpi=150, metadata={"Software": None})
