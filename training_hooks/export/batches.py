"""Batches of other sizes, made from the example: its rows again and again, each a little different from the others."""

from collections.abc import Sequence

import torch


def batch_axis_size(tensors: Sequence[torch.Tensor]) -> int | None:
    """Return how many rows the example has: the size that the first axes share; None where they do not."""
    sizes = {tensor.shape[0] for tensor in tensors if tensor.ndim}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else None


def batch_of(tensors: Sequence[torch.Tensor], rows: int, *, varied: bool = True) -> list[torch.Tensor]:
    """Return `rows` rows of each tensor, which has the batch on its first axis.

    Rows that are all the same would hide a batch that ended up on another axis. So each repetition of the example is
    rolled along the last axis, and floating numbers are scaled a little: values stay in their range, whole numbers
    stay members of their vocabulary, and masks stay aligned with what they mask.
    """
    return [_rows(tensor, rows, varied=varied) for tensor in tensors]


def _rows(tensor: torch.Tensor, rows: int, *, varied: bool) -> torch.Tensor:
    if not tensor.ndim:
        return tensor
    repetitions = -(-rows // tensor.shape[0])
    pieces = [_variation(tensor, index) if varied else tensor for index in range(repetitions)]
    return torch.cat(pieces)[:rows].contiguous()


def _variation(tensor: torch.Tensor, index: int) -> torch.Tensor:
    if not index:
        return tensor
    moved = tensor.roll(index, -1) if tensor.ndim > 1 else tensor
    return moved * (1 - (index % 8) / 16) if tensor.is_floating_point() else moved
