"""What a model's maker says about the plain tensors that it takes: the manifest's key `tensors`."""

from typing import Any

from ..arguments import kind_of, shown
from ..errors import ArtifactError
from ..plain_values import to_plain
from .checks import object_of, one_of, text, with_dtype_name

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
MAX_TENSORS = 1000
MAX_DIMENSIONS = 16
MAX_LENGTH = 2**31


def checked_tensors(value: object) -> list[dict[str, Any]]:
    """Return what stands in the manifest.

    Args:
        value: `[{"name": "x", "dtype": "float32", "shape": ["batch", 3, None]}, …]`; docs/handlers.md has each key.

    Raises:
        ArtifactError: one sentence that names the place, and what is wrong there.
    """
    named = [with_dtype_name(each) for each in value] if isinstance(value, list | tuple) else value
    listed = to_plain(named, "tensors")
    if not isinstance(listed, list):
        raise ArtifactError(f"tensors is {kind_of(value)}; give a list of 1 to {MAX_TENSORS} mappings")
    if not 0 < len(listed) <= MAX_TENSORS:
        how_many = f"has {len(listed)} entries" if listed else "is empty"
        raise ArtifactError(f"tensors {how_many}; give a list of 1 to {MAX_TENSORS} mappings")
    check = object_of({"name": text, "dtype": one_of(*DTYPES), "shape": _shape})
    tensors = [check(each, f"tensors[{number}]") for number, each in enumerate(listed)]
    numbers: dict[str, int] = {}
    for number, tensor in enumerate(tensors):
        if missing := {"name", "shape"} - tensor.keys():
            raise ArtifactError(f'tensors[{number}] has no "{min(missing)}"')
        if (first := numbers.setdefault(tensor["name"], number)) != number:
            raise ArtifactError(f"tensors[{number}] has the name {shown(tensor['name'])} of tensors[{first}]")
    return tensors


def _shape(value: Any, place: str) -> list[int | str | None]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_DIMENSIONS:
        raise ArtifactError(f'{place} must be a list of 1 to {MAX_DIMENSIONS} lengths, as ["batch", 3, None]')
    for number, length in enumerate(value):
        fixed = type(length) is int and 0 < length <= MAX_LENGTH
        if not (fixed or length is None or (isinstance(length, str) and length)):
            raise ArtifactError(
                f"{place}[{number}] is {shown(length)}; it must be a whole number from 1 on, a name, or None"
            )
    return value
