"""Which model and which of its versions a selector means, or the error that lists what there is instead. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from tidegate.inference.errors import (
    InvalidVersion,
    ModelLoading,
    ModelNotFound,
    ModelRequired,
    RequestError,
    VersionNotFound,
)
from tidegate.inference.repository.catalogue import Model, VersionState, can_be_named

LATEST = "latest"
"""The selector of the highest number."""

Key = int | str
"""What a selector's version means in one model: a number, a label, or `LATEST`."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_NEAR_NUMBER = re.compile(r"[vV]?[-+]?[\d.,_]+")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")

_UNREAD_RETRY_S = 5
"""When to ask again for what could not be read yet."""
_LISTED = 20
"""Names that an error lists, and then it says how many more there are."""
_SHOWN = 80
"""Characters of what a client wrote, or of one name, that an error shows."""


def model_named(models: Mapping[str, Model], names: Sequence[str], name: str | None) -> Model:
    """The model of a selector's name. `names` are those of `models`, in order.

    No name is the only model that has, or may have, a version to answer with: a stray folder beside it changes nothing.
    Raises `ModelNotFound` and `ModelRequired`.
    """
    if name is None:
        return _only(models, names)
    model = models.get(name)
    if model is None:
        raise ModelNotFound(f"There is no model '{_shown(name)}'. {_there_is(names)}")
    return model


def key_of(model: Model, version: str | None) -> Key:
    """What a selector's version means in a model.

    Raises `InvalidVersion`, `VersionNotFound`, `ModelLoading` for a label while its labels cannot be read, and
    `ModelNotFound` for a model that is listed by a name that nobody can ask for.
    """
    if not can_be_named(model.name):
        why = model.reason[:300].rstrip(". ") or "its name cannot stand in a header and a path"
        raise ModelNotFound(f"The model '{_shown(model.name)}' cannot be requested: {why}.")
    if version is None or version == LATEST:
        return LATEST
    if version in model.labels:
        return version
    why = ""
    if _NUMBER.fullmatch(version):
        number = int(version)
        if any(each.number == number for each in model.versions):
            return number
    elif _NEAR_NUMBER.fullmatch(version) or not _LABEL.fullmatch(version):
        raise InvalidVersion(
            f"'{_shown(version)}' is no version: ask for a whole number, '{LATEST}' or a label. {_versions_of(model)}"
        )
    elif model.labels_unread:
        raise ModelLoading(f"The labels of the model '{model.name}' could not be read yet.", _UNREAD_RETRY_S)
    else:  # that it is missing may be what is wrong with the labels
        why = _because(model.reason)
    if model.folder_unread:
        raise _unread_folder(model)
    raise VersionNotFound(
        f"The model '{model.name}' has no version or label '{_shown(version)}'{why}. {_versions_of(model)}"
    )


def nothing_to_load(model: Model, key: Key) -> RequestError:
    """The error for a version that is there but cannot be loaded as it lies there, or for no version at all.

    It is to be asked for again where that could not be read yet.
    """
    number = model.labels.get(key) if isinstance(key, str) else key
    unread = [each.number for each in model.versions if each.state is VersionState.UNREAD]
    if unread and (key == LATEST or number in unread):
        which_one = number if number is not None else unread[-1]
        return ModelLoading(f"Version {which_one} of the model '{model.name}' could not be read yet.", _UNREAD_RETRY_S)
    if model.folder_unread and number not in {each.number for each in model.versions}:
        return _unread_folder(model)
    which = f"label '{key}'" if isinstance(key, str) and key != LATEST else f"version {key}"
    if number is not None:
        found = next((each for each in model.versions if each.number == number), None)
        if found is None:
            why = f"the label stands for version {number}, which is not there"
        else:
            why = f"version {number} is {found.state}: {found.reason}" if found.reason else f"it is {found.state}"
    else:
        flawed = model.versions[-1] if model.versions else None
        why = model.reason or (f"version {flawed.number} is {flawed.state}: {flawed.reason}" if flawed else "")
    return VersionNotFound(f"The model '{model.name}' cannot answer for {which}{_because(why)}. {_versions_of(model)}")


def _unread_folder(model: Model) -> ModelLoading:
    return ModelLoading(f"The folder of the model '{model.name}' could not be read yet.", _UNREAD_RETRY_S)


def _because(why: str) -> str:
    return f" ({why[:300].rstrip('. ')})" if why else ""


def _only(models: Mapping[str, Model], names: Sequence[str]) -> Model:
    usable = list(islice((name for name in names if _has_version(models[name])), 2))
    if len(usable) == 1:
        return models[usable[0]]
    if len(names) == 1:
        return models[names[0]]
    if not names:
        raise ModelNotFound("The repository holds no model yet.")
    raise ModelRequired(
        f"The request names no model: use /models/NAME/invoke, or X-Amzn-SageMaker-Custom-Attributes: model=NAME. "
        f"{_there_is(names)}"
    )


def _has_version(model: Model) -> bool:
    return any(version.state in (VersionState.AVAILABLE, VersionState.UNREAD) for version in model.versions)


def _there_is(names: Sequence[str]) -> str:
    return f"There is: {_listed(names, len(names))}." if names else "The repository holds no model yet."


def _versions_of(model: Model) -> str:
    numbers = [each.number for each in model.versions if each.state is VersionState.AVAILABLE]
    if not numbers:
        return "No version of it can be loaded."
    said = f"There is: {_listed(map(str, reversed(numbers)), len(numbers))}"
    if model.labels:
        labels = (f"{label} ({number})" for label, number in sorted(model.labels.items()))
        said += f"; labels: {_listed(labels, len(model.labels))}"
    return f"{said}."


def _listed(names: Iterable[str], count: int) -> str:
    text = ", ".join(_shown(name) for name in islice(names, _LISTED))
    return f"{text} and {count - _LISTED} more" if count > _LISTED else text


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
