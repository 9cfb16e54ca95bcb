"""What an exception says about the device and its memory, whichever library raised it."""

from __future__ import annotations

import torch

from tidegate.inference.errors import one_line


class DeviceLost(BaseException):
    """The GPU context of this process is gone: the worker ends, and its successor tries each request alone."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device ran out."""
    # The CPU allocator, cuBLAS and the CUDA runtime have no error classes of their own.
    said = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in one_line(error) for text in said)


def give_up_if_device_is_lost(error: BaseException) -> None:
    """Raise `DeviceLost`: after an assert on the device, say, every further CUDA call of this process fails."""
    if "CUDA error" in one_line(error) and not is_out_of_memory(error):
        raise DeviceLost(one_line(error)) from error


def empty_cache() -> None:
    """Give back what torch keeps of a GPU's memory."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
