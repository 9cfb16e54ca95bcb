"""The rule of a composite alarm: ``ALARM("a") AND NOT (OK(b) OR AT_LEAST(60%, ALARM, (c, d, e)))``.

Source: PutCompositeAlarm, AlarmRule, in the CloudWatch API reference, and "Composite alarms" in the user guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_NAME = r"\"[^\"]+\"|[^\s(),\"]+"
_TOKEN = re.compile(
    r"(?P<state>ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*(?:\"(?P<quoted>[^\"]+)\"|(?P<plain>[^\s()\"]+))\s*\)"
    r"|AT_LEAST\s*\(\s*(?P<number>[0-9]{1,9})(?P<percent>%?)\s*,\s*(?P<negated>NOT\s+)?"
    rf"(?P<wanted>ALARM|OK|INSUFFICIENT_DATA)\s*,\s*\(\s*(?P<names>(?:{_NAME})(?:\s*,\s*(?:{_NAME}))*)\s*\)\s*\)"
    r"|(?P<constant>(?i:TRUE|FALSE))\b|(?P<word>AND|OR|NOT)\b|(?P<sign>[()])"
)
_SPACE = re.compile(r"\s*")
_DEPTH = 50
_MOST_CHILDREN = 100
_MOST_ELEMENTS = 500

States = Mapping[str, str]
"""Each alarm's state by its name, and by its ARN."""
_Node = Callable[[States], bool]


class RuleError(ValueError):
    """The rule cannot be read, or names an alarm that is not there; the text says which."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that has been read: ``names`` are those of the alarms that it looks at, or their ARNs."""

    names: tuple[str, ...]
    _node: _Node

    def holds(self, states: States) -> bool:
        """Whether it is true. Raises :class:`RuleError`."""
        return self._node(states)


def read(rule: str) -> Rule:
    """Raises :class:`RuleError` with the sentence of the service."""
    reader = _Reader(rule)
    reader.move_to(0)
    node = reader.either(0)
    if reader.place < len(rule):
        raise reader.unsupported()
    names = tuple(dict.fromkeys(reader.names))
    if len(names) > _MOST_CHILDREN:
        raise RuleError(f"An AlarmRule can specify as many as {_MOST_CHILDREN} children, and this one has {len(names)}")
    if reader.elements > _MOST_ELEMENTS:
        raise RuleError(f"An AlarmRule can have as many as {_MOST_ELEMENTS} elements, and has {reader.elements}")
    return Rule(names, node)


def holds(rule: str, states: States) -> bool:
    """Whether a rule is true. Raises :class:`RuleError`."""
    return read(rule).holds(states)


@dataclass(slots=True)
class _Reader:
    """A recursive descent: each method reads what binds closer than the one before."""

    text: str
    place: int = 0
    elements: int = 0
    names: list[str] = field(default_factory=list)

    def either(self, depth: int) -> _Node:
        node = self.both(depth)
        while self.takes("OR"):
            node = _or(node, self.both(depth))
        return node

    def both(self, depth: int) -> _Node:
        node = self.one(depth)
        while self.takes("AND"):
            node = _and(node, self.one(depth))
        return node

    def one(self, depth: int) -> _Node:
        if depth > _DEPTH:
            raise RuleError(f"An AlarmRule has more than {_DEPTH} brackets in one another")
        if self.takes("NOT"):
            return _not(self.one(depth + 1))
        if self.takes("("):
            self.elements += 1
            node = self.either(depth + 1)
            if not self.takes(")"):
                raise self.unsupported()
            return node
        match = self.next()
        if match is None or match["word"] or match["sign"]:
            raise self.unsupported()
        self.move_to(match.end())
        self.elements += 1
        if match["constant"]:
            return _constant(match["constant"].upper() == "TRUE")
        if match["state"]:
            name = match["quoted"] or match["plain"]
            self.names.append(name)
            return lambda states: _state(name, states) == match["state"]
        return self.at_least(match)

    def at_least(self, match: re.Match[str]) -> _Node:
        names = [name.strip('"') for name in re.findall(_NAME, match["names"])]
        self.names += names
        self.elements += len(names) - 1
        number, wanted, unless = int(match["number"]), match["wanted"], bool(match["negated"])
        if match["percent"] and number > 100:
            raise RuleError(f"AT_LEAST asks for {number}% of the alarms")
        if not match["percent"] and number > len(names):
            raise RuleError(f"AT_LEAST asks for {number} of {len(names)} alarms")

        def node(states: States) -> bool:
            count = sum((_state(name, states) == wanted) != unless for name in names)
            return count * 100 >= number * len(names) if match["percent"] else count >= number

        return node

    def next(self) -> re.Match[str] | None:
        return _TOKEN.match(self.text, self.place)

    def takes(self, wanted: str) -> bool:
        match = self.next()
        if match is None or match.group() != wanted:
            return False
        self.move_to(match.end())
        return True

    def move_to(self, place: int) -> None:
        """Behind a token, and the spaces after it."""
        space = _SPACE.match(self.text, place)
        self.place = space.end() if space is not None else place

    def unsupported(self) -> RuleError:
        match = self.next()
        token = match.group() if match is not None else self.text[self.place : self.place + 30]
        return RuleError(f"Error in AlarmRule [Unsupported token '{token}' at char {self.place}]")


def _state(name: str, states: States) -> str:
    if name not in states:
        raise RuleError(f"an alarm rule names the alarm {name}, which does not exist")
    return states[name]


def _constant(value: bool) -> _Node:
    return lambda _: value


def _not(node: _Node) -> _Node:
    return lambda states: not node(states)


def _and(left: _Node, right: _Node) -> _Node:
    return lambda states: left(states) and right(states)


def _or(left: _Node, right: _Node) -> _Node:
    return lambda states: left(states) or right(states)
