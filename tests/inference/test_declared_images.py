"""A model without an input_fn or output_fn takes and gives pictures, where its manifest says how."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tests.inference.toy_images import image, written
from tests.inference.toy_models import answered, computation, refused, request
from tidegate.inference.images import data_uri
from tidegate.inference.protocol import Answer, Error, Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.declared.sides import declared

COLOURS = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]
PAINTED = {
    "input": {"key": "segmap", "as": "labels", "palette": {"colours": COLOURS, "unknown": "nearest"}},
    "output": {"key": "image", "value_range": [-1, 1]},
}
JSON_LINES = "application/jsonlines"


def paints(labels: torch.Tensor) -> torch.Tensor:
    """A picture (n, 3, height, width) from -1 to 1 of labels (n, height, width): red is the label."""
    assert labels.dtype == torch.int64
    red = labels.float() - 1
    return torch.stack([red, torch.zeros_like(red), torch.full_like(red, 1.5)], 1)


def server(image: dict[str, Any], model: Any = paints, **functions: Any) -> Computation:
    return computation(model=model, declared=declared({"image": image}, Reading(max_decoded_bytes=0)), **functions)


def map_of(*labels: list[int]) -> bytes:
    """A PNG with the colours of labels."""
    return written(Image.fromarray(np.array(COLOURS, np.uint8)[np.array(labels)]), "PNG")


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def noisy() -> bytes:
    """A PNG of some hundred bytes."""
    return written(Image.fromarray(np.random.default_rng(7).integers(0, 256, (9, 9, 3), dtype=np.uint8)), "PNG")


def shown(data: bytes) -> list[Any]:
    with Image.open(io.BytesIO(data)) as picture:
        return list(np.asarray(picture.convert("RGB")).tolist())


def picture_of(answer: Any) -> list[Any]:
    """The pixels behind the one key of an answer."""
    assert list(answer) == ["image"]
    return shown(data_uri.read(answer["image"], max_bytes=1 << 20).data)


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


WANTED = [[[0, 128, 255], [128, 128, 255], [255, 128, 255]]]
"""What `paints` makes of the labels 0, 1 and 2 in a row."""


def test_a_data_uri_is_answered_by_a_data_uri() -> None:
    answer = answered(server(PAINTED), request({"segmap": uri(map_of([0, 1, 2]))}))
    assert answer.content_type == "application/json"
    assert picture_of(json.loads(answer.body)) == WANTED


@pytest.mark.parametrize("content_type", ["image/png", "application/x-image", "image/*"])
def test_bytes_are_answered_by_bytes_where_they_are_wanted(content_type: str) -> None:
    for accept in ("image/png", "image/*", "text/html, image/png;q=0.5"):
        answer = answered(server(PAINTED), request(map_of([0, 1, 2]), content_type=content_type, accept=accept))
        assert (answer.content_type, shown(answer.body)) == ("image/png", WANTED)
    assert picture_of(json.loads(answered(server(PAINTED), request(map_of([0, 1, 2]), content_type="image/png")).body))


def test_other_types_of_pictures_are_written_on_request() -> None:
    sent = request({"segmap": uri(map_of([0, 1, 2]))}, accept="image/webp")
    answer = answered(server(PAINTED), sent)
    assert answer.content_type == "image/webp"
    assert answer.body[8:12] == b"WEBP"
    jpeg = server(PAINTED | {"output": {"key": "image", "media_type": "image/jpeg"}})
    any_image = answered(jpeg, request({"segmap": uri(map_of([0]))}, accept="image/*"))
    assert any_image.content_type == "image/jpeg"
    assert json.loads(answered(jpeg, request({"segmap": uri(map_of([0]))})).body)["image"].startswith("data:image/jpeg")


def test_the_numbers_themselves_are_given_as_npy() -> None:
    answer = answered(server(PAINTED), request({"segmap": uri(map_of([0, 1, 2]))}, accept="application/x-npy"))
    assert np.load(io.BytesIO(answer.body)).shape == (1, 3, 1, 3)


def test_several_pictures_of_one_size_are_one_batch() -> None:
    sizes = []

    def counted(labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(labels))
        return paints(labels)

    toy = server(PAINTED, counted)
    objects = [{"segmap": uri(map_of([label, 1, 2]))} for label in (0, 1, 2)]
    answer = answered(toy, request(lines(*objects), content_type=JSON_LINES, accept=JSON_LINES))
    found = [picture_of(json.loads(line)) for line in answer.body.splitlines()]
    assert [picture[0][0] for picture in found] == [[0, 128, 255], [128, 128, 255], [255, 128, 255]]
    assert [picture_of(each) for each in json.loads(answered(toy, request(objects)).body)] == found
    assert sizes == [3, 3]
    error = refused(toy, request(objects, accept="image/png"))
    assert (error.status, error.message) == (
        406,
        "The 3 pictures of the request are not one image/png; accept application/json or application/jsonlines.",
    )
    odd = [*objects, {"segmap": uri(map_of([0]))}]
    assert refused(toy, request(odd)).message == (
        "Picture 3 of the request is 1 x 1 and the first 3 x 1; pictures of one request must have one size, as they "
        "are one batch."
    )


def test_a_list_of_one_is_answered_by_a_list_of_one() -> None:
    """Whoever sends lists reads lists; a line of its own is answered by itself."""
    one = {"segmap": uri(map_of([0, 1, 2]))}
    (answer,) = json.loads(answered(server(PAINTED), request([one])).body)
    assert picture_of(answer) == WANTED
    assert (
        picture_of(json.loads(answered(server(PAINTED), request(lines(one), content_type=JSON_LINES)).body)) == WANTED
    )


def test_requests_are_joined_and_each_gets_its_own_picture() -> None:
    sizes = []

    def counted(labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(labels))
        return paints(labels)

    toy = server(PAINTED, counted, joins=True)
    sent = [request({"segmap": uri(map_of([label, 1, 2]))}, number) for number, label in enumerate((2, 0, 1))]
    outcomes, _ = ask(toy, sent)
    reds = [picture_of(json.loads(each.body))[0][0][0] for each in outcomes if isinstance(each, Answer)]
    assert reds == [255, 0, 128]
    assert sizes == [3]


def test_a_picture_may_come_back_at_the_size_that_it_had() -> None:
    size = {"height": 8, "width": 8, "policy": "resize"}
    painted = {"input": PAINTED["input"] | {"size": size}, "output": PAINTED["output"] | {"size": "input"}}
    answer = answered(server(painted), request(map_of([0, 1, 2]), content_type="image/png", accept="image/png"))
    assert np.array(shown(answer.body)).shape == (1, 3, 3)
    as_made = server(painted | {"output": PAINTED["output"]})
    answer = answered(as_made, request(map_of([0, 1, 2]), content_type="image/png", accept="image/png"))
    assert np.array(shown(answer.body)).shape == (8, 8, 3)


def error_of(toy: Computation, body: Any, **how: Any) -> tuple[int, str]:
    error = refused(toy, request(body, **how))
    return error.status, error.message


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "The body must be an object with a data URI under 'segmap'."),
        ({"image": "x"}, "The body must be an object with a data URI under 'segmap'; it has 'image'."),
        ([], "The body is an empty list; send at least one object."),
        ([1], "Entry 0 of the list must be an object with a data URI under 'segmap'."),
        ("data:,", "The body must be an object with a data URI under 'segmap'."),
        ({"segmap": None}, "The body, 'segmap': A data URI is a string; this is of the type NoneType."),
        ({"segmap": "iVBORw0KGgo="}, "The body, 'segmap': This is not a data URI"),
        ({"segmap": "data:text/plain,hello"}, "'segmap': The data URI says that it is text/plain; this model takes an"),
        ({"segmap": uri(image(file_format="JPEG"))}, "says that it is image/png, but its bytes are image/jpeg."),
        ({"segmap": uri(noisy()[:90])}, "The body, 'segmap': The image cannot be read:"),
        ({"segmap": uri(b"\x89PNG\r\n\x1a\n")}, "The body, 'segmap': The data is not an image"),
        (b"{", "The body is not valid JSON"),
    ],
)
def test_a_body_without_a_picture_is_a_bad_request_that_says_why(body: Any, sentence: str) -> None:
    status, message = error_of(server(PAINTED), body)
    assert status == 400
    assert sentence in message


def test_the_line_of_a_bad_picture_is_named() -> None:
    body = lines({"segmap": uri(map_of([0]))}, {"segmap": "data:"})
    assert error_of(server(PAINTED), body, content_type=JSON_LINES)[1].startswith(
        "Line 2, 'segmap': The data URI has no"
    )


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-npy", "", "application/octet-stream"])
def test_bodies_that_are_no_pictures_are_415(content_type: str) -> None:
    status, message = error_of(server(PAINTED), b"1,2", content_type=content_type)
    assert status == 415
    assert "this model takes a picture as image/png or another image type, or as a data URI under 'segmap'" in message


def test_types_that_no_picture_has_are_406() -> None:
    status, message = error_of(server(PAINTED), {"segmap": uri(map_of([0]))}, accept="text/csv")
    assert (status, message.partition(";")[0]) == (406, "Accept 'text/csv' cannot be answered")
    assert error_of(server(PAINTED), {"segmap": uri(map_of([0]))}, accept="image/gif")[0] == 406
    assert error_of(server(PAINTED), {"segmap": uri(map_of([0]))}, accept="*/*;q=0")[0] == 406


def test_pictures_together_are_held_to_the_limit() -> None:
    small = map_of([0] * 100)
    toy = server(PAINTED, limit=1000)
    assert answered(toy, request([{"segmap": uri(small)}], accept="image/png"))
    assert error_of(toy, [{"segmap": uri(small)}] * 2) == (
        400,
        "The 2 pictures unpack to 1600 bytes; the limit is 1000.",
    )


def test_pictures_of_any_size_are_held_to_their_pixels_alone_and_together() -> None:
    """As bytes and as data URIs; one that is as large as may be is painted, and so is the next."""
    toy = server(PAINTED | {"input": PAINTED["input"] | {"max_pixels": 6}})
    fits, strip = map_of([0, 1, 2], [0, 1, 2]), map_of(*[[0]] * 7)
    sentence = "The image is 1 x 7 pixels (width x height); this model takes at most 6 pixels."
    assert error_of(toy, strip, content_type="image/png") == (400, sentence)
    assert error_of(toy, {"segmap": uri(strip)}) == (400, f"The body, 'segmap': {sentence}")
    assert answered(toy, request(fits, content_type="image/png"))
    assert answered(toy, request([{"segmap": uri(map_of([0, 1, 2]))}] * 2))
    assert error_of(toy, [{"segmap": uri(map_of([0, 1, 2]))}] * 3) == (
        400,
        "The 3 pictures, of 3 x 1 pixels (width x height), have 9 pixels together; this model takes at most 6 pixels "
        "in one request.",
    )


def test_too_many_pictures_are_refused_before_the_second_is_read() -> None:
    """What a small body may announce is not unpacked to find out that it was too much."""
    toy = server(PAINTED | {"input": PAINTED["input"] | {"max_pixels": 6}}, limit=1000)
    assert "have 9 pixels together" in error_of(toy, [{"segmap": uri(map_of([0, 1, 2]))}, {}, {}])[1]
    roomy = server(PAINTED, limit=1000)
    assert "The 2 pictures unpack to 1600 bytes" in error_of(roomy, [{"segmap": uri(map_of([0] * 100))}, {}])[1]


def test_a_picture_that_is_too_large_does_not_spoil_the_call_that_it_came_for() -> None:
    sizes = []

    def counted(labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(labels))
        return paints(labels)

    toy = server(PAINTED | {"input": PAINTED["input"] | {"max_pixels": 3}}, counted, joins=True)
    rows = ([2, 1, 2], [0] * 4, [0, 1, 2])
    outcomes, _ = ask(toy, [request({"segmap": uri(map_of(row))}, number) for number, row in enumerate(rows)])
    assert sorted(each.status for each in outcomes if isinstance(each, Error)) == [400]
    assert sum(isinstance(each, Answer) for each in outcomes) == 2
    assert sizes == [2]


@pytest.mark.parametrize(
    ("prediction", "sentence"),
    [
        (torch.full((1, 3, 2, 2), float("nan")), "The model's picture holds NaN, first at x=0, y=0, in 4 of 4 pixels."),
        (torch.zeros(2, 3, 2, 2), "The model made 2 pictures of 1."),
        (torch.zeros(1, 4, 2, 2), "The model's picture has the shape (4, 2, 2)"),
        (torch.zeros(7), "The model's picture has the shape (7,)"),
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, "The prediction has 'a', 'b'; image.output.from of the manifest"),
        (
            (torch.zeros(1), torch.zeros(1)),
            "The prediction has 2 members; image.output.from of the manifest must number",
        ),
        ("a word", "The model's picture holds <U6; it must hold numbers."),
    ],
)
def test_a_prediction_that_is_no_picture_is_the_fault_of_the_model(prediction: Any, sentence: str) -> None:
    status, message = error_of(server(PAINTED, lambda _: prediction), {"segmap": uri(map_of([0]))})
    assert status == 500
    assert sentence in message


@pytest.mark.parametrize(
    ("prediction", "member"),
    [
        ({"out": torch.ones(1, 3, 1, 1), "aux": torch.zeros(1)}, "out"),
        ((torch.zeros(1), torch.ones(1, 3, 1, 1)), 1),
        ({"out": torch.ones(1, 3, 1, 1)}, None),
        ((torch.ones(1, 1, 1, 1),), None),
        (torch.ones(1, 1), None),
        (torch.ones(3, 1, 1), None),
        (torch.ones(1, 3, 1, 1, dtype=torch.bfloat16), None),
        (np.ones((1, 3, 1, 1)), None),
    ],
)
def test_the_picture_may_be_one_of_several_predictions(prediction: Any, member: str | int | None) -> None:
    said = PAINTED["output"] | ({} if member is None else {"from": member})
    toy = server(PAINTED | {"output": said}, lambda _: prediction)
    assert picture_of(json.loads(answered(toy, request({"segmap": uri(map_of([0]))})).body)) == [[[255, 255, 255]]]


def test_labels_that_a_model_makes_are_painted() -> None:
    segmented = {
        "input": {},
        "output": {"as": "labels", "palette": {"colours": COLOURS}},
    }
    white = image(size=(2, 1))

    def ask_for(prediction: torch.Tensor) -> list[Any]:
        toy = server(segmented, lambda _: prediction)
        return shown(answered(toy, request(white, content_type="image/png", accept="image/png")).body)

    wanted = [[COLOURS[2], COLOURS[0]]]
    assert ask_for(torch.tensor([[[2, 0]]])) == wanted
    assert ask_for(torch.tensor([[[[2, 0]]]])) == wanted
    assert ask_for(torch.tensor([[[[0.0, 9.0]], [[-1.0, 2.0]], [[0.5, 3.0]]]])) == wanted, "of scores the highest"
    toy = server(segmented, lambda _: torch.tensor([[[3, 0]]]))
    assert error_of(toy, white, content_type="image/png") == (
        500,
        "The model made the label 3; the palette has the classes 0 to 2.",
    )
    toy = server(segmented, lambda _: torch.full((1, 3, 1, 2), float("nan")))
    assert "hold NaN" in error_of(toy, white, content_type="image/png")[1]
    toy = server(segmented, lambda _: torch.zeros(1, 5, 1, 2))
    assert "a score for each of the 3 classes" in error_of(toy, white, content_type="image/png")[1]


def test_blue_may_come_first_on_either_side() -> None:
    both = {"input": {"colour_order": "bgr"}, "output": {"colour_order": "bgr"}}
    red = written(Image.new("RGB", (1, 1), (255, 0, 0)), "PNG")
    seen = []

    def look(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.flatten().tolist())
        return pixels

    answer = answered(server(both, look), request(red, content_type="image/png", accept="image/png"))
    assert (seen, shown(answer.body)) == ([[0.0, 0.0, 1.0]], [[[255, 0, 0]]])


def test_one_side_may_be_declared_alone() -> None:
    taken = server({"input": PAINTED["input"]}, lambda labels: labels.flatten().float())
    answer = answered(taken, request({"segmap": uri(map_of([0, 1, 2]))}))
    assert json.loads(answer.body) == [0.0, 1.0, 2.0]
    assert refused(taken, request({"segmap": uri(map_of([0]))}, accept="image/png")).status == 406
    given = server({"output": {}}, lambda numbers: numbers.reshape(1, 1, 1, -1))
    assert picture_of(json.loads(answered(given, request([0.0, 1.0])).body)) == [[[0, 0, 0], [255, 255, 255]]]


def test_a_function_of_the_script_wins() -> None:
    def input_fn(body: str, content_type: str) -> Any:
        assert content_type == "application/json"
        return json.loads(body)

    toy = server(PAINTED, lambda data: data, input_fn=input_fn, output_fn=lambda data, _: json.dumps(data))
    assert json.loads(answered(toy, request([1, 2])).body) == [1, 2]


def test_a_predict_fn_of_the_script_is_given_and_gives_what_the_declaration_says() -> None:
    toy = server(PAINTED, predict_fn=lambda data, model: model(data))
    assert picture_of(json.loads(answered(toy, request({"segmap": uri(map_of([0, 1, 2]))})).body)) == WANTED


def test_a_generator_is_streamed_as_without_a_declaration() -> None:
    def words(data: Any, model: Any) -> Any:
        yield from ("a", "b")

    toy = server(PAINTED, predict_fn=words)
    sent = Request(1, "image/png", "text/plain", b"", memoryview(map_of([0])))
    assert answered(toy, sent).body == b"ab"


def test_the_array_of_a_picture_is_the_clients_own_copy(recwarn: pytest.WarningsRecorder) -> None:
    """torch warns of memory that it may not write to."""

    def doubled(pixels: torch.Tensor) -> torch.Tensor:
        pixels *= 2
        return pixels / 2

    toy = server({"input": {}, "output": {}}, doubled)
    white: npt.NDArray[np.uint8] = np.full((1, 1, 3), 255, np.uint8)
    data = written(Image.fromarray(white), "PNG")
    assert shown(answered(toy, request(data, content_type="image/png", accept="image/png")).body) == white.tolist()
    assert not recwarn.list


def test_a_script_that_says_what_it_writes_is_given_one_of_these_or_not_asked() -> None:
    asked: list[str] = []

    def input_fn(body: Any, content_type: str | None) -> str:
        asked.append("input_fn")
        return "data"

    server = computation(
        input_fn=input_fn,
        predict_fn=lambda *given: given[0],
        output_fn=lambda *given: (given[1], given[1]),
        media_types=("application/json", "image/png"),
    )
    for accept, given in (
        ("image/avif, image/*;q=0.9, */*;q=0.1", b"image/png"),
        ("text/html, */*;q=0.1", b"application/json"),
        ("", b"application/json"),
    ):
        answer = answered(server, request(b"", accept=accept))
        assert bytes(answer.body) == given
    asked.clear()
    refusal = refused(server, request(b"", accept="text/csv, text/html;q=0.5"))
    assert (refusal.status, refusal.message, asked) == (
        406,
        "Accept 'text/csv' cannot be answered; this model writes application/json, image/png.",
        [],
    )
