"""All that `save_model` is told about inputs and answers, as the parts of the manifest that say it."""

from collections.abc import Mapping
from typing import Any

from ..arguments import as_whole_number, kind_of
from ..errors import ArtifactError
from .classes import checked_classes
from .image import MAX_SIDE, checked_image
from .table import checked_table
from .tensors import checked_tensors


def declare(*, label_count: int | None, **given: Any) -> dict[str, Any]:
    """Return what stands in the manifest under `image`, `classes`, `table` and `tensors`.

    Args:
        label_count: how many labels there are; None where there are none.
        given: arguments of `save_model`, None where one is omitted: image, mean, std, size; classes, activation, top_k,
            threshold; table, columns; tensors.

    Raises:
        ArtifactError: one sentence naming the argument, or the two that say the same.
    """
    said = {name: value for name, value in given.items() if value is not None}
    manifest: dict[str, Any] = {}
    pictures = _filled(said, "image", ("mean", "std", "size"), "input")
    if pictures is not None:
        manifest["image"] = checked_image(pictures)
    scores = _filled(said, "classes", ("activation", "top_k", "threshold"))
    if scores is not None:
        manifest["classes"] = checked_classes(scores, label_count)
    records = _filled(said, "table", ("columns",))
    if records is not None:
        manifest["table"] = checked_table(records)
    if "tensors" in said:
        manifest["tensors"] = checked_tensors(said["tensors"])
    image = manifest.get("image", {})
    inputs = [*(["image"] if "input" in image else []), *(name for name in ("table", "tensors") if name in manifest)]
    if len(inputs) > 1:
        raise ArtifactError(f"{' and '.join(inputs)} both say what the model takes; give one of them")
    if "output" in image and "classes" in manifest:
        raise ArtifactError('image["output"] and classes both say what the answer is; give one of them')
    return manifest


def _filled(said: Mapping[str, Any], whole: str, names: tuple[str, ...], part: str | None = None) -> Any:
    """Return the mapping given as a `whole`, with the arguments that stand for single keys of it, or of its part."""
    single = {name: said[name] for name in names if name in said}
    if not single:
        return said.get(whole)
    if "size" in single:
        single["size"] = _size(single["size"])
    mapping = said.get(whole, {})
    if not isinstance(mapping, Mapping):
        raise ArtifactError(f"{whole} is {kind_of(mapping)}; give a mapping")
    inner = mapping if part is None else mapping.get(part)
    twice = [name for name in single if isinstance(inner, Mapping) and name in inner]
    if twice or (part is not None and inner is not None and not isinstance(inner, Mapping)):
        where = whole if part is None else f'{whole}["{part}"]'
        raise ArtifactError(f"{(twice or list(single))[0]} is given, and {where} says it too; keep one of them")
    merged = {**(inner or {}), **single}
    return merged if part is None else {**mapping, part: merged}


def _size(size: Any) -> Any:
    """Return one side, or height and width, as the size to which a picture is cropped."""
    if isinstance(size, Mapping):
        return size
    height, width = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
    return {
        "height": as_whole_number(height, "size", least=1, most=MAX_SIDE),
        "width": as_whole_number(width, "size", least=1, most=MAX_SIDE),
        "policy": "crop",
    }
