"""The store's clock as publishing reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tidegate.training_hooks.publishing.objects import _now

DATE = "Sun, 29 Nov 2026 19:00:00"


@pytest.mark.parametrize("date", [f"{DATE} GMT", f"{DATE} -0000", f"{DATE} +0000"])
def test_every_way_to_write_utc_is_the_same_time(date: str) -> None:
    assert _now(date) == datetime(2026, 11, 29, 19, tzinfo=UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday", f"{DATE} GMT, {DATE} GMT"])
def test_a_date_that_is_none_is_never_a_time_without_a_zone(date: str | None) -> None:
    """Ages are counted from it: without a zone that would raise."""
    assert _now(date).tzinfo is not None
