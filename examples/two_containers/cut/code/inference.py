"""The first container: cut a picture of a number into its digits. There are no weights, and no torch.

A request is a picture of one line of writing, dark on light (image/png, image/jpeg, …). The answer is an npy array of
shape (digits, 8, 8) with values from 0 (ground) to 16 (full stroke), which is what the next container takes.
"""

import io

import numpy as np
from PIL import Image

SIDE = 8
FULL_STROKE = 16.0
INK = 0.25  # darker is writing
SMALLEST = 0.2  # of the line's height: what is smaller is a speck
MAX_PIXELS = 16_000_000


def model_fn(model_dir):
    """Load nothing."""


def input_fn(input_data, content_type):
    """Decode a picture: float32 of shape (height, width), from 0 (paper) to 1 (ink)."""
    if not (content_type or "").startswith("image/"):
        raise ValueError(f"Send a picture, as image/png or image/jpeg, not {content_type}.")
    try:
        with Image.open(io.BytesIO(input_data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS}")
            return 1 - np.asarray(picture.convert("L"), dtype=np.float32) / 255
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"The picture cannot be used: {error}") from None


def predict_fn(data, model):  # noqa: ARG001 - the form of the contract
    """Return the digits from left to right. Between two of them is a column without ink."""
    rows, columns = (np.flatnonzero((data > INK).any(axis=axis)) for axis in (1, 0))
    if not len(columns):
        return np.zeros((0, SIDE, SIDE), np.float32)
    gaps = np.flatnonzero(np.diff(columns) > 1) + 1
    spans = [(part[0], part[-1] + 1) for part in np.split(columns, gaps)]
    tall = rows[-1] + 1 - rows[0]
    digits = [_digit(data[:, left:right]) for left, right in spans if _height(data[:, left:right]) > SMALLEST * tall]
    return np.stack(digits)


def output_fn(prediction, accept):  # noqa: ARG001 - the form of the contract
    """Write npy, whatever the client accepts: it is the next container that answers the client."""
    buffer = io.BytesIO()
    np.save(buffer, prediction)
    return buffer.getvalue(), "application/x-npy"


def _height(piece):
    rows = np.flatnonzero((piece > INK).any(axis=1))
    return rows[-1] + 1 - rows[0]


def _digit(piece):
    """One digit as the data set has them: as high as the square, and in the middle of it."""
    rows = np.flatnonzero((piece > INK).any(axis=1))
    piece = piece[rows[0] : rows[-1] + 1]
    side = max(piece.shape)
    square = np.zeros((side, side), np.float32)
    down, right = (side - piece.shape[0]) // 2, (side - piece.shape[1]) // 2
    square[down : down + piece.shape[0], right : right + piece.shape[1]] = piece
    small = Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.round(np.asarray(small) * FULL_STROKE).clip(0, FULL_STROKE)
