"""What save_model declares about pictures the server reads; the answer that the save records, the server gives too."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.contract.test_check import check
from tests.contract.test_declared_images import COLOURS, PAINT, uri
from tests.inference.toy_images import written
from tidegate.inference.errors import BadRequest
from tidegate.inference.images.declaration import declared
from tidegate.inference.worker.declared import pictures_in, pictures_out
from tidegate.inference.worker.declared.taken import PictureSize
from tidegate.inference.worker.picture_difference import picture_difference
from tidegate.training_hooks import Example, image_functions, save_model
from tidegate.training_hooks.answer_example import one_of_several
from tidegate.training_hooks.declarations.image import checked_image
from tidegate.training_hooks.declarations.together import declare

PALETTE = {"colours": COLOURS}
CROP = {"height": 12, "width": 10, "policy": "crop"}


def noise(mode: str = "RGB", height: int = 21, width: int = 34) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(8).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(noise(), "PNG", exif=exif)


@pytest.mark.parametrize("picture", [written(noise(), "PNG"), written(noise("RGBA"), "PNG"), sideways()])
@pytest.mark.parametrize(
    "taken",
    [
        {},
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"value_range": [-1, 1], "colour_order": "bgr", "mean": [0.1, 0.2, 0.3]},
        {"size": CROP},
        {"size": CROP | {"shorter_side": 15}, "interpolation": "bicubic"},
        {"size": {"height": 8, "width": 50, "policy": "resize"}, "interpolation": "nearest"},
        {"size": {"height": 50, "width": 50, "policy": "limit"}, "orientation": "ignore"},
        {"background": "drop"},
        {"max_pixels": 21 * 34},
        {"background": "#102030"},
        {"as": "labels", "palette": PALETTE | {"unknown": "nearest"}},
        {"as": "labels", "palette": PALETTE | {"unknown": "nearest"}, "size": CROP},
    ],
)
def test_both_sides_make_the_same_numbers_of_a_picture(picture: bytes, taken: Any) -> None:
    image = json.loads(json.dumps(checked_image({"input": taken})))
    ours, size = image_functions.input_fn(picture, "image/png", image["input"])
    wanted = declared({"image": image}).input
    assert wanted is not None
    theirs = pictures_in.read(picture, "image/png", wanted, max_decoded_bytes=1 << 24)
    assert (ours.dtype, ours.shape, size) == (theirs.data.dtype, theirs.data.shape, tuple(theirs.sizes[0]))
    assert torch.allclose(ours, theirs.data, atol=1e-6)
    in_json, _ = image_functions.input_fn(json.dumps({"image": uri(picture)}), "application/json", image["input"])
    assert torch.equal(in_json, ours)


@given(height=st.integers(1, 90), width=st.integers(1, 90), side=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_square_is_cut_as_torchvision_cuts_it(height: int, width: int, side: int) -> None:
    """save_model(size=N) is Resize(N), which cuts the longer side off to a whole number, and CenterCrop(N)."""
    picture = noise("RGB", height, width)
    image = declare(label_count=None, size=side)["image"]
    wanted = declared({"image": image}).input
    assert wanted is not None
    found = pictures_in.read(written(picture, "PNG"), "image/png", wanted, max_decoded_bytes=1 << 24)
    resized = picture.resize(
        (side, int(side * height / width)) if width <= height else (int(side * width / height), side),
        Image.Resampling.BILINEAR,
    )
    left, top = round((resized.width - side) / 2), round((resized.height - side) / 2)
    cut = np.asarray(resized.crop((left, top, left + side, top + side)))
    assert (np.rint(found.data[0].numpy() * 255) == cut.transpose(2, 0, 1)).all()


def test_a_crop_that_was_saved_without_a_shorter_side_means_what_it_meant() -> None:
    """The longer side is rounded, so that an example that was recorded with it is answered as recorded."""
    picture = noise("RGB", 23, 34)
    image = {"input": {"size": {"height": 12, "width": 12, "policy": "crop"}}}
    wanted = declared({"image": image}).input
    assert wanted is not None
    found = pictures_in.read(written(picture, "PNG"), "image/png", wanted, max_decoded_bytes=1 << 24)
    rounded = np.asarray(picture.resize((round(12 * 34 / 23), 12), Image.Resampling.BILINEAR))[:, 3:15]
    assert (np.rint(found.data[0].numpy() * 255) == rounded.transpose(2, 0, 1)).all()
    ours, _ = image_functions.input_fn(written(picture, "PNG"), "image/png", image["input"])
    assert torch.allclose(ours, found.data, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "prediction"),
    [
        ({"value_range": [-1, 1]}, torch.linspace(-1.2, 1.2, 36).reshape(1, 3, 3, 4)),
        (
            {"value_range": [-1, 1], "size": "input", "colour_order": "bgr"},
            torch.linspace(-1, 1, 36).reshape(1, 3, 3, 4),
        ),
        ({"from": "out"}, {"aux": torch.zeros(1), "out": torch.rand(1, 1, 3, 4)}),
        ({"from": 1}, (torch.zeros(1), torch.rand(3, 3, 4))),
        ({"value_range": [0, 255], "media_type": "image/webp"}, torch.full((1, 3, 16, 16), 77.5)),
        ({}, torch.full((1, 3, 2, 2), 9, dtype=torch.uint8)),
        ({"as": "labels", "palette": PALETTE, "size": "input"}, torch.randint(0, 3, (1, 3, 4))),
        ({"as": "labels", "palette": PALETTE}, torch.rand(1, 3, 3, 4)),
    ],
)
def test_both_sides_draw_the_same_picture(given: Any, prediction: Any) -> None:
    image = json.loads(json.dumps(checked_image({"input": {}, "output": given})))
    wanted = declared({"image": image}).output
    assert wanted is not None
    size = PictureSize(6, 5)
    for accept in ("image/png", "application/json"):
        meant = one_of_several(prediction, image["output"].get("from"), "image.output.from")
        ours = image_functions.output_fn(meant, accept, image["output"], tuple(size))
        theirs = pictures_out.write(prediction, accept, wanted, [size], records=1)
        if accept == "image/png":
            assert picture_difference(ours, theirs, rtol=0, atol=0) is None
        else:
            assert list(json.loads(ours)) == list(json.loads(theirs)) == ["image"]


def test_a_saved_example_without_a_script_is_answered_by_the_server_as_it_was_recorded(tmp_path: Path) -> None:
    """A picture as the example, no inference.py: the save answers it, the server compares."""
    network: dict[str, Any] = {}
    exec(PAINT, network)  # noqa: S102 - the source that the archive carries
    (tmp_path / "code").mkdir()
    (tmp_path / "code/network.py").write_text(PAINT)
    image = {
        "input": {"key": "segmap", "as": "labels", "palette": {"colours": COLOURS}},
        "output": {"value_range": [-1, 1], "size": "input"},
    }
    drawn = Image.fromarray(np.array([list(COLOURS.values())] * 2, np.uint8))
    for example in (drawn, Example(request={"segmap": uri(written(drawn, "PNG"))}, accept="image/png")):
        save_model(
            network["Paint"](),
            model_dir=tmp_path / "model",
            code_dir=tmp_path / "code",
            architecture="network:Paint",
            image=image,
            example=example,
        )
        response = next((tmp_path / "model/example").glob("response.*")).read_bytes()
        data = response if not isinstance(example, Image.Image) else json.loads(response)["image"]
        assert isinstance(data, str) or Image.open(io.BytesIO(data)).size == (3, 2)
        done = check(tmp_path / "model")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the archive's example is answered as expected" in done.stdout


def numbers(kind: str) -> bytes:
    """A map of the labels 0 to 4."""
    labels = np.random.default_rng(4).integers(0, 5, (21, 34))
    if kind == "palette":
        picture = Image.fromarray(labels.astype(np.uint8)).convert("P")
        picture.putdata(labels.ravel().tolist())
        picture.putpalette([7, 7, 7, 0, 0, 0, 200, 0, 0, 0, 200, 0, 9, 9, 9])
        return written(picture, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(Image.fromarray(labels.astype(np.uint16 if kind == "deep" else np.uint8)), "PNG", exif=exif)


@pytest.mark.parametrize("kind", ["palette", "grey", "deep"])
@pytest.mark.parametrize("more", [{}, {"size": CROP}, {"orientation": "ignore"}])
def test_both_sides_take_the_numbers_of_a_file_as_labels(kind: str, more: Any) -> None:
    image = json.loads(json.dumps(checked_image({"input": {"as": "labels", "classes": 5} | more})))
    ours, size = image_functions.input_fn(numbers(kind), "image/png", image["input"])
    wanted = declared({"image": image}).input
    assert wanted is not None
    theirs = pictures_in.read(numbers(kind), "image/png", wanted, max_decoded_bytes=1 << 24)
    assert theirs.data.dtype is torch.int64
    assert torch.equal(ours, theirs.data)
    assert size == tuple(theirs.sizes[0])
    if not more:
        labels = np.random.default_rng(4).integers(0, 5, (21, 34))
        assert theirs.data[0].tolist() == (labels if kind == "palette" else np.rot90(labels, -1)).tolist()


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (numbers("grey"), r"has the label 4; this model takes 0 to 3\.$"),
        (
            written(noise(), "PNG"),
            r"and the image has other pixels \(RGB\); send a PNG in grey",
        ),
        (
            written(noise("L"), "JPEG"),
            r"and the image is a JPEG, which changes them; send a",
        ),
    ],
)
def test_both_sides_refuse_what_are_no_such_numbers(picture: bytes, sentence: str) -> None:
    image = checked_image({"input": {"as": "labels", "classes": 4}})
    with pytest.raises((image_functions.NotDone, OSError)):
        image_functions.input_fn(picture, "image/png", image["input"])
    wanted = declared({"image": image}).input
    assert wanted is not None
    with pytest.raises(BadRequest, match=sentence):
        pictures_in.read(picture, "image/png", wanted, max_decoded_bytes=1 << 24)


def test_both_sides_refuse_a_picture_of_too_many_pixels() -> None:
    picture, image = written(noise(), "PNG"), checked_image({"input": {"max_pixels": 21 * 34 - 1}})
    with pytest.raises(image_functions.NotDone, match=r"is 34 x 21 pixels, and the declaration takes at most 713$"):
        image_functions.input_fn(picture, "image/png", image["input"])
    wanted = declared({"image": image}).input
    assert wanted is not None
    with pytest.raises(BadRequest, match=r"is 34 x 21 pixels \(width x height\); this model takes at most 713 pixels"):
        pictures_in.read(picture, "image/png", wanted, max_decoded_bytes=1 << 24)
