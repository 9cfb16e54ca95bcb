"""What is known of a run, as plain values with nothing left to check in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.inference.images.colours import Colour
from tidegate.inference.images.palette import Unknown
from tidegate.inference.images.reading import DEFAULT_MAX_PIXELS
from tidegate.inference.model_loader.weight_addresses import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a picture, in pixels."""

    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaletteColours:
    """The colour of each class, by its name where the classes have names, and what another colour is."""

    colours: Mapping[str, Colour] | tuple[Colour, ...]
    unknown: Unknown = "error"
    background: Colour | None = None
    """What shows through transparent pixels; None where they are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfiguration:
    """One run, as its YAML has it and with nothing left to check in it."""

    run_id: str
    file: Path
    """The YAML, whose folder relative paths begin at."""
    architecture: str
    """`module:Class`."""
    arguments: Mapping[str, Any]
    """What the class is called with."""
    weights: Weights
    palette: PaletteColours
    size: Size | None
    """What the network paints at; None where it paints maps of any size as they are."""
    max_pixels: int | None = DEFAULT_MAX_PIXELS
    """Of a map that is painted as it is; None where there is a `size`."""
