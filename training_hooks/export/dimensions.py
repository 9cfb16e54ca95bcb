"""Which sizes of a form's inputs may change: the batch, and the axes that the caller names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .job import NotExported

if TYPE_CHECKING:
    import torch

    from .structure import Layout

BATCH = "batch"
DEFAULT_MAX = 1024

_DYNAMIC = re.compile(r"(?P<name>.+):(?P<axis>\d+)(?:=(?P<max>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicAxis:
    """An axis that may have another size than in the example, as `--dynamic NAME:AXIS[=MAX]` says."""

    name: str
    axis: int
    max: int | None

    @classmethod
    def parsed(cls, text: str) -> DynamicAxis:
        """Read `NAME:AXIS[=MAX]`. Raises `ValueError` with a sentence."""
        found = _DYNAMIC.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} names no axis; write NAME:AXIS or NAME:AXIS=MAX, such as input_ids:1=256")
        most = int(found["max"]) if found["max"] else None
        if most is not None and most < 2:
            raise ValueError(f"{text!r} leaves the axis no other size than {most}; give at least 2, or leave it out")
        return cls(name=found["name"], axis=int(found["axis"]), max=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The dynamic dimensions of a form's inputs.

    Attributes:
        ranges: by name, the smallest and the largest size.
        axes: for each input, the names of its dynamic dimensions by axis.
    """

    ranges: Mapping[str, tuple[int, int]]
    axes: tuple[Mapping[int, str], ...]

    @property
    def batched(self) -> bool:
        """Whether the number of rows may change."""
        return BATCH in self.ranges

    def for_torch(self) -> tuple[dict[int, Any], ...]:
        """Return what `torch.export` takes for each input."""
        import torch  # noqa: PLC0415 - the command line is read without it

        dims = {name: torch.export.Dim(name, min=least, max=most) for name, (least, most) in self.ranges.items()}
        return tuple({axis: dims[name] for axis, name in axes.items()} for axes in self.axes)


def dimensions_of(
    layout: Layout, tensors: Sequence[torch.Tensor], asked: Sequence[DynamicAxis], *, batched: bool, max_batch: int
) -> Dimensions:
    """Return the dynamic dimensions; axes asked for that have the same size in the example are one dimension.

    Raises:
        NotExported: an axis that is asked for does not exist.
    """
    ranges: dict[str, tuple[int, int]] = {BATCH: (1, max_batch)} if batched else {}
    axes: list[dict[int, str]] = [{0: BATCH} if batched and tensor.ndim else {} for tensor in tensors]
    by_size: dict[int, str] = {}
    for each in asked:
        if each.name not in layout.inputs:
            raise NotExported(
                f"--dynamic names the input {each.name!r}, and the network has: {', '.join(layout.inputs)}"
            )
        index = layout.inputs.index(each.name)
        if each.axis >= tensors[index].ndim:
            raise NotExported(
                f"--dynamic names axis {each.axis} of {each.name!r}, which has {tensors[index].ndim} axes"
            )
        if each.axis in axes[index]:
            raise NotExported(
                f"--dynamic names axis {each.axis} of {each.name!r}, which is the batch and dynamic anyway"
            )
        size = tensors[index].shape[each.axis]
        name = by_size.setdefault(size, f"{each.name}_{each.axis}")
        most = max(each.max or DEFAULT_MAX, size)
        ranges[name] = (1, min(most, ranges[name][1]) if name in ranges else most)
        axes[index][each.axis] = name
    return Dimensions(ranges=ranges, axes=tuple(axes))


def described(
    layout: Layout,
    inputs: Sequence[torch.Tensor],
    outputs: Sequence[tuple[torch.Tensor, Mapping[int, str]]],
    dimensions: Dimensions,
) -> dict[str, Any]:
    """Return the manifest's `signature`; each output comes with the names of its dynamic axes."""
    named = zip(layout.inputs, inputs, dimensions.axes, strict=True)
    answered = zip(layout.outputs, outputs, strict=True)
    signature: dict[str, Any] = {
        "inputs": [_tensor(name, tensor, axes) for name, tensor, axes in named],
        "outputs": [_tensor(name, tensor, axes) for name, (tensor, axes) in answered],
        "dimensions": {name: {"min": least, "max": most} for name, (least, most) in dimensions.ranges.items()},
        "positional": list(layout.positional),
        "keyword": list(layout.keyword),
        "structure": layout.structure,
    }
    if layout.constants:
        signature["constants"] = dict(layout.constants)
    return signature


def _tensor(name: str, tensor: torch.Tensor, axes: Mapping[int, str]) -> dict[str, Any]:
    shape: list[int | str | None] = [axes.get(axis, size) for axis, size in enumerate(tensor.shape)]
    return {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": shape}
