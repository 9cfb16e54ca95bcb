"""Which one type an Accept header asks for."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from inference.worker.content import split_media_type


class _Wish(NamedTuple):
    media_type: str
    weight: float


@lru_cache(maxsize=1024)
def preferred_type(accept: str, default: str, writable: tuple[str, ...] | None = None) -> str:
    """The type to answer with: the most wanted of an Accept header, `default` where there is none.

    Of equal weights the first wins, a wildcard stands for the default, and a type keeps parameters of its own.
    `writable` names the types that can be produced, None where only the user's output_fn knows. What cannot be
    produced is passed over for what can: `text/html, */*` gets the default. Where nothing fits, the most wanted type
    is returned, for the error to name.
    """
    wishes = sorted(_wishes(accept), key=lambda wish: -wish.weight)
    if not wishes:
        return default
    if writable is None:
        return _concrete(wishes[0].media_type, default, ())
    for wish in wishes:
        found = _concrete(wish.media_type, default, writable)
        if split_media_type(found)[0] in writable:
            return found
    return wishes[0].media_type


def _concrete(wanted: str, default: str, writable: tuple[str, ...]) -> str:
    """`wanted`, or for a wildcard the first type that it covers: the default, if need be one of `writable`."""
    kind, _, rest = wanted.partition(";")[0].strip().partition("/")
    if rest != "*":
        return wanted
    covered = [each for each in (default, *writable) if kind in ("*", each.partition("/")[0])]
    return covered[0] if covered else (wanted if writable else default)


def _wishes(accept: str) -> list[_Wish]:
    wishes = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight, kept = 1.0, []
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _weight(value)
            else:
                kept.append(parameter)
        if media_type and weight > 0:
            wishes.append(_Wish("; ".join((media_type, *kept)), weight))
    return wishes


def _weight(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return min(number, 1.0) if number > 0 else 0.0
