"""Fixtures for data beside a working copy; what is not there is skipped, with the reason."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may use the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


def _beside(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{name} beside the working copy, which is not part of it")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the working copy."""
    return ROOT


@pytest.fixture(scope="session")
def tokenizer(root):
    """The tokenizer of the shipped checkpoint."""
    from aikit.tokens import Tokenizer

    return Tokenizer.load(root / "data_samples" / "checkpoint" / "tokenizer.json")


@pytest.fixture(scope="module")
def parts(tokenizer):
    """A random model that a sound can move, and a tokenizer."""
    from lively import lively_model

    return lively_model(), tokenizer


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings: ../shared/data, with esc10/, fsdd/ and psb/."""
    return _beside("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Recorded outputs of the published code: ../shared/golden."""
    return _beside("golden")
