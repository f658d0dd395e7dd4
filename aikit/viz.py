"""Pictures over time: sounds, streams, decisions. What has no time axis is in `charts.py`.

Knows how the kit's dataclasses look as pictures. Does not know how anything in them was computed.
Used in every notebook; ``viz.tokens``, ``viz.losses`` and all other charts are found here too.

Each function returns a matplotlib `Figure` and shows nothing: the last line of a cell does that,
``display(figure)`` does so elsewhere, ``figure.savefig(path)`` keeps it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from aikit.audio import SAMPLE_RATE, log_mel
from aikit.charts import (BLUE, GREEN, GREY, INK, ORANGE, PALE, PALE_BLUE, PINK, RED, SKY, STYLE,
                          WIDTH, alignment, bare_lane, continuity, domain_bars, heads, latency,
                          losses, rows_of_axes, styled, threshold_curve, tokens)
from aikit.config import AudioConfig
from aikit.gantt import gantt, roofline

__all__ = ["STYLE", "alignment", "continuity", "domain_bars", "explorer", "gantt", "heads",
           "latency", "layers", "losses", "roofline", "stages", "threshold_curve", "timeline",
           "tokens", "waveform_and_mel"]

ROLE = {"foreground": BLUE, "background": SKY, "ambient": GREY, "noise_event": ORANGE,
        "noise_ambient": PINK}
LETTER = 0.06  # inches that a letter takes at 8 points


def _seconds(ax, duration_s: float) -> None:
    ax.set_xlim(0, duration_s)
    ax.tick_params(bottom=True, labelbottom=True)
    ax.locator_params(axis="x", integer=duration_s > 8)
    ax.set_xlabel("seconds")


def _envelope(ax, waveform: np.ndarray, colour: str = BLUE, bins: int = 1400) -> None:
    """A waveform as its lowest and highest sample in each of many short spans."""
    size = max(1, -(-len(waveform) // bins))
    spans = np.pad(waveform, (0, -len(waveform) % size), mode="edge").reshape(-1, size)
    time = (np.arange(len(spans)) + 0.5) * size / SAMPLE_RATE
    ax.fill_between(time, spans.min(1), spans.max(1), color=colour, linewidth=0.4, edgecolor=colour)
    ax.axhline(0, color=colour, linewidth=0.5)


def _spectrogram(ax, waveform: np.ndarray) -> None:
    """The log-mel that a model hears; darker is louder."""
    import seaborn as sns

    mel, hop_s = log_mel(waveform, AudioConfig()), AudioConfig().hop_samples / SAMPLE_RATE
    colours = sns.color_palette("mako_r", as_cmap=True)
    extent = (0, mel.shape[1] * hop_s, 0, mel.shape[0])
    ax.imshow(mel, cmap=colours, origin="lower", aspect="auto", extent=extent, vmin=-0.5, vmax=1.0)
    ax.set_yticks([0, len(mel) // 2, len(mel)])


def _labels(
    marks: Sequence[tuple[float, str]], duration_s: float, turn: bool = False
) -> list[tuple[float, int, str]]:
    """(start, level, text) of labels, each on the lowest level where none is in its way.

    A label that would run out of the figure is moved to the left, or turned to end at its time.
    """
    second, ends, placed = (WIDTH - 1.4) / duration_s, [], []  # inches a second
    for time, text in sorted(marks):
        width = (max(map(len, text.split("\n"))) * LETTER + 0.22) / second
        moved = time - width if turn else duration_s - width
        start = time if time + width <= duration_s else max(0.0, moved)
        level = next((i for i, end in enumerate(ends) if end <= start), len(ends))
        ends[level : level + 1] = [start + width]
        placed.append((start, level, text))
    return placed


def _sound(waveform: np.ndarray):
    """A row for `timeline`: the waveform, its quiet parts enlarged so that they can be seen."""
    shape = np.sign(waveform) * np.sqrt(np.abs(waveform) / max(1e-6, np.abs(waveform).max()))
    return 0.6, "sound", lambda ax: _envelope(ax, shape, GREY)


def _lane(role: str, events: Sequence, duration_s: float):
    """A row for `timeline`: the events of one role as bars, with their names inside or above."""
    bars, above = [], []
    for event in events:
        name = f"“{event.text}”" if event.text else event.label.replace("_", " ")
        name = textwrap.shorten(name, 50, placeholder=" …")
        inches = (event.end_s - event.start_s) * (WIDTH - 1.4) / duration_s
        inside = len(name) * LETTER + 0.05 < inches
        bars.append((event, name if inside else ""))
        above += [] if inside else [(event.start_s, name)]
    labels = _labels(above, duration_s)
    top = 1.05 + 0.85 * max((level + 1 for _, level, _ in labels), default=0)

    def draw(ax):
        for event, name in bars:
            strong = event.reply is not None or role != "foreground"
            ax.barh(0.5, event.end_s - event.start_s, 0.9, event.start_s, edgecolor="white",
                    color=ROLE[role] if strong else PALE_BLUE)  # fmt: skip
            ax.text((event.start_s + event.end_s) / 2, 0.46, name, ha="center", va="center",
                    fontsize=8, color="white" if strong else INK)  # fmt: skip
        for (start_s, _), (x, level, text) in zip(above, labels, strict=True):
            ax.plot([start_s] * 2, [0.1, 1.2 + 0.85 * level], color=INK, linewidth=0.7)
            ax.text(x, 1.4 + 0.85 * level, " " + text, fontsize=8, va="center", zorder=4,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
        ax.set_ylim(0, top)

    return 0.23 * top, role, draw


def _flags(name: str, marks: Sequence[tuple[float, str]], duration_s: float, colour: str):
    """A row for `timeline`: replies as flags, the pole at the moment when they come."""
    marks = sorted((time, "\n".join(textwrap.wrap(text, 44)[:2])) for time, text in marks)
    labels, lines = _labels(marks, duration_s, True), max(1 + text.count("\n") for _, text in marks)
    top = 1.15 + max(level for _, level, _ in labels)
    box = {"boxstyle": "square,pad=0.22", "facecolor": colour, "edgecolor": "white"}

    def draw(ax):
        for (time, _), (x, level, text) in zip(marks, labels, strict=True):
            ax.plot([time, time], [0, level + 0.95], color=colour, linewidth=1.6, clip_on=False)
            ax.plot(time, 0, "o", color=colour, markersize=3.5, clip_on=False)
            side = "right" if x < time else "left"
            ax.text(time, level + 0.62, text, fontsize=8, color="white", bbox=box, ha=side,
                    va="center", multialignment="left")  # fmt: skip
        ax.set_ylim(0, top)

    return (0.14 + 0.14 * lines) * top, name, draw


def _decisions(events: Sequence):
    """A row for `timeline`: p(respond) of every chunk, red where the model decided to respond."""
    chunk_s = AudioConfig().chunk_s

    def draw(ax):
        for kind, colour in (("silent", GREY), ("respond", RED)):
            chosen = [event for event in events if event.kind == kind]
            middles = [event.time_s - chunk_s / 2 for event in chosen]
            ax.bar(middles, [event.p_respond for event in chosen], chunk_s * 0.88, color=colour)
        ax.spines["bottom"].set_visible(True)
        ax.yaxis.tick_right()
        ax.tick_params(right=True, labelright=True)
        ax.set(ylim=(0, 1.05), yticks=[0, 1])

    return 0.55, "p(respond)", draw


@styled
def timeline(stream=None, events=None, waveform=None, title: str = ""):
    """A stream over time: the sound, what happens in it, what should be said and what was said.

    Parameters
    ----------
    stream : Stream, optional
        Gives the waveform, lanes of sound events by role, and the replies that are due.
        A foreground sound that asks for a reply is in full colour and bold.
    events : sequence of Event, optional
        What a session said: p(respond) of every chunk, and its replies.
    waveform : float32 ``[n]``, optional
        Instead of the stream's.
    """
    chunk_s = AudioConfig().chunk_s
    waveform = stream.waveform if waveform is None and stream is not None else waveform
    spans = [0.0 if waveform is None else len(waveform) / SAMPLE_RATE]
    duration_s = max(spans + [event.time_s for event in events or ()])
    if duration_s == 0:
        raise ValueError("nothing to draw; give a stream, a waveform or the events of a session")
    rows = [] if waveform is None else [_sound(waveform)]
    for role in ("foreground", "background", "ambient"):
        if found := [event for event in (stream.events if stream else ()) if event.role == role]:
            rows.append(_lane(role, found, duration_s))
    if stream is not None and stream.timeline:
        due = [((reply.chunk + 1) * chunk_s, reply.text) for reply in stream.timeline]
        rows.append(_flags("reply due", due, duration_s, GREEN))
    if events:
        rows.append(_decisions(events))
        if said := [(event.time_s, event.text) for event in events if event.kind == "end"]:
            rows.append(_flags("model says", said, duration_s, RED))
    figure, axes = rows_of_axes([height for height, _, _ in rows], title, sharex=True)
    for ax, (_, name, draw) in zip(axes, rows, strict=True):
        bare_lane(ax, name)
        draw(ax)
        for edge in np.arange(0, duration_s + 1e-6, chunk_s):  # one decision at each of these
            ax.axvline(edge, color=PALE, linewidth=0.6, zorder=0)
    _seconds(axes[-1], duration_s)
    return figure


@styled
def waveform_and_mel(waveform: np.ndarray, title: str = ""):
    """A sound as samples and as the log-mel that the model hears."""
    figure, (top, bottom) = rows_of_axes([0.9, 1.6], title, sharex=True)
    _envelope(top, waveform)
    top.set_ylabel("sample")
    _spectrogram(bottom, waveform)
    bottom.set_ylabel("mel bin")
    _seconds(bottom, len(waveform) / SAMPLE_RATE)
    return figure


@styled
def layers(stream):
    """The layers of a mix that sound, on one scale, and their sum (``keep_layers=True``)."""
    if not stream.layers:
        raise ValueError("this stream has no layers; make it with keep_layers=True")
    rows = {name: layer for name, layer in stream.layers.items() if layer.any()}
    rows["mix"] = stream.waveform
    figure, axes = rows_of_axes([0.62] * len(rows), sharex=True, sharey=True)
    for ax, (name, track) in zip(axes, rows.items(), strict=True):
        bare_lane(ax, name.replace("_", "\n"))
        _envelope(ax, track, ROLE.get(name, INK))
        level = 20 * np.log10(max(float(np.sqrt(np.mean(np.square(track)))), 1e-6))
        ax.text(1.005, 0.5, f"{level:.0f} dBFS", transform=ax.transAxes, va="center", color=GREY)
    _seconds(axes[-1], stream.duration_s)
    return figure


@styled
def stages(result):
    """What every stage of TFJP heard (``tfjp(..., keep_stages=True)``), all on one time axis."""
    figure, axes = rows_of_axes([0.8] * len(result.stages), sharex=True)
    for ax, (name, waveform) in zip(axes, result.stages.items(), strict=True):
        _spectrogram(ax, waveform)
        bare_lane(ax, f"{name}\n{len(waveform) / SAMPLE_RATE:.2f} s")
    _seconds(axes[-1], max(map(len, result.stages.values())) / SAMPLE_RATE)
    return figure


def explorer(source):
    """A widget: move a window over a stream or a waveform, see it and hear it."""
    import ipywidgets as widgets
    from IPython.display import Audio, display

    waveform = np.asarray(getattr(source, "waveform", source), np.float32)
    total_s = len(waveform) / SAMPLE_RATE
    seconds = widgets.Dropdown(options=[1, 2, 4, 8], value=4, description="seconds")
    start = widgets.FloatSlider(min=0.0, max=max(0.1, total_s - 1), step=0.4, description="from")
    screen = widgets.Output()

    def draw(_=None):
        begin = int(start.value * SAMPLE_RATE)
        part = waveform[begin : begin + seconds.value * SAMPLE_RATE]
        with screen:
            screen.clear_output(wait=True)
            display(waveform_and_mel(part, f"{start.value:.1f} s and on"))
            display(Audio(part, rate=SAMPLE_RATE, normalize=False))

    for control in (seconds, start):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([widgets.HBox([start, seconds]), screen])
