"""The decoder's matrices laid out anew for a processor, so that a step of a few rows reads them faster.

Knows oneDNN's packed weights, which `torch.compile` uses as well. Does not know what a step is for. Taught in
notebook 03.

A listening step multiplies 13 rows with every matrix. Torch hands that to MKL, which is made for many rows
and unpacks the matrix every time; packed once, the same product takes about half the time. The packed copies
stand beside the weights, so only small models get them.
"""

from __future__ import annotations

from types import SimpleNamespace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

MOST_BYTES = 256 * 2**20  # of the matrices that are copied
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
N_ROWS = 13  # positions of a listening step, for which the layout is chosen
_PACKED: WeakKeyDictionary[nn.Module, tuple[tuple, SimpleNamespace]] = WeakKeyDictionary()


class PackedLinear:
    """The same function as an `nn.Linear`, its matrix packed; later changes of the matrix go unseen."""

    def __init__(self, linear: nn.Linear):
        weight = linear.weight.detach()
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, N_ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def can_pack(decoder: nn.Module) -> bool:
    """Whether a decoder is a plain one on a processor whose matrices may be copied."""
    matrices = _matrices(decoder)
    if not all(map(_is_plain, matrices)):
        return False
    n_bytes = sum(m.weight.numel() * m.weight.element_size() for m in matrices)
    able = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return able and n_bytes <= MOST_BYTES


def _matrices(decoder: nn.Module) -> list[nn.Module]:
    """The seven of every layer; an adapter would stand in their place."""
    layers = decoder.layers
    return [getattr(layer.self_attn, name) for layer in layers for name in ATTENTION] + [
        getattr(layer.mlp, name) for layer in layers for name in MLP
    ]


def _is_plain(module: nn.Module) -> bool:
    """No adapter, no hook, nothing quantised, and float32: what the packed product can stand for."""
    if type(module) is not nn.Linear:
        return False
    weight = module.weight
    return (
        not (module._forward_hooks or module._forward_pre_hooks)
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and not weight.is_inference()
    )


def packed(decoder: nn.Module) -> SimpleNamespace:
    """A decoder for `cache.feed`, its matrices packed; sessions of one model share it until a weight changes."""
    weights = [matrix.weight for matrix in _matrices(decoder)]
    state = tuple((weight.data_ptr(), weight._version) for weight in weights)
    known = _PACKED.get(decoder)
    if known is None or known[0] != state:
        known = state, SimpleNamespace(norm=decoder.norm, layers=[*map(_layer, decoder.layers)])
        _PACKED[decoder] = known
    return known[1]


def _layer(layer: nn.Module) -> SimpleNamespace:
    attention = {name: PackedLinear(getattr(layer.self_attn, name)) for name in ATTENTION}
    gate, up, down = (PackedLinear(getattr(layer.mlp, name)) for name in MLP)
    act = layer.mlp.act_fn
    return SimpleNamespace(
        input_layernorm=layer.input_layernorm,
        self_attn=SimpleNamespace(**attention),
        post_attention_layernorm=layer.post_attention_layernorm,
        mlp=lambda x: down(act(gate(x)) * up(x)),
    )
