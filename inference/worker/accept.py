"""Which one type an Accept header asks for."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1024)
def preferred_type(accept: str, default: str) -> str:
    """The most wanted concrete type of an Accept header, `default` where there is none.

    `text/csv;q=0.5, application/json` → `application/json`. Of equal weights the first wins; `*/*` and `type/*` stand
    for the default when nothing concrete weighs as much. One type with parameters of its own keeps them.
    """
    best, best_weight = default, 0.0
    for part in accept.split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight, kept = 1.0, []
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _weight(value)
            else:
                kept.append(parameter)
        if media_type and weight > best_weight:
            best_weight = weight
            best = default if "*" in media_type else "; ".join((media_type, *kept))
    return best


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
