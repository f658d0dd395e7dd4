"""The three forwards of a session over one ring: encode, listen, decode; eagerly, packed, compiled, or as graphs.

Knows fixed shapes, device buffers and which logits are wanted. Does not know waveforms, text or
thresholds. Taught in notebook 03.

A small model on a GPU waits for Python: a step of 4 layers is some 150 kernels, each launched for more time
than it runs. A CUDA graph records them once and replays all with one call. It replays *addresses*, so
everything that changes (ring, positions, tower state) lies in buffers that are written in place, and
nothing inside depends on a value: the argmax is inside, sampling and stopping are outside. `EagerPath`
is the oracle: the same functions, called plainly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aikit.model.modeling import AudioInteractionModel
from aikit.model.tower import TowerState
from aikit.stream.cache import RingCache, feed
from aikit.stream.packed import can_pack, packed

log = logging.getLogger(__name__)


class EagerPath:
    """Encode, listen and decode for all rows of a ring.

    Parameters
    ----------
    model : in inference mode
    ring : the rows' memory; only `listen`, `decode` and `prefill` change it
    """

    name = "eager"

    def __init__(self, model: AudioInteractionModel, ring: RingCache):
        self.model, self.ring, layout = model, ring, model.layout
        self.decoder = model.decoder.model  # what `feed` goes through
        block = [layout.silent, *layout.block(model.shape.audio.frames_per_chunk)]
        self.block = torch.tensor(block, device=model.device)  # what a chunk adds: 13 positions
        self.controls = torch.tensor(layout.controls, device=model.device)
        self.legal = torch.zeros(model.shape.decoder.vocab, device=model.device)
        self.legal[sorted(layout.specials - {layout.eos})] = -torch.inf
        if model.device.type == "cpu" and not model.shape.decoder.tied:
            _by_columns(model.decoder.lm_head.weight)

    # --- the interface -----------------------------------------------------------------------------
    @torch.inference_mode()
    def encode(self, mel: Tensor, tower: TowerState | None) -> tuple[Tensor, TowerState | None]:
        """The newest chunk once: mel ``[B, M, 40]`` -> frames ``[B, 10, D]`` and the tower's state."""
        return self.model.encode(mel.to(self.model.device, self.model.dtype), tower)

    @torch.inference_mode()
    def prefill(self, row: int, ids: Sequence[int]) -> None:
        """Feed the instruction into a row that was just opened."""
        for piece in torch.tensor(ids, device=self.model.device).split(self.ring.step):
            self.ring.take(row, len(piece))
            embeddings = self.model.embed(piece[None]).expand(len(self.ring.rows), -1, -1)
            active = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=piece.device)
            active[row] = True
            feed(self.decoder, embeddings, self.ring, active, self.ring.used)

    @torch.inference_mode()
    def listen(self, pending: dict[int, int | None], frames: Tensor) -> list[float]:
        """Feed k chunks to the rows that `pending` names, decide once for each.

        Parameters
        ----------
        pending : row -> the token before its first block; None = nothing, the instruction stands there
        frames : ``[B, 10 k, D]``; between two chunks stands <silent>

        Returns
        -------
        list of float
            For every row, the logit of <response> less that of <silent>; no other logit is computed.
        """
        n, size = len(self.block), frames.shape[1] // self.model.shape.audio.frames_per_chunk
        active = [[row in pending] * (n * size) for row in range(len(frames))]
        for row, token in pending.items():
            active[row][0] = token is not None
            skipped = int(token is None)
            self.ring.take(row, n * size - skipped, range(1 - skipped, n * size - skipped, n))
        tokens = self._tensor([pending.get(row) or 0 for row in range(len(frames))])
        return self._listen(tokens, frames, self._tensor(active)).tolist()

    @torch.inference_mode()
    def decode(self, tokens: dict[int, int]) -> tuple[list[int], Tensor]:
        """Feed one token to each of the rows that `tokens` names.

        Returns
        -------
        likeliest : for every row, the legal token (text or end) with the largest logit
        logits : float32 ``[B, V]``; the next call may overwrite it
        """
        rows = range(len(self.ring.rows))
        for row in tokens:
            self.ring.take(row, 1)
        active = self._tensor([[row in tokens] for row in rows])
        fed = self._tensor([tokens.get(row, 0) for row in rows])
        likeliest, logits = self._decode(fed, active)
        return likeliest.tolist(), logits

    def _tensor(self, values: list) -> Tensor:
        return torch.tensor(values, device=self.model.device)

    # --- what is captured: tensors in, tensors out, nothing else changes but the ring -----------------
    def _used(self) -> int | None:
        return self.ring.used  # empty slots need not be looked at; a graph cannot know which are

    def _listen(self, pending: Tensor, frames: Tensor, active: Tensor) -> Tensor:
        rows, per_chunk = len(frames), len(self.block)
        ids = self.block.repeat(rows, active.shape[1] // per_chunk)
        ids[:, 0] = pending
        blocks = self.model.embed(ids).unflatten(1, (-1, per_chunk))
        blocks[:, :, 2:-1] = frames.view(*blocks[:, :, 2:-1].shape)
        hidden = feed(self.decoder, blocks.flatten(1, 2), self.ring, active, self._used())
        silent, respond = self.model.logits(hidden, self.controls).float().unbind(-1)
        return respond - silent

    def _decode(self, tokens: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.model.embed(tokens[:, None])
        hidden = feed(self.decoder, embeddings, self.ring, active, self._used())
        logits = self.model.logits(hidden).float()
        return (logits + self.legal).argmax(-1), logits


class PackedPath(EagerPath):
    """Eager, with the decoder's matrices packed for a processor; see `packed.py`."""

    name = "packed"

    def __init__(self, model: AudioInteractionModel, ring: RingCache):
        super().__init__(model, ring)
        self.decoder = packed(self.decoder)


class StaticPath(EagerPath):
    """The very functions that a graph captures, called plainly: every shape fixed, every slot looked at."""

    name = "static"

    def _used(self) -> None:
        return None


class CompiledPath(StaticPath):
    """The static functions through `torch.compile`; the first call of each takes a while."""

    name = "compile"

    def __init__(self, model: AudioInteractionModel, ring: RingCache):
        super().__init__(model, ring)
        self._listen = torch.compile(self._listen, dynamic=False)
        self._decode = torch.compile(self._decode, dynamic=False)


class GraphPath(StaticPath):
    """CUDA graphs of encode, of a listening step of one chunk, and of a decode step.

    A step that drains several chunks at once has another shape and runs plainly. All graphs are captured
    here, before any thread can be at work; give each thread that replays its own stage.
    """

    name = "graph"

    @torch.inference_mode()
    def __init__(self, model: AudioInteractionModel, ring: RingCache):
        super().__init__(model, ring)
        rows, audio, device = len(ring.rows), model.shape.audio, model.device
        tokens = torch.zeros(rows, dtype=torch.long, device=device)
        asleep = torch.zeros(rows, len(self.block), dtype=torch.bool, device=device)
        width = model.shape.decoder.width
        frames = torch.zeros(rows, audio.frames_per_chunk, width, device=device, dtype=model.dtype)
        mel = torch.zeros(1, audio.n_mels, audio.mel_per_chunk, device=device, dtype=model.dtype)
        self._graph_listen = Graph(super()._listen, tokens, frames, asleep)
        self._graph_decode = Graph(super()._decode, tokens, asleep[:, :1])
        self._graph_encode = Graph(self._encode, mel, *_tensors(model.tower.initial_state()))

    @torch.inference_mode()
    def encode(self, mel: Tensor, tower: TowerState | None) -> tuple[Tensor, TowerState | None]:
        if len(self.ring.rows) > 1 or mel.shape != self._graph_encode.inputs[0].shape:
            return super().encode(mel, tower)  # the one static state belongs to one stream
        start = tower or self.model.tower.initial_state()
        frames = self._graph_encode(mel, *_tensors(start)).clone()  # the next replay overwrites it
        _, *held = self._graph_encode.inputs
        n = (len(held) - 1) // 2
        return frames, TowerState(held[0], held[1 : 1 + n], held[1 + n :]) if held else None

    def _encode(self, mel: Tensor, *held: Tensor) -> Tensor:
        """The chunk's frames; the tower's state is written where it was read."""
        n = (len(held) - 1) // 2
        state = TowerState(held[0], [*held[1 : 1 + n]], [*held[1 + n :]]) if held else None
        frames, state = self.model.encode(mel, state)
        for old, new in zip(held, _tensors(state), strict=True):
            old.copy_(new)
        return frames

    def _listen(self, pending: Tensor, frames: Tensor, active: Tensor) -> Tensor:
        one_chunk = active.shape == self._graph_listen.inputs[2].shape
        return (self._graph_listen if one_chunk else super()._listen)(pending, frames, active)

    def _decode(self, tokens: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        return self._graph_decode(tokens, active)


class Graph:
    """A function of tensors, captured once. A call copies its inputs in, replays, returns the outputs.

    Parameters
    ----------
    function : called three times to warm up, with inputs that must not change anything that matters
    examples : tensors of the shapes, types and device of every later call
    """

    def __init__(self, function: Callable, *examples: Tensor):
        self.inputs, self.graph = [example.clone() for example in examples], torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose kernels and take memory now, not in the capture
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = function(*self.inputs)

    def __call__(self, *inputs: Tensor):
        for held, new in zip(self.inputs, inputs, strict=True):
            if held is not new:
                held.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.outputs


def _by_columns(weight: torch.nn.Parameter) -> None:
    """Lay a matrix out by columns, in place of what it was: for one row, MKL then reads it 2.8 times as fast."""
    if weight.is_contiguous():
        weight.data = weight.data.t().contiguous().t()


def _tensors(state: TowerState | None) -> list[Tensor]:
    return [] if state is None else [state.mel, *state.keys, *state.values]


PATHS = {path.name: path for path in (EagerPath, PackedPath, StaticPath, CompiledPath, GraphPath)}


def pick_path(model: AudioInteractionModel, ring: RingCache, name: str = "auto") -> EagerPath:
    """The fastest path that works here, or the one that ``name`` asks for.

    Parameters
    ----------
    name : "auto" (graphs on a CUDA device, packed on a processor where that can be, else eager), "eager",
        "packed", "static", "compile" or "graph"

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if name not in ("auto", *PATHS):
        raise ValueError(f"no path {name!r}; choose one of auto, {', '.join(PATHS)}")
    on_gpu = model.device.type == "cuda"
    if name == "graph" and not on_gpu:
        log.warning(
            "CUDA graphs need a CUDA device; this model is on %s and runs eagerly", model.device
        )
    if name in ("auto", "packed") and can_pack(model.decoder.model):
        return PackedPath(model, ring)
    if name == "packed" or (not on_gpu and name in ("auto", "graph")):
        return EagerPath(model, ring)
    return GraphPath(model, ring) if name == "auto" else PATHS[name](model, ring)
