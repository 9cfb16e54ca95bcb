"""Images become pixels as a person sees them, or one sentence that says what is wrong with them."""

from __future__ import annotations

import io
import logging
import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.toy_images import image, tiff, written
from tidegate.inference.errors import BadRequest
from tidegate.inference.images import reading
from tidegate.inference.worker.content import Reading, decode


def read(body: bytes, media_type: str = "image/png", limit: int = 2**20, **rules: Any) -> torch.Tensor:
    data = decode(body, media_type, Reading(max_decoded_bytes=limit, **rules)).data
    assert isinstance(data, torch.Tensor)
    assert (data.dtype, data.shape[:2], data.is_contiguous()) == (torch.float32, (1, 3), True)
    return data


def colour(body: bytes, **rules: Any) -> list[float]:
    """The colour of the first pixel, in steps of 1/255."""
    return [round(each, 2) for each in (read(body, **rules)[0, :, 0, 0] * 255).tolist()]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_an_image_becomes_three_planes_from_0_to_1(file_format: str) -> None:
    found = read(image(file_format=file_format), f"image/{file_format.lower()}")
    assert (found.shape, found.dtype) == ((1, 3, 2, 3), torch.float32)
    assert found.is_contiguous()
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    body = image(mode, file_format="TIFF" if mode == "CMYK" else "PNG")
    assert read(body, "image/png").shape == (1, 3, 2, 3)


def test_white_is_one() -> None:
    assert read(image("L"), "image/png").min() == 1


@pytest.mark.parametrize("body", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>"])
def test_what_is_no_image_is_refused_with_the_kinds_that_are_read(body: bytes) -> None:
    """EPS is known to Pillow, which would start Ghostscript on it: so it is no kind that is read."""
    with pytest.raises(BadRequest, match=r"^The (data is not an )?image "):
        read(body, "image/png")


def test_an_eps_image_does_not_start_ghostscript() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "EPS")
    with pytest.raises(BadRequest) as caught:
        read(file.getvalue(), "image/x-eps")
    assert caught.value.message == ("The data is not an image of a kind that is read: BMP, GIF, JPEG, PNG, TIFF, WEBP.")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_truncated_image_is_refused(file_format: str) -> None:
    body = image(size=(64, 64), file_format=file_format)
    with pytest.raises(BadRequest, match=r"^The (data is not an )?image "):
        read(body[: len(body) // 2], "image/x")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_an_image_that_is_damaged_or_cut_off_anywhere_is_not_half_read(file_format: str) -> None:
    """Looking for EXIF data makes Pillow read a whole PNG, and a second reading would pass over the damage."""
    body = written(Image.effect_noise((64, 48), 90).convert("RGB"), file_format)
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 0xFF
    bodies = [body[:length] for length in range(0, len(body) - 12, 401)]
    for each in (*bodies, bytes(damaged)) if file_format == "PNG" else bodies:  # the others have no checksums
        with pytest.raises(BadRequest):
            read(each)


def test_an_image_whose_tags_have_wrong_types_is_refused() -> None:
    """Pillow raises a TypeError for an offset that is no whole number."""
    sound, fraction = struct.pack("<HHII", 273, 4, 1, 134), struct.pack("<HHIf", 273, 11, 1, 134)
    body = tiff(b"\0" * 3, width=3, bits=8)
    assert sound in body
    body = body.replace(sound, fraction)
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.message == "The image cannot be read: it is damaged."


def test_an_image_of_too_many_pixels_is_refused_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert read(image(size=(5, 10)), "image/png").shape == (1, 3, 10, 5)
    with pytest.raises(
        BadRequest, match=r"^The image is 101 x 1 pixels \(width x height\); the limit is 100 pixels\.$"
    ):
        read(image(size=(101, 1)), "image/png")


def test_an_image_that_unpacks_to_more_than_the_limit_is_refused_unpacked() -> None:
    with pytest.raises(BadRequest, match=r"^The image of 10 x 10 pixels unpacks to 1200 bytes; the limit is 1199\.$"):
        read(image(size=(10, 10)), limit=1199)
    assert read(image(size=(10, 10)), limit=1200).shape == (1, 3, 10, 10)


@pytest.mark.parametrize("media_type", ["image/*", "image/x-anything", "application/x-image", "Application/X-Image"])
def test_an_image_goes_by_any_of_its_types(media_type: str) -> None:
    """application/x-image is what clients of SageMaker's own image algorithms send."""
    assert read(image(), media_type).shape == (1, 3, 2, 3)


# --- greys of more than 8 bits

DEEP = np.array([[0, 1000, 65535]], np.uint16)


@pytest.mark.parametrize(
    "body",
    [
        written(Image.fromarray(DEEP), "PNG"),
        written(Image.fromarray(DEEP), "TIFF"),
        written(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
        written(Image.fromarray(DEEP.astype(">u2")), "TIFF"),
        tiff(np.array([0, 65536000, 2**32 - 1], "<u4").tobytes(), width=3, bits=32),
        tiff(bytes([0x00, 0x00, 0x3E, 0xFF, 0xF0]), width=3, bits=12),  # 0, 62 and 4095, of 12 bits each
    ],
    ids=["png", "tiff", "compressed", "big-endian", "32 bits", "12 bits"],
)
def test_deep_greys_are_scaled_by_the_range_of_their_type(body: bytes) -> None:
    found = read(body, "image/tiff")
    assert found[0, 0].flatten().tolist() == pytest.approx([0, 1000 / 65535, 1], abs=2e-4)
    assert torch.equal(found[0, 0], found[0, 1])
    assert torch.equal(found[0, 0], found[0, 2])


@pytest.mark.parametrize(("bits", "pixels"), [(16, DEEP.tobytes()), (8, bytes([0, 4, 255])), (1, bytes([0b00100000]))])
def test_white_is_zero_where_the_file_says_so(bits: int, pixels: bytes) -> None:
    found = read(tiff(pixels, width=3, bits=bits, photometric=0), "image/tiff")
    assert found[0, 0, 0].tolist() == pytest.approx([1, 1, 0], abs=0.02)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (written(Image.new("F", (2, 2), 0.5), "TIFF"), "fractions"),
        (tiff(b"\0" * 12, width=3, bits=32, sample_format=3, photometric=0), "fractions"),
        (written(Image.new("I", (2, 2), 7), "TIFF"), "whole numbers with a sign"),
        (tiff(b"\0" * 6, width=3, bits=16, sample_format=2), "whole numbers with a sign"),
    ],
)
def test_numbers_of_which_none_is_known_to_be_white_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body, "image/tiff")
    assert caught.value.message == (
        f"The image holds {kind}, which have no number for white; send an image of 8 or 16 bits, or an npy array."
    )


# --- orientation

UPRIGHT = np.zeros((16, 24, 3), np.uint8)
UPRIGHT[:8, :8], UPRIGHT[:8, 8:16] = 255, 128


def planes(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_obeyed_alike_or_ignored_alike(
    file_format: str, options: dict[str, Any], orientation: int
) -> None:
    upright = Image.fromarray(UPRIGHT)
    # What a camera that was held so has stored.
    method = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation)
    method = method or reading._UPRIGHT.get(orientation)
    stored = upright.transpose(method) if method is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = written(stored, file_format, exif=exif, **options)
    assert torch.allclose(read(body), planes(upright), atol=0.05)
    assert torch.allclose(read(body, image_orientation="ignore"), planes(stored), atol=0.05)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_number_that_is_no_orientation_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert torch.equal(read(written(Image.fromarray(UPRIGHT), "PNG", exif=exif)), planes(UPRIGHT))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_deep_greys_are_turned_too(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = written(Image.fromarray(DEEP), file_format, exif=exif)
    assert read(body)[0, 0].tolist() == pytest.approx(np.array([[0], [1000 / 65535], [1]]))
    assert read(body, image_orientation="ignore").shape == (1, 3, 1, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x03\0\0\0abc\0\0\0\0\0",  # an orientation of letters
        b"Exif\0\0",
        b"no EXIF at all",
    ],
)
def test_damaged_exif_data_is_no_reason_to_refuse_an_image(file_format: str, exif: bytes) -> None:
    body = written(Image.fromarray(UPRIGHT), file_format, exif=exif)
    assert torch.allclose(read(body), planes(UPRIGHT), atol=0.1)


# --- transparency

RED = (255, 0, 0)


def indexed() -> Image.Image:
    picture = Image.new("P", (1, 1), 1)
    picture.putpalette([0, 0, 0, *RED])
    return picture


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        (written(Image.new("RGBA", (1, 1), (*RED, 0)), "PNG"), RED),
        (written(Image.new("RGBA", (1, 1), (*RED, 0)), "TIFF"), RED),
        (written(Image.new("RGBA", (1, 1), (*RED, 0)), "WEBP", lossless=True, exact=True), RED),
        (written(Image.new("LA", (1, 1), (9, 0)), "PNG"), (9, 9, 9)),
        (written(indexed(), "PNG", transparency=1), RED),
        (written(indexed(), "PNG", transparency=b"\xff\0"), RED),
        (written(indexed(), "GIF", transparency=1), RED),
        (written(Image.new("L", (1, 1), 7), "PNG", transparency=7), (7, 7, 7)),
        (written(Image.new("RGB", (1, 1), RED), "PNG", transparency=RED), RED),
        (written(Image.new("1", (1, 1), 0), "PNG", transparency=0), (0, 0, 0)),
        (written(Image.fromarray(DEEP), "PNG", transparency=0), (0, 0, 0)),
    ],
    ids=["RGBA", "TIFF", "WebP", "LA", "P", "P by index", "GIF", "L", "RGB", "1 bit", "16 bits"],
)
def test_what_is_transparent_is_white_or_the_colour_that_is_stored(body: bytes, hidden: tuple[int, ...]) -> None:
    assert colour(body) == [255, 255, 255]
    assert colour(body, image_background="none") == list(hidden)


def test_what_is_half_transparent_is_mixed_with_white() -> None:
    body = written(Image.new("RGBA", (1, 1), (*RED, 127)), "PNG")
    assert colour(body) == [255, 128, 128]
    assert colour(body, image_background="none") == [255, 0, 0]


def test_what_is_not_transparent_has_its_own_colour() -> None:
    for body in (
        written(Image.new("RGBA", (1, 1), (*RED, 255)), "PNG"),
        written(indexed(), "PNG", transparency=0),
        written(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"),
    ):
        assert colour(body) == list(RED)


# --- several frames


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_read_and_the_log_says_so_once(
    file_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    reading._say_that_one_frame_is_read.cache_clear()
    black, white = Image.new("RGB", (8, 8), "black"), Image.new("RGB", (8, 8), "white")
    body = written(white, file_format, save_all=True, append_images=[black, black])
    with caplog.at_level(logging.WARNING, "tidegate.images"):
        for _ in range(3):
            assert colour(body) == [255, 255, 255]
        read(written(white, file_format))
    assert [record.message for record in caplog.records] == [
        "an image has several frames; of this one and of all that follow only the first is read"
    ]


@pytest.mark.parametrize("file_format", ["GIF", "TIFF"])
def test_a_damaged_frame_behind_the_first_is_no_reason_to_refuse_the_image(file_format: str) -> None:
    white, noise = Image.new("RGB", (8, 8), "white"), Image.effect_noise((8, 8), 90).convert("RGB")
    body = bytearray(written(white, file_format, save_all=True, append_images=[noise]))
    body[-40:-20] = b"\xff" * 20
    assert colour(bytes(body)) == [255, 255, 255]
