"""The command line as a new user meets it: any sound, one JSON object an event, errors of one line."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from aikit.cli import build_parser, main
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.synth.abilities import all_texts
from aikit.tokens import Tokenizer
from aikit.train.folder import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained nano model's folder."""
    folder = tmp_path_factory.mktemp("model")
    nano = AudioInteractionModel.from_preset(preset("nano"))
    return str(save_model(nano, Tokenizer.train(all_texts()), folder))


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [("a.mp3", 44_100, 2, None), ("b.wav", 8_000, 1, "PCM_16"), ("c.wav", 16_000, 1, "DOUBLE"),
     ("d.flac", 48_000, 1, "PCM_24")],
)  # fmt: skip
def test_listen_json_is_one_object_an_event(tmp_path, capsys, model, name, rate, channels, subtype):
    noise = 0.1 * np.random.default_rng(0).normal(size=(2 * rate, channels))
    soundfile.write(tmp_path / name, noise, rate, subtype=subtype)
    assert main(["listen", str(tmp_path / name), "--json", "--model", model]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(set(row) == {"time_s", "kind", "text", "p_respond"} for row in rows)
    decisions = [row for row in rows if row["kind"] in ("silent", "respond")]
    assert [row["time_s"] for row in decisions[:3]] == [0.4, 0.8, 1.2]
    assert len(decisions) in (8, 9)  # 5 chunks of sound and 3 of silence; mp3 pads
    assert all(0 <= row["p_respond"] <= 1 for row in decisions)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"", "empty"), (b"just some text", "cannot be read as audio")],
)
def test_bad_files_give_one_line_and_exit_code_2(tmp_path, capsys, model, content, says):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    assert main(["listen", str(path), "--model", model]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1 and "Traceback" not in err


def test_a_file_of_nan_is_refused(tmp_path, capsys, model):
    soundfile.write(tmp_path / "nan.wav", np.full(8_000, np.nan), 16_000, subtype="FLOAT")
    assert main(["listen", str(tmp_path / "nan.wav"), "--model", model]) == 2
    assert "NaN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["listen", "x.wav", "--model", "nowhere"], "no such file"),
        (["train", "--out", "{tmp}", "--preset", "huge"], "choose one of"),
        (["train", "--out", "{tmp}", "--stages", "warp"], "choose from"),
        (["train", "--out", "{tmp}", "--real", "nowhere"], "no folder"),
        (["bench", "proactive", "--model", "nowhere"], "no model in nowhere"),
    ],
)
def test_wrong_arguments_say_what_to_do(tmp_path, capsys, arguments, says):
    assert main([a.format(tmp=tmp_path) for a in arguments]) == 2
    assert says in capsys.readouterr().err


def test_every_verb_has_help():
    verbs = build_parser()._subparsers._group_actions[0].choices
    assert {"tour", "demo", "listen", "synth", "train", "bench", "samples", "doctor"} <= set(verbs)


def test_importing_the_package_is_fast_and_light():
    code = "import time; t = time.perf_counter(); import aikit, sys; print(time.perf_counter() - t, 'torch' in sys.modules)"
    began = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, torch_loaded = out.split()
    assert float(seconds) < 0.5 and torch_loaded == "False"
    assert time.perf_counter() - began < 30
