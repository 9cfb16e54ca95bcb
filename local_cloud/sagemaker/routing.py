"""Which variant of an endpoint takes a request, and what happens by chance."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

_random = secrets.SystemRandom()


def happens(chance: float) -> bool:
    """True as often as ``chance`` says (0 to 1)."""
    return _random.random() < chance


def choose_variant(weights: Mapping[str, float], point: float | None = None) -> str:
    """The variant whose share of the total weight holds ``point`` (in [0, 1), drawn at random when not given).

    Traffic to a variant is its weight divided by the sum of all weights (ProductionVariant, InitialVariantWeight); when
    all weights are zero the shares are equal.
    """
    if not weights:
        raise ValueError("there is no variant to choose from")
    if len(weights) == 1:
        return next(iter(weights))
    total = sum(weights.values())
    shares = weights if total > 0 else dict.fromkeys(weights, 1.0)
    mark = (_random.random() if point is None else point) * sum(shares.values())
    chosen = ""
    for name, share in shares.items():
        if share <= 0:
            continue
        chosen = name
        mark -= share
        if mark < 0:
            break
    return chosen
