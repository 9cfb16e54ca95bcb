"""One candidate: built, held against the eager network, timed. Run in a process of its own, which it may crash."""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .backends import Opened, build, open_form
from .batches import batch_of
from .candidates import CANDIDATES
from .captured_call import CapturedCall
from .job import NotExported, answered
from .look import dimensions_from, enter
from .parity import Bound, Parity, compared, largest_number, mismatch, tightest
from .structure import Flat
from .timing import timed


def main(arguments: list[str]) -> None:
    """Try the candidate of the job and write what came out of it."""
    answered(arguments, attempt)


def attempt(job: Mapping[str, Any]) -> dict[str, Any]:
    """Build one form, check it on every batch size and time it against eager. Raises `NotExported`."""
    warnings.simplefilter("ignore")
    candidate, found = CANDIDATES[job["candidate"]], job["found"]
    dimensions = dimensions_from(found)
    path = Path(job["file"])
    call = enter(job)
    network = Flat(call.module, call.layout).eval() if not call.module.training else Flat(call.module, call.layout)
    batches = {rows: _batch(call, rows, batched=dimensions.batched) for rows in job["parity_sizes"]}
    started = time.perf_counter()
    with torch.no_grad():  # what is exported under inference_mode cannot be saved
        built = build(candidate, network, batches[max(batches)], dimensions, path, processor=job["processor"])
    build_s = time.perf_counter() - started
    with torch.inference_mode():
        opened = _in_dtypes(open_form(candidate, network, path, threads=job["threads"]), found["signature"])
        parity, bound = _checked(call, opened, list(batches.values()), job, candidate.own_bound)
        non_finite = _carries(call, opened, batches[max(batches)], bound)
        measured = {}
        for rows in job["batch_sizes"]:
            batch = _batch(call, rows, batched=dimensions.batched)
            timing = timed(lambda batch=batch: call.answer(batch), lambda batch=batch: opened(batch))  # type: ignore[misc]
            measured[str(rows)] = timing.as_json()
    return {
        "built": built,
        "build_s": round(build_s, 2),
        "parity": {
            "rtol": bound.rtol,
            "atol": bound.atol,
            **parity.as_json(),
            "non_finite": "as eager" if non_finite else "differs",
            "batch_sizes": list(batches),
        },
        "batches": measured,
    }


def _batch(call: CapturedCall, rows: int, *, batched: bool) -> list[torch.Tensor]:
    return batch_of(call.tensors, rows) if batched else call.tensors


def _checked(
    call: CapturedCall, opened: Opened, batches: list[list[torch.Tensor]], job: Mapping[str, Any], own: float | None
) -> tuple[Parity, Bound]:
    eager = [call.answer([tensor.clone() for tensor in batch]) for batch in batches]
    asked = Bound(rtol=job["rtol"], atol=job["atol"])
    # A bound that another form needs would have this one's records computed apart: it is as exact as the example is.
    bounds = [Bound(rtol=min(asked.rtol, job["own_rtol"]), atol=min(asked.atol, job["own_atol"])), asked]
    if own is not None:
        bounds = [Bound(rtol=0.0, atol=own * max(map(largest_number, eager)))]
    pairs = []
    for batch, wanted in zip(batches, eager, strict=True):
        got = opened([tensor.clone() for tensor in batch])
        if problem := mismatch(wanted, got):
            raise NotExported(problem)
        pairs.append((wanted, got))
    parity, bound = tightest(pairs, bounds)
    if parity.excess > 0:
        raise NotExported(
            f"its answer differs from eager's by up to {parity.largest_difference:.3g}, which is more than rtol "
            f"{bound.rtol:g} and atol {bound.atol:g} allow"
        )
    return parity, bound


def _carries(call: CapturedCall, opened: Opened, batch: list[torch.Tensor], bound: Bound) -> bool:
    """Whether the form answers NaN and infinity as eager does: a ReLU of compiled code may turn NaN into 0.

    One row is all NaN; then one number of it is NaN, or an infinity. Where eager answers no finite number, which one
    of them it is, is left to the order of additions.
    """
    if not any(tensor.is_floating_point() for tensor in batch):
        return True
    for number, whole in ((float("nan"), True), (float("nan"), False), (float("inf"), False), (-float("inf"), False)):
        given = [_with(tensor, number, whole=whole) for tensor in batch]
        try:
            wanted = call.answer([tensor.clone() for tensor in given])
            got = opened([tensor.clone() for tensor in given])
        except Exception:  # what one of them refuses is not shown to be the same
            return False
        if mismatch(wanted, got):
            return False
        for one, other in zip(wanted, got, strict=True):
            finite = one.isfinite()
            if not torch.equal(finite, other.isfinite()) or compared([one[finite]], [other[finite]], bound).excess > 0:
                return False
    return True


def _with(tensor: torch.Tensor, number: float, *, whole: bool) -> torch.Tensor:
    """A copy whose first row, or the first number of it, is another; of floating numbers alone."""
    changed = tensor.clone(memory_format=torch.contiguous_format)
    if tensor.is_floating_point() and tensor.numel():
        row = changed[0] if tensor.ndim else changed
        if whole:
            row.fill_(number)
        else:
            row.view(-1)[0] = number
    return changed


def _in_dtypes(opened: Opened, signature: Mapping[str, Any]) -> Opened:
    """Give floating answers the dtypes of the eager network, as the server does."""
    dtypes = [getattr(torch, each["dtype"]) for each in signature["outputs"]]

    def called(tensors: Any) -> list[torch.Tensor]:
        answer = opened(tensors)
        return [
            each.to(dtype) if each.is_floating_point() and dtype.is_floating_point else each
            for each, dtype in zip(answer, dtypes, strict=True)
        ]

    return called
