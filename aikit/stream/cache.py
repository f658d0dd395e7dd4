"""A KV cache of constant size, for a session without end (paper §3.4), and the decoder's step over it.

Knows slots, positions and rotations. Does not know what is heard, nor which token is legal. Taught in
notebook 03.

A row (one session) keeps its first positions for ever, the *pinned* ones: the instruction, and as many
after it as are wanted as attention sinks. Behind them the newest positions lie in a ring; the oldest whole
chunks are forgotten when it is full. The decoder must not see the hole: to it, the instruction stands right
before the oldest chunk that is kept. So the keys of the window stay as they were written, rotated by
their place in the stream, and the few pinned keys are rotated anew each time that the window moves.

Angles are counted in integer parts of a turn, which wrap around exactly: a year of positions later, a
distance of one is still the same rotation. (In float32, 24 hours at 30 positions a second are off by
0.08 rad.) Every shape is fixed and every index lies on the device, so that a CUDA graph can hold the step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aikit.config import DecoderConfig

TURN = 2**40  # parts of a full turn: an angle is right to 1e-11 of a turn a position
EMPTY = 2**62  # position of a slot that nothing was written to: later than any query
ALIGNED = 16  # slots are a multiple of it: kernels that take a mask want rows of 16 bytes and more
UNSEEN = -1  # position of slot 0, which takes what is not to be kept


def turn_steps(head_width: int, theta: float) -> Tensor:
    """RoPE's frequencies as parts of a turn a position: int64 ``[head_width / 2]``."""
    exponents = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    return (theta**-exponents * TURN / (2 * math.pi)).round().long()


def rotation(positions: Tensor, steps: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each ``[..., head_width / 2]``, of int64 positions ``[...]`` of any size."""
    turns = (positions[..., None] * steps) & (TURN - 1)  # exact: int64 wraps at a whole turn, too
    angle = turns.float() * (2 * math.pi / TURN)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + half) of ``x [..., head_width]``."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


@dataclass
class Row:
    """What the host knows of one session's row; the device has the same numbers as tensors."""

    pinned: int = 0  # positions that are never forgotten
    position: int = 0  # of the next token
    floor: int = 0  # oldest position of the window that is still seen
    starts: deque[int] = field(default_factory=deque)  # first positions of the chunks still seen


class RingCache:
    """Keys and values of ``rows`` sessions, in memory that never grows.

    Parameters
    ----------
    config : the decoder's shape
    pinned : positions that a row may keep for ever, at most
    window : positions behind them that a token sees, itself included
    step : positions that are fed at once, at most; the ring holds ``window + step - 1`` or some more,
        because a step must not overwrite what its own first token still sees
    """

    def __init__(
        self,
        config: DecoderConfig,
        pinned: int,
        window: int,
        step: int,
        rows: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        head = config.head_dim or config.width // config.heads
        self.window, self.step, self.group = window, step, config.heads // config.kv_heads
        self.capacity = -(-(pinned + window + step) // ALIGNED) * ALIGNED - 1
        shape = (config.layers, rows, 1 + self.capacity, config.kv_heads, head)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.anchors = torch.zeros_like(self.keys[:, :, :pinned])  # pinned keys as first written
        self.slot_positions = torch.full(shape[1:3], EMPTY, device=device)
        self.position, self.floor, self.pinned = (
            torch.zeros(rows, dtype=torch.long, device=device) for _ in range(3)
        )
        self.steps = turn_steps(head, config.rope_theta).to(device)
        self.rows = [Row() for _ in range(rows)]
        for row in range(rows):
            self.open(row, 0)

    @property
    def n_bytes(self) -> int:
        """Bytes of keys and values."""
        return 2 * self.keys.numel() * self.keys.element_size()

    @property
    def used(self) -> int:
        """Slots that may hold anything, slot 0 included; grows until the ring is full."""
        return 1 + min(self.capacity, max(row.position for row in self.rows))

    # --- the host's part, before a step ------------------------------------------------------------
    @torch.inference_mode()
    def open(self, row: int, pinned: int) -> None:
        """Forget all that a row held; its first ``pinned`` positions will be kept for ever."""
        if pinned > self.anchors.shape[2]:
            raise ValueError(
                f"{pinned} pinned positions, but this cache was made for {self.anchors.shape[2]}; "
                "shorten the instruction, or make the cache with a larger `pinned`"
            )
        self.rows[row] = Row(pinned, 0, pinned)
        self.slot_positions[row] = EMPTY
        self.slot_positions[row, 0] = UNSEEN
        self.position[row] = 0
        self.floor[row] = self.pinned[row] = pinned

    @torch.inference_mode()
    def take(self, row: int, n: int, starts: Sequence[int] = ()) -> None:
        """Make room for a step of ``n`` positions of a row, forgetting whole chunks where needed.

        ``starts`` says which of the n positions begin a chunk.
        """
        if n > self.step:
            raise ValueError(f"a step of {n} positions, but this cache was made for {self.step}")
        host = self.rows[row]
        floor = host.floor
        while host.starts and host.position + 1 - floor > self.window:
            host.starts.popleft()
            floor = max(host.pinned, host.starts[0] if host.starts else host.position)
        if floor != host.floor:
            self._move(row, host, floor)
        host.starts.extend(host.position + start for start in starts)
        host.position += n

    def _move(self, row: int, host: Row, floor: int) -> None:
        """Let the pinned positions stand right before ``floor``."""
        keys, anchors = self.keys[:, row, 1 : 1 + host.pinned], self.anchors[:, row, : host.pinned]
        if host.floor == host.pinned:  # until now they stood where they were written
            anchors.copy_(keys)
        shift = torch.tensor(floor - host.pinned, device=self.steps.device)
        keys.copy_(rotate(anchors, *rotation(shift, self.steps, keys.dtype)))
        self.floor[row] = host.floor = floor

    # --- the device's part, in a step --------------------------------------------------------------
    def place(self, active: Tensor, used: int) -> Place:
        """Where the next positions go and what they see; ``active`` bool ``[B, n]``."""
        dtype = self.keys.dtype
        positions = self.position[:, None] + active.cumsum(1) - 1
        positions = torch.where(active, positions, UNSEEN)
        slots = torch.where(active, self._slots(positions), 0)
        rows = torch.arange(len(slots), device=slots.device)[:, None] * (1 + self.capacity)
        slots = (rows + slots).flatten()
        self.slot_positions.view(-1).index_copy_(0, slots, positions.flatten())
        self.position += active.sum(1)
        cos, sin = rotation(positions[:, :, None], self.steps, dtype)
        return Place(slots, cos, sin, self._mask(positions, used), used)

    def _slots(self, positions: Tensor) -> Tensor:
        pinned = self.pinned[:, None]
        behind = positions - pinned
        return 1 + torch.where(behind < 0, positions, pinned + behind % (self.capacity - pinned))

    def _mask(self, positions: Tensor, used: int) -> Tensor:
        """0 where a position is seen, else -inf: ``[B, 1, group, n, used]``, once for all layers."""
        key, query = self.slot_positions[:, None, :used], positions[:, :, None]
        kept = (key >= self.floor[:, None, None]) | (key < self.pinned[:, None, None])
        seen = (key <= query) & kept & ((key >= 0) == (query >= 0))
        zeros = torch.zeros(seen.shape, device=seen.device, dtype=self.keys.dtype)
        mask = zeros.masked_fill(~seen, -torch.inf)[:, None, None]
        return mask.repeat(1, 1, self.group, 1, 1)


@dataclass(frozen=True)
class Place:
    """One step's places in a `RingCache`."""

    slots: Tensor  # int64 [B * n]: rows of the flattened cache
    cos: Tensor  # [B, n, 1, head / 2]
    sin: Tensor
    mask: Tensor  # [B, 1, query heads a key head, n, used]
    used: int  # slots that are looked at


def feed(
    decoder: nn.Module, embeddings: Tensor, ring: RingCache, active: Tensor, used: int | None = None
) -> Tensor:
    """Append positions to a ring; hidden state of the last one of each row.

    Parameters
    ----------
    decoder : transformers' `Qwen2Model`
    embeddings : ``[B, n, D]``
    active : bool ``[B, n]``; what is not active leaves no trace. The last of a row that takes part must be.
    used : slots to look at; None = all, which has a fixed shape

    Returns
    -------
    Tensor
        ``[B, D]``, after the last norm. The last layer computes no other position's.
    """
    place, x = ring.place(active, used or 1 + ring.capacity), embeddings
    last = len(decoder.layers) - 1
    for index, layer in enumerate(decoder.layers):
        n_queries = 1 if index == last else x.shape[1]
        normed = _norm(layer.input_layernorm, x)
        mixed = _attend(
            layer.self_attn, normed, n_queries, ring.keys[index], ring.values[index], place
        )
        x = x[:, -n_queries:] + mixed
        x = x + layer.mlp(_norm(layer.post_attention_layernorm, x))
    return _norm(decoder.norm, x)[:, -1]


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    """RMSNorm as one operation instead of six."""
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _attend(
    attention: nn.Module, x: Tensor, m: int, keys: Tensor, values: Tensor, place: Place
) -> Tensor:
    """Write all of ``x``'s keys and values, then let its last ``m`` positions look around."""
    (n_batch, n, _), (kv_heads, head) = x.shape, keys.shape[2:]
    key = rotate(attention.k_proj(x).view(n_batch, n, kv_heads, head), place.cos, place.sin)
    keys.view(-1, kv_heads * head).index_copy_(0, place.slots, key.view(n_batch * n, -1))
    values.view(-1, kv_heads * head).index_copy_(0, place.slots, attention.v_proj(x).flatten(0, 1))
    query = attention.q_proj(x[:, -m:]).view(n_batch, m, -1, head)
    query = rotate(query, place.cos[:, -m:], place.sin[:, -m:])
    query = query.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4)  # [B, KV, group, m, head]
    mask = place.mask[:, :, :, -m:].flatten(2, 3)
    seen = (cache[:, : place.used].transpose(1, 2) for cache in (keys, values))
    mixed = F.scaled_dot_product_attention(query.flatten(2, 3), *seen, attn_mask=mask)
    mixed = mixed.unflatten(2, (-1, m)).permute(0, 3, 1, 2, 4)
    return attention.o_proj(mixed.reshape(n_batch, m, -1))
