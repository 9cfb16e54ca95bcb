"""The four functions of examples/digits, called as a container calls them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests.examples.loading import loaded, other_imports

CODE_DIR = Path(__file__).parents[2] / "examples" / "digits" / "code"
IMAGES = load_digits().images[:5].astype(np.float32)


@pytest.fixture(scope="module")
def handler() -> Iterator[ModuleType]:
    with loaded(CODE_DIR) as module:
        yield module


@pytest.fixture(scope="module")
def model(handler: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model with random weights, loaded from a directory."""
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    torch.save(handler.DigitNet().state_dict(), directory / "model.pth")
    (directory / "labels.json").write_text(json.dumps([f"class-{index}" for index in range(10)]))
    (directory / "preprocessing.json").write_text(json.dumps({"mean": 5.0, "std": 6.0}))
    return handler.model_fn(str(directory))


def test_it_imports_nothing_of_ours() -> None:
    """The archive also runs in the old container: torch, numpy, Pillow, the standard library and its own helper."""
    assert other_imports(CODE_DIR, {"torch", "numpy", "PIL", "digit_net"}) == set()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def picture(values: np.ndarray, *, scale: int = 1, kind: str = "PNG", mode: str = "L", inverted: bool = False) -> bytes:
    """Draw one digit as an image file."""
    grey = np.round(values * 255 / 16).astype(np.uint8)
    grey = (255 - grey if inverted else grey).repeat(scale, axis=0).repeat(scale, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(grey).convert(mode).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


LISTS = IMAGES.tolist()
OBJECT_LINES = b"".join(json.dumps({"image": image, "id": 1}).encode() + b"\r\n" for image in LISTS)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (json.dumps(LISTS), "application/json", IMAGES),
        (json.dumps(LISTS[0]), "application/json", IMAGES[:1]),
        (json.dumps({"instances": LISTS}), "application/json; charset=utf-8", IMAGES),
        (json.dumps({"instances": LISTS[0]}).encode(), "Application/JSON", IMAGES[:1]),
        (npy(IMAGES), "application/x-npy", IMAGES),
        (bytearray(npy(IMAGES[2].astype(np.uint8))), "application/x-npy", IMAGES[2:3]),
        (npy(np.asfortranarray(IMAGES.astype(">f8"))), "application/x-npy", IMAGES),
        ("\n".join(json.dumps(each) for each in LISTS), "application/jsonlines", IMAGES),
        (bytearray(OBJECT_LINES), "application/jsonlines", IMAGES),
        (picture(IMAGES[0]), "image/png", IMAGES[:1]),
        (bytearray(picture(IMAGES[1], scale=9)), "image/png", IMAGES[1:2]),
        (picture(IMAGES[1], scale=9, mode="RGB"), "image/png", IMAGES[1:2]),
        (picture(IMAGES[1], scale=9, mode="P"), "image/png", IMAGES[1:2]),
        (picture(IMAGES[3], scale=16, inverted=True), "image/png", IMAGES[3:4]),
    ],
)  # fmt: skip
def test_every_content_type_gives_the_same_numbers(
    handler: ModuleType, body: Any, content_type: str, expected: np.ndarray
) -> None:
    """Whatever carries the digits, input_fn makes a float32 tensor of shape (N, 8, 8) with values from 0 to 16."""
    data = handler.input_fn(body, content_type)
    assert data.dtype is torch.float32
    torch.testing.assert_close(data, torch.from_numpy(expected), rtol=0, atol=0)


def test_jpeg_is_nearly_the_same(handler: ModuleType) -> None:
    """JPEG loses a little; a pixel is off by at most one of the 17 levels."""
    data = handler.input_fn(picture(IMAGES[0], scale=16, kind="JPEG"), "image/jpeg")
    torch.testing.assert_close(data, torch.from_numpy(IMAGES[:1]), rtol=0, atol=1)


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        ("[1, 2", "application/json", "the body is not valid JSON"),
        ("[" * 100_000, "application/json", "the body is not valid JSON"),
        ('{"images": []}', "application/json", 'must have the one key "instances"'),
        ("[[1, 2], [3]]", "application/json", "the body is not a regular nested list of numbers"),
        ('"seven"', "application/json", "the body is not a regular nested list of numbers"),
        ("[]", "application/json", r"the shape \(0,\); it must be \(8, 8\) or \(N, 8, 8\)"),
        (json.dumps(np.zeros((1, 28, 28)).tolist()), "application/json", r"the shape \(1, 28, 28\)"),
        (json.dumps((IMAGES * 2).tolist()), "application/json", "values outside 0 to 16"),
        (json.dumps((IMAGES - 1).tolist()), "application/json", "values outside 0 to 16"),
        (json.dumps(LISTS[0]).replace("[0.0", "[NaN"), "application/json", "values outside 0 to 16"),
        (b"nothing", "application/x-npy", "the body is not a plain npy array"),
        (b"", "application/x-npy", "the body is not a plain npy array"),
        (npy(IMAGES)[:200], "application/x-npy", "the body is not a plain npy array"),
        (npy(np.array([None])), "application/x-npy", "the body is not a plain npy array"),
        (npy(np.zeros((8, 8), dtype="S1")), "application/x-npy", r"holds \|S1 values"),
        (npy(np.zeros((0, 8, 8))), "application/x-npy", r"the shape \(0, 8, 8\)"),
        (json.dumps(LISTS[0]) + "\n\n" + json.dumps(LISTS[1]), "application/jsonlines", "line 2 is not valid JSON"),
        (json.dumps(LISTS), "application/jsonlines", r"line 1 has the shape \(5, 8, 8\); every line must hold one"),
        ('{"instances": []}', "application/jsonlines", 'line 1 is an object without the key "image"'),
        (b"\xff\n", "application/jsonlines", "can't decode byte 0xff"),
        (b"", "application/jsonlines", "line 1 is not valid JSON"),
        (b"GIF89a", "image/png", "the picture cannot be used"),
        (picture(IMAGES[0])[:60], "image/png", "the picture cannot be used"),
        (b"1,2,3", "text/csv", "content type 'text/csv' is not one of application/json"),
        (b"", None, "content type None is not one of"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_sentence(handler: ModuleType, body: Any, content_type: Any, sentence: str) -> None:
    """ValueError is what servers answer as a bad request; its text tells the client what to mend."""
    with pytest.raises(ValueError, match=sentence) as caught:
        handler.input_fn(body, content_type)
    assert "\n" not in str(caught.value)


def test_a_header_cannot_claim_the_memory(handler: ModuleType) -> None:
    """128 bytes that announce terabytes, and a picture that announces gigapixels, are bad requests."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 8, 8)})
    with pytest.raises(ValueError, match="not a plain npy array"):
        handler.input_fn(header.getvalue(), "application/x-npy")
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="5000 x 5000 pixels"):
        handler.input_fn(buffer.getvalue(), "image/png")


def test_predictions_are_what_the_network_says(handler: ModuleType, model: Any) -> None:
    """One prediction per digit, with the label's name, its probability and all probabilities."""
    predictions = handler.predict_fn(torch.from_numpy(IMAGES), model)
    with torch.inference_mode():
        expected = model["net"]((torch.from_numpy(IMAGES) - 5.0) / 6.0).softmax(dim=1)
    assert len(predictions) == len(IMAGES)
    for prediction, row in zip(predictions, expected, strict=True):
        torch.testing.assert_close(torch.tensor(prediction["probabilities"]), row)
        assert prediction["label"] == f"class-{row.argmax()}"
        assert prediction["probability"] == max(prediction["probabilities"])


@pytest.mark.parametrize("accept", ["application/json", "*/*", "", None, "text/html, application/json;q=0.9"])
def test_json_answers(handler: ModuleType, accept: str | None) -> None:
    """JSON is the default answer."""
    body, content_type = handler.output_fn([{"label": "1"}], accept)
    assert content_type == "application/json"
    assert json.loads(body) == {"predictions": [{"label": "1"}]}


def test_json_lines_pair_with_their_input(handler: ModuleType, model: Any) -> None:
    """N lines in, N lines out, none empty, in order: what a batch transform needs to pair records."""
    body = "".join(json.dumps(each) + "\n" for each in LISTS)
    predictions = handler.predict_fn(handler.input_fn(body, "application/jsonlines"), model)
    answer, content_type = handler.output_fn(predictions, "application/jsonlines")
    assert content_type == "application/jsonlines"
    lines = answer.split("\n")
    assert [json.loads(line) for line in lines] == predictions


def test_an_answer_that_cannot_be_given(handler: ModuleType) -> None:
    """An Accept header without a type that we have is the client's mistake."""
    with pytest.raises(ValueError, match=r"application/json or application/jsonlines, not 'text/csv'") as caught:
        handler.output_fn([], "text/csv")
    assert caught.value.status_code == 406  # type: ignore[attr-defined]
