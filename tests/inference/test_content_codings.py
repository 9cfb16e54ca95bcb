"""A body that the client has packed is unpacked before anything else sees it, or refused in one sentence."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_models import JSON, answered, computation, refused, request
from tidegate.inference.errors import BadRequest, PayloadTooLarge, RequestError, UnsupportedMediaType
from tidegate.inference.worker.content_codings import unpack
from tidegate.inference.worker.context import Context

TEXT = b"[[1, 2], [3, 4]]" + b" " * 3000
GZIP = gzip.compress(TEXT, mtime=0)


def bodies_unnamed(value: object) -> str | None:
    """Test names without packed bytes, which hold the time at which they were packed."""
    return "body" if isinstance(value, bytes) else None


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (GZIP, "gzip"),
        (GZIP, " GZip "),
        (GZIP, "x-gzip"),
        (gzip.compress(TEXT[:9]) + gzip.compress(b"") + gzip.compress(TEXT[9:]), "gzip"),
        (GZIP + b"\0" * 5000, "gzip"),
        (b"\x1f\x8b\x08\x08" + GZIP[4:10] + b"a name of the file\0" + GZIP[10:], "gzip"),
        (zlib.compress(TEXT), "deflate"),
        (zlib.compress(TEXT, 0), "Deflate"),
        (raw_deflate(TEXT), "deflate"),
        (TEXT, "identity"),
        (TEXT, ""),
        (GZIP, "gzip, identity"),
        (GZIP, "identity,,gzip"),
        (gzip.compress(zlib.compress(TEXT)), "deflate, gzip"),
        (gzip.compress(GZIP), "gzip, gzip"),
    ],
    ids=bodies_unnamed,
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_coding_is_unpacked_in_each_form_that_it_has(body: bytes, encoding: str, kind: Any) -> None:
    assert bytes(unpack(kind(body), encoding, len(TEXT) + len(GZIP))) == TEXT


@pytest.mark.parametrize(
    ("data", "encoding"), [(b"", "gzip"), (b"", "deflate"), (b"\0", "gzip"), (bytes(range(256)) * 9000, "deflate")]
)
def test_what_is_packed_may_be_nothing_or_much(data: bytes, encoding: str) -> None:
    packed = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
    assert unpack(packed, encoding, len(data)) == data


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "snappy, gzip", "*", "x" * 200])
def test_a_coding_that_is_not_unpacked_is_415_by_its_name(encoding: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        unpack(GZIP, encoding, 2**20)
    name = next(part for part in encoding.split(", ") if part != "gzip")[:40]
    assert caught.value.message == (
        f"Content-Encoding '{name}' cannot be unpacked; send gzip, deflate, or the body as it is."
    )


def test_codings_are_not_piled_up_without_end() -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        unpack(GZIP, ", ".join(["gzip"] * 1000), 2**20)
    assert caught.value.message == ("Content-Encoding names 1000 codings, one upon the other; at most 2 are unpacked.")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate], ids=["gzip", "zlib", "deflate"])
@pytest.mark.parametrize("layers", [1, 2])
def test_what_unpacks_to_more_than_the_limit_is_413_before_it_is_unpacked(pack: Any, layers: int) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    body = bomb = pack(bytes(2**26))
    for _ in range(layers - 1):
        body = pack(body)
    with pytest.raises(PayloadTooLarge) as caught:
        unpack(body, ", ".join([encoding] * layers), len(bomb) + 10)
    assert caught.value.message == f"The body unpacks to more than {len(bomb) + 10} bytes, which is the limit."
    small = pack(b"x" * 100)
    assert unpack(small, encoding, 100) == b"x" * 100
    with pytest.raises(PayloadTooLarge):
        unpack(small, encoding, 99)


CUT = "The body ends before its Content-Encoding '{}' does: it is cut off."
DAMAGED = "The body does not match its Content-Encoding '{}', or it is damaged."


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (GZIP[:-9], "gzip", CUT),
        (GZIP[:5], "gzip", CUT),
        (GZIP + gzip.compress(b"more")[:-1], "gzip", CUT),
        (zlib.compress(TEXT)[:-1], "deflate", CUT),
        (zlib.compress(TEXT)[:1], "deflate", CUT),
        (raw_deflate(TEXT)[:-1], "deflate", CUT),
        (b"", "deflate", CUT),
        (TEXT, "gzip", DAMAGED),
        (TEXT, "deflate", DAMAGED),
        (GZIP + b"rest", "gzip", DAMAGED),
        (zlib.compress(TEXT) + b"rest", "deflate", DAMAGED),
        (raw_deflate(TEXT) + b"rest", "deflate", DAMAGED),
        (GZIP[:-8] + b"\0" + GZIP[-7:], "gzip", DAMAGED),
        (GZIP, "deflate", DAMAGED),
        (GZIP + b"\0\0\0x", "gzip", DAMAGED),
        (gzip.compress(b"") * 100_001, "gzip", DAMAGED),
        (zlib.compress(TEXT), "gzip", DAMAGED),
    ],
    ids=bodies_unnamed,
)
def test_a_body_that_is_not_what_the_header_says_is_the_clients_mistake(
    body: bytes, encoding: str, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        unpack(body, encoding, 2**20)
    assert caught.value.message == message.format(encoding)


@given(
    st.sampled_from([GZIP, zlib.compress(TEXT), raw_deflate(TEXT)]), st.integers(0), st.integers(0, 255), st.integers(0)
)
def test_a_damaged_body_is_unpacked_or_refused_and_nothing_else(body: bytes, at: int, byte: int, kept: int) -> None:
    damaged = bytearray(body)
    damaged[at % len(body)] = byte
    for encoding in ("gzip", "deflate"):
        try:
            found = len(unpack(damaged[: kept % (len(body) + 1)], encoding, 10_000))
        except RequestError as error:
            found = error.status
        assert found <= 10_000


# --- on the way of a request


@pytest.mark.parametrize(
    ("content_type", "seen"),
    [(JSON, TEXT.decode()), ("text/csv", TEXT.decode()), ("application/x-mine", bytearray(TEXT))],
)
@pytest.mark.parametrize("coding", [b"gzip", b"identity"])
def test_a_packed_body_reaches_user_code_unpacked(content_type: str, seen: Any, coding: bytes) -> None:
    """And without the header, so that a script that unpacks by itself where the header says so goes on working."""
    given_to: list[Any] = []
    context = Context(model_name="model", manifest={}, system_properties={})

    def input_fn(body: Any, _: Any) -> None:
        given_to.append((body, context.get_request_header(0, "Content-Encoding"), context.get_all_request_header(0)))

    toy = computation(context=context, input_fn=input_fn, predict_fn=lambda *_: 1)
    body = GZIP if coding == b"gzip" else TEXT
    answered(toy, request(body, content_type=content_type, headers=b"content-encoding: " + coding + b"\r\nx-a: 1\r\n"))
    ((data, header, headers),) = given_to
    assert (data, type(data), header) == (seen, type(seen), None)
    assert headers == {"x-a": "1", "content-type": content_type}


@pytest.mark.parametrize(
    "headers",
    [
        b"content-encoding: deflate\r\nx-a: 1\r\ncontent-encoding: gzip\r\n",
        b"x-content-encoding: br\r\ncontent-encoding: deflate,gzip\r\n",
    ],
)
def test_a_header_that_comes_twice_counts_as_a_list(headers: bytes) -> None:
    toy = computation(transform_fn=lambda _, body, *__: body[:16])
    assert answered(toy, request(gzip.compress(zlib.compress(TEXT)), headers=headers)).body == TEXT[:16]


def test_a_header_that_only_sounds_like_it_changes_nothing() -> None:
    toy = computation(transform_fn=lambda _, body, *__: body[:16])
    headers = b"x-content-encoding: br\r\nx-b: content-encoding\r\n"
    assert answered(toy, request(TEXT, headers=headers)).body == TEXT[:16]


def test_a_packed_body_reaches_transform_fn_unpacked() -> None:
    toy = computation(transform_fn=lambda _, body, *__: body[:16])
    assert answered(toy, request(GZIP, headers=b"content-encoding: gzip\r\n")).body == TEXT[:16]


@pytest.mark.parametrize(("coding", "status"), [(b"br", 415), (b"deflate", 400)])
def test_a_body_that_cannot_be_unpacked_never_reaches_user_code(coding: bytes, status: int) -> None:
    def input_fn(*_: Any) -> None:
        raise AssertionError

    toy = computation(input_fn=input_fn)
    assert refused(toy, request(GZIP, headers=b"content-encoding: " + coding + b"\r\n")).status == status


def test_the_decoded_limit_is_the_deployers() -> None:
    toy = computation(limit=99, predict_fn=lambda *_: 1)
    assert refused(toy, request(GZIP, headers=b"content-encoding: gzip\r\n")).status == 413
