"""YAML as nodes that know their line and column, so that each mistake of a file is named with its place.

What YAML 1.1 reads otherwise than people do is a mistake here: `1e-3` is text to it, `064` is 52 and `12:30` is 750.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MAX_BYTES = 4 << 20
_MAX_VALUES = 400_000
"""Of one file, aliases written out: nine lines of them can stand for a billion values."""
_MAX_PAIRS = 1_000_000
"""The same of the keys of mappings, with those that `<<` brings: 20,000 runs that share six keys have 280,000."""
_MAX_UNKNOWN = 20
"""Keys of one mapping that are each named as a mistake: where there are more, they are another kind of file's."""
_MAX_DEPTH = 100
"""Of `<<` in what `<<` brings, and of lists and mappings in one another."""
_TAG = "tag:yaml.org,2002:"
_PLAIN_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)")
_PLAIN_FRACTION = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*([eE][-+]\d+)?|\.\d+([eE][-+]\d+)?|\.(inf|Inf|INF|nan|NaN|NAN))")
_LOOKS_LIKE_A_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_SCALARS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null")}


class Mistake(NamedTuple):
    """What is wrong, and where; lines and columns count from 1."""

    line: int
    column: int
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.sentence}"


class Unreadable(Exception):
    """The text is not YAML at all, or far too much of it; there is one mistake."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


class Pair(NamedTuple):
    """A key of a mapping with its value."""

    key: yaml.Node
    value: yaml.Node


class Source:
    """The nodes of one file, and the mistakes that are found in them."""

    def __init__(self, path: Path, content: bytes) -> None:
        """Raises `Unreadable`."""
        self.path = path
        self.root = _composed(content)
        """None where the file holds nothing."""
        self._mistakes: set[Mistake] = set()
        self._values = 0
        self._pairs = 0
        self._merging: list[yaml.Node] = []

    @property
    def mistakes(self) -> list[Mistake]:
        """All that were found, from the top of the file to its end."""
        return sorted(self._mistakes)

    @property
    def count(self) -> int:
        """How many there are so far."""
        return len(self._mistakes)

    def fault(self, node: yaml.Node, sentence: str) -> None:
        """Note a mistake at the beginning of `node`; the same one is noted once, however many aliases lead there."""
        mark = node.start_mark
        self._mistakes.add(Mistake(mark.line + 1, mark.column + 1, sentence))

    def pairs(self, node: yaml.Node, what: str) -> Mapping[str, Pair]:
        """The keys of a mapping, as they are written, with their values; nothing where it is none.

        `<<` brings the keys of another mapping that are not here.
        """
        if not isinstance(node, yaml.MappingNode) or node.tag != f"{_TAG}map":
            self.fault(node, f"{what} must be a mapping, it is {_called(node)}")
            return {}
        own: dict[str, Pair] = {}
        merged: list[Mapping[str, Pair]] = []
        self._count_pairs(node, what, len(node.value))
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += self._merged(node, key, value, what)
            elif not isinstance(key, yaml.ScalarNode):
                self.fault(key, f"a key of {what} must be one word, it is {_called(key)}")
            elif key.value in own:
                first = own[key.value].key.start_mark.line + 1
                self.fault(key, f"{what} has {key.value!r} already, in line {first}")
            else:
                own[key.value] = Pair(key, value)
        found: dict[str, Pair] = {}
        for each in reversed(merged):  # what is brought first wins
            found.update(each)
        found.update(own)
        return found

    def _merged(self, node: yaml.MappingNode, key: yaml.Node, value: yaml.Node, what: str) -> list[Mapping[str, Pair]]:
        found: list[Mapping[str, Pair]] = []
        if len(self._merging) >= _MAX_DEPTH:
            raise _too_much(key, f"'<<' stands in what '<<' brings more than {_MAX_DEPTH} times over")
        self._merging.append(node)
        for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(each, yaml.MappingNode) and each not in self._merging:
                found.append(self.pairs(each, what))
                self._count_pairs(key, what, 1 + len(found[-1]))
            else:
                self.fault(key, f"'<<' must bring another mapping, it brings {_called(each)}")
        self._merging.pop()
        return found

    def _count_pairs(self, node: yaml.Node, what: str, count: int) -> None:
        self._pairs += count
        if self._pairs > _MAX_PAIRS:
            raise _too_much(
                node, f"{what} is too much: with what '<<' and '*' bring, the file has more than {_MAX_PAIRS} keys"
            )

    def known_pairs(
        self, node: yaml.Node, what: str, *, known: Iterable[str], needed: Iterable[str] = ()
    ) -> Mapping[str, Pair]:
        """The same where only some keys have a meaning, and some must be there."""
        known = tuple(known)
        before = len(self._mistakes)
        pairs = self.pairs(node, what)
        unknown = [name for name in pairs if name not in known]
        for name in unknown[:_MAX_UNKNOWN]:
            self.fault(pairs[name].key, f"{what} has the unknown key {name!r}{near(name, known)}")
        if more := unknown[_MAX_UNKNOWN:]:
            self.fault(pairs[more[0]].key, f"{what} has {len(more)} unknown keys more, {more[0]!r} the first of them")
        if isinstance(node, yaml.MappingNode) and (pairs or len(self._mistakes) == before):
            for name in needed:
                if name not in pairs:
                    self.fault(node, f"{what} needs the key {name!r}")
        return {name: pair for name, pair in pairs.items() if name in known}

    def text(self, node: yaml.Node, what: str) -> str | None:
        """A text as it is written, numbers and words with a meaning in YAML among them; None where it is none."""
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS - {f"{_TAG}null"} and node.value:
            return str(node.value)
        self.fault(node, f"{what} must be text, it is {_called(node)}")
        return None

    def whole(self, node: yaml.Node, what: str, *, low: int, high: int) -> int | None:
        """A whole number in plain digits; None where it is none."""
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}int" and re.fullmatch(r"[1-9]\d{0,9}", node.value):
            number = int(node.value)
            if low <= number <= high:
                return number
        shown = node.value if isinstance(node, yaml.ScalarNode) and node.value else _called(node)
        self.fault(node, f"{what} must be a whole number from {low} to {high}, it is {shown}")
        return None

    def value(self, node: yaml.Node, what: str) -> Any:
        """Plain data: text, numbers, true, false, null, lists and mappings. Raises `Unreadable` for far too much."""
        return self._value(node, what, ())

    def _value(self, node: yaml.Node, what: str, above: tuple[int, ...]) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise _too_much(node, f"{what} is too much: the file holds more than {_MAX_VALUES} values")
        if id(node) in above:
            self.fault(node, f"{what} holds itself")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, what)
        if len(above) >= _MAX_DEPTH:
            raise _too_much(node, f"lists and mappings are nested here more than {_MAX_DEPTH} times over")
        above = (*above, id(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._value(each, f"{what}[{index}]", above) for index, each in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            pairs = self.pairs(node, what)
            return {name: self._value(pair.value, f"{what}.{name}", above) for name, pair in pairs.items()}
        self.fault(node, f"{what} has the tag {_tag(node)}, which is not read here")
        return None

    def _scalar(self, node: yaml.ScalarNode, what: str) -> Any:
        if node.tag not in _SCALARS:
            self.fault(node, f"{what} is {_called(node)}; put it into quotes where text is meant")
            return None
        if node.tag == f"{_TAG}str" and node.style is None and _LOOKS_LIKE_A_NUMBER.fullmatch(node.value):
            number = f"{float(node.value):e}"
            self.fault(
                node,
                f"{what} is {node.value}, which is text in YAML 1.1: write {number} for the number, with a point and a "
                "sign, or put it into quotes",
            )
            return None
        if node.tag == f"{_TAG}str":
            return node.value
        try:
            read = yaml.SafeLoader("").construct_object(node)
        except Exception:  # `!!int abc`, `!!bool abc`, `!!int ''`: whatever PyYAML trips over in them
            self.fault(node, f"{what} is {node.value!r}, which is no {node.tag.removeprefix(_TAG)}")
            return None
        form = {f"{_TAG}int": _PLAIN_WHOLE, f"{_TAG}float": _PLAIN_FRACTION}.get(node.tag)
        if form is not None and not form.fullmatch(node.value):
            self.fault(
                node,
                f"{what} is {node.value}, which YAML 1.1 reads as {read}: write that number in plain digits, or put it "
                "into quotes where text is meant",
            )
            return None
        return read


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of a sentence."""
    known = tuple(known)
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; there are {', '.join(known)}" if known else ""


def _composed(content: bytes) -> yaml.Node | None:
    if len(content) > MAX_BYTES:
        raise Unreadable(Mistake(1, 1, f"the file has more than {MAX_BYTES} bytes"))
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:2]:
        raise Unreadable(Mistake(1, 1, "this is UTF-16 or UTF-32, or no text at all: save it as UTF-8"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, before = content[error.start], content[: error.start].decode()
        raise Unreadable(_at(before, f"this is not UTF-8, its byte is 0x{byte:02X}: save the file as UTF-8")) from None
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = ": ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(Mistake(line, column, f"this is not YAML: {' '.join(said.split())}")) from None
    except yaml.reader.ReaderError as error:
        character = f"U+{ord(text[error.position]):04X}"
        raise Unreadable(_at(text[: error.position], f"the character {character} cannot be read")) from None
    except RecursionError:
        raise Unreadable(Mistake(1, 1, "its lists and mappings are nested too deeply")) from None
    return None if root is not None and is_empty(root) else root


def is_empty(node: yaml.Node) -> bool:
    """Whether nothing is written there: `key:` and no more."""
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null" and not node.value


def is_written_null(node: yaml.Node) -> bool:
    """Whether somebody wrote `null` or `~`, which is not left out by oversight."""
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null" and bool(node.value)


def _at(before: str, sentence: str) -> Mistake:
    return Mistake(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1, sentence)


def _too_much(node: yaml.Node, sentence: str) -> Unreadable:
    mark = node.start_mark
    return Unreadable(Mistake(mark.line + 1, mark.column + 1, sentence))


def _called(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        if node.tag == f"{_TAG}null" or not node.value:
            return "empty"
        kind = {f"{_TAG}timestamp": "the date "}.get(node.tag, "" if node.tag in _SCALARS else f"{_tag(node)} ")
        return f"{kind}{_short(node.value)}"
    return {f"{_TAG}map": "a mapping", f"{_TAG}seq": "a list"}.get(node.tag, _tag(node))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _tag(node: yaml.Node) -> str:
    return f"'{node.tag.replace(_TAG, '!!')}'"
