"""What a model's maker says about pictures, in and out: the manifest's key `image`, which the server obeys.

The manifest is sorted, so that the order of a mapping of colours, which tells the labels, is kept as a list.
"""

import re
from typing import Any

from ..arguments import as_whole_number
from ..errors import ArtifactError
from ..plain_values import to_plain
from .checks import is_number, member, object_of, one_of, text

MAX_SIDE = 32_768
MAX_CLASSES = 65_536
MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")

_HEX = re.compile(r"#[0-9A-Fa-f]{6}")
_WORDS = {"white": [255, 255, 255], "black": [0, 0, 0]}


def checked_image(value: object) -> dict[str, Any]:
    """Return what stands in the manifest.

    Args:
        value: `{"input": {…}, "output": {…}}` or one of the two, with the keys that docs/handlers.md lists.

    Raises:
        ArtifactError: one sentence that names the place, as `image["input"]["size"]`, and what is wrong there.
    """
    plain = object_of({"input": _input, "output": _output})(to_plain(value, "image"), "image")
    if not plain:
        raise ArtifactError("image is empty; give input, output or both")
    given, taken = plain.get("output", {}), plain.get("input", {})
    if given.get("size") == "input" and "input" not in plain:
        raise ArtifactError('image["output"]["size"] is that of the input, and there is no image["input"]')
    if given.get("palette") == "input" and "palette" not in taken:
        raise ArtifactError('image["output"]["palette"] is that of the input, which has none')
    return plain


def _input(value: Any, place: str) -> dict[str, Any]:
    plain = object_of(
        {
            "key": text,
            "as": one_of("pixels", "labels"),
            "palette": _palette,
            "classes": _classes,
            "size": _size,
            "max_pixels": _pixels,
            "interpolation": one_of("nearest", "bilinear", "bicubic", "lanczos"),
            "value_range": _range,
            "mean": _per_channel,
            "std": _divisors,
            "colour_order": one_of("rgb", "bgr"),
            "background": _background,
            "orientation": one_of("obey", "ignore"),
        }
    )(value, place)
    if {"size", "max_pixels"} <= plain.keys():
        raise ArtifactError(f'{place}["max_pixels"] is about pictures of any size, and there is a size')
    if "classes" in plain and plain.get("as") == "labels":
        for key in ("palette", "background"):
            if key in plain:
                raise ArtifactError(f'{place}["{key}"] is about colours, and with "classes" the file has numbers')
    _demand_fitting(plain, place, ("interpolation", "value_range", "mean", "std", "colour_order"))
    return plain


def _classes(value: Any, place: str) -> int:
    return as_whole_number(value, place, least=1, most=MAX_CLASSES)


def _output(value: Any, place: str) -> dict[str, Any]:
    plain = object_of(
        {
            "key": text,
            "from": member,
            "as": one_of("pixels", "labels"),
            "palette": lambda each, where: each if each == "input" else _palette(each, where),
            "value_range": _range,
            "media_type": one_of(*MEDIA_TYPES),
            "colour_order": one_of("rgb", "bgr"),
            "size": one_of("model", "input"),
        }
    )(value, place)
    _demand_fitting(plain, place, ("value_range", "colour_order"))
    return plain


def _demand_fitting(plain: dict[str, Any], place: str, of_pixels: tuple[str, ...]) -> None:
    """Raise `ArtifactError` for a key of pixels where there are labels, and the other way round."""
    labels = plain.get("as") == "labels"
    if labels and not {"palette", "classes"} & plain.keys():
        raise ArtifactError(
            f'{place} is of labels and has no palette; labels are identified by its colours, as {{"colours": …}}'
        )
    for key in of_pixels if labels else ("palette", "classes"):
        if key in plain:
            raise ArtifactError(
                f'{place}["{key}"] is about {"pixels" if labels else "labels"}, and "as" says otherwise'
            )


def _side(value: Any, place: str) -> int:
    return as_whole_number(value, place, least=1, most=MAX_SIDE)


def _pixels(value: Any, place: str) -> int:
    return as_whole_number(value, place, least=1, most=MAX_SIDE**2)


def _size(value: Any, place: str) -> dict[str, Any]:
    policies = one_of("exact", "limit", "resize", "crop")
    plain = object_of({"height": _side, "width": _side, "policy": policies, "shorter_side": _side})(value, place)
    if not {"height", "width"} <= plain.keys():
        raise ArtifactError(f"{place} needs both height and width")
    if "shorter_side" in plain and plain.get("policy") != "crop":
        raise ArtifactError(f'{place}["shorter_side"] is about the policy "crop"')
    if plain.get("shorter_side", MAX_SIDE) < max(plain["height"], plain["width"]):
        raise ArtifactError(f'{place}["shorter_side"] is less than the size that is to be cropped')
    if plain.get("policy") == "crop" and plain["height"] == plain["width"]:
        # A square without it is cut with the longer side rounded, which torchvision's Resize cuts off.
        plain.setdefault("shorter_side", plain["height"])
    return plain


def _range(value: Any, place: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)) or value[0] == value[1]:
        raise ArtifactError(f"{place} must be two different numbers, those of black and of white")
    return [value[0], value[1]]


def _per_channel(value: Any, place: str) -> Any:
    numbers = value if isinstance(value, list) else 3 * [value]
    if len(numbers) != 3 or not all(map(is_number, numbers)):
        raise ArtifactError(f"{place} must be a number, or three for red, green and blue")
    return value


def _divisors(value: Any, place: str) -> Any:
    if 0 in (value if isinstance(value, list) else [value]):
        raise ArtifactError(f"{place} holds 0, by which nothing can be divided")
    return _per_channel(value, place)


def _colour(value: Any, place: str) -> list[int]:
    """Return three numbers from 0 to 255."""
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, str) and _HEX.fullmatch(value):
        return list(bytes.fromhex(value[1:]))
    parts = value if isinstance(value, list) else []
    if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
        raise ArtifactError(f"{place} is no colour; write '#rrggbb' or three whole numbers from 0 to 255")
    return parts


def _background(value: Any, place: str) -> Any:
    return value if value in ("drop", "refuse") else _colour(value, place)


def _palette(value: Any, place: str) -> dict[str, Any]:
    plain = object_of(
        {"colours": lambda each, _: each, "names": lambda each, _: each, "unknown": one_of("error", "nearest")}
    )(value, place)
    colours, names = plain.get("colours"), plain.get("names")
    if isinstance(colours, dict) and names is None:
        names, colours = list(colours), list(colours.values())
    if not isinstance(colours, list) or not 0 < len(colours) <= MAX_CLASSES:
        raise ArtifactError(f'{place}["colours"] must be a list of 1 to {MAX_CLASSES} colours, or a mapping by names')
    if names is not None:
        known = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        if not known or len(set(names)) != len(names) or len(names) != len(colours):
            raise ArtifactError(f'{place}["names"] must be {len(colours)} different names, one for each colour')
        plain["names"] = names
    first: dict[tuple[int, ...], int] = {}
    for label, colour in enumerate(colours):
        numbers = tuple(_colour(colour, f'{place}["colours"][{label}]'))
        if numbers in first:
            raise ArtifactError(
                f'{place}["colours"][{label}] is the colour of [{first[numbers]}]; each class needs one of its own'
            )
        first[numbers] = label
    return plain | {"colours": [list(numbers) for numbers in first]}
