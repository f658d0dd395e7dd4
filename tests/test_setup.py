"""The set-up and the runner: project files, badges, doctor, notebook helpers, tour."""

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from queue import Empty

import numpy as np
import pytest
import torch

from aikit import doctor, nb, tour


EXTRAS = {"notebooks", "demo", "test"}  # the others are for large data and large machines


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(autouse=True)
def importable(root, monkeypatch):
    """Kernels find this working copy, installed or not."""
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)


def names(requirements):
    return {re.match(r"[\w.-]+", line)[0].lower() for line in requirements}


def write_notebook(path, *sources):
    """A notebook with a `parameters` cell and then one cell for each source."""
    import nbformat

    cells = [nbformat.v4.new_code_cell(source) for source in ("FAST = False", *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


# ---- project files


def test_numpy_is_never_pinned(project):
    assert "numpy" in project["dependencies"]
    lines = sum(project["optional-dependencies"].values(), project["dependencies"])
    assert [line for line in lines if line.startswith("numpy")] == ["numpy"]


def test_environment_has_the_same_names(root, project):
    yaml = pytest.importorskip("yaml")
    environment = yaml.safe_load((root / "environment.yml").read_text())
    assert environment["name"] == project["name"]
    python, pip, lines = environment["dependencies"]
    assert python.startswith("python=3.") and pip == "pip" and len(lines["pip"]) == 1
    extras = re.fullmatch(r"-e \.\[(.*)\]", lines["pip"][0])[1]
    assert set(extras.split(",")) == EXTRAS <= set(project["optional-dependencies"])


def test_make_installs_what_environment_does(root):
    makefile = (root / "Makefile").read_text()
    asked = re.search(r"-e '\.\[(.*?)\]'", makefile)[1]
    assert set(asked.split(",")) == EXTRAS


def test_constraints_lie_within_the_ranges(root, project):
    from packaging.requirements import Requirement

    lines = (root / "constraints.txt").read_text().splitlines()
    tested = dict(line.lower().split("==") for line in lines if "==" in line)
    wanted = [Requirement(line) for line in project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += [Requirement(line) for line in extra if not line.startswith("aikit")]
    assert {need.name.lower() for need in wanted} <= set(tested)
    bad = [str(n) for n in wanted if tested[n.name.lower()] not in n.specifier]
    assert not bad


# ---- badges


def badges(root):
    spec = importlib.util.spec_from_file_location("badges", root / "docs" / "badges.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_badges_are_current(root, capsys):
    assert badges(root).main(check=True) == 0, capsys.readouterr().out


def test_badges_follow_the_address(root, tmp_path):
    module, colab = badges(root), "https://colab.research.google.com/github"
    url = '[project]\nurls = {Repository = "https://github.com/me/my.kit"}\n'
    (tmp_path / "pyproject.toml").write_text(url)
    readme, tail = tmp_path / "README.md", "blob/main/notebooks/00_start_here.ipynb"
    text = "[x]({}/{}/{}) git+https://github.com/{} and git clone https://github.com/{}.git"
    readme.write_text(text.format(colab, "old/kit", tail, "old/kit", "old/kit"))
    assert module.main(tmp_path, check=True) == 1
    assert module.main(tmp_path) == 0
    new = readme.read_text()
    assert new == text.format(colab, "me/my.kit", tail, "me/my.kit", "me/my.kit")
    assert module.main(tmp_path, check=True) == 0 and readme.read_text() == new


# ---- doctor


def test_doctor_says_what_is_here(root):
    checks = {check.name: check for check in doctor.report()}
    assert checks["python"].ok and checks["torch"].ok and checks["device"].ok
    assert not any("shared" in check.value + check.advice for check in checks.values())
    assert not [c for c in checks.values() if c.ok is not True and not c.advice]


def test_doctor_knows_every_core_package(project):
    assert names(project["dependencies"]) <= {check.name for check in doctor.report()}


OPTIONAL = ("gradio", "papermill", "espeakng-loader")


@pytest.mark.parametrize("missing", ["torch", "soundfile", *OPTIONAL])
def test_doctor_advises_on_a_missing_package(missing, monkeypatch, capsys):
    real = doctor.metadata.version

    def version(name):
        if name == missing:
            raise doctor.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "_samples", list)  # their state has a test of its own
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setitem(sys.modules, missing, None)  # `import torch` fails too
    check = next(c for c in doctor.report() if c.name == missing)
    optional = missing in OPTIONAL
    assert check.ok is (None if optional else False)
    assert check.value == "missing" and "pip install" in check.advice
    assert doctor.main() == (0 if optional else 1)
    assert "pip install" in " ".join(capsys.readouterr().out.split())


def test_doctor_refuses_a_version_out_of_range(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "4.57")
    check = doctor._package("transformers>=5,<6")
    assert check.ok is False and "needs >=5,<6" in check.advice


def test_doctor_checks_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert [(c.name, c.ok) for c in doctor._samples()] == [("checkpoint", None)]
    weights = tmp_path / "data_samples" / "tiny" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    manifest = f"{doctor._sha256(weights)}  tiny/model.safetensors\n"
    (tmp_path / "data_samples" / "SHA256SUMS").write_text(manifest)
    assert all(check.ok for check in doctor._samples())
    weights.write_bytes(b"damaged")
    assert doctor._samples()[-1].ok is False and "tiny/model" in doctor._samples()[-1].advice


@pytest.mark.parametrize("capability, dtype", [((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_dtype_depends_on_the_capability(capability, dtype, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert doctor.pick_device() == ("cuda", dtype)


# ---- notebook helpers


@pytest.mark.parametrize("value", [None, False, np.False_, np.array([True, False]), lambda: None.x])
def test_check_says_not_done_yet(value, capsys):
    nb.check("gain", value, "use 10 ** (db / 20)")
    out = capsys.readouterr().out
    assert "not done yet" in out and "10 **" in out and "✅" not in out


@pytest.mark.parametrize("value", [True, 0.0, "text", np.array([True, True]), lambda: True])
def test_check_says_done(value, capsys):
    nb.check("gain", value)
    assert capsys.readouterr().out == "✅ gain\n"


def test_setup_seeds_and_says_one_line(capsys):
    machine = nb.setup(seed=3)
    first = np.random.rand()
    assert capsys.readouterr().out.count("\n") == 1 and machine.device in ("cpu", "cuda", "mps")
    nb.setup(seed=3)
    assert np.random.rand() == first


def test_setup_leaves_a_core_to_others():
    before = torch.get_num_threads()
    try:
        for wanted, threads in ({"threads": 2}, 2), ({}, 1):
            nb.setup(**wanted)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_audio_keeps_the_level_and_refuses_nan():
    quiet, loud = (nb.audio(np.full(1600, level, np.float32)) for level in (0.1, 3.0))
    peaks = [np.frombuffer(p.data[44:], "<i2").max() / 32767 for p in (quiet, loud)]
    assert peaks == pytest.approx([0.1, 1.0], abs=1e-3)
    with pytest.raises(ValueError, match="NaN"):
        nb.audio(np.array([np.nan]))


def test_report_refuses_what_is_not_one_number():
    with pytest.raises(ValueError, match="loss"):
        nb.report(loss=[1, 2])


# ---- tour


GOOD = """
import sys, matplotlib.pyplot as plt, numpy as np
from aikit import nb
plt.plot([0, 1]); plt.show()
nb.check("stub", None)
nb.report(fast=FAST, hits=3, accuracy=np.float32(0.5), python=sys.executable, bad=float("nan"))
nb.report(hits=4)
"""


def test_tour_runs_all_and_reports_the_failed_one(tmp_path, capsys, monkeypatch):
    pytest.importorskip("papermill")
    # a user's own "python3" kernel, of an interpreter that is not there, must not be taken
    other = tmp_path / "home" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/no/python", "{connection_file}"], "display_name": "x", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "home"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    books = [
        write_notebook(tmp_path / "nbs" / "00_bad.ipynb", "x = 1", "missing_name + x"),
        write_notebook(tmp_path / "nbs" / "01_good.ipynb", GOOD),
    ]
    assert tour.run_tour(tmp_path / "out", books, fast=True) == 1
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "home")

    report = json.loads((tmp_path / "out" / "report.json").read_text())["notebooks"]
    bad, good = report["00_bad"], report["01_good"]
    assert all(part in bad["error"] for part in ("In [4]", "NameError", "missing_name + x"))
    assert good["error"] is None and good["seconds"] > 0
    assert good["numbers"] == nb.read_report(tmp_path / "out" / "01_good.ipynb")
    python = good["numbers"].pop("python")
    assert good["numbers"] == {"fast": True, "hits": 4, "accuracy": 0.5, "bad": None}
    assert python == sys.executable

    index = (tmp_path / "out" / "index.html").read_text()
    assert index.count("data:image/png;base64,") == 1
    assert "NameError" in index and "01_good.html" in index and "accuracy" in index
    assert "not done yet" in (tmp_path / "out" / "01_good.html").read_text()
    printed = capsys.readouterr().out
    assert "FAILED" in printed and "hits 4" in " ".join(printed.split())


def test_tour_is_done_when_all_ran(tmp_path):
    pytest.importorskip("papermill")
    book = write_notebook(tmp_path / "nbs" / "00.ipynb", "print(FAST)")
    assert tour.run_tour(tmp_path / "out", [book]) == 0


def test_tour_names_the_cell_in_which_a_kernel_died(tmp_path):
    pytest.importorskip("papermill")
    book = write_notebook(tmp_path / "nbs" / "00.ipynb", "import os", "os._exit(3)", "last = 1")
    assert tour.run_tour(tmp_path / "out", [book]) == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())["notebooks"]
    assert all(part in report["00"]["error"] for part in ("os._exit(3)", "died"))


def test_tour_never_overwrites_its_notebooks(tmp_path):
    book = write_notebook(tmp_path / "00.ipynb", "1")
    with pytest.raises(ValueError, match="another folder"):
        tour.run_tour(tmp_path, [book])


def test_tour_without_notebooks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tour, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="clone"):
        tour.run_tour(tmp_path / "out")


def test_helpers_load_nothing_heavy(root):
    code = "import aikit.doctor, aikit.nb, aikit.tour, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "papermill", "gradio", "matplotlib"} & set(out.stdout.split())


def test_a_reply_is_found_though_nobody_was_woken_for_it():
    """A socket that wakes nobody for a message which is there when it is looked at again."""
    looks = []

    class Socket:
        async def poll(self, timeout_ms):
            looks.append(timeout_ms)
            return len(looks) > 2

    async def received():
        return {"msg_type": "execute_reply"}

    channel_class = tour.patient_kernel_manager()().client_factory().shell_channel_class
    channel = channel_class.__new__(channel_class)
    channel.socket, channel._recv = Socket(), received
    assert asyncio.run(channel.get_msg(900.0)) == {"msg_type": "execute_reply"}
    assert len(looks) == 3 and max(looks) <= 1000
    looks[:] = []
    with pytest.raises(Empty):
        asyncio.run(channel.get_msg(0.0))
    assert looks == [0]
