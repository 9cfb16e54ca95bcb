"""A network that is about to be filled from a file: built without the random numbers of its beginning, and given the
file's memory instead of a copy.

To draw a gigabyte of random numbers takes seconds, and so does copying one; mapped memory comes when it is used, and
all workers share it. Everything else that the network's code does while it is built is done as ever, so that buffers,
tables and constants are what they are anywhere. Where something could differ, `Unsuitable` is raised, and the network
is built and filled in the ordinary way: where other random numbers are drawn, whose sequence would change; where the
code holds on to the memory of a parameter; where it draws numbers for one that the file does not fill.
"""

from __future__ import annotations

import gc
import mmap
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

_RANDOM = frozenset(
    {
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
        torch.nn.init.normal_,
        torch.nn.init.uniform_,
        torch.nn.init.kaiming_uniform_,
    }
)
_FOLLOWING = frozenset({torch.Tensor.add_, torch.Tensor.div_, torch.Tensor.mul_, torch.Tensor.sub_})
"""What scales random numbers in place, and is skipped where there are none."""
_GET_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]
_MOST_FILLS = 100
"""Of one parameter, after which its code is taken to wait for numbers that do not come."""


_MAPPED_FROM_BYTES = 1 << 20
"""A smaller parameter costs nothing to write, and a process may have some ten thousand mappings."""


class Unsuitable(Exception):
    """The network is to be built and filled in the ordinary way."""


class Unfilled(TorchFunctionMode):
    """While it is entered, random fills of parameters are skipped, and they are zero.

    In `fill`, copies from the state dict into the network take the source's memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.random_state = torch.get_rng_state()
        self._waiting: dict[int, weakref.ref[torch.Tensor]] = {}
        self._fills: Counter[int] = Counter()
        self._data_of: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._movable: dict[int, torch.Tensor] | None = None
        self._taken: set[int] = set()
        self._left: list[StorageWeakRef] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        target: Any = args[0] if args else given.get("tensor")
        if func is torch.Tensor.copy_ and self._movable is not None:
            return self._copied(self._movable, target, *args[1:], **given)
        parameter = self._parameter(target)
        if parameter is None:
            return func(*args, **given)
        if func == _GET_DATA:
            data = func(*args, **given)
            self._data_of[id(data)] = (data, parameter)  # kept, so that its id stays its own
            return data
        if func in _RANDOM:
            self._skip(parameter, target, given.get("generator"))
            return target
        if func in _FOLLOWING and self._waits(parameter):
            return target
        return func(*args, **given)

    def fill(self, model: torch.nn.Module, state: Mapping[str, Any]) -> None:
        """`model.load_state_dict(state)`, after the network was built. Raises `Unsuitable`, and what that raises."""
        self._demand_that_nothing_was_drawn()
        self._data_of.clear()
        self._movable = {id(tensor): tensor for tensor in _apart(state)}
        with self:
            model.load_state_dict(state)
        if not self._is_complete():
            gc.collect()
            if not self._is_complete():
                raise Unsuitable

    def _is_complete(self) -> bool:
        """Whether nothing is left of the memory that the network began with."""
        if any(waiting() is not None for waiting in self._waiting.values()):
            return False
        return all(storage.expired() for storage in self._left)  # type: ignore[no-untyped-call]

    def _parameter(self, tensor: Any) -> torch.Tensor | None:
        if isinstance(tensor, torch.nn.Parameter):
            return tensor
        _, parameter = self._data_of.get(id(tensor), (None, None))
        return parameter

    def _skip(self, parameter: torch.Tensor, target: torch.Tensor, generator: object) -> None:
        self._fills[id(parameter)] += 1
        if generator is not None or self._fills[id(parameter)] > _MOST_FILLS or parameter.device.type != "cpu":
            raise Unsuitable
        self._demand_that_nothing_was_drawn()
        if not self._waits(parameter):
            self._waiting[id(parameter)] = weakref.ref(parameter)
            target.data = parameter.data = _zeros_like(parameter)

    def _waits(self, parameter: torch.Tensor) -> bool:
        waiting = self._waiting.get(id(parameter))
        return waiting is not None and waiting() is parameter

    def _demand_that_nothing_was_drawn(self) -> None:
        if not torch.equal(torch.get_rng_state(), self.random_state):
            raise Unsuitable

    def _copied(
        self, movable: Mapping[int, torch.Tensor], target: torch.Tensor, source: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        self._waiting.pop(id(target), None)
        if id(source) in movable and _is_alike(target, source):
            if target.data_ptr() == source.data_ptr():  # it is tied, and has this memory by another name
                return target
            if source.data_ptr() not in self._taken:
                return self._moved(target, source)
        if target.data_ptr() in self._taken:  # to write there would change the file's own numbers
            raise Unsuitable
        return target.copy_(source, *args, **kwargs)

    def _moved(self, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if target.data_ptr() not in self._taken:
            self._left.append(StorageWeakRef(target.untyped_storage()))  # type: ignore[no-untyped-call]
        self._taken.add(source.data_ptr())
        target.data = source
        return target


def _is_alike(target: torch.Tensor, source: torch.Tensor) -> bool:
    same = (target.dtype, target.device, target.shape) == (source.dtype, source.device, source.shape)
    return same and target.layout is torch.strided and target.is_contiguous()


def _apart(state: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors of a state dict that are in one piece, of which none overlaps another, or is all of it."""
    found = [value for value in state.values() if isinstance(value, torch.Tensor) and value.layout is torch.strided]
    found = sorted((value for value in found if value.numel()), key=lambda value: value.data_ptr())
    apart, end, last = [], 0, 0
    overlapping: set[int] = set()
    for value in found:
        start, stop = value.data_ptr(), value.data_ptr() + value.nbytes
        if start < end and (start, stop) != (last, end):
            overlapping |= {last, start}
        end, last = max(end, stop), start
        if value.is_contiguous():
            apart.append(value)
    return [value for value in apart if value.data_ptr() not in overlapping]


def _zeros_like(tensor: torch.Tensor) -> torch.Tensor:
    # Pages that the kernel has not made yet, from the kernel itself: what the allocator has to give may be the memory
    # of the parameter before, and a worker's keeps what is freed, so it would have to be written.
    if tensor.nbytes < _MAPPED_FROM_BYTES:
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
    pages = mmap.mmap(-1, tensor.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.uint8).view(tensor.dtype).reshape(tensor.shape)
