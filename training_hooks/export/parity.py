"""How far a form's answer is from that of the eager network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far apart two answers may be: |form - eager| ≤ atol + rtol · |eager| for every number."""

    rtol: float
    atol: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The largest differences over all batches.

    Attributes:
        largest_difference: between two numbers.
        cosine: the smallest of an answer's tensors, each as one long vector; 1 where all numbers are 0.
        excess: the largest |form - eager| - (atol + rtol · |eager|): above 0 is out of bounds.
    """

    largest_difference: float
    cosine: float
    excess: float

    def joined(self, other: "Parity") -> "Parity":
        """The worse of both."""
        return Parity(
            largest_difference=max(self.largest_difference, other.largest_difference),
            cosine=min(self.cosine, other.cosine),
            excess=max(self.excess, other.excess),
        )

    def as_json(self) -> dict[str, float]:
        """As it stands in the manifest."""
        return {"largest_difference": self.largest_difference, "cosine": self.cosine}


SAME = Parity(largest_difference=0.0, cosine=1.0, excess=float("-inf"))


def tightest(
    pairs: Sequence[tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]], bounds: Sequence[Bound]
) -> tuple[Parity, Bound]:
    """The first of the bounds that all pairs of answers, eager's and the form's, keep; the last where none is kept."""
    for bound in bounds:
        parity = SAME
        for eager, form in pairs:
            parity = parity.joined(compared(eager, form, bound))
        if parity.excess <= 0:
            break
    return parity, bound


def mismatch(eager: Sequence[torch.Tensor], form: Sequence[torch.Tensor]) -> str | None:
    """What two answers differ in besides their numbers, or None."""
    if len(eager) != len(form):
        return f"it answers with {len(form)} tensors, and eager with {len(eager)}"
    for index, (wanted, got) in enumerate(zip(eager, form, strict=True)):
        if wanted.shape != got.shape:
            return f"its output {index} has the shape {tuple(got.shape)}, and eager's {tuple(wanted.shape)}"
        if wanted.dtype != got.dtype:
            return f"its output {index} is {_dtype(got)}, and eager's {_dtype(wanted)}"
    return None


def compared(eager: Sequence[torch.Tensor], form: Sequence[torch.Tensor], bound: Bound) -> Parity:
    """Compare two answers of the same shapes. NaN is equal to NaN, and infinity to itself; otherwise they are apart."""
    total = SAME
    for wanted, got in zip(eager, form, strict=True):
        if wanted.numel():
            total = total.joined(_compared(_numbers(wanted), _numbers(got), bound))
    return total


def largest_number(tensors: Sequence[torch.Tensor]) -> float:
    """The largest finite absolute value of an answer; 0 where there is none."""
    finite = [values[values.isfinite()] for values in map(_numbers, tensors)]
    return max((float(values.abs().max()) for values in finite if values.numel()), default=0.0)


def _compared(wanted: torch.Tensor, got: torch.Tensor, bound: Bound) -> Parity:
    same = (wanted == got) | (wanted.isnan() & got.isnan())
    apart = torch.where(same, 0.0, (wanted - got).abs()).nan_to_num(nan=float("inf"))
    allowed = torch.where(wanted.isfinite(), bound.atol + bound.rtol * wanted.abs(), 0.0)
    one, other = (torch.where(same & ~wanted.isfinite(), 0.0, values) for values in (wanted, got))
    cosine = 1.0
    if bool(one.isfinite().all() and other.isfinite().all()):
        length = float(one.norm() * other.norm())
        cosine = float(one @ other) / length if length else float(bool((one == other).all()))
    else:
        cosine = 0.0
    largest = float(apart.max())
    return Parity(
        largest_difference=min(largest, torch.finfo(torch.float64).max),  # JSON has no infinity
        cosine=max(-1.0, min(1.0, cosine)),
        excess=float((apart - allowed).max()),
    )


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    values = tensor.detach().flatten()
    return torch.view_as_real(values).flatten().double() if values.is_complex() else values.double()


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
