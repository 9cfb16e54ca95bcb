"""What is wrong with a loaded network that answers all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from tidegate.inference.errors import some_of
from tidegate.inference.load_report import Caution

MOST_BYTES = 4 << 30
"""More weights than this are not looked through: that would be felt."""
_NORMALIZATION = nn.modules.batchnorm._NormBase
_DROPOUT = nn.modules.dropout._DropoutNd


def modules_of(model: Any) -> list[nn.Module]:
    """The networks that a model is, or has as its members."""
    if isinstance(model, nn.Module):
        return [model]
    members = model.values() if isinstance(model, Mapping) else model if isinstance(model, list | tuple) else ()
    return [member for member in members if isinstance(member, nn.Module)]


def tensors_of(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Its parameters and buffers with their names, each once."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def not_a_number(module: nn.Module) -> Caution | None:
    """A warning of weights that are not a number."""
    named = [(name, tensor) for name, tensor in tensors_of(module) if _can_hold_nan(tensor)]
    if sum(tensor.nbytes for _, tensor in named) > MOST_BYTES:
        return None
    found = [name for name, tensor in named if bool(torch.isnan(tensor.detach()).any())]
    if not found:
        return None
    return Caution(
        code="weights_not_a_number",
        message=f"{len(found)} of the model's {len(named)} tensors hold NaN: {some_of(found, limit=3)}",
        way_out="train again, or save an earlier checkpoint: every answer that they touch is NaN",
    )


def in_training_mode(module: nn.Module) -> Caution | None:
    """A warning of layers that compute otherwise in training, and are in that mode after the example was answered."""
    found = [name or type(each).__name__ for name, each in module.named_modules() if each.training and _differs(each)]
    if not found:
        return None
    return Caution(
        code="training_mode",
        message=f"the model answers in training mode, in which {some_of(found, limit=3)} compute otherwise",
        way_out="call model.eval() before model_fn returns it",
    )


def _can_hold_nan(tensor: torch.Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and (tensor.is_floating_point() or tensor.is_complex())
        and tensor.dtype.itemsize > 1  # not everything is implemented for numbers of eight bits
    )


def _differs(layer: nn.Module) -> bool:
    if isinstance(layer, _NORMALIZATION):
        return layer.track_running_stats
    if isinstance(layer, _DROPOUT):
        return layer.p > 0
    share = getattr(layer, "dropout", 0.0) if isinstance(layer, nn.RNNBase | nn.MultiheadAttention) else 0.0
    return isinstance(share, float) and share > 0
