"""A random model that a sound can move: fresh weights are so small that every chunk is decided alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aikit.config import ModelConfig, preset
from aikit.model.modeling import AudioInteractionModel
from aikit.stream.session import Event, Session, SessionConfig


@torch.no_grad()
def lively_model(config: ModelConfig | None = None, seed: int = 2) -> AudioInteractionModel:
    """Nano (or another shape) with matrices ten times as large."""
    model = AudioInteractionModel.from_preset(config or preset("nano"), seed=seed).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight *= 10
    return model


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness changes five times a second."""
    draw, n = np.random.default_rng(seed), round(seconds * 16_000)
    loudness = 10 ** draw.uniform(-3, -0.3, n // 3_200 + 1)
    return (draw.normal(size=n) * np.repeat(loudness, 3_200)[:n]).clip(-1, 1).astype(np.float32)


def talkative(model, tokenizer, waveform, **settings) -> SessionConfig:
    """A threshold at which this model speaks now and then."""
    config = SessionConfig(1.1, **settings)
    p = np.sort(
        [event.p_respond for event in Session(model, tokenizer, config=config).push(waveform)]
    )
    middle = p[len(p) // 3 : -len(p) // 4]
    widest = int(np.argmax(np.diff(middle)))  # so that rounding changes no decision
    return replace(config, threshold=float(middle[widest : widest + 2].mean()))


def same(events: list[Event], expected: list[Event], atol: float = 1e-5) -> bool:
    """Equal to the last letter; probabilities nearly, as one block's mel may round otherwise than two's."""
    assert [replace(e, p_respond=None) for e in events] == [
        replace(e, p_respond=None) for e in expected
    ]
    p = [event.p_respond for event in expected]
    assert [event.p_respond for event in events] == pytest.approx(p, abs=atol)
    return True
