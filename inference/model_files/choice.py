"""Which of the files is the model, and why: a pure function of what was found.

The file is the manifest's `weights.file`, where that holds its network; else `model.pt`; else the only one of the
first of these groups that has any, files with a usual suffix before all others: files of torch, safetensors, ONNX,
exported programs, packages of AOTInductor, SavedModel. A damaged model.pth stays among the files of torch: it is an
error, and no reason to serve something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.inference.model_files.found import ModelFile
from tidegate.inference.model_files.kinds import COMPILED, WEIGHTS_ONLY, Kind

TRUST_COMPILED = "TIDEGATE_TRUST_COMPILED_MODEL"
"""The variable by which the deployer says that the archive may run code by its compiled model."""

_OF_TORCH = frozenset({Kind.STATE_DICT, Kind.PICKLED_MODULE, Kind.TORCH_SCRIPT, Kind.PICKLE_INDEX, Kind.UNKNOWN})
_GROUPS = (
    _OF_TORCH,
    frozenset({Kind.SAFETENSORS, Kind.SAFETENSORS_INDEX}),
    frozenset({Kind.ONNX}),
    frozenset({Kind.EXPORTED_PROGRAM}),
    frozenset({Kind.AOT_INDUCTOR}),
    frozenset({Kind.SAVED_MODEL}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file that could be the model and is not served, and why."""

    file: ModelFile
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is served and why, or in `problem` why nothing is: the end of a sentence that begins with the directory."""

    file: ModelFile | None = None
    why: str = ""
    passed_over: tuple[PassedOver, ...] = ()
    problem: str = ""


def choose(found: Sequence[ModelFile], weights: Mapping[str, Any], *, trust_compiled: bool) -> Choice:
    """The model among `found`; `weights` is the manifest's part of that name, empty where there is none."""
    refused = [] if trust_compiled else [file for file in found if file.kind in COMPILED]
    passed_over = tuple(PassedOver(file=file, why=untrusted(file)) for file in refused)
    served = [file for file in found if file not in refused]
    if (named := _named(served, weights)) is not None:
        return Choice(file=named, why="the manifest names it", passed_over=passed_over)
    if (usual := next((file for file in served if file.name == "model.pt"), None)) is not None:
        return Choice(file=usual, why="its name is model.pt", passed_over=passed_over)
    for group in _groups(served):
        # Numbers without a network cannot be what was meant, where a file with its network is there.
        if all(file.kind in WEIGHTS_ONLY for file in group) and _complete(served):
            passed_over += tuple(
                PassedOver(file=file, why="needs a network, and no architecture is named for it") for file in group
            )
            continue
        if len(group) == 1:
            return Choice(file=group[0], why=f"it is the only {_called(group[0])}", passed_over=passed_over)
        names = ", ".join(file.name for file in group)
        return Choice(
            problem=f"holds several models ({names}); name one model.pt or define a model_fn.", passed_over=passed_over
        )
    if refused:
        return Choice(
            problem=f"holds nothing that can be served but {refused[0].name}, which {untrusted(refused[0])}.",
            passed_over=passed_over,
        )
    return Choice()


def _groups(files: Sequence[ModelFile]) -> Iterator[list[ModelFile]]:
    usual = [file for file in files if file.has_usual_name]
    for some in (usual, [file for file in files if file not in usual]):
        for kinds in _GROUPS:
            if group := [file for file in some if file.kind in kinds]:
                yield group


def _named(found: Iterable[ModelFile], weights: Mapping[str, Any]) -> ModelFile | None:
    named = next((file for file in found if file.name == weights.get("file")), None)
    # Archives name their state dict there also where nothing but a model_fn can load it.
    return None if named is None or named.kind in WEIGHTS_ONLY or named.kind is Kind.UNKNOWN else named


def _complete(found: Iterable[ModelFile]) -> bool:
    return any(file.kind not in WEIGHTS_ONLY and file.kind not in (Kind.UNKNOWN, Kind.PICKLED_MODULE) for file in found)


def untrusted(file: ModelFile) -> str:
    what = "is an exported program" if file.kind is Kind.EXPORTED_PROGRAM else "is a package of AOTInductor"
    return f"{what} and may run code: set {TRUST_COMPILED}=on if you trust the archive"


def _called(file: ModelFile) -> str:
    return "file of torch" if file.kind in _OF_TORCH else f"{file.kind}"
