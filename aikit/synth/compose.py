"""Composition: clips become a stream with a timeline (paper §3.2, Alg. 4, "dual-track").

Knows levels, offsets, junctions and chunks. Does not know why a clip was chosen or what a reply means.
Taught in notebook 01.

Five layers are mixed: *foreground* clips one after the other at 0 dB, each reply due in the chunk in which
its clip ends; *background* (-6 dB) and *ambient* (-12 dB) clips at random offsets; and two noise tracks,
event-like and ambient, tiled over the whole stream at a given SNR, the ambient one 5 dB quieter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aikit.audio import SAMPLE_RATE
from aikit.config import AudioConfig
from aikit.synth.clips import Clip
from aikit.synth.grounding import Decision
from aikit.tokens import DEFAULT_INSTRUCTION, Reply

ROLE_GAIN_DB = {"foreground": 0.0, "background": -6.0, "ambient": -12.0}
REFERENCE_RMS = 0.08  # -22 dBFS: what "0 dB" means for the active part of a clip
AMBIENT_NOISE_DB = -5.0  # the second noise track against the first
FADE_S = 0.02  # at both ends of every clip
CROSSFADE_S = 0.1  # between the tiles of a noise track
HEARING_S = 0.1  # silence a listener needs to know that a sound has ended
TAIL_S = 0.8  # silence after the last foreground clip
PEAK = 0.98


@dataclass(frozen=True)
class Item:
    """A clip with its part in the stream, and the reply due when it ends."""

    clip: Clip
    role: str = "foreground"
    reply: str | None = None
    emotion: str = "normal"
    gap_s: float = 0.8  # before the clip; foreground only
    act: str = ""  # what speech means, as `rules.py` writes it
    refers_to: int | None = None  # the turn (foreground clip, from 0) that the reply needs


@dataclass(frozen=True)
class SoundEvent:
    """What sounds from ``start_s`` to ``end_s``, in which role, and what it asks for."""

    label: str
    start_s: float
    end_s: float
    role: str = "foreground"
    text: str = ""
    language: str = ""
    source: str = ""
    name: str = ""
    reply: str | None = None
    act: str = ""
    refers_to: int | None = None

    def chunk(self, config: AudioConfig = AudioConfig()) -> int:
        """The chunk in which the event ends, counted from 0: ceil(end / c) - 1."""
        return max(0, int(np.ceil(round(self.end_s / config.chunk_s, 6))) - 1)


@dataclass(frozen=True)
class Stream:
    """One training or test item: a waveform and all that is true of it."""

    waveform: np.ndarray  # float32 [n_chunks * 6400]; 6400 on the usual grid of 400 ms
    timeline: tuple[Reply, ...]
    events: tuple[SoundEvent, ...]
    ability: str = ""
    sub_task: str = ""
    instruction: str = DEFAULT_INSTRUCTION
    seed: int = 0
    rule: str = ""  # what the instruction means, as `rules.py` writes it; "" for the default one
    scenario: dict = field(default_factory=dict)  # the planned scene, as `Scenario.record` gives it
    grounding: tuple[Decision, ...] = ()  # why each clip was taken
    layers: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    chunk_ms: int = AudioConfig.chunk_ms  # the grid that it was composed on

    @property
    def audio(self) -> AudioConfig:
        """The grid that it was composed on."""
        return AudioConfig(chunk_ms=self.chunk_ms)

    @property
    def n_chunks(self) -> int:
        """Length in chunks."""
        return len(self.waveform) // self.audio.chunk_samples

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / SAMPLE_RATE


def active_rms(waveform: np.ndarray) -> float:
    """RMS of the part that sounds: 20 ms frames within 30 dB of the loudest."""
    frame = SAMPLE_RATE // 50
    n = max(1, len(waveform) // frame)
    power = np.square(waveform[: n * frame].reshape(n, -1)).mean(axis=1)
    loud = power[power >= power.max() * 1e-3]
    return float(np.sqrt(loud.mean())) if power.max() > 0 else 0.0


def at_level(waveform: np.ndarray, gain_db: float) -> np.ndarray:
    """Scale so that the active part lies ``gain_db`` above the reference level."""
    level = active_rms(waveform)
    if level == 0.0:
        return waveform
    return waveform * np.float32(REFERENCE_RMS / level * 10 ** (gain_db / 20))


def faded(waveform: np.ndarray, fade_s: float = FADE_S) -> np.ndarray:
    """Half-Hann fades at both ends, so that no junction clicks."""
    n = min(int(fade_s * SAMPLE_RATE), len(waveform) // 2)
    ramp = np.sin(np.linspace(0, np.pi / 2, n, dtype=np.float32)) ** 2
    out = waveform.copy()
    out[:n] *= ramp
    out[len(out) - n :] *= ramp[::-1]
    return out


def tiled(clip: np.ndarray, n_samples: int, crossfade_s: float = CROSSFADE_S) -> np.ndarray:
    """Repeat a clip over ``n_samples`` with equal-power crossfades, without the silence at its ends."""
    loud = np.flatnonzero(np.abs(clip) > 0.01 * np.abs(clip).max())
    clip = clip[loud[0] : loud[-1] + 1] if len(loud) > 1 else clip
    cross = min(int(crossfade_s * SAMPLE_RATE), len(clip) // 3)
    ramp = np.sin(np.linspace(0, np.pi / 2, cross, dtype=np.float32))
    body = clip.copy()
    body[:cross] *= ramp
    body[len(body) - cross :] *= ramp[::-1]
    out = np.zeros(n_samples + len(clip), np.float32)
    for start in range(-cross, n_samples, len(clip) - cross):  # begins inside a tile
        lo = max(start, 0)
        out[lo : start + len(clip)] += body[lo - start :]
    return out[:n_samples]


def place_foreground(
    items: Sequence[Item], config: AudioConfig = AudioConfig()
) -> tuple[list[SoundEvent], float]:
    """Put foreground clips one after the other; return their events and the end in seconds.

    A clip that would end in the last 100 ms of a chunk is moved a little: nobody could hear yet, at
    the end of that chunk, that it is over.
    """
    events, now = [], 0.0
    for item in items:
        start = now + item.gap_s
        end = start + item.clip.duration_s - 1e-4  # an end on the border belongs to the chunk before
        late = end % config.chunk_s - (config.chunk_s - HEARING_S)
        if late > 0:
            start += HEARING_S - late + 0.01
        now = start + item.clip.duration_s
        events.append(_event(item, start))
    return events, now


def _event(item: Item, start_s: float) -> SoundEvent:
    clip = item.clip
    return SoundEvent(
        clip.label, round(start_s, 4), round(start_s + clip.duration_s, 4), item.role,
        clip.text, clip.language, clip.source, clip.name, item.reply,
        item.act, item.refers_to,
    )  # fmt: skip


def _add(track: np.ndarray, waveform: np.ndarray, start_s: float) -> None:
    start = round(start_s * SAMPLE_RATE)
    part = waveform[: max(0, len(track) - start)]
    track[start : start + len(part)] += part


def compose(
    items: Sequence[Item],
    rng: np.random.Generator,
    *,
    noise: tuple[Clip, Clip] | None = None,
    snr_db: float | None = None,
    n_chunks: int | None = None,
    tail_s: float = TAIL_S,
    gain_db: float = 0.0,
    keep_layers: bool = False,
    config: AudioConfig = AudioConfig(),
) -> Stream:
    """Mix items into a stream (paper Alg. 4).

    Parameters
    ----------
    items : foreground in order; background and ambient items get random offsets
    rng : the only source of chance
    noise : the event-like and the ambient noise clip; None = no noise
    snr_db : foreground over the first noise track; drawn from U(5, 20) when None
    n_chunks : length; long enough for the foreground and ``tail_s`` when None
    gain_db : of the whole stream, as a microphone near or far

    Returns
    -------
    Stream
        With ``layers`` (one waveform a layer, adding up to the mix) if ``keep_layers``.

    Raises
    ------
    ValueError
        For no foreground, an unknown role, or a foreground longer than ``n_chunks``.
    """
    unknown = {item.role for item in items} - set(ROLE_GAIN_DB)
    if unknown:
        raise ValueError(f"unknown role {unknown}; expected one of {', '.join(ROLE_GAIN_DB)}")
    front = [item for item in items if item.role == "foreground"]
    if not front:
        raise ValueError("a stream needs at least one foreground clip")
    events, end_s = place_foreground(front, config)
    needed = int(np.ceil((end_s + tail_s) / config.chunk_s))
    if n_chunks is not None and needed > n_chunks:
        raise ValueError(f"the foreground needs {needed} chunks, more than n_chunks={n_chunks}")
    n_samples = (n_chunks or needed) * config.chunk_samples

    layers = {role: np.zeros(n_samples, np.float32) for role in ROLE_GAIN_DB}
    for item, event in zip(front, events, strict=True):
        _add(layers["foreground"], faded(at_level(item.clip.waveform, 0.0)), event.start_s)
    events += _scatter([item for item in items if item.role != "foreground"], layers, rng)
    if noise is not None:
        snr_db = float(rng.uniform(5, 20)) if snr_db is None else snr_db
        layers |= _noise_tracks(noise, layers["foreground"], snr_db)
    layers = _without_clipping(layers, gain_db)
    timeline = tuple(
        Reply(event.chunk(config), item.reply, item.emotion)
        for item, event in zip(front, events, strict=False)
        if item.reply is not None
    )
    mix = np.sum(list(layers.values()), axis=0, dtype=np.float32)
    events.sort(key=lambda event: event.start_s)
    return Stream(mix, timeline, tuple(events), layers=layers if keep_layers else {}, chunk_ms=config.chunk_ms)


def _scatter(
    items: list[Item], layers: dict[str, np.ndarray], rng: np.random.Generator
) -> list[SoundEvent]:
    """Mix background and ambient clips in at random offsets."""
    events, length_s = [], len(layers["ambient"]) / SAMPLE_RATE
    for item in items:
        start_s = float(rng.uniform(0, max(0.0, length_s - item.clip.duration_s)))
        waveform = faded(at_level(item.clip.waveform, ROLE_GAIN_DB[item.role]))
        _add(layers[item.role], waveform, start_s)
        event = _event(item, start_s)
        events.append(replace(event, end_s=min(event.end_s, length_s)))
    return events


def _noise_tracks(
    noise: tuple[Clip, Clip], foreground: np.ndarray, snr_db: float
) -> dict[str, np.ndarray]:
    """The event-like track ``snr_db`` under the foreground's active level, the ambient one 5 dB lower."""
    out, level = {}, active_rms(foreground)
    for name, clip, extra_db in (
        ("noise_event", noise[0], 0.0),
        ("noise_ambient", noise[1], AMBIENT_NOISE_DB),
    ):
        track = tiled(clip.waveform, len(foreground))
        rms = float(np.sqrt(np.mean(np.square(track)))) or 1.0
        out[name] = track * np.float32(level / rms * 10 ** ((extra_db - snr_db) / 20))
    return out


def _without_clipping(layers: dict[str, np.ndarray], gain_db: float) -> dict[str, np.ndarray]:
    """Apply the stream's gain, and lower all layers together if the mix would clip."""
    peak = float(np.abs(np.sum(list(layers.values()), axis=0)).max()) or 1.0
    gain = np.float32(min(10 ** (gain_db / 20), PEAK / peak))
    return {name: layer * gain for name, layer in layers.items()}
