"""What a pickle could do, and what it could cost: none of it is done, and nothing is taken that is only announced."""

from __future__ import annotations

import pickle
import pickletools
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.test_pickled_arrays import LIMIT, PROTOCOLS, VALUES, latin_1
from tidegate.inference.worker import pickle_machine
from tidegate.inference.worker.pickle_machine import UnreadablePickle
from tidegate.inference.worker.pickled_arrays import is_pickle, read, write

# --- what a pickle could do


class Touch:
    """Whoever unpickles this makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def assembled(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


ARRAY = pickle.dumps(np.arange(3.0), 2)
RAW = b"\x8e" + struct.pack("<Q", 8) + bytes(8)
FLOAT = (
    b"cnumpy\ndtype\n"
    + short("f8")
    + b"\x89\x88\x87R(K\x03"
    + short("<")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def reconstructed(shape: bytes, data: bytes) -> bytes:
    return assembled(
        *(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01", shape, FLOAT, b"\x89"),
        *(data, b"tb"),
    )


DANGEROUS = {
    "GLOBAL": assembled(b"cos\nsystem\n"),
    "GLOBAL of builtins": assembled(b"c__builtin__\neval\n"),
    "GLOBAL that leads on": assembled(b"cnumpy\ncore.multiarray.os.system\n"),
    "GLOBAL of a submodule": assembled(b"cnumpy.core\nmultiarray\n"),
    "GLOBAL of numpy that runs code": assembled(b"cnumpy.testing._private.utils\nrunstring\n"),
    "GLOBAL of numpy that reads files": assembled(b"cnumpy\nload\n"),
    "GLOBAL of numpy that maps files": assembled(b"cnumpy\nmemmap\n"),
    "GLOBAL of a matrix": pickle.dumps(np.ma.masked_array([1.0], [True]), 2),
    "STACK_GLOBAL": assembled(short("os"), short("system"), b"\x93"),
    "STACK_GLOBAL of what is no text": assembled(b"K\x01K\x02\x93"),
    "REDUCE": assembled(b"cposix\nsystem\n", short("id"), b"\x85R"),
    "REDUCE of a result": assembled(b"c_codecs\nencode\n", short("a"), b"\x85R", b")R"),
    "REDUCE of encode to another codec": assembled(
        *(b"cnumpy.core.multiarray\nscalar\n", FLOAT, b"c_codecs\nencode\n"),
        *(short("a"), short("zlib_codec"), b"\x86R\x86R"),
    ),
    "REDUCE of bytes with a length": assembled(
        *(b"cnumpy.core.multiarray\nscalar\n", FLOAT, b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R\x86R")
    ),
    "REDUCE of ndarray itself": assembled(b"cnumpy\nndarray\n", b"J\xff\xff\xff\x7f\x85\x85R"),
    "REDUCE of dtype alone": assembled(FLOAT),
    "BUILD of a class": assembled(b"cnumpy\nndarray\n", short("x"), b"b"),
    "BUILD a second time": ARRAY[:-1] + b"(K\x01K\x00\x85Ntb.",
    "INST": b"(S'id'\nios\nsystem\n.",
    "OBJ": assembled(b"(cos\nsystem\n", short("id"), b"o"),
    "NEWOBJ": assembled(b"cnumpy\nndarray\n)\x81"),
    "NEWOBJ_EX": assembled(b"cnumpy\nndarray\n)}\x92"),
    "EXT1": assembled(b"\x82\x01"),
    "EXT2": assembled(b"\x83\x01\x00"),
    "EXT4": assembled(b"\x84\x01\x00\x00\x00"),
    "PERSID": assembled(b"Pid\n"),
    "BINPERSID": assembled(short("id"), b"Q"),
    "NEXT_BUFFER": assembled(b"\x97"),
    "READONLY_BUFFER": assembled(b"\x98"),
    "APPEND": assembled(b"]K\x01a"),
    "SETITEM": assembled(b"}K\x01K\x02s"),
    "FROZENSET": assembled(b"(\x91"),
    "DUP": assembled(b"K\x012"),
    "POP": assembled(b"K\x01K\x010"),
    "FLOAT": b"\x80\x02F1e999\n.",
    "an object's state": pickle.dumps(Fraction(1, 3), 2),
    "a dtype of objects": pickle.dumps(np.array([object], dtype=object), 2),
    "a number of objects": assembled(
        *(b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n", short("O8"), b"\x89\x88\x87R"),
        *(b"(K\x03", short("|"), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb", b"K\x01\x86R"),
    ),
    "a record": pickle.dumps(np.zeros(1, dtype=[("a", "f4"), ("b", "O")]), 2),
    "a time": pickle.dumps(np.array(["2026-01-01"], dtype="M8[D]"), 2),
    "bytes without a type": pickle.dumps(np.zeros(1, dtype="V8"), 2),
    "long doubles": pickle.dumps(np.zeros(1, dtype=np.longdouble), 2),
    "a text": pickle.dumps("text", 2),
    "a number of Python that is too large": pickle.dumps(2**64, 2),
    "a floating-point number that is cut off": b"\x80\x02G\x00.",
    "a floating-point number for a length": reconstructed(b"G" + bytes(8) + b"\x85", RAW),
    "a tuple": assembled(b")"),
    "nothing": b"\x80\x02.",
    "two values": b"\x80\x02K\x01K\x02.",
    "something behind the end": ARRAY + b"x",
    "a mark as a value": b"\x80\x02(.",
    "no mark": b"\x80\x02t.",
    "what the memo has not": b"\x80\x02h\x05.",
    "a protocol to come": b"\x80\x06.",
    "no opcode": b"\x80\x02\xff.",
}


@pytest.mark.parametrize("data", DANGEROUS.values(), ids=DANGEROUS.keys())
def test_whatever_else_a_pickle_could_do_is_refused(data):
    """Each way to import, call, make, fill or refer to something that is no plain array."""
    with pytest.raises(UnreadablePickle):
        read(latin_1(data), LIMIT)


def test_the_refused_opcodes_are_all_that_the_machine_does_not_follow():
    """There is no opcode that is neither needed by arrays nor refused by its name."""
    followed = set(pickle_machine._STEPS) | {b"."}
    written: set[str] = set()
    for value in VALUES:
        for protocol in PROTOCOLS:
            written |= {opcode.name for opcode, _, _ in pickletools.genops(pickle.dumps(value, protocol))}
    for opcode in pickletools.opcodes:
        code = opcode.code.encode("latin-1")
        if code in followed:
            continue
        assert opcode.name not in written
        said = "a list" if opcode.name in ("EMPTY_LIST", "LIST") else f"the opcode {opcode.name},"
        with pytest.raises(UnreadablePickle, match=said):
            read(latin_1(b"\x80\x02" + code), LIMIT)
    importing = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}
    assert importing.isdisjoint(o.name for o in pickletools.opcodes if o.code.encode("latin-1") in followed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_gadget_of_any_protocol_is_taken_for_a_pickle_and_runs_nothing(protocol, tmp_path):
    """It is refused in words that name what it wanted to call."""
    text = latin_1(pickle.dumps(Touch(tmp_path / "made"), protocol))
    assert is_pickle(text)
    with pytest.raises(UnreadablePickle, match=r"which is not allowed|which no array needs"):
        read(text, LIMIT)
    assert not (tmp_path / "made").exists()


def test_a_gadget_inside_an_array_runs_nothing(tmp_path):
    """An array of objects may hold one."""
    value = np.empty(1, dtype=object)
    value[0] = Touch(tmp_path / "made")
    for protocol in PROTOCOLS:
        with pytest.raises(UnreadablePickle, match=r"dtype O|not allowed"):
            read(latin_1(pickle.dumps(value, protocol)), LIMIT)
    assert not (tmp_path / "made").exists()


# --- what a pickle could cost


HUGE = 2**62
LONG_HUGE = b"\x8a\x08" + struct.pack("<q", HUGE)

COSTLY = {
    "a shape of exabytes": reconstructed(LONG_HUGE + LONG_HUGE + b"\x86", RAW),
    "a shape of exabytes with nothing in it": reconstructed(b"K\x00" + LONG_HUGE + b"\x86", b"C\x00"),
    "a shape of terabytes of a few bytes": reconstructed(b"\x8a\x06" + struct.pack("<q", 2**40)[:6] + b"\x85", RAW),
    "negative lengths": reconstructed(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", RAW),
    "a true length": reconstructed(b"\x88\x85", RAW),
    "too many dimensions": reconstructed(b"(" + 40 * b"K\x01" + b"t", RAW),
    "LONG4 of a gigabyte": b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b".",
    "LONG4 of less than nothing": b"\x80\x02\x8b" + struct.pack("<i", -1) + b".",
    "LONG1 of 255 bytes": b"\x80\x02\x8a\xff" + bytes(255) + b".",
    "LONG of many digits": b"\x80\x02L" + 5000 * b"9" + b"L\n.",
    "INT of many digits": b"\x80\x02I" + 5000 * b"9" + b"\n.",
    "BINBYTES8 of exabytes": b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b".",
    "BINBYTES of gigabytes": b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b".",
    "BINSTRING of less than nothing": b"\x80\x02T" + struct.pack("<i", -5) + b".",
    "BYTEARRAY8 of exabytes": b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b".",
    "BINUNICODE8 of exabytes": b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b".",
    "a frame of exabytes": b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"N.",
    "a place of the memo that is far away": b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",
    "a place of the memo before the first": b"\x80\x02Np-5\n.",
    "many marks": b"\x80\x02" + 100_000 * b"(" + b".",
    "many values": b"\x80\x02" + 100_000 * b"N" + b".",
    "tuples in tuples": b"\x80\x02)" + 100_000 * b"\x85" + b".",
    "a billion laughs": b"\x80\x02)" + b"".join(b"q\x00h\x00h\x00\x87" for _ in range(200)) + b".",
    "one text encoded again and again": b"\x80\x02X"
    + struct.pack("<I", 200_000)
    + 200_000 * b"a"
    + b"q\x00"
    + 100_000 * (b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R")
    + b".",
    "an itemsize of gigabytes": reconstructed(b"K\x00\x85", b"C\x00").replace(short("f8"), short("S999999999")),
    "an itemsize of nothing": reconstructed(b"\x8a\x08" + struct.pack("<q", HUGE) + b"\x85", b"C\x00").replace(
        short("f8"), short("S0")
    ),
    "a text that never ends": b"\x80\x02V" + 100_000 * b"a",
    "a name that never ends": b"\x80\x02c" + 1_000_000 * b"a" + b"\n.",
}


@pytest.mark.parametrize("data", COSTLY.values(), ids=COSTLY.keys())
def test_nothing_is_taken_that_is_only_announced(data):
    """Refused, in little more memory than the pickle itself has."""
    text = latin_1(data)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadablePickle) as refusal:
            read(text, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(data) + 500_000
    assert len(str(refusal.value)) < 300


def test_an_array_takes_a_few_times_the_memory_of_its_bytes():
    """As text, as bytes and as numbers, and no more often than that."""
    text = write(np.zeros(1_000_000))
    tracemalloc.start()
    try:
        read(text, 1 << 30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(text)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    """Whatever is sent: one sentence, or one array."""
    try:
        found = read(latin_1(b"\x80\x02" + data), LIMIT)
    except UnreadablePickle:
        return
    assert isinstance(found, np.ndarray | np.generic)


@settings(max_examples=500, deadline=None)
@given(
    value=st.sampled_from(VALUES),
    protocol=st.sampled_from(PROTOCOLS),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from("=+-")), max_size=4),
)
def test_a_damaged_pickle_is_read_or_refused(value, protocol, changes):
    """Bytes that are changed, put in or left out make another array, or a refusal, and never anything else."""
    data = bytearray(pickle.dumps(value, protocol))
    for place, byte, how in changes:
        at = place % len(data)
        if how == "=":
            data[at] = byte
        elif how == "+":
            data.insert(at, byte)
        elif len(data) > 1:
            del data[at]
    try:
        found = read(latin_1(bytes(data)), LIMIT)
    except UnreadablePickle:
        return
    assert isinstance(found, np.ndarray | np.generic)
    assert found.dtype.kind in "biufcSU"
    assert found.nbytes <= len(data)
    found.tolist()


OPCODES = [code for code in pickle_machine._STEPS if code not in (b"X", b"B", b"T", b"\x8e", b"\x8d", b"\x96")]


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            [
                *(*OPCODES, RAW, FLOAT, short("latin1"), short("f8"), b"K\x01", b"\x85", b"R", b"b"),
                *(b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.numeric\n_frombuffer\n"),
                *(b"cnumpy\nndarray\n", b"c_codecs\nencode\n"),
            ]
        ),
        max_size=60,
    )
)
def test_any_program_of_opcodes_is_read_or_refused(parts):
    """Not only damaged pickles: any order of what there is."""
    try:
        found = read(latin_1(assembled(*parts)), LIMIT)
    except UnreadablePickle:
        return
    assert isinstance(found, np.ndarray | np.generic)
