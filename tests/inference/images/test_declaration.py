"""What a manifest says about pictures is obeyed to the letter, or refused with the place of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidegate.inference.errors import DeploymentError
from tidegate.inference.images.declaration import ImageDeclaration, declared

LABELS = {"as": "labels", "palette": {"colours": ["#000000", "#ffffff"]}}


def refusal(image: Any) -> str:
    with pytest.raises(DeploymentError) as caught:
        declared({"image": image})
    message = str(caught.value)
    assert message.startswith("manifest.json: image")
    assert message.endswith((".", "?"))
    return message.removeprefix("manifest.json: ")


def test_a_manifest_without_the_key_declares_nothing() -> None:
    assert declared({}) == ImageDeclaration(input=None, output=None)


def test_an_empty_side_is_a_picture_from_0_to_1_as_the_server_reads_it_anyhow() -> None:
    taken = declared({"image": {"input": {}}}, onto="drop", obey_orientation=False).input
    assert taken is not None
    assert (taken.key, taken.kind, taken.size, taken.value_range, taken.mean, taken.std) == (
        *("image", "pixels", None, (0, 1)),
        *((0, 0, 0), (1, 1, 1)),
    )
    assert (taken.onto, taken.obey_orientation) == ("drop", False)
    given = declared({"image": {"output": {}}}).output
    assert given is not None
    assert (given.key, given.value_range, given.media_type, given.as_input) == ("image", (0, 1), "image/png", False)


def test_every_key_has_its_meaning() -> None:
    found = declared(
        {
            "image": {
                "input": {
                    "key": "photo",
                    "size": {"height": 224, "width": 200, "policy": "crop", "shorter_side": 256},
                    "interpolation": "bicubic",
                    "value_range": [-1, 1],
                    "mean": [0.1, 0.2, 0.3],
                    "std": 0.5,
                    "colour_order": "bgr",
                    "background": "#102030",
                    "orientation": "ignore",
                },
                "output": {
                    "from": 1,
                    "as": "pixels",
                    "media_type": "image/webp",
                    "colour_order": "bgr",
                    "size": "input",
                },
            }
        }
    )
    taken, given = found.input, found.output
    assert taken is not None
    assert given is not None
    assert taken.size is not None
    assert (taken.size.height, taken.size.width, taken.size.policy, taken.size.shorter_side) == (224, 200, "crop", 256)
    assert (taken.key, taken.interpolation, taken.value_range) == ("photo", "bicubic", (-1, 1))
    assert (taken.mean, taken.std, taken.colour_order) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "bgr")
    assert (taken.onto, taken.obey_orientation) == ((16, 32, 48), False)
    assert (given.member, given.media_type, given.colour_order, given.as_input) == (1, "image/webp", "bgr", True)


def test_an_output_of_labels_may_have_the_palette_of_the_input() -> None:
    found = declared({"image": {"input": LABELS, "output": {"as": "labels", "palette": "input"}}})
    assert found.input is not None
    assert found.output is not None
    assert found.output.palette is found.input.palette
    assert found.output.palette is not None


def test_the_names_of_classes_go_with_their_colours() -> None:
    palette = {"colours": ["#000000", [1, 2, 3]], "names": ["night", "dawn"], "unknown": "nearest"}
    taken = declared({"image": {"input": {"as": "labels", "palette": palette}}}).input
    assert taken is not None
    assert taken.palette is not None
    assert (taken.palette.names, taken.palette.unknown) == (("night", "dawn"), "nearest")


def test_the_page_lists_every_key() -> None:
    """As the refusal of an unknown key names them."""
    page = (Path(__file__).parents[3] / "docs/handlers.md").read_text(encoding="utf-8")
    section = page.partition("### Pictures by declaration")[2].partition("\n## ")[0]
    for side in ("input", "output"):
        table = section.partition(f"| key of `{side}` |")[2].partition("\n\n")[0]
        listed = {key for row in table.splitlines()[2:] for key in row.split("|")[1].split("`")[1::2]}
        said = refusal({side: {"zzz": 0}}).partition("; there are ")[2].rstrip(".")
        assert listed == set(said.split(", "))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (None, "image is None; it must be an object."),
        ([], "image is []; it must be an object."),
        ({}, "image is empty; it has input, output or both."),
        ({"inputs": {}}, "image has the key 'inputs', which is unknown; did you mean input?"),
        ({"input": True}, "image.input is True; it must be an object."),
        ({"input": {"sise": {}}}, "image.input has the key 'sise', which is unknown; did you mean size?"),
        ({"input": {"zoom": 2}}, "image.input has the key 'zoom', which is unknown; there are as, background,"),
        ({"input": {"key": ""}}, "image.input.key is ''; it must be a key of a JSON object."),
        ({"input": {"as": "label"}}, "image.input.as is 'label'; it must be 'pixels' or 'labels'."),
        (
            {"input": {"as": "labels"}},
            "image.input.palette is missing; labels are told by the colours of one, or by",
        ),
        ({"input": {"palette": {}}}, "image.input.palette is there, which is about labels; say"),
        ({"input": LABELS | {"mean": 0}}, "image.input.mean is there, which is about pixels; this takes labels."),
        ({"input": LABELS | {"interpolation": "nearest"}}, "image.input.interpolation is there, which is about pixels"),
        ({"input": {"as": "labels", "palette": {}}}, "image.input.palette.colours must be a list"),
        ({"input": {"as": "labels", "palette": {"colours": {"sky": "#000000"}}}}, "palette.colours must be a list"),
        (
            {"input": {"as": "labels", "palette": {"colours": ["#000000", [0, 0, 0]]}}},
            "image.input.palette.colours cannot be a palette: the class 1 has the colour #000000 of the class 0",
        ),
        ({"input": {"as": "labels", "palette": {"colours": []}}}, "a palette has 1 to 65536 colours, this one has 0"),
        (
            {"input": {"as": "labels", "palette": {"colours": ["#000000"], "unknown": "skip"}}},
            "palette.unknown is 'skip'",
        ),
        ({"input": {"as": "labels", "palette": {"colours": ["#000000"], "names": []}}}, "a list of 1 different names"),
        (
            {"input": {"as": "labels", "palette": {"colours": ["#000000", "#000001"], "names": ["a", "a"]}}},
            "image.input.palette.names must be a list of 2 different names, one for each colour.",
        ),
        ({"input": {"classes": 3}}, "image.input.classes is there, which is about labels; say"),
        (
            {"input": {"as": "labels", "classes": 0}},
            "image.input.classes is 0; it must be a whole number from 1",
        ),
        (
            {"input": LABELS | {"classes": 3}},
            "image.input.palette is there, which is about colours; with classes",
        ),
        (
            {"input": {}, "output": {"as": "labels", "palette": "input"}},
            "image.output.palette is 'input'; it must be an object.",
        ),
        ({"input": {"max_pixels": 0}}, "image.input.max_pixels is 0; it must be a whole number from 1 to 1073741824."),
        ({"input": {"max_pixels": None}}, "image.input.max_pixels is None; it must be a whole number"),
        ({"input": {"max_pixels": 1e6}}, "image.input.max_pixels is 1000000.0; it must be a whole number"),
        (
            {"input": {"max_pixels": 9, "size": {"height": 3, "width": 3, "policy": "limit"}}},
            "image.input.max_pixels is there, which is about pictures of any size; this has a size.",
        ),
        ({"input": {"size": 224}}, "image.input.size is 224; it must be an object."),
        ({"input": {"size": {"height": 224}}}, "image.input.size.width is None; it must be a whole number from 1"),
        ({"input": {"size": {"height": 0, "width": 1}}}, "image.input.size.height is 0; it must be a whole number"),
        ({"input": {"size": {"height": 9.0, "width": 1}}}, "image.input.size.height is 9.0"),
        ({"input": {"size": {"height": True, "width": 1}}}, "image.input.size.height is True"),
        (
            {"input": {"size": {"height": 9, "width": 9, "policy": "fit"}}},
            "size.policy is 'fit'; it must be 'exact'",
        ),
        ({"input": {"size": {"height": 9, "width": 9, "shorter_side": 9}}}, 'shorter_side is about the policy "crop".'),
        (
            {"input": {"size": {"height": 9, "width": 12, "policy": "crop", "shorter_side": 11}}},
            "image.input.size.shorter_side is 11, less than the 9 x 12 to be cropped.",
        ),
        (
            {"input": {"interpolation": "area"}},
            "image.input.interpolation is 'area'; it must be 'nearest' or",
        ),
        ({"input": {"mean": [0.5]}}, "image.input.mean is [0.5]; it must be a number, or three"),
        ({"input": {"mean": float("nan")}}, "image.input.mean is nan; it must be a number"),
        ({"input": {"mean": 10**400}}, "image.input.mean is 1000000000"),
        ({"output": {"value_range": [0, float("inf")]}}, "image.output.value_range is [0, inf]; it must be two"),
        ({"input": {"mean": "0.5"}}, "image.input.mean is '0.5'; it must be a number"),
        ({"input": {"std": 0}}, "image.input.std holds 0, by which nothing can be divided."),
        ({"input": {"value_range": [1, 1]}}, "image.input.value_range is [1, 1]; it must be two different numbers"),
        ({"input": {"value_range": 255}}, "image.input.value_range is 255; it must be two different numbers"),
        ({"input": {"colour_order": "grb"}}, "image.input.colour_order is 'grb'; it must be 'rgb' or 'bgr'."),
        ({"input": {"background": "whit"}}, "image.input.background is none: 'whit' is not a colour"),
        ({"input": {"background": []}}, "image.input.background is none: [] is not a colour"),
        ({"input": {"orientation": "upright"}}, "image.input.orientation is 'upright'; it must be 'obey' or 'ignore'."),
        ({"output": {"size": "input"}}, 'image.output.size is "input", but the manifest declares no image.input.'),
        ({"output": {"from": -1}}, "image.output.from is -1; it is the name of a prediction, or its number from 0."),
        ({"output": {"from": ""}}, "image.output.from is ''"),
        ({"output": {"from": True}}, "image.output.from is True"),
        (
            {"output": {"from": None}},
            "image.output.from is None; it is the name of a prediction, or its number from 0.",
        ),
        ({"output": {"media_type": "image/gif"}}, "image.output.media_type is 'image/gif'; it must be 'image/png' or"),
        ({"output": {"as": "labels"}}, "image.output.palette is missing."),
        ({"output": {"as": "labels", "palette": "input"}}, "image.output.palette is 'input'; it must be an object."),
        ({"output": LABELS | {"value_range": [0, 1]}}, "image.output.value_range is there, which is about pixels"),
    ],
)
def test_each_mistake_is_said_with_its_place(image: Any, sentence: str) -> None:
    assert sentence in refusal(image)
