"""Pictures of where time goes: workers around a queue, and steps below the roofs of a machine.

Knows how `aikit.stream.paced.Run` and a profile's numbers look. Does not know how they were measured.
Notebooks find both in ``viz``; used in notebook 03.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aikit.charts import (BLUE, CYCLE, GREEN, GREY, INK, ORANGE, PALE, PALE_BLUE, RED, bare_lane,
                          rows_of_axes, styled)

TASKS = {"encode": (0, ORANGE), "listen": (1, BLUE), "write": (1, GREEN)}  # lane and colour


@styled
def gantt(runs: Sequence, from_s: float = 0.0, to_s: float = 12.0):
    """Runs over the same seconds: what encoder and decoder do, and how many chunks wait between them.

    Parameters
    ----------
    runs : `aikit.stream.paced.Run`, each with two rows: its workers, and the chunks that arrived and
        that the decoder has not begun to listen to
    """
    figure, axes = rows_of_axes([0.75, 0.5] * len(runs), sharex=True)
    deepest = max(1, *(_waiting(run, from_s, to_s)[1].max() for run in runs))
    for run, lanes, below in zip(runs, axes[::2], axes[1::2], strict=True):
        for span in run.spans:
            began, ended = span.began - run.began, span.ended - run.began
            if ended >= from_s and began <= to_s:
                lane, colour = TASKS[span.task]
                lanes.barh(lane, ended - began, 0.8, began, color=colour, edgecolor=colour, linewidth=0.7)
        for chunk in range(run.n_chunks):
            at = run.arrival(chunk) - run.began
            if from_s <= at <= to_s:
                lanes.axvline(at, color=RED if chunk in run.due else PALE, linewidth=0.8, zorder=0)
        bare_lane(lanes)
        lanes.set(ylim=(1.6, -0.6), yticks=[0, 1], title=run.name)
        lanes.tick_params(labelleft=True)
        lanes.set_yticklabels(["encoder", "decoder"])
        below.fill_between(*_waiting(run, from_s, to_s), step="post", color=PALE_BLUE)
        below.set(ylim=(0, deepest * 1.05), ylabel="waiting")
    axes[-1].set(xlim=(from_s, to_s), xlabel="seconds; a line where a chunk arrives, red: a reply is due")
    _key(figure)
    return figure


def _waiting(run, from_s: float, to_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and how many chunks wait from each on."""
    steps = [(run.arrival(chunk) - run.began, 1) for chunk in range(run.n_chunks)]
    steps += [(span.began - run.began, -span.n_chunks) for span in run.of("listen")]
    times, changes = zip(*sorted(steps), strict=True)
    times, depth = np.array(times), np.cumsum(changes)
    shown = (times >= from_s) & (times <= to_s)
    return times[shown], depth[shown]


def _key(figure) -> None:
    from matplotlib.patches import Patch

    names = {"encode": "encode a chunk", "listen": "listen and decide", "write": "write a token"}
    handles = [Patch(color=TASKS[task][1], label=name) for task, name in names.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=8)


@styled
def roofline(numbers: dict):
    """Each stage below the roofs of its machine: operations a byte against operations a second.

    Parameters
    ----------
    numbers : of `aikit.stream.profile.profile`. Under the slope a stage waits for memory, under the level
        for arithmetic; far below both, for neither: it is being started
    """
    figure, (ax,) = rows_of_axes([3.2], width=7.5)
    bytes_s, flops_s = numbers["bytes_s"], numbers["flops_s"]
    x = np.geomspace(0.1, 2_000, 200)
    ax.plot(x, np.minimum(flops_s, bytes_s * x) / 1e9, color=INK)
    ax.text(0.4, 0.6 * bytes_s / 1e9, f"{bytes_s / 1e9:.0f} GB/s", color=GREY, ha="right")
    ax.text(1_900, 0.8 * flops_s / 1e9, f"{flops_s / 1e9:.0f} GFLOP/s", color=GREY, ha="right", va="top")
    for i, (path, table) in enumerate(numbers["stages"].items()):
        rows = {name: row for name, row in table.items() if "flops" in row}
        intensity = [row["flops"] / row["bytes"] for row in rows.values()]
        speed = [row["flops"] / row["p50"] / 1e6 for row in rows.values()]
        ax.scatter(intensity, speed, color=CYCLE[i], label=path, zorder=3)
        for below, (name, at, height) in enumerate(zip(rows, intensity, speed, strict=True)):
            where = (5, -11 if below % 2 else 4)  # two that are close do not cover each other
            ax.annotate(name, (at, height), where, textcoords="offset points", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    ax.grid(True)
    ax.legend(loc="lower right")
    return figure
