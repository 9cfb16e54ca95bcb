"""What a worker holds of its GPUs: torch's own pools, and what the driver keeps for the process beside them.

The second is the CUDA context with the code of all kernels that were loaded, some hundred MiB, which torch does not
count. The driver's management library says what a device has in use as a whole; what that grew by while the model was
loaded, beyond torch's pool, is taken for this process's. Other workers may have loaded at the same time, so no more
than `MOST_BESIDE_BYTES` of it is believed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch

from tidegate.inference.protocol import Held

MOST_BESIDE_BYTES = 1 << 30
"""No context is larger, on one GPU."""
_LIBRARY = "libnvidia-ml.so.1"


class GpuMemory:
    """Made before a worker loads its model; nothing is asked of a device where there is none."""

    def __init__(self, gpu_ids: Sequence[int] = (), in_use: Callable[[int], int | None] | None = None) -> None:
        """`gpu_ids` are the worker's own; `in_use` says what one has in use as a whole, None where nobody knows.

        By default the driver says it.
        """
        self.gpu_ids = tuple(gpu_ids)
        self._in_use = in_use or _in_use
        self._before = [self._in_use(gpu_id) for gpu_id in self.gpu_ids]
        self._beside_bytes = [0] * len(self.gpu_ids)
        self._told: tuple[int, ...] = ()

    def settle(self) -> None:
        """The model is loaded: note what the driver took for it beside torch's pools."""
        if not _is_used():
            return
        for at, (gpu_id, before) in enumerate(zip(self.gpu_ids, self._before, strict=True)):
            if before is not None and (after := self._in_use(gpu_id)) is not None:
                grown = after - before - torch.cuda.memory_reserved(gpu_id)
                self._beside_bytes[at] = min(max(grown, 0), MOST_BESIDE_BYTES)

    def held_by_gpu(self) -> tuple[int, ...]:
        """What the process holds of each of its GPUs now; empty where it uses none."""
        if not self.gpu_ids or not _is_used():
            return ()
        held = zip(self.gpu_ids, self._beside_bytes, strict=True)
        return tuple([torch.cuda.memory_reserved(gpu_id) + beside for gpu_id, beside in held])

    def held_bytes(self) -> int:
        """What the process holds of all of them now."""
        return sum(self.held_by_gpu())

    def news(self) -> Sequence[Held]:
        """What it holds of each, where that is not what was said last; cheap enough for every batch."""
        if not self.gpu_ids or (held := self.held_by_gpu()) == self._told:
            return ()
        self._told = held
        return (Held(held),)

    def unused(self) -> list[int]:
        """Those of several GPUs of which torch has nothing, where it uses any."""
        if len(self.gpu_ids) < 2 or not _is_used():
            return []
        return [gpu_id for gpu_id in self.gpu_ids if not torch.cuda.memory_reserved(gpu_id)]


def _is_used() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


class _MemoryInfo(ctypes.Structure):
    # nvmlMemory_t. Source: NVML API reference, "Device Structs".
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _in_use(gpu_id: int) -> int | None:
    """What the driver says that a device has in use. By its UUID: `CUDA_VISIBLE_DEVICES` renumbers devices."""
    try:
        library = ctypes.CDLL(_LIBRARY)
        name = f"GPU-{torch.cuda.get_device_properties(gpu_id).uuid}".encode()
        device, info = ctypes.c_void_p(), _MemoryInfo()
        failed = (
            library.nvmlInit_v2()
            or library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(device))
            or library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(info))
        )
    except (OSError, AttributeError, RuntimeError, AssertionError):  # no such library, function or device
        return None
    return None if failed else int(info.used)
