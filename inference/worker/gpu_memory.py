"""What a worker holds of its GPU: torch's own pool, and what the driver keeps for the process beside it.

The second is the CUDA context with the code of all kernels that were loaded, some hundred MiB, which torch does not
count. The driver's management library says what a device has in use as a whole; what that grew by while the model was
loaded, beyond torch's pool, is taken for this process's. Other workers may have loaded at the same time, so no more
than `MOST_BESIDE_BYTES` of it is believed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch

MOST_BESIDE_BYTES = 1 << 30
"""No context is larger."""
_LIBRARY = "libnvidia-ml.so.1"


class GpuMemory:
    """Made before a worker loads its model; nothing is asked of a device where there is none."""

    def __init__(self, gpu_id: int | None, in_use: Callable[[int], int | None] | None = None) -> None:
        """`in_use` says what a device has in use as a whole, None where nobody knows; default: the driver does."""
        self._gpu_id = gpu_id
        self._in_use = in_use or _in_use
        self._before = self._in_use(gpu_id) if gpu_id is not None else None
        self._beside_bytes = 0

    def settle(self) -> None:
        """The model is loaded: note what the driver took for it beside torch's pool."""
        if self._gpu_id is None or self._before is None or not _is_used():
            return
        after = self._in_use(self._gpu_id)
        if after is not None:
            self._beside_bytes = min(max(after - self._before - torch.cuda.memory_reserved(), 0), MOST_BESIDE_BYTES)

    def held_bytes(self) -> int:
        """What the process holds now, cheap enough for every batch; 0 where it uses no GPU."""
        return torch.cuda.memory_reserved() + self._beside_bytes if _is_used() else 0


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
