"""What a manifest says under `image`: how a model without an `input_fn` or `output_fn` takes and gives pictures.

    "image": {
      "input": {"key": "segmap", "as": "labels", "palette": {"colours": ["#87ceeb", "#006994"], "unknown": "nearest"}},
      "output": {"key": "image", "value_range": [-1, 1], "size": "input"}
    }

The deployer wrote it: every mistake is a `DeploymentError` that names its place, as `image.input.palette.unknown`.
docs/handlers.md has each key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from tidegate.inference.declarations.part import Part
from tidegate.inference.errors import DeploymentError
from tidegate.inference.images.colours import read_colour
from tidegate.inference.images.palette import MAX_CLASSES, Palette
from tidegate.inference.images.reading import DEFAULT_MAX_PIXELS, WHITE, Onto
from tidegate.inference.images.resizing import FILTERS
from tidegate.inference.images.writing import WRITABLE
from tidegate.inference.layout import MANIFEST

Kind = Literal["pixels", "labels"]
Order = Literal["rgb", "bgr"]
Policy = Literal["exact", "limit", "resize", "crop"]
MAX_SIDE = 32_768


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
    classes: int | None = None
    """Of labels that are the numbers in the file, how many there are; None where a palette tells them."""
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
    image = Part(manifest["image"], "image", {"input", "output"})
    if not image.values:
        raise DeploymentError(f"{MANIFEST}: image is empty; it has input, output or both.")
    taken = _input(image, onto, obey_orientation) if "input" in image.values else None
    return ImageDeclaration(input=taken, output=_output(image, taken) if "output" in image.values else None)


def _input(image: Part, onto: Onto, obey_orientation: bool) -> ImageInput:
    part = image.part(
        "input",
        {"key", "as", "palette", "size", "interpolation", "value_range", "mean", "std", "colour_order", "background"}
        | {"orientation", "max_pixels", "classes"},
    )
    kind = cast(Kind, part.choice("as", ("pixels", "labels"), "pixels"))
    if kind == "labels":
        part.refuse(
            ("interpolation", "value_range", "mean", "std", "colour_order"), "which is about pixels; this takes labels"
        )
        if "classes" in part.values:
            part.refuse(("palette", "background"), "which is about colours; with classes the file has numbers")
        elif "palette" not in part.values:
            raise part.mistake("palette", "is missing; labels are told by the colours of one, or by numbers: classes")
    else:
        part.refuse(("palette", "classes"), 'which is about labels; say "as": "labels"')
    if "size" in part.values:
        part.refuse(("max_pixels",), "which is about pictures of any size; this has a size")
    std = part.per_channel("std", 1.0)
    if 0 in std:
        raise part.mistake("std", "holds 0, by which nothing can be divided")
    return ImageInput(
        key=part.text("key", "image"),
        kind=kind,
        palette=_palette(part) if kind == "labels" and "classes" not in part.values else None,
        classes=part.whole("classes", most=MAX_CLASSES, default=None) if "classes" in part.values else None,
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


def _output(image: Part, taken: ImageInput | None) -> ImageOutput:
    part = image.part("output", {"key", "from", "as", "palette", "value_range", "media_type", "colour_order", "size"})
    kind = cast(Kind, part.choice("as", ("pixels", "labels"), "pixels"))
    palette = None
    if kind == "labels":
        part.refuse(("value_range", "colour_order"), "which is about pixels; this gives labels")
        shared = taken.palette if taken is not None and part.values.get("palette") == "input" else None
        palette = shared if shared is not None else _palette(part)
    else:
        part.refuse(("palette",), 'which is about labels; say "as": "labels"')
    as_input = part.choice("size", ("model", "input"), "model") == "input"
    if as_input and taken is None:
        raise part.mistake("size", 'is "input", but the manifest declares no image.input')
    return ImageOutput(
        key=part.text("key", "image"),
        member=part.member(),
        kind=kind,
        palette=palette,
        value_range=part.value_range((0.0, 1.0)),
        media_type=part.choice("media_type", WRITABLE, WRITABLE[0]),
        colour_order=cast(Order, part.choice("colour_order", ("rgb", "bgr"), "rgb")),
        as_input=as_input,
    )


def _palette(parent: Part) -> Palette:
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


def _size(parent: Part) -> Size:
    part = parent.part("size", {"height", "width", "policy", "shorter_side"})
    policy = cast(Policy, part.choice("policy", ("exact", "limit", "resize", "crop"), "exact"))
    height, width = _side(part, "height"), _side(part, "width")
    shorter_side = None
    if "shorter_side" in part.values:
        if policy != "crop":
            raise part.mistake("shorter_side", 'is about the policy "crop"')
        shorter_side = _side(part, "shorter_side")
        if shorter_side < max(height, width):
            raise part.mistake("shorter_side", f"is {shorter_side}, less than the {height} x {width} to be cropped")
    return Size(height=height, width=width, policy=policy, shorter_side=shorter_side)


def _side(part: Part, key: str) -> int:
    return part.whole(key, most=MAX_SIDE, default=None)


def _background(part: Part, default: Onto) -> Onto:
    value = part.values.get("background", default)
    if value in ("drop", "refuse"):
        return cast(Onto, value)
    try:
        return read_colour(value)
    except ValueError as error:
        raise part.mistake("background", f'is none: {error}, "drop" or "refuse"') from None
