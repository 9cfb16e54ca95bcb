"""A pickle's opcodes, followed without doing what they say: what comes out is a description, and nothing was called.

Python's own reader imports what a pickle names, calls what it says, and takes the memory that it announces. This one
knows the opcodes that pickles of arrays and of numbers consist of, in protocols 0 to 5 and of Python 2 and 3. A name
must be among those that the caller has listed, a call becomes a `Call` that somebody may look at, and whatever else
there is (INST, OBJ, NEWOBJ, EXT1, persistent ids, buffers from elsewhere, …) is refused by its name.

Bounds: a pickle of one array has less than 200 opcodes, whatever its size, so that at most 1,000 are followed; bytes
and texts are only taken as far as they are there; numbers are short. Stack and memo cannot outgrow the opcodes, and the
memo is a dict, which takes no memory for places that are only named.
"""

from __future__ import annotations

import codecs
import pickletools
import re
import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_OPCODES = 1000
MAX_NUMBER_BYTES = 9
"""Of a LONG: as many as the length of an array may need, with its sign."""
_MAX_NAME_CHARACTERS = 100
_MAX_NUMBER_CHARACTERS = 24

Names = Mapping[tuple[str, str], Hashable]
"""The names that may occur, as module and name, and what each stands for."""


class UnreadablePickle(Exception):
    """The text says why, as the end of a sentence about the pickle."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Named:
    """One of the listed names, as what it stands for."""

    what: Hashable


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """That `function` be called with `arguments`, and what comes of it be given the `state`; it was not."""

    function: Hashable
    arguments: tuple[Any, ...]
    state: Any = None
    has_state: bool = False


def follow(data: bytes, names: Names) -> Any:
    """What the pickle describes: None, bools, ints, floats, `str`, `bytes`, tuples, `Named` and `Call`, nested.

    Raises `UnreadablePickle`.
    """
    machine = _Machine(data, names)
    for _ in range(MAX_OPCODES):
        opcode = machine.opcode()
        if opcode == b".":
            return machine.end()
        step = _STEPS.get(opcode)
        if step is None:
            raise UnreadablePickle(f"it has {_called(opcode)}")
        step(machine)
    raise UnreadablePickle(f"it has more than {MAX_OPCODES} opcodes, which no array needs")


def _called(opcode: bytes) -> str:
    if opcode in b"]l":
        return "a list, as arrays of Python objects (dtype O) have, which are never unpickled"
    name = _KNOWN.get(opcode)
    return f"the opcode {name}, which no array needs" if name else f"the byte {opcode[0]:#04x}, which is no opcode"


_KNOWN = {each.code.encode("latin-1"): each.name for each in pickletools.opcodes}
"""All opcodes that there are, for sentences about those that are not followed."""


class _Mark:
    """The one thing on the stack that is no value."""


_MARK = _Mark()


class _Machine:
    def __init__(self, data: bytes, names: Names) -> None:
        self._data = data
        self._at = 0
        self._names = names
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    # --- reading

    def opcode(self) -> bytes:
        return self.take(1)

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise UnreadablePickle("it is cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack(self.take(layout.size))
        return int(value)

    def floating(self) -> float:
        (value,) = _F8.unpack(self.take(_F8.size))
        return float(value)

    def counted(self, layout: struct.Struct) -> bytes:
        count = self.number(layout)
        if count < 0:
            raise UnreadablePickle("it announces fewer than no bytes")
        return self.take(count)

    def line(self, limit: int | None = None) -> bytes:
        end = self._data.find(b"\n", self._at, None if limit is None else self._at + limit + 1)
        if end < 0:
            raise UnreadablePickle("it is cut off, or has a line that is too long")
        line = self.take(end - self._at)
        self._at += 1
        return line

    def decimal(self) -> int:
        line = self.line(_MAX_NUMBER_CHARACTERS)
        if not re.fullmatch(rb"-?\d+L?", line):
            raise UnreadablePickle("it has a number that is none")
        return int(line.removesuffix(b"L"))

    # --- stack and memo

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        value = self.top()
        self._stack.pop()
        return value

    def top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise UnreadablePickle("it pops an empty stack")
        return self._stack[-1]

    def mark(self) -> None:
        self._stack.append(_MARK)

    def since_mark(self) -> tuple[Any, ...]:
        values: list[Any] = []
        while self._stack and self._stack[-1] is not _MARK:
            values.append(self._stack.pop())
        if not self._stack:
            raise UnreadablePickle("it takes values from a mark on, and there is no mark")
        self._stack.pop()
        return tuple(reversed(values))

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def keep(self, place: int | None = None) -> None:
        self._memo[len(self._memo) if place is None else place] = self.top()

    def recall(self, place: int) -> None:
        if place not in self._memo:
            raise UnreadablePickle("it refers to a value that it does not contain")
        self.push(self._memo[place])

    def end(self) -> Any:
        value = self.pop()
        if self._stack or self._at != len(self._data):
            raise UnreadablePickle("it continues after its end")
        return value

    # --- what is described

    def name(self, module: str, name: str) -> None:
        if (module, name) not in self._names:
            raise UnreadablePickle(f"it names {_short(module)}.{_short(name)}, which is not allowed")
        self.push(Named(self._names[module, name]))

    def call(self) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise UnreadablePickle("it calls what cannot be called")
        self.push(Call(function.what, arguments))

    def build(self) -> None:
        state, made = self.pop(), self.top()
        if not isinstance(made, Call) or made.has_state:
            raise UnreadablePickle("it gives a state to what takes none")
        made.state, made.has_state = state, True


_U1, _U2, _U4, _U8 = (struct.Struct(f"<{code}") for code in "BHIQ")
_I4 = struct.Struct("<i")
_F8 = struct.Struct(">d")

_ESCAPED = re.compile(rb"(?:[^\\]++|\\(?:[\\'\"nrt]|x[0-9a-fA-F]{2}))*+")
"""What Python 2 wrote between quotes; anything else would make `codecs.escape_decode` warn."""


def _protocol(machine: _Machine) -> None:
    if machine.number(_U1) > 5:
        raise UnreadablePickle("its protocol is newer than 5")


def _frame(machine: _Machine) -> None:
    machine.number(_U8)  # how far to read ahead: all of it is here


def _bool_or_int(machine: _Machine) -> None:
    line = machine.line(_MAX_NUMBER_CHARACTERS)
    if line in (b"00", b"01"):
        machine.push(line == b"01")
    elif re.fullmatch(rb"-?\d+", line):
        machine.push(int(line))
    else:
        raise UnreadablePickle("it has a number that is none")


def _long(layout: struct.Struct) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        count = machine.number(layout)
        if not 0 <= count <= MAX_NUMBER_BYTES:
            raise UnreadablePickle(f"it has a number of {count} bytes")
        machine.push(int.from_bytes(machine.take(count), "little", signed=True))

    return step


def _quoted(machine: _Machine) -> None:
    line = machine.line()
    inside = line[1:-1]
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1] or not _ESCAPED.fullmatch(inside):
        raise UnreadablePickle("it has a text without its quotes, or with an escape that is none")
    machine.push(codecs.escape_decode(inside)[0])


def _text(data: bytes, encoding: str) -> str:
    try:
        return str(data, encoding)
    except UnicodeDecodeError:
        raise UnreadablePickle("it has a text that is none") from None


def _global(machine: _Machine) -> None:
    module, name = machine.line(_MAX_NAME_CHARACTERS), machine.line(_MAX_NAME_CHARACTERS)
    machine.name(_text(module, "utf-8"), _text(name, "utf-8"))


def _stack_global(machine: _Machine) -> None:
    module, name = machine.last(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise UnreadablePickle("it refers to something without a name")
    machine.name(module, name)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_NAME_CHARACTERS else text[:_MAX_NAME_CHARACTERS] + "…"


def _pushing(read: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(read(machine))


def _counted_bytes(layout: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.counted(layout))


def _counted_text(layout: struct.Struct) -> Callable[[_Machine], None]:
    # As Python's own reader does: numbers below U+10000 that stand for half a character come as such.
    return lambda machine: machine.push(_text(machine.counted(layout), "utf-8"))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.last(count))


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _protocol,  # PROTO
    b"\x95": _frame,  # FRAME
    # Values
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"I": _bool_or_int,
    b"J": _pushing(lambda machine: machine.number(_I4)),  # BININT
    b"K": _pushing(lambda machine: machine.number(_U1)),  # BININT1
    b"M": _pushing(lambda machine: machine.number(_U2)),  # BININT2
    b"G": _pushing(_Machine.floating),  # BINFLOAT
    b"L": _pushing(_Machine.decimal),  # LONG
    b"\x8a": _long(_U1),  # LONG1
    b"\x8b": _long(_I4),  # LONG4
    b"S": _quoted,  # STRING: what was `str` in Python 2, bytes today
    b"U": _counted_bytes(_U1),  # SHORT_BINSTRING
    b"T": _counted_bytes(_I4),  # BINSTRING
    b"C": _counted_bytes(_U1),  # SHORT_BINBYTES
    b"B": _counted_bytes(_U4),  # BINBYTES
    b"\x8e": _counted_bytes(_U8),  # BINBYTES8
    b"\x96": _counted_bytes(_U8),  # BYTEARRAY8
    b"V": _pushing(lambda machine: _text(machine.line(), "raw-unicode-escape")),  # UNICODE
    b"\x8c": _counted_text(_U1),  # SHORT_BINUNICODE
    b"X": _counted_text(_U4),  # BINUNICODE
    b"\x8d": _counted_text(_U8),  # BINUNICODE8
    # Tuples
    b"(": _Machine.mark,
    b")": lambda machine: machine.push(()),
    b"t": _pushing(_Machine.since_mark),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    # The memo
    b"p": lambda machine: machine.keep(machine.decimal()),
    b"q": lambda machine: machine.keep(machine.number(_U1)),
    b"r": lambda machine: machine.keep(machine.number(_U4)),
    b"\x94": _Machine.keep,  # MEMOIZE
    b"g": lambda machine: machine.recall(machine.decimal()),
    b"h": lambda machine: machine.recall(machine.number(_U1)),
    b"j": lambda machine: machine.recall(machine.number(_U4)),
    # What is described
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _Machine.call,
    b"b": _Machine.build,
}
"""The opcodes that are followed, and no other."""
