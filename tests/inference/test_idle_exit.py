"""When a server that nobody asks anything ends, as rules on numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.frontend.idle_exit import IdleExit, counts

LOOKS = ["nothing", "asked", "busy"]


@pytest.mark.parametrize(
    ("looks", "over_at"),
    [
        # What was found at each second, and at which the server ends that may be idle for three.
        (["nothing"] * 5, 3),
        (["busy", "busy", *["nothing"] * 5], 5),
        (["asked", *["nothing"] * 5], 3),
        (["nothing", "nothing", "asked", *["nothing"] * 5], 5),
        (["nothing", "nothing", "nothing", "nothing"], 3),
        (["nothing", "nothing", "busy", "nothing", "nothing", "nothing", "nothing"], 6),
        (["busy"] * 20, None),
        (["asked"] * 20, None),
        (["nothing", "nothing", "asked"] * 5, None),
        (["nothing", "nothing", "busy"] * 5, None),
    ],
)
def test_it_ends_after_so_long_without_a_request_and_with_nothing_at_hand(
    looks: list[str], over_at: int | None
) -> None:
    idle = IdleExit(3.0)
    assert next((at for at, found in enumerate(looks) if look(idle, float(at), found)), None) == over_at


@given(st.lists(st.tuples(st.floats(0.01, 5), st.sampled_from(LOOKS))), st.floats(0.1, 10))
def test_it_never_ends_early(steps: list[tuple[float, str]], after_s: float) -> None:
    """Whatever is at hand and whenever it looks: from the last request, or end of one, it waits the whole time."""
    idle, now_s, last_s = IdleExit(after_s), 0.0, None
    for passed_s, found in steps:
        before_s, now_s = now_s, now_s + passed_s
        if found == "asked":
            last_s = before_s  # it came and was answered at any time since the look before
        elif found == "busy" or last_s is None:
            last_s = now_s
        if look(idle, now_s, found):
            assert found == "nothing"
            assert now_s - last_s >= after_s


def look(idle: IdleExit, now_s: float, found: str) -> bool:
    idle.asked = idle.asked or found == "asked"
    return idle.over(now_s, busy=found == "busy")


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("GET", "/ping", False),
        ("POST", "/ping", False),
        ("HEAD", "/ping", False),
        ("GET", "/metrics", False),
        ("GET", "/models", False),
        ("GET", "/models/a", False),
        ("GET", "/execution-parameters", False),
        ("GET", "/v2/health/ready", False),
        ("GET", "/v2/models/a", False),
        ("POST", "/v2/repository/index", False),
        ("POST", "/invocations", True),
        ("POST", "/models", True),
        ("DELETE", "/models/a", True),
        ("POST", "/models/a/invoke", True),
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v2/models/a/infer", True),
        ("POST", "/v2/repository/models/a/load", True),
    ],
)
def test_who_only_asks_how_the_server_is_does_not_keep_it_alive(method: str, path: str, counted: bool) -> None:
    assert counts(method, path) is counted
