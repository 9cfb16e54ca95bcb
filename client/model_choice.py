"""Which of the models of one endpoint answers, where its server has a model repository: said in one header.

SageMaker passes `CustomAttributes` on both ways, text of at most 1,024 ASCII characters (API reference,
InvokeEndpoint). The server reads `model=NAME;version=V` in it, and answers with the number that it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

MEMBER = "CustomAttributes"


class AnsweredBy(NamedTuple):
    """A model of a repository and the number of its version."""

    model: str
    version: int


def with_choice(options: Mapping[str, Any], model: str | None, version: int | str | None) -> dict[str, Any]:
    """`options` of a request that asks for `model` and `version`: a number, `latest` or a label.

    What `CustomAttributes` say already is kept. Raises `ValueError` for a name that the header cannot hold.
    """
    chosen = {"model": model, "version": None if version is None else str(version)}
    for what, value in chosen.items():
        if value is not None and (";" in value or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value)):
            raise ValueError(f"{what}={value!r} cannot be said in a request, which takes ASCII without ';'")
    said = [f"{what}={value}" for what, value in chosen.items() if value is not None]
    if not said:
        return dict(options)
    return {**options, MEMBER: ";".join([*said, options[MEMBER]] if options.get(MEMBER) else said)}


def answered_by(custom_attributes: str) -> AnsweredBy | None:
    """Who answered; None where the attributes are those of a handler, of a server with one model."""
    found = re.match(r"model=([^;]+);version=(\d+)(;|$)", custom_attributes)
    return AnsweredBy(found[1], int(found[2])) if found else None
