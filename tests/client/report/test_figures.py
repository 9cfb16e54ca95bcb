"""The figures of a report against the same figures of lists that hold everything."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise

import pytest

from tidegate.client.report.figures import Figures
from tidegate.client.report.log_lines import Answered, Moment, PlatformLine, Trouble, is_ours, read
from tidegate.client.report.over_time import MOST_SLOTS, OverTime
from tidegate.client.report.spread import Spread


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_those_of_the_sorted_values_to_one_percent(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same values in each run
    values = [dice.lognormvariate(3, 2) for _ in range(dice.randrange(1, 5000))]
    spread = Spread()
    for value in values:
        spread.add(value)
    ordered = sorted(values)
    for percent in (50, 90, 99, 100):
        exact = ordered[math.ceil(len(ordered) * percent / 100) - 1]
        assert spread.percentile(percent) == pytest.approx(exact, rel=0.01)
    assert (spread.least, spread.greatest) == (ordered[0], ordered[-1])
    assert spread.total == pytest.approx(sum(values))


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0, 5.0], [7.0] * 100, [1e-9, 1e12]])
def test_the_bars_of_a_histogram_hold_every_value_once(values: list[float]) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    bars = spread.bars()
    assert sum(count for _, _, count in bars) == len(values)
    assert len(bars) <= 24
    assert all(upper == pytest.approx(lower) for (_, upper, _), (lower, _, _) in pairwise(bars))


def test_nothing_has_no_percentile_and_no_bars() -> None:
    assert Spread().bars() == []
    with pytest.raises(ValueError, match="there is no value"):
        Spread().percentile(50)


def test_a_job_of_any_length_has_a_few_hundred_slots_that_hold_all_of_it() -> None:
    """Lines come instance by instance, so not in the order of their time."""
    dice = random.Random(7)  # noqa: S311 - the same values in each run
    over_time = OverTime(1000.0, 1000.0 + 86400)
    requests = [(1000 + dice.random() * 86400, dice.random() * 30) for _ in range(2000)]
    for ended_s, duration_s in requests:
        over_time.add(ended_s, duration_s, failed=False, records=3, request_bytes=10)
    assert len(over_time.slots) <= MOST_SLOTS
    assert sum(slot.requests for slot in over_time.slots) == 2000
    assert sum(slot.records for slot in over_time.slots) == 6000
    assert sum(slot.request_bytes for slot in over_time.slots) == 20000
    inside_s = sum(min(duration_s, ended_s - 1000) for ended_s, duration_s in requests)
    assert sum(slot.busy_s for slot in over_time.slots) == pytest.approx(inside_s)
    for number, slot in enumerate(over_time.slots):
        lower_s = 1000 + number * over_time.width_s
        assert slot.requests == sum(lower_s <= ended_s < lower_s + over_time.width_s for ended_s, _ in requests)


def test_a_line_of_another_clock_is_in_no_slot() -> None:
    over_time = OverTime(1000.0, 1010.0)
    for ended_s in (-1e9, 1e15):
        over_time.add(ended_s, 1.0, failed=False, records=1, request_bytes=1)
    assert over_time.slots == []


GOOD = {
    "time": "2026-11-21T10:00:00.500+00:00",
    "level": "info",
    "logger": "tidegate.requests",
    "message": "request",
    "request_id": "a-1",
    "status": 200,
    "duration_ms": 12.5,
    "request_bytes": 7,
    "response_bytes": 9,
}


def test_a_line_is_read_as_what_it_says() -> None:
    request = read(json.dumps(GOOD | {"lines": 3, "queue_ms": 1, "worker_ms": 2.5, "tried_again": True}))
    assert isinstance(request, Answered)
    assert (request.ended_s, request.duration_ms, request.lines, request.failed) == (1795255200.5, 12.5, 3, False)
    ready = {"time": GOOD["time"], "level": "info", "logger": "tidegate.server", "message": "ready"}
    assert read(json.dumps(ready)) == Moment(name="ready", at_s=1795255200.5)
    trouble = {"time": "", "level": "error", "message": "m", "request_id": "a-1", "traceback": "T\n\nE: why\n"}
    assert read(json.dumps(trouble)) == Trouble(request_ids=("a-1",), says="E: why")
    assert read("2026:[sagemaker logs]: b/k: ClientError: 413") == PlatformLine(text="b/k: ClientError: 413")


DAMAGES: list[dict[str, object]] = [
    {"status": "200"},
    {"status": -1},
    {"status": True},
    {"duration_ms": None},
    {"duration_ms": math.nan},
    {"duration_ms": math.inf},
    {"duration_ms": 10**400},
    {"request_bytes": []},
    {"lines": "many"},
    {"time": "yesterday"},
    {"time": 5},
    {"logger": []},
]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "{" * 100_000,
        '{"a":' * 100_000,
        "Traceback (most recent call last):",
        json.dumps({"logger": "tidegate.requests", "message": "request"}),
        *(json.dumps(GOOD | changed) for changed in DAMAGES),
    ],
    ids=lambda line: line[-40:],
)
def test_a_line_that_the_server_did_not_write_breaks_nothing(line: str) -> None:
    assert read(line) is None
    assert not is_ours("{" + line)


def answered(number: int, **changed: object) -> Answered:
    entry = GOOD | {"request_id": f"r-{number}", "head_crc32": f"{number:08x}", **changed}
    request = read(json.dumps(entry))
    assert isinstance(request, Answered)
    return request


def test_what_failed_is_counted_by_kind_with_its_first_example_and_the_last_words_of_its_traceback() -> None:
    figures = Figures(OverTime(1795255200.0, 1795255210.0), by_line=True)
    figures.trouble(Trouble(request_ids=("r-1",), says="KeyError: 'x'"))
    for number in range(1, 4):
        figures.answered("i-1", answered(number, status=500, code="handler_failed", error="told", lines=2))
    figures.answered("i-2", answered(4, status=400, code="bad_request", error="bad", lines=2))
    figures.answered("i-2", answered(1, lines=2))
    figures.answered("i-2", answered(5, lines=3, duration_ms=99))
    failed, bad = figures.kinds.values()
    assert (failed.status, failed.count, failed.first.request_id, failed.cause) == (500, 3, "r-1", "KeyError: 'x'")
    assert (bad.code, bad.count, bad.cause, bad.first.error) == ("bad_request", 1, "", "bad")
    assert (figures.requests, figures.failed, figures.records, figures.sent_again) == (6, 4, 5, 1)
    assert figures.slowest[0].request_id == "r-5"
    assert {name: of.requests for name, of in figures.instances.items()} == {"i-1": 3, "i-2": 3}


def test_codes_that_somebody_makes_up_do_not_fill_the_memory() -> None:
    figures = Figures(OverTime(1795255200.0, 1795255210.0), by_line=False)
    for number in range(5000):
        figures.trouble(Trouble(request_ids=(f"r-{number}",), says="x"))
        figures.answered("i-1", answered(number, status=500, code=f"code-{number}"))
    assert sum(kind.count for kind in figures.kinds.values()) == 5000
    assert len(figures.kinds) <= 51
    assert len(figures.slowest) == 10
