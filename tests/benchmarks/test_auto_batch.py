"""The benchmark of the batch size that finds itself."""

from __future__ import annotations

from benchmarks.auto_batch import AGAIN, AUTO, EIGHT, MANY, ONE, Measured, rows


def test_ratios_are_formed_within_a_round_and_the_control_is_shown() -> None:
    values = {ONE: (100.0, 20.0), EIGHT: (400.0, 10.0), AGAIN: (410.0, 10.0), MANY: (500.0, 30.0), AUTO: (450.0, 12.0)}
    fast = {size: Measured(per_s, p99_ms, 16) for size, (per_s, p99_ms) in values.items()}
    slow = {size: Measured(per_s / 10, 10 * p99_ms, 8) for size, (per_s, p99_ms) in values.items()}
    lines = rows("fixed", [fast, slow, fast])
    assert lines[0] == "| fixed | 1 |  | 100 | 1.00 | 1.00 |"
    assert lines[2] == "| fixed | 8, again |  | 410 | 4.10 | 0.50 |"
    assert lines[4] == "| fixed | auto | 16, 8, 16 | 450 | 4.50 | 0.60 |"
