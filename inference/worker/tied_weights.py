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


def _memory(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
