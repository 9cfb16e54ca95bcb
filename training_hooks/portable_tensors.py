"""Tensors as a file should hold them: contiguous, on the CPU, each with a storage of its own, tied ones once.

torch.save writes the whole storage of a view, and safetensors refuses what is not contiguous or shares memory.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import torch


def portable(weights: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return the entries with contiguous CPU tensors; one that is so already is not copied.

    Entries that are the same view of one storage (tied weights) become one tensor; other views get a storage of their
    own, so a slice of a large buffer does not drag the buffer along. Module versions (`_metadata`) are kept.
    """
    copies = _Copies()
    made = OrderedDict(
        (name, copies.of(value) if isinstance(value, torch.Tensor) else value) for name, value in weights.items()
    )
    if hasattr(weights, "_metadata"):
        made._metadata = weights._metadata  # type: ignore[attr-defined]
    return made


def memory_of(tensor: torch.Tensor) -> Hashable | None:
    """Return what is equal for tensors that are the same view of one storage; None where there is nothing to share."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    signs = tensor.is_conj(), tensor.is_neg()
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), signs


def size_bytes_of(tensor: torch.Tensor) -> int:
    """Return the bytes that a file needs for the tensor."""
    if tensor.layout is torch.strided:
        return tensor.numel() * tensor.element_size()
    parts = tensor.coalesce() if tensor.layout is torch.sparse_coo else tensor
    return parts.values().nbytes + tensor.ndim * 8 * parts.values().shape[0]  # the indices are 64-bit numbers


class _Copies:
    """Contiguous CPU tensors, one per distinct view: the same view twice gives the same tensor twice."""

    def __init__(self) -> None:
        self._by_memory: dict[Hashable, torch.Tensor] = {}
        self._storages: set[int] = set()

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout is not torch.strided:
            return tensor.cpu()
        memory = memory_of(tensor)
        if memory in self._by_memory:
            return self._by_memory[memory]
        copy = tensor.resolve_conj().resolve_neg().cpu().contiguous()
        storage = copy.untyped_storage()
        # Either a slice of something larger, which torch.save would write whole, or another shape of a storage
        # that an earlier entry already brings.
        if storage.nbytes() != copy.numel() * copy.element_size() or storage.data_ptr() in self._storages:
            copy = copy.clone(memory_format=torch.contiguous_format)
        if memory is not None:
            self._storages.add(copy.untyped_storage().data_ptr())
            self._by_memory[memory] = copy
        return copy
