"""The look of every figure, and the pictures without a time axis: tokens, losses, scores.

Knows matplotlib and seaborn. Does not know sounds and streams (`viz.py`, which hands on everything
here: notebooks write ``viz.losses``). Used in notebooks 01 to 06.

Colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import wraps
from pathlib import Path

import numpy as np

BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
RED, PINK, INK, GREY = "#D55E00", "#CC79A7", "#22303C", "#8A949E"
PALE, PALE_BLUE, SAND = "#E9EDF1", "#CFE3F3", "#F3DDB3"
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
LOSS = {"lm": ("reply", BLUE), "stream": ("decision", RED), "hear": ("hearing", GREEN)}
WIDTH = 10.5  # inches
COLUMNS = 20  # tokens in a row of `tokens`
STYLE = {
    "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 9.0,
    "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 3, "ytick.major.size": 3, "legend.frameon": False, "grid.color": PALE,
}  # fmt: skip


def styled(draw):
    """Draw in the kit's style, and leave the figure out of pyplot's list: it is shown only once."""

    @wraps(draw)
    def drawn(*args, **kwargs):
        import matplotlib.pyplot as plt

        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            plt.close(figure)
        return figure

    return drawn


def rows_of_axes(heights: Sequence[float], title: str = "", width: float = WIDTH, **kwargs):
    """A figure with one axes a row, their heights in inches; returns it and the list of axes."""
    import matplotlib.pyplot as plt

    kwargs |= {"height_ratios": heights, "figsize": (width, sum(heights) + 0.45)}
    figure, axes = plt.subplots(len(heights), 1, squeeze=False, **kwargs)
    if title:
        figure.suptitle(title, x=0.005, ha="left", weight="bold", fontsize=11)
    return figure, list(axes[:, 0])


def bare_lane(ax, label: str = "") -> None:
    """No frame, no numbers: a lane with its name at the left."""
    ax.spines[:].set_visible(False)
    ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    ax.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
    ax.yaxis.set_label_coords(-0.008, 0.5)


# --- tokens ---------------------------------------------------------------------------------------
def _token_rows(ids: Sequence[int], first: int, first_of_block: int) -> list[list[int]]:
    """Positions by row: a new one at every listening block, and where a row is full."""
    rows: list[list[int]] = [[]]
    for position, id_ in enumerate(ids, first):
        if rows[-1] and (id_ == first_of_block or len(rows[-1]) == COLUMNS):
            rows.append([])
        rows[-1].append(position)
    return rows


def _written(id_: int, tokenizer) -> str:
    """How a token is written in a cell: its text, or its name if it has none."""
    text = tokenizer.decode([id_]) or tokenizer.token(id_).strip("<>")
    text = text.replace(" ", "␣").replace("\ufffd", "▯")
    return text if len(text) < 10 else text[:8] + "…"


def _cell(ax, column: int, row: int, text: str, colour: str, marks: tuple[bool, bool]) -> None:
    """One token: a box with its text, and below it a bar for each of the two label rows."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    at, style = (column + 0.05, row + 0.05), "round,pad=0,rounding_size=0.1"
    ax.add_patch(FancyBboxPatch(at, 0.9, 0.52, style, fc=colour, ec="none"))
    ax.text(
        column + 0.5, row + 0.32, text, ha="center", va="center",
        fontsize=5.8 if len(text) > 5 else 7, color="white" if colour in (RED, GREEN) else INK,
    )  # fmt: skip
    for line, (mark, target) in enumerate(zip(marks, (RED, GREEN), strict=True)):
        at = (column + 0.05, row + 0.62 + 0.13 * line)
        ax.add_patch(Rectangle(at, 0.9, 0.1, facecolor=target if mark else PALE))


@styled
def tokens(sequence, tokenizer, layout, first: int = 0, count: int = 80):
    """A `TokenSequence` as cells, one row a chunk; the bars under a cell are its two labels.

    Upper bar: the stream loss, red where it has a target. Lower bar: the LM loss, green.

    Parameters
    ----------
    first, count : the positions to show
    """
    ids = [int(id_) for id_ in sequence.input_ids]
    rows = _token_rows(ids[first : first + count], first, layout.audio_begin)
    columns = max(map(len, rows))
    figure, (ax,) = rows_of_axes([0.42 * len(rows) + 0.3], width=max(6.5, 0.52 * columns + 0.9))
    for row, positions in enumerate(rows):
        begun = [i for i in range(positions[0] + 1) if ids[i] == layout.audio_begin]
        name = "prefix" if positions[0] == 0 else ""
        if begun and begun[-1] == positions[0]:
            name = f"chunk {len(begun) - 1}"
        ax.text(-0.1, row + 0.32, name, ha="right", va="center", color=GREY, fontsize=8)
        for column, at in enumerate(positions):
            marks = (sequence.labels_stream[at] >= 0, sequence.labels_lm[at] >= 0)
            framed = ids[at] in (layout.frame, layout.offline_frame) and not any(marks)
            colour = RED if marks[0] else GREEN if marks[1] else PALE_BLUE if framed else SAND
            text = f"f{at - begun[-1] - 1}" if framed else _written(ids[at], tokenizer)
            _cell(ax, column, row, text, colour, marks)
    ax.set(xlim=(-1, columns), ylim=(len(rows), 0))
    bare_lane(ax)
    _token_key(figure)
    return figure


def _token_key(figure) -> None:
    from matplotlib.patches import Patch

    names = {
        SAND: "written for the model (masked)", PALE_BLUE: "audio frame (masked)",
        RED: "decision: target of the stream loss", GREEN: "reply: target of the LM loss",
    }  # fmt: skip
    handles = [Patch(color=key, label=name) for key, name in names.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, fontsize=8)


# --- speech ---------------------------------------------------------------------------------------
@styled
def alignment(distance: np.ndarray, path: np.ndarray, words: Sequence[tuple], title: str = ""):
    """Two renderings of a text laid side by side: dark where they sound alike, and the best path.

    Parameters
    ----------
    distance : ``[T, R]``, every 10 ms frame of what is checked against every frame of the reference
    path : int ``[n, 2]``, pairs of frames
    words : ``(word, start_s, end_s, heard)`` of the reference; a word that was not heard is red
    """
    import seaborn as sns

    figure, (ax,) = rows_of_axes([2.6], title, width=8.0)
    colours = sns.color_palette("mako", as_cmap=True)
    ax.imshow(distance, cmap=colours, origin="lower", aspect="auto", vmin=0, vmax=1.8)
    ax.plot(path[:, 1], path[:, 0], color=ORANGE, linewidth=1)
    for word, start_s, end_s, heard in words:
        ax.axvline(100 * end_s, color="white", linewidth=0.5, alpha=0.6)
        ax.text(50 * (start_s + end_s), len(distance) * 1.02, word, color=INK if heard else RED,
                ha="center", va="bottom", fontsize=8, weight="normal" if heard else "bold")  # fmt: skip
    ax.set(xlabel="spoken again, frames of 10 ms", ylabel="to be checked", xlim=(0, distance.shape[1]))
    return figure


# --- training and scores --------------------------------------------------------------------------
@styled
def losses(metrics_jsonl: str | Path | Sequence[dict]):
    """The losses of a training run, one panel a stage, from its ``metrics.jsonl`` (or its rows).

    A faint line is what was logged, a strong one its running mean. A step logged twice, by a
    run that was taken up again, counts once, the last time.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    if isinstance(metrics_jsonl, (str, Path)):
        metrics_jsonl = [json.loads(line) for line in Path(metrics_jsonl).read_text().splitlines()]
    if not metrics_jsonl:
        raise ValueError("no logged steps yet; train for at least `log_every` steps first")
    names = list(dict.fromkeys(row["stage"] for row in metrics_jsonl))
    table = pd.DataFrame(metrics_jsonl).drop_duplicates(["stage", "step"], keep="last")
    width = max(4.5, min(WIDTH, 2.7 * len(names)))
    figure, axes = plt.subplots(1, len(names), figsize=(width, 2.7), squeeze=False)
    for ax, stage in zip(axes[0], names, strict=True):
        rows = table[table["stage"] == stage].sort_values("step").dropna(axis=1, how="all")
        for part, (name, colour) in LOSS.items():
            if part in rows:
                ax.plot(rows["step"], rows[part], color=colour, alpha=0.3, linewidth=0.8)
                smooth = rows[part].rolling(5, min_periods=1, center=True).mean()
                ax.plot(rows["step"], smooth, color=colour, label=name)
        ax.set(title=stage, xlabel="step", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(axis="y", which="both")
        ax.legend(fontsize=7.5)
    axes[0, 0].set_ylabel("loss")
    return figure


@styled
def latency(milliseconds: dict[str, Sequence[float]], budget_ms: float = 400.0):
    """Latencies of several ways to do a thing, each measurement a dot, against the time allowed."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure, (ax,) = rows_of_axes([0.5 * len(milliseconds) + 0.5], width=8.0)
    rng = np.random.default_rng(0)  # spreads dots in height only
    for row, (name, values) in enumerate(milliseconds.items()):
        values = np.asarray(values, float)
        height = row + rng.uniform(-0.2, 0.2, len(values))
        ax.scatter(values, height, s=9, color=CYCLE[row % len(CYCLE)], alpha=0.35, linewidths=0)
        middle, late = np.percentile(values, (50, 95))
        ax.plot([middle] * 2, [row - 0.33, row + 0.33], color=INK, linewidth=2)
        shown = [f"{x:,.0f}" if x >= 100 else f"{x:.3g}" for x in (middle, late)]
        text = ", 95 % under ".join(shown)
        ax.text(middle, row - 0.36, text, ha="center", va="bottom", fontsize=8)
    ax.axvline(budget_ms, color=RED, linestyle="--")
    ax.text(budget_ms, -0.8, f"budget {budget_ms:g} ms ", color=RED, ha="right", fontsize=8)
    ax.set(xscale="log", xlabel="milliseconds (median marked)")
    ax.set_ylim(len(milliseconds) - 0.5, -0.95)
    ax.set_yticks(range(len(milliseconds)), list(milliseconds))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="x", which="major")
    return figure


@styled
def domain_bars(scores: dict[str, dict]):
    """Scores by domain as bars, their intervals as lines.

    Parameters
    ----------
    scores : ``{domain: {score: share, or (share, low, high)}}``; counts and names are left out
    """
    bars = [
        (row, kind, *interval)
        for row, entry in enumerate(scores.values())
        for kind, value in entry.items()
        if (interval := _as_interval(value))
    ]
    kinds = list(dict.fromkeys(kind for _, kind, *_ in bars))
    figure, (ax,) = rows_of_axes([0.24 * len(scores) * max(2, len(kinds)) + 0.3], width=8.0)
    thick, named = 0.8 / max(1, len(kinds)), set()
    for row, kind, value, low, high in bars:
        i = kinds.index(kind)
        y, label = row - 0.4 + (i + 0.5) * thick, None if kind in named else kind.replace("_", " ")
        named.add(kind)
        ax.barh(y, value, thick * 0.9, color=CYCLE[i % len(CYCLE)], label=label)
        ax.plot([low, high], [y, y], color=INK, linewidth=1.2)
        ax.text(max(value, high) + 0.01, y, f"{value:.2f}", va="center", fontsize=8)
    ax.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    ax.set(xlim=(0, 1.08), ylim=(len(scores) - 0.5, -0.5))
    ax.set_yticks(range(len(scores)), list(scores))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(kinds) or 1)
    return figure


def _as_interval(value) -> tuple[float, float, float] | None:
    """A share, or (share, low, high), as three numbers; None for anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 3:
        return tuple(map(float, value))
    return (value,) * 3 if isinstance(value, (float, np.floating)) else None


@styled
def threshold_curve(points: Sequence[dict], operating: float | None = None):
    """How scores move with the threshold: every share in ``points`` over their ``threshold``.

    ``operating``: the threshold in use, marked by a line; the best balanced accuracy is marked by dots.
    """
    figure, (ax,) = rows_of_axes([2.6], width=7.0)
    points = sorted(points, key=lambda point: point["threshold"])
    x = [point["threshold"] for point in points]
    shares = [k for k, v in points[0].items() if isinstance(v, float) and k != "threshold"]
    for i, name in enumerate(shares):
        y = np.array([point[name] for point in points], float)
        look = {"color": CYCLE[i % len(CYCLE)], "marker": "osDv^"[i % 5], "markersize": 4}
        ax.plot(x, y, label=name.replace("_", " "), markevery=1 + len(x) // 13, **look)
        if name.startswith("balanced"):
            best = int(np.nanargmax(y))
            ax.axvline(x[best], color=look["color"], linestyle=":", linewidth=1)
            text = f" {y[best]:.2f} at {x[best]:.2g}"
            ax.text(x[best], y[best] + 0.03, text, color=look["color"])
    if operating is not None:
        ax.axvline(operating, color=INK, linestyle="--", linewidth=1, label="in use")
    ax.set(xlabel="respond when p(respond) reaches", ylim=(-0.02, 1.08))
    ax.grid(True)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def continuity(ratios: dict[str, float], paper: dict[str, float] | None = None):
    """Continuity ratio by layer: 1 = a chunk boundary is as smooth as the rest."""
    names, paper = list(dict.fromkeys([*ratios, *(paper or {})])), paper or {}
    figure, (ax,) = rows_of_axes([2.4], width=max(5.0, 0.8 * len(names)))
    for series, other, look in (
        (ratios, paper, {"color": BLUE, "marker": "o", "label": "here"}),
        (paper, ratios, {"color": RED, "marker": "D", "label": "paper"}),
    ):
        known = [(i, series[name], name) for i, name in enumerate(names) if name in series]
        ax.plot([i for i, _, _ in known], [value for _, value, _ in known], **look)
        for i, value, name in known:
            above = value >= other.get(name, value)
            ax.text(i, value + (0.04 if above else -0.04), f"{value:.2f}", color=look["color"],
                    ha="center", va="bottom" if above else "top", fontsize=8)  # fmt: skip
    ax.axhline(1.0, color=GREY, linestyle="--", linewidth=1)
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    values = [*ratios.values(), *paper.values()]
    ax.set(ylabel="continuity ratio", ylim=(min(0.0, *values) - 0.05, max(1.05, *values) + 0.15))
    ax.legend(loc="lower right")
    return figure


@styled
def heads(effect: np.ndarray):
    """What silencing one attention head does, ``[layers, heads]``; the strongest is framed."""
    import seaborn as sns
    from matplotlib.patches import Rectangle

    effect = np.asarray(effect, float)
    width = min(WIDTH, 0.55 * effect.shape[1] + 2.5)
    figure, (ax,) = rows_of_axes([0.4 * len(effect) + 0.5], width=width)
    sns.heatmap(
        effect, ax=ax, cmap="mako_r", annot=effect.size <= 100, fmt=".2f", linewidths=0.5,
        annot_kws={"fontsize": 8}, cbar_kws={"label": "decisions changed"},
    )  # fmt: skip
    row, column = np.unravel_index(np.abs(effect).argmax(), effect.shape)
    ax.add_patch(Rectangle((column, row), 1, 1, fill=False, ec=RED, linewidth=2, clip_on=False))
    ax.set(xlabel="head", ylabel="layer")
    return figure


# --- a corpus -------------------------------------------------------------------------------------
@styled
def corpus(streams: Sequence):
    """What a corpus holds, after the paper's figure of its data set: streams, rounds, words a reply, and
    silence, by ability. ``streams``: `aikit.synth.describe.facts`."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    names = list(dict.fromkeys(one.ability for one in streams))
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 0.42 * len(names) + 0.9), sharey=True)
    counts = [sum(one.ability == name for one in streams) for name in names]
    axes[0].barh(range(len(names)), counts, color=BLUE)
    for row, count in enumerate(counts):
        axes[0].text(count, row, f" {count:,}", va="center", fontsize=8)
    panels = {
        "rounds a stream": [[one.rounds for one in streams if one.ability == name] for name in names],
        "words a reply": [[n for one in streams if one.ability == name for n in one.reply_words] for name in names],
        "share of silent chunks": [[one.silence for one in streams if one.ability == name] for name in names],
    }  # fmt: skip
    for ax, (title, values) in zip(axes[1:], panels.items(), strict=True):
        look = {"whis": (5, 95), "fliersize": 0, "width": 0.6, "linewidth": 0.9, "color": SKY}
        pairs = [(value, row) for row, many in enumerate(values) for value in many]
        if pairs:  # a corpus of silence has no reply
            x, y = zip(*pairs, strict=True)
            sns.boxplot(x=x, y=y, orient="h", order=range(len(names)), ax=ax, **look)
        ax.set_title(title)
        ax.tick_params(left=False)
        ax.grid(axis="x")
    axes[0].set(title="streams", xlim=(0, 1.25 * max(counts)), ylim=(len(names) - 0.5, -0.5))
    axes[0].set_yticks(range(len(names)), names)
    return figure
