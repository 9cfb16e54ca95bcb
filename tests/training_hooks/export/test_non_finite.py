"""NaN and infinity in the input: a form is recorded as one that answers them as eager does, or as one that does not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from tidegate.training_hooks.export.captured_call import CapturedCall
from tidegate.training_hooks.export.parity import Bound
from tidegate.training_hooks.export.trial import _carries

Compute = Callable[[torch.Tensor], torch.Tensor]


def _refuses(x: torch.Tensor) -> torch.Tensor:
    if not x.isfinite().all():
        raise ValueError("no such number")
    return x.relu()


@pytest.mark.parametrize(
    ("form", "carries"),
    [
        (torch.relu, True),
        (lambda x: x.clamp(min=0), True),
        (lambda x: x.nan_to_num(nan=0.0, posinf=float("inf"), neginf=-float("inf")).relu(), False),
        (lambda x: x.clamp(max=1e9).relu(), False),
        (lambda x: x.relu() + x.isnan().any(), False),
        (_refuses, False),
    ],
)
def test_a_form_that_answers_them_otherwise_is_told_from_one_that_does_not(form: Compute, carries: bool) -> None:
    """Also one that lets them reach another row, and one that raises where eager answers."""
    call = cast(CapturedCall, SimpleNamespace(answer=lambda tensors: [tensors[0].relu()]))
    opened: Any = lambda tensors: [form(tensors[0])]  # noqa: E731
    assert _carries(call, opened, [torch.rand(3, 4)], Bound(rtol=1e-3, atol=1e-5)) is carries
