"""What policies say about an action on a resource. Pure rules, after "Policy evaluation logic" in IAM's user guide.

An explicit Deny wins, then an Allow, and without either the action is denied. A statement with a Condition does not
count, as on AWS where a request lacks the key that the condition asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Decision = Literal["allowed", "explicitDeny", "implicitDeny"]
Document = Mapping[str, Any]


def decide(action: str, resource: str, documents: Iterable[Document]) -> Decision:
    """The decision of policy ``documents`` together, in the words of SimulatePrincipalPolicy."""
    effects = {
        statement["Effect"]
        for statement in _statements(documents)
        if "Condition" not in statement
        and _concerns(statement, "Action", action, ignore_case=True)
        and _concerns(statement, "Resource", resource, ignore_case=False)
    }
    if "Deny" in effects:
        return "explicitDeny"
    return "allowed" if "Allow" in effects else "implicitDeny"


def _statements(documents: Iterable[Document]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        yield from _listed(document["Statement"])


def _concerns(statement: Mapping[str, Any], element: str, value: str, *, ignore_case: bool) -> bool:
    """Whether the element (Action, Resource) or its negation (NotAction, NotResource) takes the value in."""
    negation = f"Not{element}"
    patterns = _listed(statement[negation] if negation in statement else statement.get(element, []))
    named = any(_matches(pattern, value, ignore_case=ignore_case) for pattern in patterns)
    return named != (negation in statement)


def _matches(pattern: str, value: str, *, ignore_case: bool) -> bool:
    """``*`` stands for any characters and ``?`` for one; all others stand for themselves, square brackets too."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def _listed(value: Any) -> list[Any]:
    """IAM takes one value in the place of a list of one."""
    return value if isinstance(value, list) else [value]
