"""What a table of `[hosting]` means, before anything is synthesised: plain values, the same for all who ask."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.infra.hosted import FULL, change
from tidegate.infra.configuration.hosting import Hosting
from tidegate.infra.hosting.modes import plan
from tidegate.infra.hosting.plan import EndpointPlan


def planned(hosting: dict[str, Any], **further: Any) -> EndpointPlan:
    return plan(TypeAdapter(Hosting).validate_python(hosting), **further)


@pytest.mark.parametrize("mode", FULL)
def test_a_plan_is_a_value_that_follows_from_its_table_and_the_size_of_the_model(mode: str) -> None:
    found = planned(FULL[mode], size_gib=3.0)

    assert found == planned(FULL[mode], size_gib=3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.scraped = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("hosting", "fleets"),
    [
        # first, least, most; the shadow is not scaled
        (FULL["realtime"], [(2, 2, 4), (1, 1, 1)]),
        (FULL["async"], [(1, 0, 3)]),
        (change("async", scaling=None, instance_count=3), [(3, 3, 3)]),
        (FULL["serverless"], []),
        # An endpoint is not made with no instance.
        (FULL["component"], [(1, 0, 2)]),
        (FULL["multi_model"], [(2, 2, 4)]),
    ],
)
def test_every_fleet_has_a_first_a_least_and_a_largest_size(
    hosting: dict[str, Any], fleets: list[tuple[int, int, int]]
) -> None:
    assert [(fleet.first, fleet.least, fleet.most) for fleet in planned(hosting).fleets] == fleets


@pytest.mark.parametrize(("least", "woken"), [(0, True), (1, False)])
def test_only_what_may_have_no_instance_is_woken(least: int, woken: bool) -> None:
    (variant,) = planned(change("async", scaling={"min_instances": least, "max_instances": 3})).variants

    assert variant.scaling is not None
    assert (variant.scaling.wake is not None) == woken


def test_a_larger_model_may_take_longer_to_start_on_every_fleet() -> None:
    small, large = planned(FULL["realtime"], size_gib=1.0), planned(FULL["realtime"], size_gib=50.0)

    for before, after in zip(small.fleets, large.fleets, strict=True):
        assert before.starts.total_s < after.starts.total_s
