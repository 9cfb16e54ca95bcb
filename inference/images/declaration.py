"""What a manifest says under `image`: how a model without an `input_fn` or `output_fn` takes and gives pictures.

    "image": {
      "input": {"key": "segmap", "as": "labels", "palette": {"colours": ["#87ceeb", "#006994"], "unknown": "nearest"}},
      "output": {"key": "image", "value_range": [-1, 1], "size": "input"}
    }

The deployer wrote it: every mistake is a `DeploymentError` that names its place, as `image.input.palette.unknown`.
docs/handlers.md has each key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from tidegate.inference.errors import DeploymentError
from tidegate.inference.images.colours import read_colour
from tidegate.inference.images.palette import Palette
from tidegate.inference.images.reading import DEFAULT_MAX_PIXELS, WHITE, Onto
from tidegate.inference.images.resizing import FILTERS
from tidegate.inference.images.writing import WRITABLE
from tidegate.inference.layout import MANIFEST

Kind = Literal["pixels", "labels"]
Order = Literal["rgb", "bgr"]
Policy = Literal["exact", "limit", "resize", "crop"]
MAX_SIDE = 32_768
_LARGEST: Final = 3.4e38
"""Of float32, in which pictures are given; NaN is beyond it too, and so are whole numbers that no float holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The pictures that a model takes: of exactly this size or at most of it, or brought to it."""

    height: int
    width: int
    policy: Policy
    shorter_side: int | None = None
    """What the shorter side becomes before a `crop`; None: as small as covers the crop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """How a picture becomes what the model is given."""

    key: str = "image"
    kind: Kind = "pixels"
    palette: Palette | None = None
    size: Size | None = None
    max_pixels: int | None = DEFAULT_MAX_PIXELS
    """Of the pictures of one request together, where they may have any size; None where there is a `size`."""
    interpolation: str = "bilinear"
    value_range: tuple[float, float] = (0, 1)
    mean: tuple[float, ...] = (0, 0, 0)
    std: tuple[float, ...] = (1, 1, 1)
    colour_order: Order = "rgb"
    onto: Onto = WHITE
    obey_orientation: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutput:
    """How a picture is made of what the model gave."""

    key: str = "image"
    member: str | int | None = None
    """Which of several predictions is the picture; None where there is one."""
    kind: Kind = "pixels"
    palette: Palette | None = None
    value_range: tuple[float, float] = (0, 1)
    media_type: str = "image/png"
    colour_order: Order = "rgb"
    as_input: bool = False
    """Whether the picture is brought to the size that the client's had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDeclaration:
    """Both sides; None where the manifest says nothing about one, which then is as without a declaration."""

    input: ImageInput | None = None
    output: ImageOutput | None = None


def declared(manifest: Mapping[str, Any], *, onto: Onto = WHITE, obey_orientation: bool = True) -> ImageDeclaration:
    """What the manifest says; `onto` and `obey_orientation` are the server's, where it says nothing of them.

    Raises `DeploymentError`.
    """
    if "image" not in manifest:
        return ImageDeclaration()
    image = _Part(manifest["image"], "image", {"input", "output"})
    if not image.values:
        raise DeploymentError(f"{MANIFEST}: image is empty; it has input, output or both.")
    taken = _input(image, onto, obey_orientation) if "input" in image.values else None
    return ImageDeclaration(input=taken, output=_output(image, taken) if "output" in image.values else None)


def _input(image: _Part, onto: Onto, obey_orientation: bool) -> ImageInput:
    part = image.part(
        "input",
        {"key", "as", "palette", "size", "interpolation", "value_range", "mean", "std", "colour_order", "background"}
        | {"orientation", "max_pixels"},
    )
    kind = cast(Kind, part.choice("as", ("pixels", "labels"), "pixels"))
    if kind == "labels":
        part.refuse(
            ("interpolation", "value_range", "mean", "std", "colour_order"), "which is about pixels; this takes labels"
        )
        if "palette" not in part.values:
            raise part.mistake("palette", "is missing; labels are told by the colours of one")
    else:
        part.refuse(("palette",), 'which is about labels; say "as": "labels"')
    if "size" in part.values:
        part.refuse(("max_pixels",), "which is about pictures of any size; this has a size")
    std = part.per_channel("std", 1.0)
    if 0 in std:
        raise part.mistake("std", "holds 0, by which nothing can be divided")
    return ImageInput(
        key=part.text("key", "image"),
        kind=kind,
        palette=_palette(part) if kind == "labels" else None,
        size=_size(part) if "size" in part.values else None,
        max_pixels=None
        if "size" in part.values
        else part.whole("max_pixels", most=MAX_SIDE**2, default=DEFAULT_MAX_PIXELS),
        interpolation=part.choice("interpolation", tuple(FILTERS), "bilinear"),
        value_range=part.value_range((0.0, 1.0)),
        mean=part.per_channel("mean", 0.0),
        std=std,
        colour_order=cast(Order, part.choice("colour_order", ("rgb", "bgr"), "rgb")),
        onto=_background(part, onto),
        obey_orientation=obey_orientation
        if "orientation" not in part.values
        else part.choice("orientation", ("obey", "ignore"), "obey") == "obey",
    )


def _output(image: _Part, taken: ImageInput | None) -> ImageOutput:
    part = image.part("output", {"key", "from", "as", "palette", "value_range", "media_type", "colour_order", "size"})
    kind = cast(Kind, part.choice("as", ("pixels", "labels"), "pixels"))
    palette = None
    if kind == "labels":
        part.refuse(("value_range", "colour_order"), "which is about pixels; this gives labels")
        palette = taken.palette if taken is not None and part.values.get("palette") == "input" else _palette(part)
    else:
        part.refuse(("palette",), 'which is about labels; say "as": "labels"')
    as_input = part.choice("size", ("model", "input"), "model") == "input"
    if as_input and taken is None:
        raise part.mistake("size", 'is "input", but the manifest declares no image.input')
    return ImageOutput(
        key=part.text("key", "image"),
        member=_member(part),
        kind=kind,
        palette=palette,
        value_range=part.value_range((0.0, 1.0)),
        media_type=part.choice("media_type", WRITABLE, WRITABLE[0]),
        colour_order=cast(Order, part.choice("colour_order", ("rgb", "bgr"), "rgb")),
        as_input=as_input,
    )


def _palette(parent: _Part) -> Palette:
    part = parent.part("palette", {"colours", "names", "unknown"})
    colours, names = part.values.get("colours"), part.values.get("names")
    if not isinstance(colours, list):
        raise part.mistake("colours", 'must be a list, as ["#87ceeb", [0, 105, 148]]: the place of each is its label')
    if names is not None:
        known = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        if not known or len(set(names)) != len(names) or len(names) != len(colours):
            raise part.mistake("names", f"must be a list of {len(colours)} different names, one for each colour")
        colours = dict(zip(names, colours, strict=True))
    unknown = part.choice("unknown", ("error", "nearest"), "error")
    try:
        return Palette(colours, unknown=cast(Literal["error", "nearest"], unknown))
    except ValueError as error:
        raise part.mistake("colours", f"cannot be a palette: {error}") from None


def _size(parent: _Part) -> Size:
    part = parent.part("size", {"height", "width", "policy", "shorter_side"})
    policy = cast(Policy, part.choice("policy", ("exact", "limit", "resize", "crop"), "exact"))
    height, width = part.side("height"), part.side("width")
    shorter_side = None
    if "shorter_side" in part.values:
        if policy != "crop":
            raise part.mistake("shorter_side", 'is about the policy "crop"')
        shorter_side = part.side("shorter_side")
        if shorter_side < max(height, width):
            raise part.mistake("shorter_side", f"is {shorter_side}, less than the {height} x {width} to be cropped")
    return Size(height=height, width=width, policy=policy, shorter_side=shorter_side)


def _background(part: _Part, default: Onto) -> Onto:
    value = part.values.get("background", default)
    if value in ("drop", "refuse"):
        return cast(Onto, value)
    try:
        return read_colour(value)
    except ValueError as error:
        raise part.mistake("background", f'is none: {error}, "drop" or "refuse"') from None


def _member(part: _Part) -> str | int | None:
    value = part.values.get("from")
    if value is None or (isinstance(value, str) and value) or (type(value) is int and value >= 0):
        return value
    raise part.mistake("from", f"is {_shown(value)}; it is the name of a prediction, or its number from 0")


class _Part:
    """One object of the declaration, and where it stands."""

    def __init__(self, values: Any, place: str, keys: set[str]) -> None:
        if not isinstance(values, dict):
            raise DeploymentError(f"{MANIFEST}: {place} is {_shown(values)}; it must be an object.")
        self.values: dict[str, Any] = values
        self._place = place
        for key in values:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(keys))}."
                raise DeploymentError(f"{MANIFEST}: {place} has the key {_shown(key)}, which is unknown; {hint}")

    def mistake(self, key: str, what: str) -> DeploymentError:
        return DeploymentError(f"{MANIFEST}: {self._place}.{key} {what}.")

    def part(self, key: str, keys: set[str]) -> _Part:
        if key not in self.values:
            raise self.mistake(key, "is missing")
        return _Part(self.values[key], f"{self._place}.{key}", keys)

    def refuse(self, keys: tuple[str, ...], why: str) -> None:
        for key in keys:
            if key in self.values:
                raise self.mistake(key, f"is there, {why}")

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self.mistake(key, f"is {_shown(value)}; it must be {' or '.join(map(_shown, choices))}")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.mistake(key, f"is {_shown(value)}; it must be a key of a JSON object")
        return value

    def side(self, key: str) -> int:
        return self.whole(key, most=MAX_SIDE, default=None)

    def whole(self, key: str, *, most: int, default: int | None) -> int:
        value = self.values.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.mistake(key, f"is {_shown(value)}; it must be a whole number from 1 to {most}")
        return value

    def value_range(self, default: tuple[float, float]) -> tuple[float, float]:
        value = self.values.get("value_range", list(default))
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)) or value[0] == value[1]:
            raise self.mistake(
                "value_range", f"is {_shown(value)}; it must be two different numbers, those of black and of white"
            )
        return float(value[0]), float(value[1])

    def per_channel(self, key: str, default: float) -> tuple[float, ...]:
        """Three numbers, for red, green and blue; one stands for all three."""
        value = self.values.get(key, default)
        numbers = value if isinstance(value, list) else 3 * [value]
        if len(numbers) != 3 or not all(map(_is_number, numbers)):
            raise self.mistake(key, f"is {_shown(value)}; it must be a number, or three for red, green and blue")
        return tuple(map(float, numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
