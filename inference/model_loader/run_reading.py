"""From the YAML of one run to its configuration: what each key may be, and what is said of it where it is not."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from tidegate.inference.images.colours import Colour, read_colour, written
from tidegate.inference.images.palette import MAX_CLASSES, Unknown
from tidegate.inference.images.reading import DEFAULT_MAX_PIXELS
from tidegate.inference.model_loader.placed_yaml import Pair, Source, is_empty, is_written_null, near
from tidegate.inference.model_loader.run_configuration import PaletteColours, RunConfiguration, Size
from tidegate.inference.model_loader.weight_addresses import EPOCH, LATEST, Weights, address_fault, epoch_fault

MAX_SIDE = 16_384
NEEDED = ("architecture", "weights", "palette")
KNOWN = (*NEEDED, "arguments", "sha256", "size", "max_pixels")
"""The keys of a run."""
_ARCHITECTURE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def run_of(source: Source, node: yaml.Node, run_id: str) -> RunConfiguration | None:
    """The run of a mapping; None where it has mistakes that leave nothing of it. All of them are noted in `source`."""
    found = source.known_pairs(node, f"run {run_id!r}", known=KNOWN, needed=NEEDED)
    # `sha256: null` takes back what `<<` brought.
    pairs = {name: pair for name, pair in found.items() if name in NEEDED or not is_written_null(pair.value)}
    architecture = _architecture(source, pairs.get("architecture"))
    arguments = _arguments(source, pairs.get("arguments"))
    weights = _weights(source, pairs.get("weights"), pairs.get("sha256"))
    palette = _palette(source, pairs.get("palette"))
    size = _size(source, pairs.get("size"))
    max_pixels = _max_pixels(source, pairs.get("max_pixels"), has_size="size" in pairs)
    if architecture is None or weights is None or palette is None:
        return None
    return RunConfiguration(
        run_id=run_id,
        file=source.path,
        architecture=architecture,
        arguments=arguments,
        weights=weights,
        palette=palette,
        size=size,
        max_pixels=max_pixels,
    )


def _architecture(source: Source, pair: Pair | None) -> str | None:
    text = None if pair is None else source.text(pair.value, "architecture")
    if pair is not None and text is not None and not _ARCHITECTURE.fullmatch(text):
        source.fault(pair.value, f"architecture must be 'module:Class' of the code, it is {text!r}")
    return text


def _arguments(source: Source, pair: Pair | None) -> Mapping[str, Any]:
    if pair is None:
        return {}
    found = source.pairs(pair.value, "arguments")
    for name, each in found.items():
        if not name.isidentifier():
            source.fault(each.key, f"arguments has {name!r}, which cannot be the name of an argument")
    return {name: source.value(each.value, f"arguments.{name}") for name, each in found.items()}


def _weights(source: Source, pair: Pair | None, hashes: Pair | None) -> Weights | None:
    if pair is None:
        return None
    by_epoch = isinstance(pair.value, yaml.MappingNode)
    found = _epochs(source, pair.value, "weights") if by_epoch else {"": pair.value}
    addresses: dict[str, str] = {}
    for epoch, node in found.items():
        text = source.text(node, f"weights of epoch {epoch!r}" if by_epoch else "weights")
        if text is None:
            continue
        addresses[epoch] = _absolute(text, source.path.parent)
        if fault := address_fault(text):
            source.fault(node, f"weights {fault}")
        elif by_epoch and EPOCH in text:
            source.fault(
                node, f"weights has {EPOCH} in the address of one epoch; write {EPOCH} or the epochs, not both"
            )
    template = addresses.pop("") if EPOCH in addresses.get("", "") else None
    sha256s = _sha256s(source, hashes, epochs=found if by_epoch else None, named=by_epoch or template is not None)
    if template is not None and sha256s:
        addresses = {epoch: template.replace(EPOCH, epoch) for epoch in sha256s}
    return Weights(addresses=addresses, template=template, sha256s=sha256s)


def _absolute(address: str, folder: Path) -> str:
    return address if "://" in address else os.path.normpath(folder / address)


def _epochs(source: Source, node: yaml.Node, what: str) -> Mapping[str, yaml.Node]:
    found = source.pairs(node, what)
    for name, pair in found.items():
        if fault := epoch_fault(name):
            source.fault(pair.key, f"{what} has the epoch {name!r}, which {fault}")
    if not found and isinstance(node, yaml.MappingNode) and not node.value:
        source.fault(node, f"{what} has no epochs")
    return {name: pair.value for name, pair in found.items() if name != LATEST}


def _sha256s(
    source: Source, pair: Pair | None, *, epochs: Mapping[str, yaml.Node] | None, named: bool
) -> Mapping[str, str]:
    """The hashes by epoch; `epochs` are those that `weights` lists, `named` tells whether it has epochs at all."""
    if pair is None:
        return {}
    by_epoch = isinstance(pair.value, yaml.MappingNode)
    if by_epoch != named:
        way_out = "give one for each epoch: {EPOCH: SHA-256}" if named else f"give one, or write {EPOCH} into weights"
        source.fault(pair.value, f"sha256 is {'by epoch' if by_epoch else 'one'}, and weights is not: {way_out}")
        return {}
    found = _epochs(source, pair.value, "sha256") if by_epoch else {"": pair.value}
    sha256s: dict[str, str] = {}
    for epoch, node in found.items():
        if epochs is not None and epoch not in epochs:
            source.fault(node, f"sha256 has the epoch {epoch!r}, which weights has not{near(epoch, epochs)}")
        text = source.text(node, f"sha256 of epoch {epoch!r}" if epoch else "sha256")
        if text is not None and not _SHA256.fullmatch(text):
            source.fault(node, f"sha256 must be 64 hexadecimal digits, it is {text!r}")
        elif text is not None:
            sha256s[epoch] = text.lower()
    for epoch in [] if epochs is None else [epoch for epoch in epochs if epoch not in found]:
        source.fault(pair.key, f"sha256 has none for the epoch {epoch!r} of weights")
    return sha256s


def _palette(source: Source, pair: Pair | None) -> PaletteColours | None:
    if pair is None:
        return None
    known = ("colours", "unknown", "background")
    pairs = source.known_pairs(pair.value, "palette", known=known, needed=known[:1])
    colours = _colours(source, pairs["colours"].value) if "colours" in pairs else None
    unknown = _unknown(source, pairs["unknown"].value) if "unknown" in pairs else "error"
    background = _colour(source, pairs["background"].value, "palette.background") if "background" in pairs else None
    return None if colours is None else PaletteColours(colours=colours, unknown=unknown, background=background)


def _unknown(source: Source, node: yaml.Node) -> Unknown:
    text = source.text(node, "palette.unknown")
    choices: tuple[Unknown, ...] = get_args(Unknown)
    if text is not None and text not in choices:
        source.fault(node, f"palette.unknown must be {' or '.join(choices)}, it is {text!r}")
    return next((choice for choice in choices if choice == text), "error")


def _colour(source: Source, node: yaml.Node, what: str) -> Colour | None:
    """None where it is none, which has been noted."""
    if is_empty(node):
        source.fault(node, f"{what} is empty: '#' begins a comment in YAML, so a colour stands in quotes, '#87ceeb'")
        return None
    before = source.count
    value = source.value(node, what)
    if source.count == before:
        try:
            return read_colour(value)
        except ValueError as error:
            source.fault(node, f"{what}: {error}")
    return None


def _colours(source: Source, node: yaml.Node) -> Mapping[str, Colour] | tuple[Colour, ...] | None:
    what = "palette.colours"
    named = not isinstance(node, yaml.SequenceNode)
    nodes = {name: pair.value for name, pair in source.pairs(node, what).items()} if named else _by_number(node)
    if not 0 < len(nodes) <= MAX_CLASSES:
        source.fault(node, f"{what} must have 1 to {MAX_CLASSES} classes, it has {len(nodes)}")
        return None
    first: dict[Colour, str] = {}
    for name, each in nodes.items():
        called = f"the class {name!r}" if named else f"the class {name}"
        colour = _colour(source, each, f"{what}: {called}")
        if colour is None:
            continue
        if (other := first.setdefault(colour, name)) != name:
            source.fault(each, f"{what}: {called} has the colour {written(colour)} of {other!r}; each needs its own")
    return {name: colour for colour, name in first.items()} if named else tuple(first)


def _by_number(node: yaml.Node) -> Mapping[str, yaml.Node]:
    return {str(index): each for index, each in enumerate(node.value)}


def _size(source: Source, pair: Pair | None) -> Size | None:
    if pair is None:
        return None
    if isinstance(pair.value, yaml.ScalarNode):
        side = source.whole(pair.value, "size", low=1, high=MAX_SIDE)
        return None if side is None else Size(height=side, width=side)
    sides = ("height", "width")
    pairs = source.known_pairs(pair.value, "size", known=sides, needed=sides)
    height, width = (
        source.whole(pairs[side].value, f"size.{side}", low=1, high=MAX_SIDE) if side in pairs else None
        for side in sides
    )
    return None if height is None or width is None else Size(height=height, width=width)


def _max_pixels(source: Source, pair: Pair | None, *, has_size: bool) -> int | None:
    if pair is None:
        return None if has_size else DEFAULT_MAX_PIXELS
    if has_size:
        source.fault(pair.key, "max_pixels is about maps of any size, and this run has a size: leave one of them out")
    return source.whole(pair.value, "max_pixels", low=1, high=MAX_SIDE**2)
