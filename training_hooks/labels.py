"""Class names, in whichever form a training script has them."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import kind_of, shown
from .errors import ArtifactError


def checked_labels(labels: object) -> list[str]:
    """Return the class names in the order of the model's outputs.

    Args:
        labels: a list, a tuple or an array of names; or a mapping between names and the whole numbers from 0 on, in
            either direction, as torchvision's `class_to_idx` and transformers' `id2label` are.

    Raises:
        ArtifactError: naming the entry that is no text, empty or not the only one of its name.
    """
    names: list[object]
    if isinstance(labels, Mapping):
        names = _of_mapping(labels)
    elif isinstance(labels, np.ndarray) and labels.ndim == 1:
        names = labels.tolist()
    elif isinstance(labels, Sequence) and not isinstance(labels, str | bytes | bytearray | memoryview):
        names = list(labels)
    else:
        raise ArtifactError(f"labels is {kind_of(labels)}; give a list of class names")
    if not names:
        raise ArtifactError("labels is empty; give one name per class or leave it out")
    first_index: dict[str, int] = {}
    for index, label in enumerate(names):
        if not isinstance(label, str) or not label:
            raise ArtifactError(f"labels[{index}] is {shown(label)}; a class name must be text and not empty")
        if label in first_index:
            raise ArtifactError(f"labels[{index}] repeats {label!r} of labels[{first_index[label]}]")
        first_index[label] = index
    return list(first_index)


def _of_mapping(labels: Mapping[object, object]) -> list[object]:
    for numbers, names in ((labels.keys(), labels.values()), (labels.values(), labels.keys())):
        by_number = {str(number): name for number, name in zip(numbers, names, strict=True)}
        if by_number.keys() == {str(index) for index in range(len(labels))}:
            return [by_number[str(index)] for index in range(len(labels))]
    raise ArtifactError("labels is a mapping without the whole numbers from 0 on; give a list of class names")
