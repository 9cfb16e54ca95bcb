"""The call of the network that an archive's own example leads to, seen from outside.

The example goes through the archive's own functions, whatever they do before and after the network; what is recorded
is the outermost call of a `torch.nn.Module`, the last one where there are several of the same module.
"""

import copy
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import answer_example
from .job import NotExported
from .structure import Layout, NotFlat, layout_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedCall:
    """A network and what the example gave it.

    Attributes:
        module: the network, as the archive's code made it.
        layout: how flat tensors become its arguments, and its answer flat tensors.
        tensors: the flat tensors of the call, on the CPU.
        own_model_fn: the script loads the model, so that a form is used only where the script asks for it.
    """

    module: torch.nn.Module
    layout: Layout
    tensors: list[torch.Tensor]
    own_model_fn: bool

    def answer(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Call the network with these tensors; the answer's tensors."""
        arguments, keywords = self.layout.arguments(tensors)
        return self.layout.flat_answer(self.module(*arguments, **keywords))


class StandInContext:
    """The server's context as far as it exists outside the server."""

    model_name = "model"
    manifest: Mapping[str, Any] = {}

    def verified_form(self) -> None:
        """There is none while one is being built: the script calls its own network, which is what is recorded."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotExported(f"code/inference.py uses context.{name}, which exists in the server alone")


def capture(model_dir: Path, manifest: Mapping[str, Any]) -> CapturedCall:
    """Answer the archive's example by its own functions, and return the call of the network on the way.

    Raises:
        NotExported: the example cannot be answered, calls no network or several, or one whose call no form can take.
    """
    example = manifest["example"]
    request = example["request"]
    data = (model_dir / request["file"]).read_bytes()
    calls: list[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any], Any]] = []
    with _recorded(calls):
        try:
            answer_example.answer(
                model_dir, data, request["content_type"], request["accept"], dict(manifest), context=StandInContext()
            )
        except answer_example.HandlerProblem as problem:
            raise NotExported(f"the example cannot be answered: {' '.join(str(problem).split())}") from None
    if not calls:
        raise NotExported("the example leads to no call of a torch.nn.Module, and only such a model has other forms")
    module, arguments, keywords, answer = calls[-1]
    others = {type(each).__name__ for each, *_ in calls if each is not module}
    if others:
        names = ", ".join(sorted({*others, type(module).__name__}))
        raise NotExported(
            f"the example calls several networks one after the other ({names}); make them one module that calls them"
        )
    try:
        layout, tensors = layout_of(module, arguments, keywords, answer)
    except NotFlat as problem:
        raise NotExported(f"the network {type(module).__name__} has no form: {problem}") from None
    if {tensor.device.type for tensor in tensors} != {"cpu"}:
        raise NotExported(
            "the code puts the model on a GPU; forms are built for the CPU, so hide it: CUDA_VISIBLE_DEVICES="
        )
    script = sys.modules.get("inference")
    own = any(hasattr(script, name) for name in ("model_fn", "create_model"))
    return CapturedCall(module=module, layout=layout, tensors=tensors, own_model_fn=own)


@contextmanager
def _recorded(calls: list[Any]) -> Iterator[None]:
    real = torch.nn.Module.__call__
    depth = threading.local()

    def recorded(self: torch.nn.Module, *arguments: Any, **keywords: Any) -> Any:
        if getattr(depth, "now", 0):
            return real(self, *arguments, **keywords)
        depth.now = 1
        # A copy, because a network may write into what it is given.
        kept = copy.deepcopy((_detached(arguments), _detached(keywords)))
        try:
            answer = real(self, *arguments, **keywords)
        finally:
            depth.now = 0
        calls.append((self, *kept, answer))
        return answer

    torch.nn.Module.__call__ = recorded  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.__call__ = real  # type: ignore[method-assign]


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _detached(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_detached, value))
    return value
