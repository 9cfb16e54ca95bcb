"""The benchmark of clients that vanish: what counts as left behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.vanishing import MAX_GROWTH_MIB, Holding, figure

SOCKETS = Counter({"socket": 3, "anon_inode:[eventpoll]": 1})


def holding(**changed: Any) -> Holding:
    return Holding(**{"pids": frozenset({1, 2}), "descriptors": SOCKETS, "pss_mib": 100.0, "files": 1, **changed})


def test_as_before_is_nothing_left() -> None:
    found = figure("readers", holding(), holding(pss_mib=101.0), in_vain=0, refused=0, bytes_held=False)
    assert found.reached
    assert "+0 descriptors, +0 files, no bytes of the budget, +1.0 MiB" in found.found


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"pids": frozenset({1, 3})}, "1 workers lost"),
        ({"descriptors": SOCKETS + Counter({"socket": 2})}, "+2 descriptors (2 socket)"),
        ({"files": 2}, "+1 files"),
        ({"pss_mib": 100.1 + MAX_GROWTH_MIB}, "MiB"),
    ],
)
def test_whatever_is_left_is_named_and_misses_the_goal(changed: dict[str, Any], told: str) -> None:
    found = figure("readers", holding(), holding(**changed), in_vain=0, refused=0, bytes_held=False)
    assert not found.reached
    assert told in found.found


@pytest.mark.parametrize("what", [{"in_vain": 1}, {"refused": 1}, {"bytes_held": True}])
def test_so_does_a_client_that_was_not_served(what: dict[str, Any]) -> None:
    assert not figure(
        "readers", holding(), holding(), **{"in_vain": 0, "refused": 0, "bytes_held": False, **what}
    ).reached
