"""Weights that share one tensor: safetensors files keep such a tensor under one of its names only.

`safetensors.torch.save_model` writes into the file's metadata under which name each one is kept. What
`save_pretrained` of Hugging Face leaves out, the network itself says, whose parameters share their memory.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch


def fill(state: Any, model: torch.nn.Module, kept_as: Mapping[str, str]) -> None:
    """Give `state` an entry for each name of `model` that it has under another one; `kept_as` is the file's metadata.

    What is in the file under no name stays missing, for load_state_dict to refuse.
    """
    if not isinstance(state, MutableMapping):
        return
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    there = {_memory(own[name]): state[name] for name in own.keys() & state.keys() if own[name].data_ptr()}
    for name in own.keys() - state.keys():
        if kept_as.get(name) in state:
            state[name] = state[kept_as[name]]
        elif _memory(own[name]) in there:
            state[name] = there[_memory(own[name])]


def contradictions(state: Any, model: torch.nn.Module) -> list[tuple[str, str]]:
    """Names that share a tensor in `model` and have different values in `state`: the one whose is taken, another."""
    if not isinstance(state, Mapping):
        return []
    sharing: dict[tuple[object, ...], list[str]] = {}
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor) and value.data_ptr() and isinstance(state.get(name), torch.Tensor):
            sharing.setdefault(_memory(value), []).append(name)
    # load_state_dict copies in the order of the network, so that the last one stays.
    pairs = [(names[-1], name) for names in sharing.values() for name in names[:-1]]
    return [(taken, other) for taken, other in pairs if not _same(state[taken], state[other])]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    # One memory first: NaN equals nothing.
    return _memory(one) == _memory(other) or torch.equal(one, other)


def _memory(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
