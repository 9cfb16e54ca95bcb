"""Bodies become tensors, or one sentence that says to the client what is wrong with them."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.toy_images import image
from tidegate.inference.errors import BadRequest, RequestError, UnsupportedMediaType
from tidegate.inference.worker.content import (
    CSV,
    JSON,
    JSON_LINES,
    NPY,
    NPZ,
    Reading,
    decode,
    decode_text,
    split_media_type,
)

UNEVEN = "The body is not an array of numbers whose rows all have the same length."
OBJECT_UNEVEN = "'{}' of the JSON object is not an array of numbers whose rows all have the same length."
LINES_UNEVEN = "'{}' of the JSON Lines is not an array of numbers whose rows all have the same length."
LINES_AS_JSON = (
    "The body is not valid JSON: line {} begins a second document; send JSON Lines as application/jsonlines."
)


def read(body: str | bytes | bytearray, media_type: str, limit: int = 2**20) -> Any:
    return decode(body, media_type, Reading(max_decoded_bytes=limit)).data


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(text: str, version: tuple[int, int] = (1, 0), rest: bytes = b"\0" * 16) -> bytes:
    header = text.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + rest


# --- media types and text


@pytest.mark.parametrize(
    ("text", "media_type", "charset"),
    [
        ("", "", "utf-8"),
        ("application/json", JSON, "utf-8"),
        ("Text/CSV; Charset=Latin-1", CSV, "Latin-1"),
        ('text/csv; header=absent; charset="utf-16"', CSV, "utf-16"),
        ("text/csv; charset=", CSV, "utf-8"),
        ("application/x-ndjson", JSON_LINES, "utf-8"),
        ("application/jsonl", JSON_LINES, "utf-8"),
        ("application/x-jsonlines", JSON_LINES, "utf-8"),
        ("image/png", "image/png", "utf-8"),
    ],
)
def test_a_content_type_is_split_into_type_and_charset(text: str, media_type: str, charset: str) -> None:
    assert split_media_type(text) == (media_type, charset)


def test_text_is_decoded_in_its_charset() -> None:
    assert decode_text("é".encode("latin-1"), "latin-1") == "é"
    assert decode_text(memoryview("é".encode()), "utf-8") == "é"


@pytest.mark.parametrize(
    ("body", "charset", "message"),
    [
        (b"ab\xff", "utf-8", "The body is not valid utf-8: byte 2 cannot be decoded."),
        (b"ab", "klingon", "The charset 'klingon' of the Content-Type is not known."),
        (b"ab", "rot13", "The charset 'rot13' of the Content-Type is not known."),
        (b"ab", "hex", "The charset 'hex' of the Content-Type is not known."),
    ],
)
def test_text_that_is_not_in_its_charset_is_the_clients_mistake(body: bytes, charset: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_text(body, charset)
    assert caught.value.message == message


# --- JSON, JSON Lines, CSV


@pytest.mark.parametrize(
    ("body", "media_type", "expected"),
    [
        ("[1, 2.5]", JSON, [1, 2.5]),
        ("[[1, 2], [3, 4]]", JSON, [[1, 2], [3, 4]]),
        ("7", JSON, 7),
        ("[]", JSON, []),
        ("[[], []]", JSON, [[], []]),
        ("[true, false]", JSON, [1, 0]),
        (b"[1]", JSON, [1]),
        (b"[1, 2]\n\n[3, 4]\n", JSON_LINES, [[1, 2], [3, 4]]),
        (b"1\r\n2", JSON_LINES, [1, 2]),
        ("1,2\n3,4\n", CSV, [[1, 2], [3, 4]]),
        ("1,2\r\n3,4\r\n", CSV, [[1, 2], [3, 4]]),
        ("1,2\r3,4", CSV, [[1, 2], [3, 4]]),
        ("1, 2.5e1, -3", CSV, [1, 25, -3]),
        ("1\n2", CSV, [1, 2]),
        ('"1","2"\n', CSV, [1, 2]),
        ("\n1,2\n\n", CSV, [1, 2]),
    ],
)
def test_text_becomes_a_float32_tensor(body: str | bytes, media_type: str, expected: Any) -> None:
    found = read(body, media_type)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor(expected, dtype=torch.float32))


def test_a_csv_of_one_number_is_that_number() -> None:
    """The AWS container made an uninitialised tensor of that length of it."""
    assert read("5", CSV).tolist() == [5.0]


def test_not_a_number_and_infinity_are_numbers_in_json() -> None:
    """Python's own encoder writes them, so its clients send them."""
    found = read("[NaN, Infinity, -Infinity]", JSON)
    assert torch.isnan(found[0])
    assert found[1:].tolist() == [float("inf"), float("-inf")]


@pytest.mark.parametrize(
    ("body", "media_type", "message"),
    [
        ("", JSON, "The body is not valid JSON: Expecting value at character 0."),
        ("{", JSON, "The body is not valid JSON: Expecting property name enclosed in double quotes at character 1."),
        ("[1] x", JSON, "The body is not valid JSON: Extra data at character 4."),
        ("[" * 100_000, JSON, "The body is not readable JSON: it is nested too deeply."),
        ("[" + "1" * 5000 + "]", JSON, "The body holds a whole number that is too long to be read."),
        ("[1]\n[2]", JSON, LINES_AS_JSON.format(2)),
        ("[1]\r\n\n {}\r\n", JSON, LINES_AS_JSON.format(3)),
        ('{"a": 1}\n{"a": 2}\n', JSON, LINES_AS_JSON.format(2)),
        ("[\n1\n]\n[2]", JSON, LINES_AS_JSON.format(4)),
        ("[1]\n[2", JSON, "The body is not valid JSON: Extra data at character 4."),
        ("[1] [2]\n", JSON, "The body is not valid JSON: Extra data at character 4."),
        ("{}", JSON, "The body is an empty JSON object; this model reads arrays of numbers, or an object of them."),
        ('{"a": [1], "text": "x"}', JSON, OBJECT_UNEVEN.format("text")),
        ('{"a": {"b": 1}}', JSON, OBJECT_UNEVEN.format("a")),
        ('{"a": [[1], [2, 3]]}', JSON, OBJECT_UNEVEN.format("a")),
        ('{"a": 1}\n{"b": 1}', JSON_LINES, "Line 2 of the JSON Lines body does not have the same keys as the first."),
        ("{}\n{}", JSON_LINES, "Line 1 of the JSON Lines body is an object without a key."),
        ('{"a": 1}\n2', JSON_LINES, UNEVEN),
        ('{"a": [1]}\n{"a": [1, 2]}', JSON_LINES, LINES_UNEVEN.format("a")),
        ("[[1], [2, 3]]", JSON, UNEVEN),
        ("[[], [1]]", JSON, UNEVEN),
        ("[[1], []]", JSON, UNEVEN),
        ("[1, [2]]", JSON, UNEVEN),
        ('[1, "2"]', JSON, UNEVEN),
        ('"text"', JSON, UNEVEN),
        ("null", JSON, UNEVEN),
        ('[{"a": 1}]', JSON, UNEVEN),
        ("[" + "1" + "0" * 400 + "]", JSON, UNEVEN),
        ("[" * 200 + "]" * 200, JSON, UNEVEN),
        (b"\xff", JSON, "The body is not valid utf-8: byte 0 cannot be decoded."),
        (b"", JSON_LINES, "The JSON Lines body is empty."),
        (b"\n \n", JSON_LINES, "The JSON Lines body is empty."),
        (b"[1]\n\nx", JSON_LINES, "Line 3 is not valid JSON: Expecting value at character 0."),
        (b"[1]\n[2, 3]", JSON_LINES, UNEVEN),
        ("", CSV, "The CSV body is empty."),
        ("\n\n", CSV, "The CSV body is empty."),
        ("a,b\n1,2", CSV, "Line 1 of the CSV body holds 'a', which is not a number."),
        ("1,2\n\n3,x", CSV, "Line 3 of the CSV body holds 'x', which is not a number."),
        ("1,,2", CSV, "Line 1 of the CSV body holds '', which is not a number."),
        ("1,2\n3", CSV, UNEVEN),
        ("1,2\n\n" + "x" * 200_000, CSV, f"Line 3 of the CSV body holds {'x' * 40!r}, which is not a number."),
        ('"' + "x" * 200_000 + '"', CSV, f"Line 1 of the CSV body holds {'x' * 40!r}, which is not a number."),
        ('1\n""\n', CSV, "Line 2 of the CSV body holds '', which is not a number."),
        ('1\n" "\n', CSV, "Line 2 of the CSV body holds ' ', which is not a number."),
    ],
)
def test_text_that_is_no_array_of_numbers_is_refused_with_the_reason(
    body: str | bytes, media_type: str, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body, media_type)
    assert caught.value.message == message


@given(st.recursive(st.integers(-9, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_json_is_read_as_the_array_it_is_or_refused(value: Any) -> None:
    try:
        found = read(json.dumps(value), JSON)
    except BadRequest:
        with pytest.raises(ValueError, match="inhomogeneous"):
            np.array(value)
    else:
        if found.numel():
            assert found.tolist() == np.array(value, dtype=np.float32).tolist()
        else:
            assert not any(character.isdigit() for character in json.dumps(value)), "numbers were lost"


# --- npy and npz

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_keeps_its_dtype_and_shape(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = read(npy(array), NPY)
    assert found.shape == (2, 3)
    assert np.array_equal(found.numpy(), array)
    assert found.numpy().dtype == array.dtype


@pytest.mark.parametrize("array", [np.arange(6, dtype=">f4").reshape(2, 3), np.arange(6, dtype=">i8").reshape(2, 3)])
def test_big_endian_numbers_keep_their_value(array: Any) -> None:
    found = read(npy(array), NPY)
    assert found.numpy().dtype == array.dtype.newbyteorder("=")
    assert found.tolist() == array.tolist()


def test_fortran_order_scalars_and_empty_arrays_are_read() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert read(npy(array), NPY).tolist() == array.tolist()
    assert read(npy(np.float32(3)), NPY).shape == ()
    assert read(npy(np.array(3, dtype=">f4")), NPY).item() == 3
    assert read(npy(np.zeros((0, 4), np.float32)), NPY).shape == (0, 4)


NO_NPY = "The npy body is not what numpy.save writes: it does not begin as an npy file does."
DAMAGED = "The npy body cannot be read: its header is damaged, cut off or too long."
TOO_MUCH = "The npy body announces more numbers in its header than it holds."


def header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", NO_NPY),
        (b"\x93NUMP", NO_NPY),
        (b"PK\x03\x04....", NO_NPY),
        (b"[[1, 2, 3]]", NO_NPY),
        (npy(np.arange(4.0))[:-1], "The npy body cannot be read: EOF: reading array data, expected 32 bytes got 31."),
        (npy_header(header("(1000000000000,)")), TOO_MUCH),
        (npy_header(header(f"({10**30}, {10**30})")), TOO_MUCH),
        (npy_header(header(f"({10**3000}, {10**3000})")), TOO_MUCH),
        (npy_header(header(f"(0, {10**30})")), DAMAGED),
        (npy_header(header("(-1,)")), DAMAGED),
        (npy_header(header("(-1, -1)")), DAMAGED),
        (npy_header(header("(True,)")), DAMAGED),
        (npy_header(header("(" + "1," * 200 + ")")), "The npy body cannot be read: maximum supported dimension"),
        (npy_header(header("'x'")), DAMAGED),
        (npy_header(header("(1,)", "'<f9'")), DAMAGED),
        (npy_header(header("(1,)", "open('/etc/passwd')")), DAMAGED),
        (npy_header(header("(1,")), DAMAGED),
        (npy_header("{'descr': '<f4', 'shape': (1,)}"), DAMAGED),
        (npy_header(header("(1,)", "'|O'")), "The npy body holds Python objects, which are never unpickled"),
        (npy_header(header("(1,)", "[('a', '|O')]")), "The npy body holds Python objects, which are never unpickled"),
        (npy_header(header("(1,)", "[('a', '<f4')]")), "Arrays of the dtype [('a', '<f4')] cannot be read"),
        (npy_header(header("(4,)", "'|V0'")), "Arrays of the dtype |V0 cannot be read; send numbers."),
        (npy_header(header("(1,)", "['x']")), DAMAGED),
        (npy_header("-" * 9000 + "1"), DAMAGED),
        (npy_header("(" * 9000), DAMAGED),
        (npy_header("[" * 90 + "]" * 90), DAMAGED),
        (npy_header("0" * 60_000), DAMAGED),
        (npy_header("x", version=(9, 9)), DAMAGED),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", DAMAGED),
        (npy(np.array(["a"])), "Arrays of the dtype <U1 cannot be read; send numbers."),
        (npy(np.zeros(1, "M8[s]")), "Arrays of the dtype datetime64[s] cannot be read; send numbers."),
        (npy(np.zeros(1, np.longdouble)), "Arrays of the dtype float128 cannot be read; send numbers."),
    ],
)
def test_a_bad_npy_body_is_refused_before_memory_is_taken_for_it(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body, NPY)
    said = caught.value.message
    assert said.startswith(message)
    assert not any(word in said for word in ("allow_pickle", "ast.", "line 1", "0x"))


def test_pickled_objects_are_refused_and_not_unpickled() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("a client's body was unpickled",))

    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(BadRequest, match="never unpickled"):
        read(file.getvalue(), NPY)
    archive = io.BytesIO()
    np.savez(archive, x=np.array([Bomb()], dtype=object))
    with pytest.raises(BadRequest, match="never unpickled"):
        read(archive.getvalue(), NPZ)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def test_npz_becomes_a_dict_of_tensors_by_name() -> None:
    found = read(npz(ids=np.arange(3), mask=np.ones((3, 2), np.float32)), NPZ)
    assert {name: (tuple(t.shape), t.dtype) for name, t in found.items()} == {
        "ids": ((3,), torch.int64),
        "mask": ((3, 2), torch.float32),
    }


def test_an_npz_that_unpacks_to_more_than_the_limit_is_refused_unpacked() -> None:
    body = npz(zeros=np.zeros(10**6, np.uint8))
    assert len(body) < 10_000
    with pytest.raises(BadRequest, match=r"^The npz body unpacks to 1000128 bytes; the limit is 1000\.$"):
        read(body, NPZ, limit=1000)


def test_an_npz_that_lies_about_its_sizes_is_refused() -> None:
    body = bytearray(npz(zeros=np.zeros(10**6, np.uint8)))
    at = body.rfind(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    body[at : at + 4] = struct.pack("<I", 100)
    with pytest.raises(BadRequest, match=r"^The npz body cannot be read: |^'zeros.npy' in the npz body "):
        read(body, NPZ, limit=1000)


def test_an_npz_with_something_else_inside_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BadRequest, match=r"^'readme.txt' in the npz body is not what numpy.save writes: "):
        read(file.getvalue(), NPZ)


def test_an_npz_without_an_array_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^The npz body holds no array\.$"):
        read(npz(), NPZ)


@pytest.mark.parametrize("body", [b"", b"PK", b"PK\x05\x06", npy(np.zeros(3)), npz(a=np.zeros(3))[:-9]])
def test_a_body_that_is_no_zip_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^The npz body cannot be read: "):
        read(body, NPZ)


# --- everything else


def test_a_type_that_is_not_read_is_415_with_those_that_are() -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        read(b"", "application/pdf")
    assert caught.value.message == (
        "Content-Type 'application/pdf' cannot be read; this model reads application/json, "
        "application/jsonlines, text/csv, application/x-npy, application/x-npz, image/*."
    )


def test_a_missing_type_is_said_to_be_missing() -> None:
    with pytest.raises(UnsupportedMediaType, match=r"^The Content-Type header is missing; this model reads "):
        read(b"", "")


SOUND = {
    JSON: b"[[1, 2.5e3], [3, -4]]",
    JSON_LINES: b"[1, 2]\n[3, 4]\n",
    CSV: b'1,"2.5"\n3,4\n',
    NPY: npy(np.arange(4.0)),
    NPZ: npz(a=np.arange(40), b=np.ones(3)),
    "image/png": image(),
    "image/jpeg": image(file_format="JPEG"),
    "image/gif": image(file_format="GIF"),
    "image/bmp": image(file_format="BMP"),
    "image/tiff": image(file_format="TIFF"),
    "image/webp": image(file_format="WEBP"),
}


@settings(max_examples=1500)
@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)
def test_a_damaged_body_is_read_or_refused_and_nothing_else(
    media_type: str, damage: list[tuple[float, int]], kept: float
) -> None:
    """A client must not be able to cause a 5xx by bytes alone."""
    body = bytearray(SOUND[media_type])
    for place, byte in damage:
        body[int(place * len(body))] = byte
    if kept < 0.3:
        del body[int(kept / 0.3 * len(body)) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow and numpy warn of some damage and go on
        try:
            read(body, media_type)
        except RequestError as error:
            refused = error
        else:
            return
    assert refused.status == 400
    assert refused.message.endswith(".")
    assert "\n" not in refused.message


@pytest.mark.parametrize(("body", "content_type"), [(b"[[1e39, 0]]", "application/json"), (b"1,-1e300\n", "text/csv")])
def test_a_number_beyond_float32_is_refused_and_does_not_become_infinite(body: bytes, content_type: str) -> None:
    """Infinity itself may be sent."""
    with pytest.raises(BadRequest, match="holds a number beyond those of float32, as which it is read"):
        read(body, content_type)
    assert read(b"[Infinity, 1]", "application/json").isinf().tolist() == [True, False]
