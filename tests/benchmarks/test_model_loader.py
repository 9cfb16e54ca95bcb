"""What the benchmark of get_prediction says of what it measured."""

from __future__ import annotations

from benchmarks.model_loader import AGAIN, BARE, PREDICTION, Cost, summary


def test_ratios_are_formed_within_a_round() -> None:
    """A round on a slow minute is compared with itself."""
    rounds = [
        {
            kind: Cost(slow * wall, slow * cpu)
            for kind, wall, cpu in ((BARE, 1, 1), (AGAIN, 1, 1), (PREDICTION, 1.1, 1.2))
        }
        for slow in (0.1, 0.1, 5.0)
    ]
    bare, again, prediction = summary(rounds).splitlines()
    assert bare.split()[-2:] == ["1.000", "x"]
    assert again.split()[-2:] == ["1.000", "x"]
    assert "1.100 x" in prediction
    assert "1.200 x" in prediction
    assert "110.00 ms" in prediction
