"""Say what this computer offers aikit, and what to do about what is missing: `aikit doctor`.

It knows the machine, the packages, the device and the shipped samples; not models, not audio. Which
packages are needed stands in pyproject.toml alone. A part that is missing or does not load, torch
too, is reported and never raised. Notebook 00 shows its table.
"""

import hashlib
import os
import platform
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the clone, when aikit was installed with -e
INSTALL = "run `make venv` (or: pip install -e '.[notebooks,demo,test]')"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Check:
    """One line of the report. `ok`: True, False (required and broken), None (optional, missing)."""

    name: str
    ok: bool | None
    value: str
    advice: str = ""


def pick_device() -> tuple[str, str]:
    """Choose where to compute, and in which type for inference.

    Returns
    -------
    device, dtype : "cuda", "mps" or "cpu"; "bfloat16", "float16" or "float32"
        bfloat16 only from compute capability 8.0 on: older GPUs (Colab's T4) emulate it, slowly.
        Tiny models train in float32 everywhere. Raises ImportError or OSError without a torch.
    """
    import torch

    if torch.cuda.is_available():
        newer = torch.cuda.get_device_capability() >= (8, 0)
        return "cuda", "bfloat16" if newer else "float16"
    return ("mps", "float16") if torch.backends.mps.is_available() else ("cpu", "float32")


def report() -> list[Check]:
    """Look at everything once; takes the few seconds that torch needs to load."""
    return [*_machine(), *map(_package, _requirements()), _device(), *_optional(), *_samples()]


def machine() -> str:
    """System, processor, cores and memory in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")  # on Linux platform.processor() says nothing
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    cpu = named[1] if named else platform.processor() or platform.machine()
    value = f"{platform.system()} {platform.release()}, {cpu}, {cores} cores"
    if hasattr(os, "sysconf"):  # Windows has none
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        value += f", {memory_bytes / 2**30:.1f} GiB"
    return value


def _machine() -> list[Check]:
    advice = "" if (3, 11) <= sys.version_info[:2] <= (3, 13) else "use Python 3.11, 3.12 or 3.13"
    return [
        Check("machine", True, machine()),
        Check("python", not advice, platform.python_version(), advice),
    ]


def _requirements() -> list[str]:
    """The core requirements, as pyproject.toml (in a clone) or the installed metadata say."""
    if (ROOT / "pyproject.toml").exists():
        lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    else:
        lines = [line for line in metadata.requires("aikit") or [] if "extra ==" not in line]
    return [line for line in lines if "espeakng" not in line]  # only speech synthesis needs it


def _package(requirement: str, fix: str = "", bad: bool | None = False) -> Check:
    """Compare an installed version with its range, such as "gradio>=6,<7"."""
    name, spec = re.match(r"([\w.-]+)(.*)", requirement).groups()
    fix = fix or f"run: pip install '{requirement}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, bad, "missing", fix)
    try:
        fits = import_module("packaging.specifiers").SpecifierSet(spec).contains(version, True)
    except ImportError:  # without `packaging`, which transformers brings, only presence counts
        fits = True
    return Check(name, True, version) if fits else Check(name, bad, version, f"needs {spec}; {fix}")


def _device() -> Check:
    try:
        device, dtype = pick_device()
        torch = import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing
        return Check("device", False, f"torch does not load: {error}"[:200], INSTALL)
    if device != "cuda":
        return Check("device", True, f"{device}, {dtype}")
    gpu = torch.cuda.get_device_properties(0)
    size = f"capability {gpu.major}.{gpu.minor}, {gpu.total_memory / 2**30:.1f} GiB"
    return Check("device", True, f"cuda ({gpu.name}, {size}), {dtype}")


def _optional() -> list[Check]:
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    hint = "" if found else "for the browser test only; on Debian: apt install chromium"
    return [
        _package("papermill", "run: pip install -e '.[notebooks]'", bad=None),
        _package("gradio>=6,<7", "run: pip install -e '.[demo]'", bad=None),
        _package("espeakng-loader", "speech needs it; run: pip install espeakng-loader", bad=None),
        Check("chromium", bool(found) or None, (found or ["missing"])[0], hint),
    ]


def _samples() -> list[Check]:
    """The shipped checkpoint, and every file of the manifest against its SHA-256."""
    folder, manifest = ROOT / "data_samples", ROOT / "data_samples" / "SHA256SUMS"
    shipped = ", ".join(sorted(path.parent.name for path in folder.rglob("*.safetensors")))
    advice = "" if shipped else "clone the repository with its data_samples/, or run: aikit train"
    checks = [Check("checkpoint", bool(shipped) or None, shipped or "missing", advice)]
    if not manifest.exists():
        return checks
    sums = [line.split(maxsplit=1) for line in manifest.read_text().splitlines() if line.strip()]
    wrong = [name for digest, name in sums if _sha256(folder / name.lstrip("*")) != digest]
    value = f"{len(sums) - len(wrong)} of {len(sums)} files are as shipped"
    advice = f"see {', '.join(wrong[:3])}; run: git checkout data_samples" if wrong else ""
    return [*checks, Check("samples", not wrong, value, advice)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def main() -> int:
    """Print the report as a table; 1 if a required part is broken, else 0."""
    from rich.console import Console
    from rich.markup import escape  # advice such as `.[demo]` is no markup
    from rich.table import Table

    mark = {True: "[green]ok", None: "[yellow]missing", False: "[red]broken"}
    table = Table("part", "", "what is there", "what to do", title="aikit doctor")
    for check in (checks := report()):
        table.add_row(check.name, mark[check.ok], escape(check.value), escape(check.advice))
    Console().print(table)
    return int(any(check.ok is False for check in checks))
