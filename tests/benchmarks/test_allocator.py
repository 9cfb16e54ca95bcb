"""The report of the allocator's benchmark."""

from __future__ import annotations

from benchmarks.allocator import summary


def test_ratios_are_formed_within_a_round_and_the_control_is_shown() -> None:
    # The second round met a machine of half the speed.
    rounds = [
        {"as it is": 0.010, "as it is, again": 0.011, "kept": 0.008},
        {"as it is": 0.020, "as it is, again": 0.022, "kept": 0.016},
        {"as it is": 0.010, "as it is, again": 0.011, "kept": 0.008},
    ]
    lines = summary(rounds).splitlines()
    assert [line.split()[-2] for line in lines] == ["1.000", "1.100", "0.800"]
    assert lines[2].split() == ["kept", "8.00", "ms", "of", "CPU", "an", "image", "0.800", "x"]
