"""The check in front of an engine that computes nonsense, or reads beyond its memory, for an input that does not fit.

AOTInductor checks nothing: another size, another layout or another type gives wrong numbers and no error. So nothing
reaches an engine that is not of the declared type, rank and sizes, dense, contiguous and on the engine's device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tidegate.inference.worker.forms.signature import Length, Range, Signature, TensorSpec
from tidegate.inference.worker.misfit import InputRefused

Sizes = dict[str, int]
"""How long the named dimensions of a call are."""
_Expected = tuple[TensorSpec, torch.dtype, int, tuple[Length, ...]]
"""A tensor's declaration, and what of it is looked at in every call."""


class InputCheck:
    """Of one signature; made once, called for every request.

    Numbers are cast where nothing of them is lost: floating-point numbers to the declared precision, as an eager model
    is given them; any other type only where casting back gives the same numbers. `finite`: NaN and infinity, of the
    declared precision, are refused.
    """

    def __init__(self, signature: Signature, place: torch.device, *, finite: bool = False) -> None:
        self._place = place
        self._finite = finite
        self._specs: tuple[_Expected, ...] = tuple(
            (spec, spec.dtype, len(spec.shape), spec.shape) for spec in signature.inputs
        )
        # How many records there are is for the caller to see to, who can cut them into several calls.
        self._ranges = {name: each for name, each in signature.dimensions.items() if name != signature.batch}

    def __call__(self, tensors: Sequence[object]) -> tuple[list[torch.Tensor], Sizes]:
        """The tensors as the engine takes them, and the lengths of named dimensions. Raises `InputRefused`."""
        sizes: Sizes = {}
        return [self._checked(each, tensor, sizes) for each, tensor in zip(self._specs, tensors, strict=True)], sizes

    def _checked(self, expected: _Expected, tensor: object, sizes: Sizes) -> torch.Tensor:
        spec, dtype, rank, shape = expected
        if not isinstance(tensor, torch.Tensor):
            raise InputRefused(f"the input '{spec.name}' must be Tensor, not {type(tensor).__name__}")
        if tensor.layout is not torch.strided:
            raise InputRefused(f"the input '{spec.name}' is not a dense tensor")
        given = tensor.shape
        if len(given) != rank:
            raise _misshapen(spec, tensor)
        for length, wanted in zip(given, shape, strict=True):
            if wanted is None or wanted == length:
                continue
            if isinstance(wanted, int):
                raise _misshapen(spec, tensor)
            if wanted not in sizes:
                self._note(spec, wanted, length, sizes)
            elif sizes[wanted] != length:
                raise InputRefused(
                    f"the input '{spec.name}' has {length} as its {wanted!r}, where another input has {sizes[wanted]}"
                )
        if tensor.dtype is not dtype:
            tensor = _cast(spec, tensor, dtype)
        if self._finite and dtype.is_floating_point and not tensor.isfinite().all():
            raise InputRefused(
                f"the input '{spec.name}' holds NaN or infinity in {str(dtype).removeprefix('torch.')}, which this "
                "form of the model would answer otherwise than the model does; TIDEGATE_FORM=eager serves that"
            )
        if tensor.requires_grad or tensor.is_neg() or tensor.is_conj():
            tensor = tensor.detach().resolve_neg().resolve_conj()
        if tensor.device != self._place:
            tensor = tensor.to(self._place)
        return tensor if tensor.is_contiguous() else tensor.contiguous()

    def _note(self, spec: TensorSpec, name: str, length: int, sizes: Sizes) -> None:
        limits = self._ranges.get(name)
        if limits is not None and not limits.least <= length <= limits.most:
            raise _out_of_range(spec, name, length, limits)
        sizes[name] = length


def _misshapen(spec: TensorSpec, tensor: torch.Tensor) -> InputRefused:
    return InputRefused(f"the input '{spec.name}' has the shape {tuple(tensor.shape)}; it must be {spec.described()}")


def _out_of_range(spec: TensorSpec, name: str, length: int, limits: Range) -> InputRefused:
    return InputRefused(
        f"the input '{spec.name}' has {length} as its {name!r}, which must be from {limits.least} to {limits.most}"
    )


def _cast(spec: TensorSpec, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.dtype.is_floating_point and dtype.is_floating_point:
        return tensor.to(dtype)
    if not tensor.dtype.is_complex:
        cast = tensor.to(dtype)
        # What wraps around, as from uint64 to int64, comes back as it was, and has the other sign between.
        if torch.equal(_below_zero(cast), _below_zero(tensor)) and torch.equal(cast.to(tensor.dtype), tensor):
            return cast
    given, wanted = (str(each).removeprefix("torch.") for each in (tensor.dtype, dtype))
    raise InputRefused(f"the input '{spec.name}' is of {given}; it must be of {wanted}, and a cast would change it")


def _below_zero(tensor: torch.Tensor) -> torch.Tensor:
    return tensor < 0 if tensor.dtype.is_signed else torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
