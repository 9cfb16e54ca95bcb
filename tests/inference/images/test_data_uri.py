"""A data URI has one spelling for each file, and says what the file is; anything else is refused in one sentence."""

from __future__ import annotations

import base64
import urllib.parse
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_images import image
from tidegate.inference.errors import BadRequest
from tidegate.inference.images import data_uri

LIMIT = 1 << 20


def refusal(uri: str, limit: int = LIMIT) -> str:
    with pytest.raises(BadRequest) as caught:
        data_uri.read(uri, max_bytes=limit)
    return caught.value.message


@given(data=st.binary(max_size=100))
def test_what_is_written_is_read_again(data: bytes) -> None:
    uri = data_uri.write(data, "application/octet-stream")
    assert data_uri.read(uri, max_bytes=100) == ("application/octet-stream", data)


@given(data=st.binary(max_size=60), at=st.integers(0, 200), character=st.characters())
def test_a_character_more_or_less_is_never_read_as_the_same_file(data: bytes, at: int, character: str) -> None:
    """Strictly: each file has one spelling, so whatever else is read is another file, or refused as a bad request."""
    head, _, payload = data_uri.write(data, "text/plain").partition(",")
    spellings = {payload[:at] + character + payload[at:], payload[:at] + payload[at + 1 :]} - {payload}
    for other in spellings:
        try:
            read = data_uri.read(f"{head},{other}", max_bytes=LIMIT).data
        except BadRequest:
            continue
        assert read != data
        assert base64.b64encode(read).decode() == other


@given(text=st.text(max_size=200))
def test_any_text_is_a_data_uri_or_a_bad_request(text: str) -> None:
    for uri in (text, f"data:{text}", f"data:image/png;base64,{text}", f"data:,{text}"):
        with suppress(BadRequest):
            assert len(data_uri.read(uri, max_bytes=50).data) <= 50


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_bytes_of_an_image_are_of_the_type_that_is_named(file_format: str) -> None:
    media_type = f"image/{file_format.lower()}"
    data = image(file_format=file_format)
    assert data_uri.read(data_uri.write(data, media_type), max_bytes=LIMIT) == (media_type, data)
    other = "image/png" if file_format != "PNG" else "image/jpeg"
    assert refusal(data_uri.write(data, other)) == (
        f"The data URI says that it is {other}, but its bytes are {media_type}."
    )


def test_a_type_has_the_other_names_that_browsers_give_it() -> None:
    assert data_uri.read(data_uri.write(image(file_format="JPEG"), "image/jpg"), max_bytes=LIMIT).data
    assert data_uri.read(data_uri.write(image(), "image/apng"), max_bytes=LIMIT).data


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "but it is empty."), (b"<svg/>", "but its bytes do not begin like one."), (b"\x89PN", "begin like one.")],
)
def test_an_image_that_is_none_is_refused(data: bytes, reason: str) -> None:
    assert refusal(data_uri.write(data, "image/png")).endswith(reason)


def test_a_type_that_nobody_here_knows_hides_no_image_that_is_known() -> None:
    assert data_uri.read(data_uri.write(b"<svg/>", "image/svg+xml"), max_bytes=LIMIT).media_type == "image/svg+xml"
    assert "but its bytes are image/png" in refusal(data_uri.write(image(), "image/svg+xml"))


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("", "does not begin with 'data:'"),
        ("iVBORw0KGgo=", "does not begin with 'data:'"),
        ("https://example.com/a.png", "does not begin with 'data:'"),
        ("data:image/png;base64", "has no comma between its type and its data"),
        ("data:" + "a" * 2000 + ",", "has no comma between its type and its data"),
        ("data:png;base64,AAAA", "has no media type"),
        ("data:image/;base64,AAAA", "has no media type"),
        ("data:image/png/x;base64,AAAA", "has no media type"),
        ("data:im\u00e4ge/png;base64,AAAA", "has no media type"),
        ("data:text/plain;base64,AA AA", "white space at character 2"),
        ("data:text/plain;base64,AAAA\n", "white space at character 4"),
        ("data:text/plain;base64, AAAA", "white space at character 0"),
        ("data:text/plain;base64,AA-A", "URL-safe alphabet"),
        ("data:text/plain;base64,AA_A", "URL-safe alphabet"),
        ("data:text/plain;base64,AAA%3D", "percent-encoded at character 3"),
        ("data:text/plain;base64,AA*A", "has '*' at character 2"),
        ("data:text/plain;base64,AA\0A", "has U+0000 at character 2"),
        ("data:text/plain;base64,AA\u0410A", "has U+0410 at character 2"),
        ("data:text/plain;base64,AA\ud800A", "has U+D800 at character 2"),
        ("data:text/plain;base64,AA=A", "padding ('=') at character 2"),
        ("data:text/plain;base64,AAA", "has 3 characters with 0 '=' at its end"),
        ("data:text/plain;base64,AA", "has 2 characters with 0 '='"),
        ("data:text/plain;base64,A===", "has 4 characters with 3 '='"),
        ("data:text/plain;base64,====", "has 4 characters with 4 '='"),
        ("data:text/plain;base64,AAAA=", "has 5 characters with 1 '='"),
        ("data:text/plain;base64,AAA==", "has 5 characters with 2 '='"),
        ("data:text/plain;base64,AB==", "is not canonical"),
        ("data:text/plain;base64,AAB=", "is not canonical"),
        ("data:text/plain,100%", "its character 19 is not one that a URI has"),
        ("data:text/plain,a b", "its character 17 is not one that a URI has"),
        ("data:text/plain,\u00e4", "its character 16 is not one that a URI has"),
    ],
)
def test_each_fault_is_said_in_one_sentence(uri: str, sentence: str) -> None:
    assert sentence in refusal(uri)


def test_a_refusal_does_not_repeat_the_data() -> None:
    secret = base64.b64encode(b"the patient's name" * 100).decode()
    for uri in (f"data:image/png;base64,{secret}", f"data:text/plain;base64,{secret}\n", f"data:{secret}"):
        assert secret[:16] not in refusal(uri)


def test_a_string_that_is_too_long_is_refused_before_it_is_decoded() -> None:
    uri = "data:image/png;base64," + "*" * 4_000_000  # what stands there is not even looked at
    assert refusal(uri, 1000) == "The data URI holds at least 2999998 bytes; the limit is 1000."
    assert "the limit is 1000" in refusal("data:text/plain," + "a" * 1001, 1000)
    assert data_uri.read(data_uri.write(bytes(1000), "a/b"), max_bytes=1000).data == bytes(1000)
    assert "the limit is 999" in refusal(data_uri.write(bytes(1000), "a/b"), 999)


def test_what_is_no_string_is_a_bad_request() -> None:
    assert refusal(None) == "A data URI is a string; this is of the type NoneType."  # type: ignore[arg-type]


def test_the_rest_of_the_rfc_is_read_too() -> None:
    """The scheme and the type in any case, parameters, a URI without a type, and data in percents."""
    assert data_uri.read("DATA:Text/PLAIN;charset=utf-8;Base64,aGk=", max_bytes=LIMIT) == ("text/plain", b"hi")
    assert data_uri.read("data:,a%20brief%20note", max_bytes=LIMIT) == ("text/plain", b"a brief note")
    assert data_uri.read("data:;base64,", max_bytes=LIMIT) == ("text/plain", b"")
    percents = "data:image/png," + urllib.parse.quote_from_bytes(image())
    assert data_uri.read(percents, max_bytes=LIMIT).data == image()


def test_a_type_to_write_is_a_type() -> None:
    with pytest.raises(ValueError, match="is not a media type"):
        data_uri.write(b"", "image/png;base64,")


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/json", "application/octet-stream", "", "image/svg+xml"]
)
def test_an_image_that_does_not_say_that_it_is_one_is_refused(media_type: str) -> None:
    data = b"<svg/>" if "svg" in media_type else image()
    uri = f"data:{media_type};base64," + base64.b64encode(data).decode()
    with pytest.raises(BadRequest) as caught:
        data_uri.read_image(uri, max_bytes=LIMIT)
    assert caught.value.message == (
        f"The data URI says that it is {media_type or 'text/plain'}; this model takes an image: image/bmp, image/gif, "
        "image/jpeg, image/png, image/tiff, image/webp."
    )
    assert data_uri.read_image(data_uri.write(image(), "image/x-png"), max_bytes=LIMIT) == image()
