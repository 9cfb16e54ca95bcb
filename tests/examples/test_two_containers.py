"""examples/two_containers: what cuts, and the demonstration of both containers as endpoint, in a job, and refusing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from examples.two_containers.paper import picture
from tests.examples.demonstrating import demonstrated
from tests.examples.loading import loaded, other_imports

ROOT = Path(__file__).parents[2]
CODE_DIR = ROOT / "examples" / "two_containers" / "cut" / "code"
IMAGES = load_digits().images


@pytest.fixture(scope="module")
def code() -> Iterator[ModuleType]:
    with loaded(CODE_DIR) as module:
        yield module


def cut(code: ModuleType, body: bytes) -> np.ndarray:
    """What the next container is sent, read back."""
    body, content_type = code.output_fn(code.predict_fn(code.input_fn(body, "image/png"), code.model_fn("")), None)
    assert content_type == "application/x-npy"
    return np.load(io.BytesIO(body), allow_pickle=False)


def png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_number_is_cut_into_its_digits(code: ModuleType) -> None:
    """As many as it has, from left to right, each nearly as the data set has it."""
    chance = np.random.default_rng(0)
    for seed in range(40):
        rows = chance.choice(len(IMAGES), size=1 + seed % 5, replace=False)
        digits = cut(code, picture(IMAGES[rows], seed=seed))
        assert digits.shape == (len(rows), 8, 8)
        assert digits.dtype == np.float32
        assert (digits.min(), digits.max()) >= (0, 8)
        assert digits.max() <= 16
        assert np.abs(digits - IMAGES[rows]).mean() < 3


def test_specks_are_no_digits_and_an_empty_sheet_has_none(code: ModuleType) -> None:
    with Image.open(io.BytesIO(picture(IMAGES[:3], seed=1))) as sheet:
        grey = np.pad(np.asarray(sheet), ((0, 0), (0, 40)), constant_values=245)
    grey[60:63, -20:-17] = 0
    assert cut(code, png(grey)).shape == (3, 8, 8)
    assert cut(code, picture([], seed=1)).shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [(b"no picture", "image/png", "cannot be used"), (b"[]", "application/json", "not application/json")],
)
def test_what_is_no_picture_is_refused_in_one_sentence(
    code: ModuleType, body: bytes, content_type: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        code.input_fn(body, content_type)


def test_the_demonstration_reads_numbers_with_both(tmp_path: Path) -> None:
    """As an endpoint and in a transform job alike; and the client is told what the second container says."""
    said = demonstrated("two_containers", "--epochs", "6", temporary=tmp_path)
    for line in (
        r"tidegate-stage is InService: cut → read",
        r"8 objects, the same numbers",
        r"Error\.Code +ModelError",
        r"OriginalStatusCode +400",
        r"OriginalMessage +\{.*\"code\": \"bad_request\".*the body has the shape \(0, 8, 8\).*",
        r"Error\.Message +Received client error \(400\) from read with message …",
    ):
        assert re.search(rf"^     {line}$", said, re.MULTILINE), said


def test_the_code_of_the_archive_stands_alone() -> None:
    """It needs no torch."""
    assert other_imports(CODE_DIR, {"numpy", "PIL"}) == set()
