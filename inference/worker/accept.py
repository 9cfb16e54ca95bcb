"""Which one type an Accept header asks for."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from tidegate.inference.errors import NotAcceptable
from tidegate.inference.worker.content import WRITABLE, split_media_type

NOTHING = ""
"""What a header prefers that only rules out, as `application/json;q=0` does; no type that can be written."""


class _Wish(NamedTuple):
    media_type: str
    weight: float


@lru_cache(maxsize=1024)
def preferred_type(accept: str, default: str, writable: tuple[str, ...] | None = None) -> str:
    """The type to answer with: the most wanted of an Accept header, `default` where there is none.

    Of equal weights the first wins, a wildcard stands for the default, and a type keeps parameters of its own. What has
    the weight 0 is what no wildcard stands for (RFC 9110, 12.5.1).
    `writable` names the types that can be produced, None where only the user's output_fn knows. What cannot be
    produced is passed over for what can: `text/html, */*` gets the default. Where nothing fits, the most wanted type
    is returned, for the error to name; `NOTHING` where the header rules types out and wants none.
    """
    named = _wishes(accept)
    wishes = sorted((wish for wish in named if wish.weight > 0), key=lambda wish: -wish.weight)
    if not wishes:
        return NOTHING if named else default
    ruled_out = frozenset(split_media_type(wish.media_type)[0] for wish in named if wish.weight == 0)
    if writable is None:
        wanted = wishes[0].media_type
        if wanted.endswith("/*") and not _is_ruled_out(default, "*", ruled_out):
            return default
        return _concrete(wanted, default, WRITABLE, ruled_out) or wanted
    for wish in wishes:
        found = _concrete(wish.media_type, default, writable, ruled_out)
        if found is not None and split_media_type(found)[0] in writable:
            return found
    return wishes[0].media_type


def demand_some(accept: str) -> None:
    """Raise `NotAcceptable` for a preferred type that is none."""
    if accept == NOTHING:
        raise NotAcceptable("The Accept header rules types out by q=0 and names none that is wanted; add one, or */*.")


def demand_writable(accept: str, writable: tuple[str, ...]) -> None:
    """Raise `NotAcceptable` for a preferred type that cannot be produced."""
    demand_some(accept)
    media_type = split_media_type(accept)[0]
    if media_type not in writable:
        raise NotAcceptable(f"Accept '{media_type}' cannot be answered; this model writes {', '.join(writable)}.")


def _concrete(wanted: str, default: str, others: tuple[str, ...], ruled_out: frozenset[str]) -> str | None:
    """`wanted`, or for a wildcard the first type that it covers: the default, if need be one of `others`."""
    kind, _, rest = wanted.partition(";")[0].strip().partition("/")
    if rest != "*":
        return wanted
    covered = (each for each in (default, *others) if kind in ("*", each.partition("/")[0]))
    return next((each for each in covered if not _is_ruled_out(each, kind, ruled_out)), None)


def _is_ruled_out(media_type: str, kind: str, ruled_out: frozenset[str]) -> bool:
    """Whether something closer to `media_type` than the wildcard `kind`/* has the weight 0."""
    closer = {media_type} if kind != "*" else {media_type, f"{media_type.partition('/')[0]}/*"}
    return not closer.isdisjoint(ruled_out)


def _wishes(accept: str) -> list[_Wish]:
    """The types of the header that have a weight; one whose weight is no number counts as not said."""
    wishes = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight: float | None = 1.0
        kept = []
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _weight(value)
            else:
                kept.append(parameter)
        if media_type and weight is not None:
            wishes.append(_Wish("; ".join((media_type, *kept)), weight))
    return wishes


def _weight(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return min(number, 1.0) if number >= 0 else None
