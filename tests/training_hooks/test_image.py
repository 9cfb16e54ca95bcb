"""What save_model is told about pictures stands in the manifest, or is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tidegate.training_hooks import ArtifactError, save_directory, save_model

from .artifacts import manifest_of

LABELS = {"as": "labels", "palette": {"colours": ["#000000", "#ffffff"]}}


def saved(directory: Path, image: Any) -> Any:
    save_model(nn.Linear(2, 2), model_dir=directory, image=image)
    return manifest_of(directory)["image"]


def test_what_is_said_about_pictures_stands_in_the_manifest(tmp_path: Path) -> None:
    image = {
        "input": {
            "key": "photo",
            "size": {"height": 224, "width": 224, "policy": "crop", "shorter_side": 256},
            "interpolation": "bicubic",
            "value_range": [0, 1],
            "mean": [0.485, 0.456, 0.406],
            "std": 0.25,
            "colour_order": "bgr",
            "background": "refuse",
            "orientation": "ignore",
        },
        "output": {"key": "image", "from": 0, "media_type": "image/webp", "value_range": [-1, 1], "size": "input"},
    }
    assert saved(tmp_path, image) == image


def test_the_order_of_named_colours_is_kept_although_the_manifest_is_sorted(tmp_path: Path) -> None:
    palette = {"colours": {"sky": "#87ceeb", "grass": (0, 128, 0), "ash": "black"}, "unknown": "nearest"}
    assert saved(tmp_path, {"input": {"as": "labels", "palette": palette}})["input"]["palette"] == {
        "colours": [[135, 206, 235], [0, 128, 0], [0, 0, 0]],
        "names": ["sky", "grass", "ash"],
        "unknown": "nearest",
    }


def test_arrays_and_tuples_become_lists(tmp_path: Path) -> None:
    image = {
        "input": {"mean": np.array([0.5, 0.25, 0.0]), "std": (1, 2, 4), "size": {"height": np.int64(8), "width": 8}}
    }
    assert saved(tmp_path, image) == {
        "input": {"mean": [0.5, 0.25, 0.0], "std": [1, 2, 4], "size": {"height": 8, "width": 8}}
    }


def test_a_limit_of_pixels_stands_in_the_manifest(tmp_path: Path) -> None:
    assert saved(tmp_path, {"input": {"max_pixels": np.int64(4096)}}) == {"input": {"max_pixels": 4096}}


def test_a_directory_is_saved_with_the_same_declaration(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    save_directory(tmp_path, image={"output": {"as": "labels", "palette": {"colours": ["black"]}}})
    assert manifest_of(tmp_path)["image"] == {"output": {"as": "labels", "palette": {"colours": [[0, 0, 0]]}}}


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (True, "image is a bool; give a mapping with input, output"),
        ({}, "image is empty; give input, output or both"),
        ({"inputs": {}}, "image has the key 'inputs'; there are input, output"),
        ({"input": []}, 'image["input"] is a list; give a mapping with key, as, palette'),
        ({"input": {"labels": []}}, "image[\"input\"] has the key 'labels'; there are key, as, palette"),
        ({"input": {"as": "label"}}, "image[\"input\"][\"as\"] is 'label'; it must be 'pixels' or 'labels'"),
        ({"input": {"as": "labels"}}, 'image["input"] is of labels and has no palette'),
        ({"input": LABELS | {"mean": 0.5}}, 'image["input"]["mean"] is about pixels, and "as" says otherwise'),
        (
            {"input": {"palette": LABELS["palette"]}},
            'image["input"]["palette"] is about labels, and "as" says otherwise',
        ),
        ({"input": {"key": ""}}, 'image["input"]["key"] is \'\'; it must be a key of a JSON object'),
        ({"input": {"size": {"height": 2}}}, 'image["input"]["size"] needs both height and width'),
        ({"input": {"size": {"height": 0, "width": 2}}}, 'image["input"]["size"]["height"] is 0; it must be a whole'),
        (
            {"input": {"size": {"height": 2, "width": 2, "shorter_side": 2}}},
            'image["input"]["size"]["shorter_side"] is',
        ),
        (
            {"input": {"size": {"height": 2, "width": 3, "policy": "crop", "shorter_side": 2}}},
            'image["input"]["size"]["shorter_side"] is less than the size that is to be cropped',
        ),
        ({"input": {"max_pixels": 0}}, 'image["input"]["max_pixels"] is 0; it must be a whole number from 1 to'),
        (
            {"input": {"max_pixels": 4, "size": {"height": 2, "width": 2}}},
            'image["input"]["max_pixels"] is about pictures of any size, and there is a size',
        ),
        ({"input": {"std": [1, 0, 1]}}, 'image["input"]["std"] holds 0, by which nothing can be divided'),
        ({"input": {"mean": [1, 2]}}, 'image["input"]["mean"] must be a number, or three for red, green and blue'),
        ({"input": {"mean": float("nan")}}, "image['input']['mean'] is nan, which JSON cannot hold"),
        ({"input": {"value_range": [1, 1]}}, 'image["input"]["value_range"] must be two different numbers'),
        ({"input": {"background": "grey"}}, 'image["input"]["background"] is no colour; write \'#rrggbb\' or three'),
        (
            {"input": {"as": "labels", "palette": {"colours": []}}},
            'image["input"]["palette"]["colours"] must be a list',
        ),
        (
            {"input": {"as": "labels", "palette": {"colours": ["#000000", (0, 0, 256)]}}},
            'image["input"]["palette"]["colours"][1] is no colour',
        ),
        (
            {"input": {"as": "labels", "palette": {"colours": {"sky": "#000000", "sea": "black"}}}},
            'image["input"]["palette"]["colours"][1] is the colour of [0]; each class needs one of its own',
        ),
        (
            {"input": {"as": "labels", "palette": {"colours": ["#000000"], "names": ["a", "b"]}}},
            'image["input"]["palette"]["names"] must be 1 different names, one for each colour',
        ),
        ({"output": {"media_type": "image/gif"}}, 'image["output"]["media_type"] is \'image/gif\'; it must be'),
        ({"output": {"size": "input"}}, 'image["output"]["size"] is that of the input, and there is no image["input"]'),
        (
            {"output": {"as": "labels", "palette": "input"}},
            'image["output"]["palette"] is that of the input, which has',
        ),
        ({"output": {"from": -1}}, 'image["output"]["from"], unless it is a name, is -1; it must be a whole number'),
    ],
)
def test_anything_else_is_refused_with_its_place_and_nothing_is_written(
    tmp_path: Path, image: Any, sentence: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        save_model(nn.Linear(2, 2), model_dir=tmp_path, image=image)

    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []
