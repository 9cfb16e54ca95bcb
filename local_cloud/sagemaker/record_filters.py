"""InputFilter and OutputFilter of a batch transform job: the part of JSONPath that the service knows, and no more.

Sources: "Associate Prediction Results with Input Records" (the table of operators; a CSV row is an array, so only
indices apply to it), DataProcessing in the API reference (an index beyond the record is an error), and the words of the
service itself about a character that it does not take (github.com/aws/aws-sdk, issue 184) and about a list of ranges
(github.com/aws/sagemaker-python-sdk, issue 1112).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_exception

Format = Literal["csv", "json"]
# What one node of a record becomes: the nodes below it that a step names.
_Step = Callable[[Any], list[Any]]

_OPERATORS = {"json": "$[]*. ,:-'", "csv": "$[]* ,:-"}
_NUMBER = r"-?[0-9]+"
_QUOTED = r"'[A-Za-z0-9 -]+'"
_STEP = re.compile(
    rf"""
      (?P<all> \.\* | \.?\[\*\] )
    | \. (?P<name> [A-Za-z0-9-]+ )
    | \.?\[[ ]* (?P<names> {_QUOTED} (?:[ ]*,[ ]*{_QUOTED})* ) [ ]*\]
    | \[[ ]* (?P<indices> {_NUMBER} (?:[ ]*,[ ]*{_NUMBER})* ) [ ]*\]
    | \[[ ]* (?P<start> {_NUMBER} )? [ ]*:[ ]* (?P<end> {_NUMBER} )? [ ]*\]
    """,
    re.VERBOSE,
)
_SHAPE = "it begins with $ and goes on with .name, ['name','name'], [number,number], [start:end] and *"


class RecordError(Exception):
    """A record cannot be read or filtered; the text is part of a failure reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """Takes the part of a record that the expression names; all of what it names must be there.

    A path to one place gives the value there, several names at its end (``$['a','b']``) an object of these, and
    everything else (ranges, several indices, wildcards) a list.
    """

    member: str
    expression: str
    steps: tuple[_Step, ...]
    one: bool

    def __call__(self, record: Any) -> Any:
        nodes = [record]
        try:
            for step in self.steps:
                nodes = [below for node in nodes for below in step(node)]
        except _Missing as missing:
            raise RecordError(f"{self.member} {self.expression} names {missing}") from missing
        return nodes[0] if self.one else nodes


class _Missing(Exception):
    """What a path names is not in the record."""


def compiled_filter(member: str, expression: str, data_format: Format, *, content_type: str) -> RecordFilter:
    """The filter that an expression describes. Raises a ValidationException for one that the service does not take."""
    allowed = _OPERATORS[data_format]
    for character in expression:
        if character not in allowed and not _is_of_a_name(character, data_format):
            raise _invalid(
                member,
                expression,
                f'Unexpected "{character}" in JsonPath. Supported operators for "{content_type}" are {list(allowed)}',
            )
    if not expression.startswith("$"):
        raise _invalid(member, expression, _SHAPE)
    found = []
    place = 1
    while place < len(expression):
        step = _STEP.match(expression, place)
        if step is None or step[0].strip("[ ]") == ":":
            raise _invalid(member, expression, _why_not(expression[place:]))
        if _is_empty_range(step):
            raise _invalid(
                member, expression, f"{step[0]} is empty whatever the record is: a range ends before its second number"
            )
        found.append(step)
        place = step.end()
    if data_format == "csv" and len(found) > 1:
        raise _invalid(member, expression, "a CSV row has cells, and a cell has no parts")
    compiled = [_compiled(step, last=step is found[-1]) for step in found]
    return RecordFilter(
        member=member,
        expression=expression,
        steps=tuple(step for step, _ in compiled),
        one=all(one for _, one in compiled),
    )


def _is_of_a_name(character: str, data_format: Format) -> bool:
    return character.isascii() and (character.isdigit() or (data_format == "json" and character.isalpha()))


def _invalid(member: str, expression: str, why: str) -> ServiceError:
    return validation_exception(f'Invalid {member}: "{expression}". {why}')


def _why_not(rest: str) -> str:
    inside = rest[: rest.find("]") + 1] or rest
    if ":" in inside:
        return f"Only single range filters of format (eg: [1:5]) are supported. Format {inside} is not supported"
    return f"{inside} is not a step of a JsonPath; {_SHAPE}"


def _bounds(step: re.Match[str]) -> tuple[int | None, int | None]:
    start, end = (None if bound is None else int(bound) for bound in (step["start"], step["end"]))
    return start, end


def _is_empty_range(step: re.Match[str]) -> bool:
    """Whether no list has anything between the bounds of a step: both are counted from the same end, or one is 0."""
    start, end = _bounds(step)
    if end is None:
        return False
    return end == 0 or (start is not None and (start < 0) == (end < 0) and start >= end)


def _compiled(step: re.Match[str], *, last: bool) -> tuple[_Step, bool]:
    """The step, and whether it names one node."""
    if step["all"]:
        return _everything, False
    if step["name"]:
        return lambda node: [_member(node, step["name"])], True
    if step["names"]:
        names = re.findall(r"'([^']+)'", step["names"])
        if len(names) == 1:
            return lambda node: [_member(node, names[0])], True
        if last:
            return lambda node: [{name: _member(node, name) for name in names}], True
        return lambda node: [_member(node, name) for name in names], False
    if step["indices"]:
        indices = [int(index) for index in step["indices"].split(",")]
        return lambda node: [_element(node, index) for index in indices], len(indices) == 1
    start, end = _bounds(step)
    return lambda node: _range(node, start, end), False


def _everything(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    if isinstance(node, list):
        return node
    raise _Missing(f"the parts of {_kind(node)}")


def _member(node: Any, name: str) -> Any:
    if not isinstance(node, dict):
        raise _Missing(f"{name!r}, a member, of {_kind(node)}")
    if name not in node:
        raise _Missing(f"{name!r}, which the record does not have")
    return node[name]


def _element(node: Any, index: int) -> Any:
    elements = _elements(node)
    if not -len(elements) <= index < len(elements):
        raise _Missing(f"element {index} of {_counted(elements)}")
    return elements[index]


def _range(node: Any, start: int | None, end: int | None) -> list[Any]:
    """``[start:end]`` without the element at ``end``, as JSONPath has it; it must lie within the elements."""
    elements = _elements(node)
    count = len(elements)
    first = 0 if start is None else start + count if start < 0 else start
    after = count if end is None else end + count if end < 0 else end
    if not 0 <= first < after <= count:
        raise _Missing(f"a range that is not within {_counted(elements)}")
    return elements[first:after]


def _elements(node: Any) -> list[Any]:
    if not isinstance(node, list):
        raise _Missing(f"an element of {_kind(node)}")
    return node


def _counted(elements: list[Any]) -> str:
    return f"{len(elements)} element{'' if len(elements) == 1 else 's'} (counted from 0)"


def _kind(node: Any) -> str:
    return "an object" if isinstance(node, dict) else "a list" if isinstance(node, list) else "a single value"
