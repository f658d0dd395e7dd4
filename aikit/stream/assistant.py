"""`aikit.load`: a checkpoint folder as something that listens.

Knows folders, devices and defaults. Does not know how a chunk is decided (`session.py`). Taught in
notebook 00.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from aikit.audio import load_audio
from aikit.doctor import pick_device
from aikit.model.modeling import AudioInteractionModel
from aikit.model.shards import load_model
from aikit.stream.answer import answer_offline
from aikit.stream.pool import SessionPool
from aikit.stream.session import Event, Session, SessionConfig
from aikit.tokens import Tokenizer

SHIPPED = Path(__file__).resolve().parents[2] / "data_samples" / "checkpoint"


class Assistant:
    """A model with its tokenizer; makes sessions and listens to files."""

    def __init__(
        self,
        model: AudioInteractionModel,
        tokenizer: Tokenizer,
        config: SessionConfig = SessionConfig(),
    ):
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config

    def session(
        self, instruction: str | None = None, threshold: float | None = None
    ) -> Session:
        """A new conversation; sessions of one assistant share weights and nothing else.

        Parameters
        ----------
        instruction : what to do, in words; None = help when help is needed
        threshold : respond when p(respond) reaches it; None = the checkpoint's own
        """
        config = self.config if threshold is None else replace(self.config, threshold=threshold)
        return Session(self.model, self.tokenizer, instruction or self.model.layout.instruction, config)

    def pool(self, size: int) -> SessionPool:
        """Room for ``size`` conversations in one batch: see `aikit.stream.pool`."""
        return SessionPool(self.model, self.tokenizer, size, self.config)

    def listen(
        self,
        source,
        rate: int | None = None,
        instruction: str | None = None,
        threshold: float | None = None,
    ) -> Iterator[Event]:
        """Listen to a finished recording as if it were live: chunk by chunk, never looking ahead.

        Parameters
        ----------
        source : a file, or samples (which need ``rate``); see `aikit.audio.load_audio`

        Yields
        ------
        Event
            At least one a chunk of 400 ms; a little silence is heard after the end.
        """
        waveform = load_audio(source, rate)
        session = self.session(instruction, threshold)
        size = session.audio.chunk_samples
        for start in range(0, len(waveform), size):
            yield from session.stream(waveform[start : start + size])
        yield from session.stream_end()

    def answer(self, audio=None, question: str | None = None, rate: int | None = None) -> str:
        """Hear all of a recording, or none, and only then answer; see `aikit.stream.answer`."""
        waveform = None if audio is None else load_audio(audio, rate)
        return answer_offline(self.model, self.tokenizer, waveform, question)


def load(
    path: str | Path | None = None, device: str | None = None, dtype: str | None = None
) -> Assistant:
    """Load a model folder of any form: the kit's own, the published weights, or Qwen2.5-Omni.

    Parameters
    ----------
    path : folder, or name on the Hugging Face hub; None = the tiny model that the kit ships
    device : "cpu", "cuda", "mps"; None = the best one here
    dtype : "float32", "bfloat16", "float16"; None = what the device is good at; on a CPU as stored,
        but float32 for float16

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder or a part of it is missing, torn or does not fit; the message says which.
    """
    import json

    folder = fetch(path) if path is not None else SHIPPED
    if not (folder / "tokenizer.json").exists() and (path is None or folder.is_dir()):
        hint = "" if path else "; clone the whole repository, the model is in data_samples/"
        raise FileNotFoundError(f"no model in {folder}: tokenizer.json is missing{hint}")
    best, best_dtype = pick_device()
    device = device or best
    if dtype is None and device != "cpu":
        dtype = best_dtype if device.split(":")[0] == best else "float32"
    model = load_model(folder, device, getattr(torch, dtype) if dtype else None)
    if dtype is None and model.dtype == torch.float16:  # no processor computes in it
        model = model.float()
    settings = folder / "session.json"
    config = SessionConfig(**json.loads(settings.read_text())) if settings.exists() else SessionConfig()
    return Assistant(model, Tokenizer.load(folder / "tokenizer.json", model.layout), config)


def fetch(path: str | Path) -> Path:
    """A folder as it is; a name such as ``owner/model`` after a download from the hub."""
    if Path(path).is_dir() or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path)):
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        wanted = ["*.safetensors", "*.json", "*.yaml", "*.pth"]
        return Path(snapshot_download(str(path), allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"{path} is no folder here, and the hub gave no model of that name ({type(error).__name__})"
        ) from error
