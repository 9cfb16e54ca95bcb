"""The rule of a composite alarm: ``ALARM("a") AND NOT (OK(b) OR FALSE)``.

Source: PutCompositeAlarm, AlarmRule, in the CloudWatch API reference. ``AT_LEAST`` is not supported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"\s*(?:(?P<state>ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*(?:\"(?P<quoted>[^\"]+)\"|(?P<plain>[^\s()]+))\s*\)"
    r"|(?P<word>AND|OR|NOT|TRUE|FALSE)\b|(?P<sign>[()]))"
)
_DEPTH = 50


class RuleError(ValueError):
    """The rule cannot be read, or names an alarm that is not there; the text says which."""


def holds(rule: str, states: Mapping[str, str]) -> bool:
    """Whether the rule is true. ``states`` has every alarm's state by its name, and by its ARN."""
    tokens: list[bool | str] = []
    place, text = 0, rule.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise RuleError(f"the local cloud cannot read {text[place : place + 30]!r} in an alarm rule")
        place = match.end()
        if match["state"]:
            name = match["quoted"] or match["plain"]
            if name not in states:
                raise RuleError(f"an alarm rule names the alarm {name}, which does not exist")
            tokens.append(states[name] == match["state"])
        elif match["word"] in ("TRUE", "FALSE"):
            tokens.append(match["word"] == "TRUE")
        else:
            tokens.append(match["word"] or match["sign"])
    tokens.reverse()
    value = _either(tokens, 0)
    if tokens:
        raise RuleError(f"the local cloud did not expect {tokens[-1]!r} in an alarm rule")
    return value


def _either(tokens: list[bool | str], depth: int) -> bool:
    value = _both(tokens, depth)
    while tokens and tokens[-1] == "OR":
        tokens.pop()
        value = _both(tokens, depth) or value
    return value


def _both(tokens: list[bool | str], depth: int) -> bool:
    value = _one(tokens, depth)
    while tokens and tokens[-1] == "AND":
        tokens.pop()
        value = _one(tokens, depth) and value
    return value


def _one(tokens: list[bool | str], depth: int) -> bool:
    word = tokens.pop() if tokens else ""
    if isinstance(word, bool):
        return word
    if depth > _DEPTH:
        raise RuleError(f"an alarm rule has more than {_DEPTH} brackets in one another")
    if word == "NOT":
        return not _one(tokens, depth + 1)
    if word == "(":
        value = _either(tokens, depth + 1)
        if not tokens or tokens.pop() != ")":
            raise RuleError("an alarm rule lacks ')'")
        return value
    raise RuleError(f"the local cloud did not expect {word!r} in an alarm rule")
