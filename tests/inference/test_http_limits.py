"""The limits of one connection as rules on numbers; the pace of a body is in test_pace.py."""

from __future__ import annotations

import sys

import pytest

from tidegate.inference.frontend.http.limits import (
    DISCARD_BYTES,
    DISCARD_S,
    SKIPPED_BYTES,
    BodyLimit,
    Discard,
    HeadLimit,
    Limits,
    worth_skipping,
)
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.settings import Settings


@pytest.mark.parametrize(
    ("size", "count", "sentence"),
    [
        (100, 5, None),
        (101, 5, "The request line and headers are over 100 bytes."),
        (100, 6, "There are more than 5 headers."),
    ],
)
def test_a_head_has_a_limit_in_bytes_and_in_headers(size: int, count: int, sentence: str | None) -> None:
    error = HeadLimit(max_bytes=100, max_count=5).error(size, count)
    assert (error and error.message) == sentence


def test_a_body_over_its_limit_is_told_the_limit() -> None:
    limit = BodyLimit(max_bytes=10)
    assert limit.error(10) is None
    error = limit.error(11)
    assert error is not None
    assert (error.status, error.message) == (413, "The body is over the limit of 10 bytes (TIDEGATE_MAX_BODY_BYTES).")


def test_a_refused_client_may_go_on_for_so_many_bytes_and_from_its_refusal_on_so_long() -> None:
    discard = Discard()
    assert discard.takes(DISCARD_BYTES)
    assert not discard.over(10**9), "its refusal waits for its turn"
    discard.started_s = 100.0
    assert not discard.over(100 + DISCARD_S)
    assert discard.over(100.1 + DISCARD_S)
    assert not discard.takes(1)


@pytest.mark.parametrize(
    ("headers", "skipped"),
    [
        ([], True),
        ([(b"content-length", b"%d" % SKIPPED_BYTES)], True),
        ([(b"content-length", b"%d" % (SKIPPED_BYTES + 1))], False),
        ([(b"transfer-encoding", b"chunked")], False),
        ([(b"expect", b"100-continue"), (b"content-length", b"5")], False),
    ],
)
def test_only_a_short_body_that_is_on_its_way_is_read_past(headers: list[tuple[bytes, bytes]], skipped: bool) -> None:
    assert worth_skipping(Request(method="POST", target=b"/", headers=headers)) is skipped


def test_the_settings_give_the_limits() -> None:
    settings = Settings(max_body_bytes=7, max_header_count=3, header_timeout_s=2, idle_timeout_s=9)
    limits = Limits.of(settings)
    assert (limits.body.max_bytes, limits.head.max_count, limits.head_s, limits.idle_s) == (7, 3, 2, 9)
    pace = limits.pace(100.0)
    assert (pace.grace_s, pace.window_s, pace.started_s) == (2, 9, 100.0)


@pytest.mark.parametrize(
    ("settings", "max_bytes", "named"),
    [
        (Settings(), Settings().max_body_bytes, "TIDEGATE_MAX_BODY_BYTES"),
        (
            Settings(max_body_bytes=9000, spool_threshold_bytes=100, max_spool_bytes=1000),
            1000,
            "TIDEGATE_MAX_SPOOL_BYTES",
        ),
        (Settings(max_body_bytes=9000, spool_threshold_bytes=100, max_spool_bytes=50), 100, "TIDEGATE_MAX_SPOOL_BYTES"),
        (Settings(max_body_bytes=9000, max_bytes_in_flight=700), 700, "TIDEGATE_MAX_BYTES_IN_FLIGHT"),
        (Settings(max_body_bytes=9000, max_spool_bytes=1000), 9000, "TIDEGATE_MAX_BODY_BYTES"),
    ],
)
def test_a_body_that_would_have_no_room_on_an_idle_server_either_is_too_large(
    settings: Settings, max_bytes: int, named: str
) -> None:
    """And not a 503, which would have it sent again for ever."""
    assert_limit(Limits.of(settings).body, max_bytes, named)


def test_where_no_file_can_be_written_a_body_that_memory_never_has_room_for_is_too_large() -> None:
    limits = Limits.of(Settings(max_body_bytes=9000, max_bytes_in_flight=700, spool_threshold_bytes=100), sys.maxsize)
    assert_limit(limits.body, 700, "TIDEGATE_MAX_BYTES_IN_FLIGHT")


def assert_limit(limit: BodyLimit, max_bytes: int, named: str) -> None:
    assert limit.error(max_bytes) is None
    error = limit.error(max_bytes + 1)
    assert error is not None
    assert error.status == 413
    assert error.message == f"The body is over the limit of {max_bytes} bytes ({named})."
