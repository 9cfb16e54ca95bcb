"""Which files could be the model, which of them the server's own model_fn reads, and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tidegate.inference.errors import some_of
from tidegate.inference.frontend.check.listing import Listing
from tidegate.inference.load_report import Caution
from tidegate.inference.model_files import torch_pickle
from tidegate.inference.model_files.choice import Choice, choose
from tidegate.inference.model_files.found import ModelFile, model_files
from tidegate.inference.model_files.kinds import Kind

_LOADERS = ("model_fn", "create_model")
"""What in a script says that it may load the model itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What could be the model, and what the server's own model_fn makes of it, unless the script loads it itself."""

    found: tuple[ModelFile, ...]
    choice: Choice
    loads_itself: bool


def models_of(
    listing: Listing, manifest: Mapping[str, Any], script: PurePosixPath | None, *, trust_compiled: bool
) -> Models:
    """The models of an archive whose script, if any, is `script`."""
    weights = manifest.get("weights")
    try:
        found = model_files(listing.root)
    except (OSError, ValueError):
        found = ()  # the worker says what it makes of them
    source = listing.text(script) if script is not None else ""
    return Models(
        found=found,
        choice=choose(found, weights if isinstance(weights, Mapping) else {}, trust_compiled=trust_compiled),
        loads_itself=any(name in source for name in _LOADERS),
    )


def cautions(listing: Listing, manifest: Mapping[str, Any], models: Models) -> Iterator[Caution]:
    """What is odd about the models."""
    yield from _of_main(listing, models)
    listed = manifest.get("files")
    meant = set(listed) if isinstance(listed, Mapping) else set()
    # What the manifest lists was put there by save_model or export, which know what they do.
    others = [each.name for each in models.found if each.name not in meant and each.kind is not Kind.UNKNOWN]
    if models.loads_itself:
        yield from _twins([each.name for each in models.found], others)
    elif (served := models.choice.file) is not None:
        passed_over = {each.file.name for each in models.choice.passed_over}  # which the log says
        unread = [name for name in others if name != served.name and name not in passed_over]
        if unread:
            yield _two_models(served.name, unread, f"is served, because {models.choice.why}")


def _twins(found: list[str], others: list[str]) -> Iterator[Caution]:
    """Files of one name and several suffixes: a script reads one of them, and the other is from another day."""
    for name in others:
        beside = [each for each in found if each != name and _stem(each) == _stem(name)]
        if beside:
            yield _two_models(name, beside, "is there")
            return


def _two_models(name: str, others: list[str], why: str) -> Caution:
    return Caution(
        code="two_model_files",
        message=f"{name} {why}; beside it: {some_of(others, limit=3)}",
        way_out="remove the files that are not the model, so that none is loaded by mistake",
    )


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _of_main(listing: Listing, models: Models) -> Iterator[Caution]:
    for each in models.found:
        if each.kind is not Kind.PICKLED_MODULE:
            continue
        named = torch_pickle.named_class(listing.root / each.name)
        if named is not None and named.startswith("__main__."):
            yield Caution(
                code="pickled_class_of_main",
                message=f"{each.name} was saved by a program that defined {named.removeprefix('__main__.')} itself, "
                "and can only be read where the script has a class of that name",
                way_out="save model.state_dict() in place of the model",
            )
