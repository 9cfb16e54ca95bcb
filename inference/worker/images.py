"""The pixels of an image body as a tensor."""

from __future__ import annotations

import torch

from tidegate.inference.images import reading


def read_image(
    body: bytes | bytearray, *, max_decoded_bytes: int, obey_orientation: bool, onto_white: bool
) -> torch.Tensor:
    """The first frame as float32 (1, 3, height, width), black 0 and white 1; see `reading.planes`."""
    found = reading.planes(
        body,
        max_decoded_bytes=max_decoded_bytes,
        obey_orientation=obey_orientation,
        onto=reading.WHITE if onto_white else "drop",
    )
    return torch.from_numpy(found).unsqueeze(0)
