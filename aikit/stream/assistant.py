"""`aikit.load`: a checkpoint folder as something that listens.

Knows folders, devices and defaults. Does not know how a chunk is decided (`session.py`). Taught in
notebook 00.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from aikit.audio import load_audio
from aikit.doctor import pick_device
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.session import Event, Session, SessionConfig
from aikit.tokens import DEFAULT_INSTRUCTION, Tokenizer

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
        return Session(self.model, self.tokenizer, instruction or DEFAULT_INSTRUCTION, config)

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


def load(path: str | Path | None = None, device: str | None = None) -> Assistant:
    """Load a model folder; None = the tiny one that the kit ships.

    Parameters
    ----------
    path : folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``
    device : "cpu", "cuda", "mps"; None = the best one here

    Raises
    ------
    FileNotFoundError
        If the folder or a part of it is missing; the message says which.
    """
    import json

    folder = Path(path) if path is not None else SHIPPED
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).exists():
            hint = "" if path else "; clone the whole repository, the model is in data_samples/"
            raise FileNotFoundError(f"no model in {folder}: {name} is missing{hint}")
    best, dtype = pick_device()
    if device is not None and device != best:
        best, dtype = device, "float32"
    transformers.utils.logging.disable_progress_bar()  # for half a second of loading
    model = AudioInteractionModel.from_pretrained(folder, dtype=getattr(torch, dtype)).to(best)
    settings = folder / "session.json"
    config = SessionConfig(**json.loads(settings.read_text())) if settings.exists() else SessionConfig()
    return Assistant(model, Tokenizer.load(folder / "tokenizer.json"), config)
