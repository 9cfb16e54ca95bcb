"""Pickled arrays of old clients: what numpy wrote comes back, and what is written any client reads."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tidegate.inference.worker.pickle_machine import UnreadablePickle
from tidegate.inference.worker.pickled_arrays import is_pickle, read, write

LIMIT = 1 << 20
PROTOCOLS = range(6)

VALUES: list[Any] = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.arange(6).reshape(2, 3).T,
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(6)[::2],
    np.array(3.5),
    np.zeros((0, 784)),
    np.arange(3, dtype=">i4"),
    np.array([True, False]),
    np.array([1 + 2j], dtype=np.complex64),
    np.ones(300, dtype=np.float16),
    np.array(["a", "bcd"]),
    np.array([b"ab", b"c"]),
    np.array(["ä", "🌊"], dtype=">U3"),
    np.float64(1.5),
    np.int8(-3),
    np.bool_(True),
    np.str_("Tidegate"),
]

PYTHON_2 = {
    0: "cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n(L3L\ntp6\n"
    "cnumpy\ndtype\np7\n(S'u1'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'|'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n"
    "S'\\x00\\'\\n'\np13\ntp14\nb.",
    2: "\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    "(K\x01\x8a\x01\x03\x85cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
    "\xffK\x00tb\x89U\x03\x00'\ntb.",
}
"""What Python 2 and numpy 1 wrote for np.array([0, 39, 10], "uint8"): its texts are bytes."""


def latin_1(data: bytes) -> str:
    return data.decode("latin-1")


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one.dtype == other.dtype.newbyteorder("=") and np.array_equal(one, other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value.dtype}-{value.shape}")
def test_what_numpy_pickled_comes_back_by_every_protocol(value, protocol):
    """The same numbers, shape and kind, with memory of their own and in this machine's byte order."""
    text = latin_1(pickle.dumps(value, protocol))
    assert is_pickle(text)
    found = read(text, LIMIT)
    assert same(found, value)
    if isinstance(found, np.ndarray):
        assert found.flags.writeable
        assert found.flags.c_contiguous


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_spellings_of_numpys_names_are_read(protocol):
    """numpy 1 says numpy.core where numpy 2 says numpy._core."""
    new = pickle.dumps(VALUES[0], protocol)
    assert b"numpy._core" in new
    old = new.replace(b"numpy._core", b"numpy.core")
    if protocol >= 4:
        # One character fewer in the name and in the frame around it.
        for module in (b"numpy.core.multiarray", b"numpy.core.numeric"):
            old = old.replace(bytes([len(module) + 1]) + module, bytes([len(module)]) + module)
    assert same(read(latin_1(old), LIMIT), VALUES[0])


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_what_python_2_wrote_is_read(protocol):
    """Its texts are bytes, its lengths long numbers."""
    assert read(PYTHON_2[protocol], LIMIT).tolist() == [0, 39, 10]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value.dtype}-{value.shape}")
def test_what_is_written_any_client_reads(value):
    """Protocol 2 and the names of numpy 1, which every Python and every numpy reads."""
    text = write(value)
    assert "numpy._core" not in text
    data = text.encode("latin-1")
    assert data.startswith(b"\x80\x02cnumpy.core.multiarray\n")
    assert same(pickle.loads(data), value)
    assert same(read(text, LIMIT), value)


@settings(max_examples=200, deadline=None)
@given(
    value=arrays.arrays(
        arrays.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcSU" and 0 < dtype.itemsize <= 16)
        | arrays.integer_dtypes(),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_any_array_of_fixed_size_comes_back(value, protocol):
    """NaN, minus zero and texts with zeros in them, too: by their bytes."""
    if value.dtype.kind in "fc" and value.dtype.itemsize not in (2, 4, 8, *(16 * [value.dtype.kind == "c"])):
        return
    native = value.astype(value.dtype.newbyteorder("="))
    for text in (latin_1(pickle.dumps(value, protocol)), write(value)):
        found = read(text, LIMIT)
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype, found.tobytes()) == (native.shape, native.dtype, native.tobytes())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "car",
        "https://bucket/image.png",
        "S'abc'\np0\n.",
        "I5\n.",
        "cat\ndog\nmouse.",
        "c\n\n.",
        "(lp0\n.",
        "\x81\x02",
    ],
)
def test_an_ordinary_text_is_no_pickle(text):
    """An address, or a value of another client: it stays the text that it is."""
    assert not is_pickle(text)


def test_a_boolean_is_true_or_false():
    """Any byte but zero is true, and counts as one."""
    text = latin_1(pickle.dumps(np.array([True, False]), 3)).replace("\x01\x00t", "\x07\x00t")
    found = read(text, LIMIT)
    assert found.sum() == 1


def test_a_character_that_there_is_not_is_refused():
    """numpy would raise whenever somebody looks at it."""
    text = latin_1(pickle.dumps(np.array(["a"]), 3).replace(b"a\x00\x00\x00", b"a\x00\x00\x7f"))
    with pytest.raises(UnreadablePickle, match="a text that is none"):
        read(text, LIMIT)


def test_characters_that_are_no_bytes_are_refused():
    """A pickle is sent byte by byte."""
    with pytest.raises(UnreadablePickle, match=r"over U\+00FF"):
        read("\x80\x02🌊.", LIMIT)


def test_a_client_reads_the_answer_without_pickled_numpy_2_names():
    """`pickle.loads(v.encode("latin-1"))`, as Studio.ML's clients did, with the names that numpy 1 has."""
    names = []

    class Watched(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            names.append(f"{module}.{name}")
            return super().find_class(module, name)

    Watched(io.BytesIO(write(np.arange(3.0)).encode("latin-1"))).load()
    assert names == ["numpy.core.multiarray._reconstruct", "numpy.ndarray", "_codecs.encode", "numpy.dtype"]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, np.bool_),
        (False, np.bool_),
        *((whole, np.int64) for whole in (0, 255, 65_535, -1, 2**31 - 1, 2**31, -(2**63), 2**63 - 1)),
        *((whole, np.uint64) for whole in (2**63, 2**64 - 1)),
        *((number, np.float64) for number in (1.5, -0.0, 5e-324, float("inf"), float("nan"))),
    ],
)
def test_a_number_of_python_comes_as_numpys(value, kind, protocol):
    """To the bit, and so the answer holds a pickle for it again."""
    text = latin_1(pickle.dumps(value, protocol))
    assert is_pickle(text)
    found = read(text, LIMIT)
    assert type(found) is kind
    assert found.tobytes() == np.array(value, kind).tobytes()


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**30, 10**1000])
def test_a_whole_number_that_numpy_has_not_is_refused(value):
    """However many bytes it has."""
    with pytest.raises(
        UnreadablePickle, match=r"^it has a (whole number of more than 64 bits|number of \d+ bytes|.*LONG4)"
    ):
        read(latin_1(pickle.dumps(value, 2)), LIMIT)
