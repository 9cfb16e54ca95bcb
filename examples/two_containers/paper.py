"""Pictures of handwritten numbers: digits that training did not see, side by side on a sheet of paper."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

SCALE = 8


def picture(digits: Sequence[np.ndarray], *, seed: int) -> bytes:
    """Return a sheet of paper as PNG, dark on light, with the digits, of shape (8, 8) with values 0 to 16, in a row."""
    chance = np.random.default_rng(seed)
    left, top, right, bottom = chance.integers(10, 40, size=4)
    large = [np.pad(digit.repeat(SCALE, axis=0).repeat(SCALE, axis=1), ((0, 0), (6, 6))) for digit in digits]
    ink = np.hstack(large) if large else np.zeros((8 * SCALE, 200))
    sheet = 245 - np.pad(ink, ((top, bottom), (left, right))) * (235 / 16)
    buffer = io.BytesIO()
    Image.fromarray(sheet.round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
