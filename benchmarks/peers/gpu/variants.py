"""The ResNet-18 on a GPU in several forms; the archive of the server and the bare loop build it by the same code."""

from __future__ import annotations

from collections.abc import Callable

import torch
import work

VARIANTS = ("float32", "channels_last", "half", "half+channels_last", "half+channels_last+compile")


def build(variant: str, device: str = "cuda") -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from (N, 3, 224, 224) uint8 on the CPU to (N, 1000) float32 on the CPU.

    The copies to and from the GPU belong to the work, as they do for every server.
    """
    if variant not in VARIANTS:
        raise ValueError(f"'{variant}' is no variant; there are: {', '.join(VARIANTS)}.")
    torch.manual_seed(0)
    dtype = torch.float16 if "half" in variant else torch.float32
    layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format
    model = work.resnet18().eval().to(device=device, dtype=dtype, memory_format=layout)
    if "compile" in variant:
        model = torch.compile(model, dynamic=True)

    @torch.inference_mode()
    def predict(images: torch.Tensor) -> torch.Tensor:
        on_device = images.to(device, non_blocking=True)
        return model((on_device.to(dtype) / 255).contiguous(memory_format=layout)).float().cpu()

    return predict
