"""Four helpers that every notebook starts or ends with: setup, audio, check, report.

It knows notebooks (IPython's display, the .ipynb format) and nothing of audio models. Numbers that
a notebook reports lie in its own outputs, so tests and `aikit tour` need only the .ipynb file.
"""

import json
import math
import os
import platform
import random
import warnings
from dataclasses import dataclass
from pathlib import Path

REPORT_MIME = "application/vnd.aikit.report+json"


@dataclass(frozen=True)
class Machine:
    """What the notebook runs on. `device` and `dtype` are torch's names, as strings."""

    device: str  # "cuda", "mps" or "cpu"
    dtype: str  # for inference; tiny models train in float32
    versions: dict[str, str]


def setup(seed: int = 0, threads: int = 1) -> Machine:
    """Seed every generator, quiet the libraries and print one line on versions and device.

    Models as small as the kit's are quickest on one thread: several wait for each other, and where another program
    keeps a core busy they wait for long.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns at every fork
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.filterwarnings("ignore", category=category)
    import numpy as np
    import torch

    from aikit.doctor import metadata, pick_device

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # seeds the GPUs as well
    torch.set_num_threads(threads)
    names = ("torch", "transformers", "numpy")
    versions = {"Python": platform.python_version(), **{n: metadata.version(n) for n in names}}
    machine = Machine(*pick_device(), versions)
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{listed} | device {machine.device}, {machine.dtype} | seed {seed}")
    return machine


def audio(waveform, rate: int = 16_000, title: str = ""):
    """Make a player that keeps the level: quiet sounds stay quiet, and only clipping is scaled.

    Parameters
    ----------
    waveform : array or tensor [n_samples] or [channels, n_samples], in [-1, 1]
    rate : sampling rate in Hz
    title : a line shown above the player

    Returns
    -------
    IPython.display.Audio, with the sound inside the notebook
    """
    import numpy as np
    from IPython.display import Audio, Markdown, display

    waveform = waveform.detach().cpu() if hasattr(waveform, "detach") else waveform
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError("expected finite samples; this waveform is empty or holds NaN or inf")
    if title:
        display(Markdown(f"**{title}**"))
    return Audio(samples / max(1.0, np.abs(samples).max()), rate=rate, normalize=False)


def check(name: str, condition_or_value, hint: str = "") -> None:
    """Say whether an exercise is solved; never raise, for an untouched stub must let the run go on.

    `None` (what a stub returns), false conditions and arrays with a false entry are "not done yet";
    so is a function without arguments that raises, for conditions that a stub would break:
    `check("gain", lambda: gain(wave, -6).max() < 0.51)`.
    """
    try:
        value = condition_or_value() if callable(condition_or_value) else condition_or_value
        done = value is not None and value is not NotImplemented and _all_true(value)
    except Exception as error:  # whatever an unfinished exercise does
        done, hint = False, f"{hint} ({type(error).__name__}: {error})".strip()
    todo = f"⬜ {name}: not done yet" + (f". Hint: {hint}" if hint else "")
    print(f"✅ {name}" if done else todo)


def _all_true(value) -> bool:
    """A condition must hold everywhere; any other value (0.0, a string) counts as an answer."""
    kind = str(getattr(value, "dtype", type(value).__name__))
    return bool(value.all() if hasattr(value, "all") else value) if "bool" in kind else True


def report(**named_numbers) -> None:
    """Show numbers under their names and record them, for `read_report`, in this cell's output.

    Takes numbers, booleans, strings, and arrays or tensors of one element. NaN and infinity become
    None, which is what JSON can hold.
    """
    from IPython.display import display

    numbers = {name: _plain(name, value) for name, value in named_numbers.items()}
    width = max(map(len, numbers), default=0)
    shown = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in numbers.items()}
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items())
    display({REPORT_MIME: numbers, "text/plain": text}, raw=True)


def _plain(name: str, value) -> bool | int | float | str | None:
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise ValueError(f"report({name}=...) takes one number or string, not {type(value)}")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_report(notebook_path: str | Path) -> dict:
    """Collect what an executed notebook reported; a later value replaces an earlier one."""
    cells = json.loads(Path(notebook_path).read_text(encoding="utf-8"))["cells"]
    found: dict = {}
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        found.update(output.get("data", {}).get(REPORT_MIME, {}))
    return found
