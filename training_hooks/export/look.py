"""What can be known before any form is built. Run in a process of its own: the network is called as in the server."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from .batches import batch_axis_size, batch_of
from .captured_call import CapturedCall, capture
from .dimensions import BATCH, Dimensions, DynamicAxis, described, dimensions_of
from .job import NotExported, answered
from .parity import Bound, compared, mismatch
from .structure import NotFlat

_AGAIN = Bound(rtol=1e-5, atol=1e-6)  # kernels may add in another order


def main(arguments: list[str]) -> None:
    """Answer the example, look at the call of the network, and write what was found."""
    answered(arguments, look)


def look(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the signature of the archive's network and what else the forms have to know. Raises `NotExported`."""
    before = resident_bytes()
    call = enter(job)
    memory_bytes = max(0, resident_bytes() - before)
    torch.save(call.tensors, job["inputs"])
    with torch.inference_mode():
        answer = _settled_answer(call)
        rows, notes = _single(call) if job["max_batch"] == 1 else _rows(call, answer, max(job["batch_sizes"]))
        asked = [DynamicAxis.parsed(text) for text in job["dynamic"]]
        dimensions = dimensions_of(
            call.layout, call.tensors, asked, batched=rows is not None, max_batch=max(job["max_batch"], rows or 1)
        )
        outputs = _output_axes(call, answer, dimensions)
        notes += [*_narrower(call, dimensions), *_flat(call, dimensions)]
    return {
        "signature": described(call.layout, call.tensors, list(zip(answer, outputs, strict=True)), dimensions),
        "ranges": dimensions.ranges,
        "axes": [{str(axis): name for axis, name in axes.items()} for axes in dimensions.axes],
        "batch_sizes": job["batch_sizes"] if rows is not None else [batch_axis_size(call.tensors) or 1],
        "network": type(call.module).__name__,
        "own_model_fn": call.own_model_fn,
        "notes": notes,
        "eager_memory_bytes": memory_bytes,
    }


def enter(job: Mapping[str, Any]) -> CapturedCall:
    """Become the process that serves the archive, and answer its example. Raises `NotExported`."""
    model_dir = Path(job["model_dir"])
    os.chdir(model_dir)
    torch.set_num_threads(job["threads"])
    return capture(model_dir, job["manifest"])


def resident_bytes() -> int:
    """The memory of this process that is in use; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:")), 0)


def dimensions_from(found: Mapping[str, Any]) -> Dimensions:
    """Return the dimensions that `look` wrote."""
    return Dimensions(
        ranges={name: (least, most) for name, (least, most) in found["ranges"].items()},
        axes=tuple({int(axis): name for axis, name in axes.items()} for axes in found["axes"]),
    )


def _settled_answer(call: CapturedCall) -> list[torch.Tensor]:
    """Return the network's answer to the example, once it is sure that it is always the same."""
    name = type(call.module).__name__
    before = {key: value.detach().clone() for key, value in call.module.state_dict().items()}
    answer, again = (_answer(call, call.tensors) for _ in range(2))
    after = call.module.state_dict()
    changed = [key for key, value in before.items() if not torch.equal(value.nan_to_num(), after[key].nan_to_num())]
    way_out = "; call its eval() in model_fn" if call.module.training else ""
    if changed:
        raise NotExported(f"the network {name} changes its own {changed[0]} while it answers{way_out}")
    if mismatch(answer, again) or compared(answer, again, _AGAIN).excess > 0:
        raise NotExported(
            f"the network {name} answers the same input differently each time, so no form can be checked{way_out}"
        )
    return answer


def _single(call: CapturedCall) -> tuple[None, list[str]]:
    """Return that the forms take one row, which needs an example of one."""
    rows = batch_axis_size(call.tensors)
    if rows is not None and rows > 1:
        raise NotExported(f"max_batch is 1, and the example has {rows} rows; save the model with an example of one")
    return None, ["the forms take a batch of one alone, as max_batch says"]


def _rows(call: CapturedCall, answer: Sequence[torch.Tensor], most: int) -> tuple[int | None, list[str]]:
    """Return how many rows the example has; None, and why, where the network takes no other number of them."""
    rows = batch_axis_size(call.tensors)
    if rows is None:
        return None, ["its inputs share no first axis that is the batch, so its forms take the example's sizes alone"]
    for count in {rows + 1, max(most, rows + 2)}:
        try:
            other = _answer(call, batch_of(call.tensors, count))
        except NotExported as problem:
            return None, [f"it takes batches of {rows} alone, as the example has ({problem})"]
        for one, many in zip(answer, other, strict=True):
            if one.ndim and one.shape[0] == rows and many.shape[0] != count:
                return None, [
                    "the batch is not on the first axis of its answer: its forms take the example's sizes alone"
                ]
            if not one.ndim or one.shape[0] != rows:
                return None, ["its answer has no batch axis, so its forms take the example's sizes alone"]
    return rows, []


def _output_axes(call: CapturedCall, answer: Sequence[torch.Tensor], dimensions: Dimensions) -> list[dict[int, str]]:
    """Find which axes of the answer change with which dimension, by asking the network with other sizes."""
    found: list[dict[int, str]] = [{} for _ in answer]
    for name in dimensions.ranges:
        if name == BATCH:
            other = batch_of(call.tensors, (batch_axis_size(call.tensors) or 1) + 1)
        else:
            other = [
                _shorter(tensor, [axis for axis, each in axes.items() if each == name])
                for tensor, axes in zip(call.tensors, dimensions.axes, strict=True)
            ]
        try:
            changed = _answer(call, other)
        except NotExported as problem:
            raise NotExported(
                f"the network takes no other size of {name}, which is to be dynamic ({problem})"
            ) from None
        for axes, one, two in zip(found, answer, changed, strict=True):
            for axis, (size, other_size) in enumerate(zip(one.shape, two.shape, strict=True)):
                if size != other_size:
                    axes[axis] = name
    return found


def _narrower(call: CapturedCall, dimensions: Dimensions) -> list[str]:
    """Say of which sizes the eager network takes others, which its forms will refuse."""
    found: dict[int, list[tuple[int, int]]] = {}
    for index, (tensor, axes) in enumerate(zip(call.tensors, dimensions.axes, strict=True)):
        for axis in range(1, tensor.ndim):
            if axis not in axes and tensor.shape[axis] > 1:
                found.setdefault(tensor.shape[axis], []).append((index, axis))
    notes = []
    for size, places in found.items():
        other = [
            _shorter(tensor, [axis for place, axis in places if place == index])
            for index, tensor in enumerate(call.tensors)
        ]
        with suppress(NotExported):
            _answer(call, other)
            names = " ".join(f"--dynamic {call.layout.inputs[index]}:{axis}" for index, axis in places)
            notes.append(f"the forms take the size {size} alone where eager takes others; {names} opens it")
    return notes


def _flat(call: CapturedCall, dimensions: Dimensions) -> list[str]:
    """Say where the eager network takes one row without its batch axis, which its forms will refuse."""
    if dimensions.batched:
        with suppress(NotExported):
            _answer(call, [tensor[0] if tensor.ndim else tensor for tensor in call.tensors])
            return ["the forms take batches alone: one row without its batch axis, which eager takes, is refused"]
    return []


def _shorter(tensor: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    for axis in axes:
        size = tensor.shape[axis]
        tensor = tensor.narrow(axis, 0, size - 1) if size > 1 else torch.cat([tensor, tensor], axis)
    return tensor.contiguous()


def _answer(call: CapturedCall, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    try:
        return call.answer([tensor.clone() for tensor in tensors])
    except NotFlat as problem:
        raise NotExported(str(problem)) from None
    except Exception as error:
        raise NotExported(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
