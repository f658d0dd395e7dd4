"""aikit: a streaming audio language model, small enough to read, train and run on a laptop.

Two names are enough to start::

    import aikit
    ai = aikit.load()
    for event in ai.listen("data_samples/scenes/kitchen.flac"):
        print(event)

Importing the package is fast; torch and friends load where they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from aikit.stream.assistant import Assistant

__version__ = "0.1.0"
__all__ = ["load", "__version__"]


def load(
    path: str | Path | None = None, device: str | None = None, dtype: str | None = None
) -> Assistant:
    """Load a model folder, by default the one that the kit ships; see `aikit.stream.assistant.load`."""
    from aikit.stream.assistant import load as load_assistant

    return load_assistant(path, device, dtype)
