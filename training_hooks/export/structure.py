"""What a network takes and gives, as flat lists of named tensors and how those are put together again.

A form (ONNX, a compiled package) knows flat lists of tensors only; the manifest's `signature` says the rest:

    positional   for each argument the name of its tensor, {"dict": {key: name}}, {"list": [name]}, {"tuple": [name]},
                 or {"constant": value} for what is no tensor and was the same when the form was built
    keyword      the names of the keyword arguments that are tensors, which are the tensors' names, too
    constants    the keyword arguments that are none, and their values
    structure    of the answer: "tensor", "list", "tuple" or {"dict": [key, …]}, in the order of the outputs
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..arguments import kind_of

Structure = str | dict[str, list[str]]
Argument = str | dict[str, Any]

_CONSTANTS = (type(None), bool, int, float, str)


class NotFlat(Exception):
    """The network takes or gives something that no form can; the text is the end of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the flat tensors of a call become its arguments, and its answer flat tensors.

    Attributes:
        positional: for each positional argument, what it is made of.
        keyword: the names of the keyword arguments that are tensors.
        constants: the other keyword arguments.
        inputs: the names of the flat tensors, in order.
        structure: of the answer.
        outputs: the names of the answer's flat tensors, in order.
    """

    positional: tuple[Argument, ...]
    keyword: tuple[str, ...]
    constants: Mapping[str, Any]
    inputs: tuple[str, ...]
    structure: Structure
    outputs: tuple[str, ...]

    def arguments(self, tensors: Sequence[torch.Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the network for these tensors."""
        by_name = dict(zip(self.inputs, tensors, strict=True))
        return [_put_together(each, by_name) for each in self.positional], {
            **{name: by_name[name] for name in self.keyword},
            **self.constants,
        }

    def flat_answer(self, answer: Any) -> list[torch.Tensor]:
        """Return the tensors of an answer. Raises `NotFlat` where it is built otherwise than this layout says."""
        structure, names, tensors = taken_apart(answer)
        if (structure, names) != (self.structure, self.outputs):
            raise NotFlat("it answers in another structure for another batch")
        return tensors


def layout_of(
    module: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any], answer: Any
) -> tuple[Layout, list[torch.Tensor]]:
    """Return the layout of a call, and the flat tensors that it was given.

    Raises:
        NotFlat: an argument or the answer is neither a tensor nor a plain list, tuple or dict of tensors.
    """
    found: dict[str, torch.Tensor] = {}
    names = _parameter_names(module)
    positional = []
    for index, value in enumerate(arguments):
        name = names[index] if index < len(names) else f"input_{index}"
        positional.append(_described(value, name, found))
    keyword, constants = [], {}
    for name, value in keywords.items():
        if isinstance(value, torch.Tensor):
            found[name] = value
            keyword.append(name)
        elif isinstance(value, _CONSTANTS):
            constants[name] = value
        else:
            raise NotFlat(f"it takes {kind_of(value)} as its keyword argument {name!r}, and a form tensors")
    if not found:
        raise NotFlat("it takes no tensor")
    structure, outputs, _ = taken_apart(answer)
    layout = Layout(
        positional=tuple(positional),
        keyword=tuple(keyword),
        constants=constants,
        inputs=tuple(found),
        structure=structure,
        outputs=outputs,
    )
    return layout, list(found.values())


def taken_apart(answer: Any) -> tuple[Structure, tuple[str, ...], list[torch.Tensor]]:
    """Return the structure of an answer, the names of its tensors, and the tensors. Raises `NotFlat`."""
    if isinstance(answer, torch.Tensor):
        return "tensor", ("output",), [answer]
    if isinstance(answer, Mapping):
        keys = list(answer)
        if not all(isinstance(key, str) for key in keys):
            raise NotFlat("it answers with a dict whose keys are not all text")
        return {"dict": keys}, tuple(keys), _tensors(answer.values())
    if isinstance(answer, list | tuple):
        structure = "list" if isinstance(answer, list) else "tuple"
        return structure, tuple(f"output_{index}" for index in range(len(answer))), _tensors(answer)
    raise NotFlat(f"it answers with {kind_of(answer)}; a form answers with tensors")


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    tensors = list(values)
    for each in tensors:
        if not isinstance(each, torch.Tensor):
            raise NotFlat(f"its answer holds {kind_of(each)}; a form answers with one level of tensors")
    if not tensors:
        raise NotFlat("its answer holds no tensor")
    return tensors


def _described(value: Any, name: str, found: dict[str, torch.Tensor]) -> Argument:
    if isinstance(value, torch.Tensor):
        found[name] = value
        return name
    if isinstance(value, _CONSTANTS):
        return {"constant": value}
    if isinstance(value, Mapping) and all(isinstance(each, torch.Tensor) for each in value.values()):
        for key, each in value.items():
            found[_free(str(key), found)] = each
        return {"dict": dict(zip(value, list(found)[-len(value) :], strict=True))} if value else {"constant": {}}
    if isinstance(value, list | tuple) and value and all(isinstance(each, torch.Tensor) for each in value):
        for index, each in enumerate(value):
            found[_free(f"{name}_{index}", found)] = each
        return {"list" if isinstance(value, list) else "tuple": list(found)[-len(value) :]}
    raise NotFlat(f"it takes {kind_of(value)} that is not made of tensors alone, and a form takes tensors")


def _free(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else f"{name}_{len(taken)}"


def _put_together(argument: Argument, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(argument, str):
        return tensors[argument]
    ((kind, content),) = argument.items()
    if kind == "constant":
        return content
    if kind == "dict":
        return {key: tensors[name] for key, name in content.items()}
    return [tensors[name] for name in content] if kind == "list" else tuple(tensors[name] for name in content)


def _parameter_names(module: torch.nn.Module) -> list[str]:
    if isinstance(module, torch.jit.ScriptModule):
        # The Python signature of a loaded script is that of a wrapper.
        return [argument.name for argument in module.forward.schema.arguments[1:]]  # type: ignore[attr-defined]
    parameters = inspect.signature(module.forward).parameters.values()
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]


class Flat(torch.nn.Module):
    """A network that takes and gives flat tensors, as every form does."""

    def __init__(self, module: torch.nn.Module, layout: Layout) -> None:
        super().__init__()
        self.module = module
        self.layout = layout

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the network with the arguments that these tensors make."""
        arguments, keywords = self.layout.arguments(tensors)
        return tuple(self.layout.flat_answer(self.module(*arguments, **keywords)))
