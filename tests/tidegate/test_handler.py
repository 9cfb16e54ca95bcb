"""The four functions of a handler class: what a request's items become, and who is told what is wrong with them."""

from __future__ import annotations

import ast
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tidegate import handler
from tidegate.handler import BadItem, Handler, Refused, functions_of, read_image
from tidegate.inference.worker.accept import preferred_type
from tidegate.inference.worker.content import split_media_type

JSON = "application/json"


class Sums:
    def __init__(self, model_dir: str) -> None:
        self.model_dir = model_dir
        self.shapes: list[tuple[int, ...]] = []

    def preprocess(self, item: Any) -> Any:
        return torch.tensor(item["x"] if isinstance(item, dict) else item, dtype=torch.float32)

    def forward(self, batch: Any) -> Any:
        self.shapes.append(tuple(batch.shape))
        return batch.sum(1)

    def postprocess(self, output: Any) -> Any:
        return output.item()


def asked(handler_class: type, body: Any, content_type: str = JSON, accept: str = JSON) -> Any:
    model_fn, input_fn, predict_fn, output_fn = functions_of(handler_class)
    model = model_fn("model")
    return output_fn(predict_fn(input_fn(body, content_type), model), accept)


def test_the_file_is_of_python_3_8_and_imports_the_standard_library_alone() -> None:
    """At the top: torch, numpy and Pillow come with what needs them."""
    source = Path(handler.__file__).read_bytes()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    ours = {"base64", "binascii", "csv", "importlib", "inspect", "io", "json", "pickle", "traceback"}
    assert imported == ours | {"__future__", "collections.abc", "contextlib", "typing"}


@pytest.mark.parametrize(
    ("body", "content_type", "answer"),
    [
        ('{"x": [1, 2]}', JSON, 3.0),
        ('[{"x": [1, 2]}, {"x": [3, 4]}]', "Application/JSON; charset=utf-8", [3.0, 7.0]),
        ('[{"x": [1, 2]}]', JSON, [3.0]),
        ("[[1, 2], [3, 4]]", JSON, [3.0, 7.0]),
        ("[]", JSON, []),
        ("[1, 2]\n\n[3, 4]\n", "application/jsonlines", [3.0, 7.0]),
        ("\ufeff1,2\n\n3,4\n", "text/csv", [3.0, 7.0]),
        (bytearray(b"\xef\xbb\xbf[[1, 2]]"), JSON, [3.0]),
    ],
)
def test_a_list_is_several_items_and_anything_else_is_one(body: Any, content_type: str, answer: Any) -> None:
    assert json.loads(asked(Sums, body, content_type)) == answer


def test_an_npy_file_has_an_item_for_each_entry_of_its_first_dimension() -> None:
    """Whatever its order of memory and of bytes."""
    file = io.BytesIO()
    np.save(file, np.asfortranarray(np.arange(6, dtype=">f4").reshape(3, 2)))
    assert json.loads(asked(Sums, file.getvalue(), "application/x-npy")) == [1.0, 5.0, 9.0]


@pytest.mark.parametrize("shape", [(10**12,), (2, 2), ()])
def test_an_npy_file_that_announces_what_it_has_not_is_refused_before_any_memory_is_taken(shape: Any) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with pytest.raises(Refused, match="bytes follow") as refused:
        asked(Sums, file.getvalue() + bytes(8), "application/x-npy")
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("accept", "written"),
    [
        ("application/jsonlines", "3.0\n7.0\n"),
        ("text/csv", "3.0\n7.0\n"),
        ("*/*", "[3.0, 7.0]"),
        ("", "[3.0, 7.0]"),
    ],
)
def test_an_answer_is_written_as_it_is_wanted(accept: str, written: str) -> None:
    assert asked(Sums, "[[1, 2], [3, 4]]", accept=accept) == written


def test_results_of_tensors_arrays_and_dicts_are_written() -> None:
    class Rows(Sums):
        def forward(self, batch: Any) -> Any:
            return {"sum": batch.sum(1), "row": batch, "nothing": None}

        def postprocess(self, output: Any) -> Any:
            return {"row": output["row"], "sum": output["sum"].numpy()}

    assert json.loads(asked(Rows, "[[1, 2]]")) == [{"row": [1.0, 2.0], "sum": 3.0}]
    assert asked(Rows, '{"x": [1, 2]}', accept="text/csv") == '"[1.0, 2.0]",3.0\n'

    class Pairs(Sums):
        def forward(self, batch: Any) -> Any:
            return batch, batch + 1

        def postprocess(self, output: Any) -> Any:
            return output[0] + output[1]

    assert np.load(io.BytesIO(asked(Pairs, "[[1, 2], [3, 4]]", accept="application/x-npy"))).tolist() == [
        [3.0, 5.0],
        [7.0, 9.0],
    ]
    assert np.load(io.BytesIO(asked(Pairs, '{"x": [1, 2]}', accept="application/x-npy"))).tolist() == [3.0, 5.0]


def test_items_of_different_shapes_come_in_a_batch_for_each_shape_and_are_answered_in_order() -> None:
    model_fn, input_fn, predict_fn, output_fn = functions_of(Sums)
    model = model_fn("model")
    prediction = predict_fn(input_fn("[[1], [1, 2], [2], [1, 2, 3]]", JSON), model)
    assert json.loads(output_fn(prediction, JSON)) == [1.0, 3.0, 2.0, 6.0]
    assert model.shapes == [(2, 1), (1, 2), (1, 3)]


def test_a_collate_of_ones_own_is_given_them_all() -> None:
    class Padded(Sums):
        def collate(self, items: list[Any]) -> Any:
            return torch.nn.utils.rnn.pad_sequence(items, batch_first=True)

    model_fn, input_fn, predict_fn, output_fn = functions_of(Padded)
    model = model_fn("model")
    assert json.loads(output_fn(predict_fn(input_fn("[[1], [1, 2], [2]]", JSON), model), JSON)) == [1.0, 3.0, 2.0]
    assert model.shapes == [(3, 2)]


def test_dicts_tuples_numbers_and_arrays_are_stacked_and_the_rest_is_a_list() -> None:
    seen = []

    class Looks(Sums):
        def preprocess(self, item: Any) -> Any:
            return {"a": np.float32([1, 2]), "b": (1, 2.5, [[3]]), "text": item, "words": [item]}

        def forward(self, batch: Any) -> Any:
            seen.append(batch)
            return batch["text"]

        def postprocess(self, output: Any) -> Any:
            return output

    assert json.loads(asked(Looks, '["x", "y"]')) == ["x", "y"]
    (batch,) = seen
    assert batch["a"].shape == (2, 2)
    assert [(each.dtype, tuple(each.shape)) for each in batch["b"]] == [
        (torch.int64, (2,)),
        (torch.float32, (2,)),
        (torch.int64, (2, 1, 1)),
    ]
    assert (batch["text"], batch["words"]) == (["x", "y"], [["x"], ["y"]])


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(file, "PNG")
    return file.getvalue()


class Colours(Sums):
    def preprocess(self, item: Any) -> Any:
        return torch.tensor(item.getpixel((0, 0)))

    def forward(self, batch: Any) -> Any:
        return batch

    def postprocess(self, output: Any) -> Any:
        return output.tolist()


def test_a_picture_is_an_item_also_as_a_data_uri_among_others() -> None:
    assert json.loads(asked(Colours, png((1, 2, 3)), "image/png")) == [1, 2, 3]
    uris = [f"data:image/png;base64,{base64.b64encode(png(each)).decode()}" for each in ((1, 2, 3), (4, 5, 6))]
    assert json.loads(asked(Colours, json.dumps(uris))) == [[1, 2, 3], [4, 5, 6]]
    assert json.loads(asked(Colours, json.dumps(uris[0]))) == [1, 2, 3]


def test_a_picture_is_read_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (3, 2)).save(file, "JPEG", exif=exif)
    assert read_image(file.getvalue()).size == (2, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no picture", "the picture cannot be read"),
        (png((1, 2, 3))[:40], "the picture cannot be read"),
        ("data:image/png;base64,?", "the data URI is no base64"),
        ("data:image/png,abc", "this is no data URI of a picture"),
    ],
)
def test_what_is_no_picture_is_a_value_error(data: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_image(data)


def test_a_picture_goes_out_with_its_type() -> None:
    class Paints(Sums):
        def postprocess(self, output: Any) -> Any:  # noqa: ARG002 - a step takes it
            return png((9, 9, 9)), "image/png"

    assert asked(Paints, '{"x": [1]}', accept="image/png") == (png((9, 9, 9)), "image/png")
    with pytest.raises(TypeError, match="bytes, which is nothing that JSON can hold"):
        asked(Paints, "[[1]]")


class Own(Exception):
    status_code = 422


class Refuses(Sums):
    def preprocess(self, item: Any) -> Any:
        if item == "own":
            raise Own("not today")
        if item == "mistake":
            raise TypeError("a mistake of the handler")
        if item == "value":
            raise ValueError("no such value")
        return {"x": torch.tensor(1.0)}[item["key"]]


@pytest.mark.parametrize(
    ("item", "kind", "status", "said"),
    [
        ("value", Refused, 400, "no such value"),
        ({"other": 1}, Refused, 400, "it has no 'key'"),
        ({"key": "y"}, KeyError, None, "'y'"),
        ("own", Own, 422, "not today"),
        ("mistake", TypeError, None, "a mistake of the handler"),
    ],
)
def test_what_preprocess_refuses_is_the_clients_mistake_and_names_the_item_where_there_are_several(
    item: Any, kind: type[Exception], status: int | None, said: str
) -> None:
    with pytest.raises(kind) as alone:
        asked(Refuses, json.dumps(item))
    assert (getattr(alone.value, "status_code", None), str(alone.value)) == (status, said)
    with pytest.raises(Refused if status else kind) as among:
        asked(Refuses, json.dumps([{"key": "x"}, item]))
    assert (getattr(among.value, "status_code", None), type(among.value)) == (status, Refused if status else kind)
    assert str(among.value) == (f"item 1: {said}" if status else said)
    assert getattr(among.value, "__notes__", []) == ([] if status else ["item 1 of the request"])


def test_what_postprocess_raises_is_of_the_same_class_alone_and_among_several() -> None:
    class Fails(Sums):
        def postprocess(self, output: Any) -> Any:
            if output.item() == 2:
                raise LookupError("no such class")
            return 1

    with pytest.raises(LookupError, match=r"^no such class$"):
        asked(Fails, '{"x": [2]}')
    with pytest.raises(LookupError) as among:
        asked(Fails, "[[1], [2]]")
    assert (type(among.value), among.value.__notes__) == (LookupError, ["item 1 of the request"])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("é1".encode("latin-1"), "text/plain; charset=latin-1"),
        ("é1".encode("utf-16"), 'text/plain; format=flowed; Charset="UTF-16"'),
        ("\ufeffé1".encode(), "text/plain"),
        ("é1".encode(), "text/plain; charset="),
        ('"é1"'.encode("cp1252"), "application/json; charset=windows-1252"),
        (json.dumps("é1", ensure_ascii=False).encode("latin-1"), "application/jsonlines;charset=iso-8859-1"),
        ("é1".encode("latin-1"), "text/csv; charset=latin-1"),
    ],
)
def test_a_body_of_text_is_read_by_the_charset_of_its_type(body: bytes, content_type: str) -> None:
    found = handler.Handler().decode(body, content_type)
    while isinstance(found, list):
        (found,) = found
    assert found == "é1"


@pytest.mark.parametrize("charset", ["klingon", "rot13", "a\0b"])
def test_a_charset_that_is_none_is_the_clients_mistake(charset: str) -> None:
    with pytest.raises(Refused) as refused:
        asked(Sums, b"1", f"text/csv; charset={charset}")
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status"),
    [
        ("{", JSON, JSON, 400),
        (b"\xff", JSON, JSON, 400),
        (b"no picture", "image/png", JSON, 400),
        (b"%PDF", "application/pdf", JSON, 415),
        ("[[1]]", JSON, "image/png", 406),
    ],
)
def test_bodies_and_types_that_do_not_fit_have_a_status(body: Any, content_type: str, accept: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        asked(Sums, body, content_type, accept)
    assert refused.value.status_code == status


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("text/html, */*;q=0.1", "[3.0]"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "[3.0]"),
        ("image/png, text/csv", "3.0\n"),
        ("application/json;q=0.5, text/csv", "3.0\n"),
        ("Text/CSV;charset=utf-8;q=1.0, application/json;Q=0.9", "3.0\n"),
        ("text/*", "3.0\n"),
        ("application/*", "[3.0]"),
        ("application/json;q=0, application/*", "3.0\n"),
        ("application/*;q=0, */*", "3.0\n"),
        ("application/json, text/csv;q=high", "[3.0]"),
        ("", "[3.0]"),
        (",", "[3.0]"),
        (None, "[3.0]"),
    ],
)
def test_the_answer_has_the_type_that_is_wanted_most_of_those_that_can_be_written(accept: Any, body: str) -> None:
    """As the server chooses for a model whose code has no output_fn."""
    answer = asked(Sums, "[[1, 2]]", accept=accept)
    writable = (JSON, "application/jsonlines", "text/csv", "application/x-npy")
    wanted = split_media_type(preferred_type(accept or "", JSON, writable))[0]
    assert answer in (body, (body, wanted))
    assert isinstance(answer, tuple) == ("," in (accept or ""))
    assert asked(Sums, "[[1, 2]]", accept=wanted) == body


@pytest.mark.parametrize(
    ("results", "body", "accept"),
    [
        ([{"label": "a"}], "[[1, 2]]", "application/x-npy"),
        ([{"label": "a"}], "[1, 2]", "application/x-npy"),
        ([[1], [2, 3]], "[[1, 2], [3, 4]]", "application/x-npy"),
        ([None, 1.0], "[[1, 2], [3, 4]]", "text/html, application/x-npy;q=0.5"),
        ([1.0], "[[1, 2]]", "application/json;q=0"),
        ([1.0], "[[1, 2]]", "image/*"),
    ],
)
def test_results_that_cannot_be_written_as_is_asked_are_406(results: list[Any], body: str, accept: str) -> None:
    class Gives(Sums):
        def forward(self, batch: Any) -> Any:
            return results[: len(batch)]

        def postprocess(self, output: Any) -> Any:
            return output

    with pytest.raises(Refused) as refused:
        asked(Gives, f'{{"x": {body}}}' if body == "[1, 2]" else body, accept=accept)
    assert refused.value.status_code == 406


def test_a_body_without_a_type_is_refused_as_such() -> None:
    with pytest.raises(Refused, match="a body without a Content-Type cannot be read"):
        Handler().decode(b"x", None)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (torch.zeros(3, 2), r"forward returned the shape \(3, 2\) for 2 items"),
        (torch.tensor(1.0), r"forward returned the shape \(\) for 2 items"),
        ([1], "forward returned a list of 1 for 2 items"),
        (1.5, "forward returned a float, which has no part for each of 2 items"),
        ({"a": torch.zeros(2), "loss": torch.tensor(1.0)}, r"forward returned as 'loss' the shape \(\) for 2 items"),
        ((torch.zeros(2), None), "forward returned as member 1 a NoneType"),
    ],
)
def test_an_output_without_a_part_for_each_item_is_named(output: Any, said: str) -> None:
    class Gives(Sums):
        def forward(self, batch: Any) -> Any:  # noqa: ARG002 - a step takes it
            return output

    with pytest.raises(RuntimeError, match=said):
        asked(Gives, "[[1], [2]]")


def test_a_network_may_be_the_handler_and_is_set_to_evaluation_without_gradients() -> None:
    """And so are networks that a handler holds: dropout would make an answer depend on chance."""

    class Net(torch.nn.Linear):
        def __init__(self, model_dir: str) -> None:  # noqa: ARG002 - it needs no file
            super().__init__(2, 1)

        def preprocess(self, item: Any) -> Any:
            return torch.tensor(item, dtype=torch.float32)

        def postprocess(self, output: Any) -> Any:
            assert not self.training
            assert not output.requires_grad
            return output.item()

    class Holds(Net):
        def __init__(self, model_dir: str) -> None:
            super().__init__(model_dir)
            self.inner = torch.nn.Dropout()

    assert isinstance(json.loads(asked(Net, "[[1, 2]]"))[0], float)
    model = functions_of(Holds)[0]("model")
    assert not model.inner.training
    assert model.predict([1, 2]) == pytest.approx(next(iter(model.predict_many([[1, 2]]))))


def test_load_stands_for_the_argument_of_the_constructor() -> None:
    class Loads(Handler):
        model_dir = ""

        def load(self, model_dir: str) -> None:
            self.model_dir = model_dir

        def preprocess(self, item: Any) -> Any:
            return item

        def forward(self, batch: Any) -> Any:
            return [self.model_dir for _ in batch]

        def postprocess(self, output: Any) -> Any:
            return output

    assert asked(Loads, '"x"') == '"model"'

    class Made(Loads):
        @classmethod
        def load(cls, model_dir: str) -> Any:
            made = cls()
            made.model_dir = f"made of {model_dir}"
            return made

    assert asked(Made, '"x"') == '"made of model"'


def test_a_class_that_cannot_be_a_handler_is_refused_with_its_name() -> None:
    """When the script is imported, so that `tidegate check` and the start say it."""

    class Half:
        def preprocess(self, item: Any) -> Any: ...

    class Async(Sums):
        async def forward(self, batch: Any) -> Any: ...

    class Wide(Sums):
        def postprocess(self, output: Any, labels: Any) -> Any: ...

    class Net(torch.nn.Module):
        def preprocess(self, item: Any) -> Any: ...
        def postprocess(self, output: Any) -> Any: ...

    wrong: list[tuple[Any, str]] = [
        (Half, "the handler Half has no forward"),
        (Net, "the handler Net has no forward"),
        (Async, "Async.forward is async"),
        (Wide, r"Wide.postprocess\(self, .* cannot be called with one argument"),
        (Sums("model"), "functions_of takes a class"),
    ]
    for kind, said in wrong:
        with pytest.raises(TypeError, match=said):
            functions_of(kind)


def test_static_steps_are_steps() -> None:
    class Static(Sums):
        @staticmethod
        def postprocess(output: Any) -> Any:
            return output.item()

    assert asked(Static, '{"x": [1, 2]}') == "3.0"


def test_a_bad_item_says_its_place() -> None:
    assert str(BadItem(3, "it is empty")) == "item 3: it is empty"
