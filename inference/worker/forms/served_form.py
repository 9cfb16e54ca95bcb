"""A form as the model that is called: what an eager model takes, checked, computed by the form's engine, and given back
as an eager model gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tidegate.inference.worker.comparing import Tolerance
from tidegate.inference.worker.forms.arguments import builder, gatherer
from tidegate.inference.worker.forms.input_check import InputCheck
from tidegate.inference.worker.forms.signature import Range, Signature, TensorSpec
from tidegate.inference.worker.misfit import InputRefused

Run = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
"""An engine: checked inputs in order, to outputs in order."""

Expected = tuple[TensorSpec, torch.dtype, int, tuple[tuple[int, int], ...]]
"""An output's declaration, and what of it is looked at in every call: type, rank, and fixed lengths by their axes."""

_ANY = Range()


class OtherOutputs(RuntimeError):
    """An engine gives what its signature does not say, so one of both is of another model."""


def expected_outputs(signature: Signature) -> tuple[Expected, ...]:
    """What each output has to be."""
    free = {length for spec in signature.inputs for length in spec.shape if not isinstance(length, int)}
    # Half of a length that changes is seen as fixed where the example was made shorter by one.
    settled = free <= {signature.batch}
    return tuple(
        (
            spec,
            spec.dtype,
            len(spec.shape),
            tuple((axis, each) for axis, each in enumerate(spec.shape) if settled and isinstance(each, int)),
        )
        for spec in signature.outputs
    )


def _can_become(given: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether an engine may compute `wanted` as `given`: in another precision, or in whole numbers of fewer bits."""
    if given.is_floating_point or wanted.is_floating_point:
        return given.is_floating_point and wanted.is_floating_point
    whole = not (given.is_complex or wanted.is_complex or torch.bool in (given, wanted))
    return whole and torch.promote_types(given, wanted) is wanted


class ServedForm(torch.nn.Module):
    """Without parameters: nothing moves or casts what an engine holds. It may be called from any thread.

    More records than the form was made for are computed in several calls, once it has shown that a record's output
    does not depend on the others; of none, the outputs are empty.
    """

    def __init__(
        self,
        name: str,
        signature: Signature,
        run: Run,
        place: torch.device,
        tolerance: Tolerance,
        *,
        finite: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.signature = signature
        self.tolerance = tolerance
        self.eval()
        own = self.__dict__
        own["_run"] = run
        own["_gather"] = gatherer(signature)
        own["_check"] = InputCheck(signature, place, finite=finite)
        own["_build"] = builder(signature.result)
        own["_expected"] = expected_outputs(signature)
        own["_batch"] = signature.batch
        own["_records"] = signature.dimensions.get(signature.batch or "", _ANY)
        own["_independent"] = None

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """The answer of the model. Raises `InputRefused`."""
        tensors, sizes = self._check(self._gather(arguments, keywords))
        if self._batch is None:
            return self._build(self._outputs(tensors))
        records, limits = sizes[self._batch], self._records
        if limits.least <= records <= limits.most and records:
            return self._build(self._outputs(tensors))
        return self._build(self._of_odd_size(tensors, records))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise AttributeError(
                f"the form '{self.__dict__.get('name')}' of the model has no attribute '{name}': it can be called, and "
                "nothing else; TIDEGATE_FORM=eager serves the model itself"
            ) from None

    def _outputs(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        # Asked first: AOTInductor empties the list that it is given.
        records = None if self._batch is None else tensors[0].shape[0]
        outputs, expected = self._run(tensors), self._expected
        if len(outputs) != len(expected):
            raise OtherOutputs(
                f"{self._called()} gives {len(outputs)} outputs, where its signature has {len(expected)}"
            )
        return [self._as_declared(output, each, records) for output, each in zip(outputs, expected, strict=True)]

    def _as_declared(self, output: torch.Tensor, expected: Expected, records: int | None) -> torch.Tensor:
        spec, dtype, rank, fixed = expected
        shape = output.shape
        fits = len(shape) == rank and (records is None or shape[0] == records)
        if fits:
            for axis, length in fixed:
                fits = fits and shape[axis] == length
        if fits:
            if output.dtype is dtype:
                return output
            if _can_become(output.dtype, dtype):
                return output.to(dtype)
        given, record = (
            str(output.dtype).removeprefix("torch."),
            "" if records is None else f" for a batch of {records}",
        )
        raise OtherOutputs(
            f"{self._called()} gives '{spec.name}' as {tuple(shape)} of {given}{record}, where its signature has "
            f"{spec.described()}"
        )

    def _called(self) -> str:
        return f"the form '{self.name}' of the model"

    def _of_odd_size(self, tensors: list[torch.Tensor], records: int) -> list[torch.Tensor]:
        limits = self._records
        if records == 0:
            # The shapes and types of no record are those of one, without it.
            some = max(1, limits.least)
            one = [tensor.new_zeros((some, *tensor.shape[1:])) for tensor in tensors]
            return [output[:0] for output in self._outputs(one)]
        if records < limits.least or not self._are_independent(tensors):
            raise InputRefused(
                f"the input has {records} records; this form of the model takes from {limits.least} to {limits.most}"
            )
        # As even as possible, so that the last part is not below the least.
        parts = -(-records // limits.most)
        cuts = [tensor.tensor_split(parts) for tensor in tensors]
        outputs = [self._outputs([part.contiguous() for part in each]) for each in zip(*cuts, strict=True)]
        return [torch.cat(each) for each in zip(*outputs, strict=True)]

    def _are_independent(self, tensors: list[torch.Tensor]) -> bool:
        """Whether two records of these inputs give together what each gives alone. Asked once."""
        known: bool | None = self.__dict__["_independent"]
        if known is None:
            limits = self._records
            known = limits.least <= 1 and limits.most > 1
            if known:
                pair = self._outputs([tensor[:2].contiguous() for tensor in tensors])
                alone = [self._outputs([tensor[at : at + 1].contiguous() for tensor in tensors]) for at in (0, 1)]
                single = [torch.cat(each) for each in zip(*alone, strict=True)]
                known = all(map(self._are_close, pair, single))
            self.__dict__["_independent"] = known
        return known

    def _are_close(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        if one.shape != other.shape:
            return False
        if not (one.is_floating_point() or one.is_complex()):
            return torch.equal(one, other)
        limits = self.tolerance
        return torch.allclose(one, other, rtol=limits.rtol, atol=limits.atol, equal_nan=True)
