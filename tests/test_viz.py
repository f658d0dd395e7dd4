"""Each figure has the lanes and the words that its data ask for; none is left open in pyplot."""

import numpy as np
import pytest

pytest.importorskip("seaborn")

from aikit import viz
from aikit.stream.session import Event
from aikit.synth.clips import Clip
from aikit.synth.compose import Item, compose
from aikit.synth.tfjp import tfjp
from aikit.tokens import OWN_LAYOUT, Tokenizer, offline_sequence, online_sequence

RNG = np.random.default_rng(0)
HUM = (0.1 * RNG.normal(size=8000)).astype(np.float32)


def clip(label, text=""):
    return Clip(HUM, label, "test", label, text)


@pytest.fixture(scope="module")
def stream():
    items = [
        Item(clip("dog_bark"), reply="One bark."),
        Item(clip("speech", "How are you?")),
        Item(clip("rain"), "ambient"),
    ]
    noise = (clip("fan_hum"), clip("rain"))
    return compose(items, np.random.default_rng(0), noise=noise, keep_layers=True)


def heard(n):
    """A silent session that speaks at its last chunk."""
    events = [Event(0.4 * (i + 1), "silent", "", 0.1) for i in range(n - 1)]
    return [*events, Event(0.4 * n, "respond", "", 0.9), Event(0.4 * n, "end", "Watch out!", 0.9)]


def lanes(figure):
    return [ax.get_ylabel().split("\n")[0] for ax in figure.axes]


def words(figure):
    return " ".join(text.get_text() for ax in figure.axes for text in ax.texts)


def test_timeline_has_a_lane_for_all_that_is_known(stream):
    figure = viz.timeline(stream, heard(stream.n_chunks), title="T")
    expected = ["sound", "foreground", "ambient", "reply due", "p(respond)", "model says"]
    assert lanes(figure) == expected and figure.get_suptitle() == "T"
    shown = words(figure)
    assert all(part in shown for part in ("dog bark", "“How are you?”", "One bark.", "Watch out!"))
    assert figure.axes[0].get_xlim() == (0, stream.duration_s)


def test_timeline_of_any_subset(stream):
    assert lanes(viz.timeline(events=heard(3))) == ["p(respond)", "model says"]
    assert lanes(viz.timeline(waveform=HUM)) == ["sound"]
    assert "p(respond)" not in lanes(viz.timeline(stream))
    with pytest.raises(ValueError, match="nothing to draw"):
        viz.timeline()


def test_no_figure_stays_open_to_be_shown_twice(stream):
    import matplotlib.pyplot as plt

    viz.timeline(stream)
    assert plt.get_fignums() == [] and plt.rcParams["axes.spines.top"]


def test_labels_stand_apart():
    marks = [(0.0, "a long label of many words"), (0.1, "second"), (9.9, "near the end")]
    (x0, level0, _), (_, level1, _), (x2, level2, _) = viz._labels(marks, 10.0)
    assert (x0, level0, level1, level2) == (0.0, 0, 1, 0) and x2 < 9.9


def test_layers_that_sound_and_their_sum(stream):
    names = ["foreground", "ambient", "noise", "noise", "mix"]
    assert lanes(viz.layers(stream)) == names
    with pytest.raises(ValueError, match="keep_layers"):
        viz.layers(compose([Item(clip("rain"))], np.random.default_rng(0)))


def test_sound_figures():
    assert [ax.get_ylabel() for ax in viz.waveform_and_mel(HUM).axes] == ["sample", "mel bin"]
    result = tfjp(HUM, keep_stages=True)
    assert lanes(viz.stages(result)) == list(result.stages)


def test_tokens_show_both_label_rows(stream):
    tokenizer = Tokenizer.train(["One bark. Listen, and help when help is needed."], 400)
    sequence = online_sequence(tokenizer, stream.timeline, stream.n_chunks)
    shown = words(viz.tokens(sequence, tokenizer, OWN_LAYOUT, count=len(sequence)))
    assert {"prefix", "f0", "f9", "silent", "response", "eos"} <= set(shown.split())
    assert f"chunk {stream.n_chunks - 1}" in shown
    middle = words(viz.tokens(sequence, tokenizer, OWN_LAYOUT, first=30, count=20)).split()
    assert middle[0].startswith("f")  # a row may begin inside a chunk
    offline = offline_sequence(tokenizer, 20, "One bark.")
    assert "f19" in words(viz.tokens(offline, tokenizer, OWN_LAYOUT))


def test_losses_by_stage(tmp_path):
    rows = ['{"stage": "hear", "step": 1, "hear": 5}', '{"stage": "streaming", "step": 1, "lm": 2}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*rows, rows[0]]))
    figure = viz.losses(tmp_path / "metrics.jsonl")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["hear", "streaming"]
    with pytest.raises(ValueError, match="no logged steps"):
        viz.losses([])


def test_score_figures():
    assert "budget 400" in words(viz.latency({"fast": [1, 2, 3], "slow": [300, 500]}))
    bars = viz.domain_bars({"Traffic": {"accuracy": (0.6, 0.5, 0.7), "n": 9, "balanced": 0.5}})
    assert words(bars) == "0.60 0.50"
    points = [{"threshold": t, "balanced": 0.5 + t * (1 - t)} for t in (0.1, 0.5, 0.9)]
    assert "0.75 at 0.5" in words(viz.threshold_curve(points))
    assert "0.80" in words(viz.continuity({"encoder": 0.3, "layer 0": 0.7}, {"layer 0": 0.8}))
    assert viz.heads(np.eye(3)).axes[0].get_xlabel() == "head"


def test_explorer_follows_its_slider(capsys):
    pytest.importorskip("ipywidgets")
    box = viz.explorer(np.tile(HUM, 4))
    start, _ = box.children[0].children
    start.value = 0.8
    assert "Figure" in capsys.readouterr().out
