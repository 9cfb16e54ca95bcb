"""Programs of `torch.export.save`: their own module, with its inputs looked at first.

Only of an archive that the deployer trusts: torch.export.load unpickles what the file asks it to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive._package import load_pt2
from torch.utils._pytree import tree_flatten, tree_unflatten

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.model_files import damage, zip_members
from tidegate.inference.worker.formats.missing_operators import missing_operator
from tidegate.inference.worker.misfit import InputRefused

_OLD_MEMBER = "serialized_exported_program.json"
"""Of the files before torch 2.7, which only torch.export.load reads."""


class _Expected(NamedTuple):
    """A tensor that a program takes. The length of a free dimension is None: a guard of the program looks at it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | None, ...]


class ExportedModel(torch.nn.Module):
    """The module of an exported program. Raises `InputRefused` where a guard would stumble over an input."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self._expected = _inputs(program)
        self.program = program.module()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the program gives."""
        given, structure = tree_flatten((args, kwargs))
        if len(given) == len(self._expected):
            pairs = zip(self._expected, given, strict=True)
            checked = [value if expected is None else _checked(expected, value) for expected, value in pairs]
            args, kwargs = tree_unflatten(checked, structure)
        return self.program(*args, **kwargs)


def load(path: Path, place: torch.device) -> torch.nn.Module:
    """The model of a .pt2 file, on `place`. Raises `DeploymentError`."""
    try:
        program = _program(path)
        if place.type != "cpu":
            program = move_to_device_pass(program, place)
        return ExportedModel(program)
    except DeploymentError:
        raise
    except Exception as error:
        if what := damage.of_a_compiled_model(path):
            raise DeploymentError(f"{path} cannot be loaded as an exported program: it is {what}.") from None
        reason = missing_operator(error) or one_line(error)
        raise DeploymentError(f"{path} cannot be loaded as an exported program: {reason.rstrip('.')}.") from error


def _program(path: Path) -> torch.export.ExportedProgram:
    with path.open("rb") as file:
        if _OLD_MEMBER in zip_members.names(path):
            return torch.export.load(file)
        programs = load_pt2(file).exported_programs
    if len(programs) != 1:
        names = ", ".join(sorted(programs)) or "none"
        raise DeploymentError(f"{path} holds {len(programs)} programs ({names}); one is what can be served.")
    (program,) = programs.values()
    return program


def _inputs(program: torch.export.ExportedProgram) -> list[_Expected | None]:
    """The program's inputs in their order; None for one that is no tensor."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    found = [(name, values.get(name)) for name in program.graph_signature.user_inputs if isinstance(name, str)]
    return [_expected(name, value) if isinstance(value, torch.Tensor) else None for name, value in found]


def _expected(name: str, value: torch.Tensor) -> _Expected:
    lengths = (length if isinstance(length, int) else None for length in value.shape)
    return _Expected(name, value.dtype, tuple(lengths))


def _checked(expected: _Expected, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise InputRefused(f"the input '{expected.name}' must be Tensor, not {type(value).__name__}")
    fits = len(value.shape) == len(expected.shape) and all(
        wanted in (None, length) for wanted, length in zip(expected.shape, value.shape, strict=True)
    )
    if not fits:
        shape = json.dumps(["any" if length is None else length for length in expected.shape]).replace('"', "")
        raise InputRefused(f"the input '{expected.name}' has the shape {list(value.shape)}; the model takes {shape}")
    if value.dtype is expected.dtype:
        return value
    # JSON has one kind of number.
    cast = value.to(expected.dtype)
    if not torch.equal(cast.to(value.dtype), value):
        given, wanted = (str(dtype).removeprefix("torch.") for dtype in (value.dtype, expected.dtype))
        raise InputRefused(
            f"the input '{expected.name}' is of {wanted}, to which these numbers of {given} cannot be cast as they are"
        )
    return cast
