"""The identity model: a body is answered by itself, and each answer says what answered."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from tests.inference.toy_models import computation, request
from tidegate.inference.protocol import Answer
from tidegate.inference.worker import identity, weights
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context

NPZ = "application/x-npz"


@pytest.fixture
def made() -> Computation:
    context = Context(model_name="model", manifest={}, system_properties={})
    functions = identity.functions(context, Reading(max_decoded_bytes=1 << 20))
    assert functions.model_fn is not None
    return computation(
        model=functions.model_fn("here"),
        context=context,
        transform_fn=functions.transform_fn,
        takes_names=functions.takes_names,
    )


def answered(made: Computation, body: bytes, content_type: str, accept: str = "") -> Answer:
    ((outcome,), _) = ask(made, [request(body, 0, content_type=content_type, accept=accept)])
    assert isinstance(outcome, Answer), outcome
    assert outcome.headers == b"X-Amzn-SageMaker-Custom-Attributes: model=identity\r\n"
    return outcome


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"a":"b"}', "application/json"),
        (b"not even JSON", "application/json"),
        (b"1,2\n3,4\n", "text/csv"),
        (b"\x89PNG\xff", "image/png"),
        (b'{"a": 1}\n{"a": 2}\n', "application/jsonlines"),
        (b"", "text/csv"),
    ],
)
@pytest.mark.parametrize("accept", ["", "*/*", "text/html, */*;q=0.1"])
def test_a_body_comes_back_as_it_was_sent(made, body, content_type, accept):
    """Byte for byte, in its own type."""
    answer = answered(made, body, content_type, accept)
    assert (answer.body, answer.content_type) == (body, content_type)


def test_a_body_without_a_type_is_bytes(made):
    """As HTTP has it."""
    assert answered(made, b"\x00", "").content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("content_type", "accept", "writes"),
    [
        ("text/csv", "application/json", "text/csv"),
        ("text/csv; charset=latin-1", "text/html", "text/csv"),
        ("image/png", "text/csv, application/json", "image/png"),
        ("", "application/json", "application/octet-stream"),
        ("application/json", "text/csv", "application/json, application/jsonlines, application/x-npz"),
        (NPZ, "application/x-npy", "application/x-npz, application/json, application/jsonlines"),
    ],
)
def test_a_type_that_the_body_cannot_be_had_in_is_406(made, content_type, accept, writes):
    """As with any other model; the sentence has those that it can be."""
    ((outcome,), _) = ask(made, [request(b"1,2", 0, content_type=content_type, accept=accept)])
    assert (outcome.status, outcome.code) == (406, "not_acceptable")
    wanted = accept.partition(",")[0]
    assert outcome.message == f"Accept '{wanted}' cannot be answered; the identity answers {writes} here."


@pytest.mark.parametrize("accept", ["text/csv;q=0", "text/csv;q=0, */*;q=0"])
def test_what_rules_everything_out_is_406(made, accept):
    """A body is had in no other type than one that is wanted."""
    ((outcome,), _) = ask(made, [request(b"1,2", 0, content_type="text/csv", accept=accept)])
    assert outcome.status == 406


@pytest.mark.parametrize("accept", ["text/csv", "text/*", "TEXT/CSV", "application/json;q=0.9, text/csv;q=0.1"])
def test_the_bodys_own_type_may_be_asked_for(made, accept):
    """In whatever way the header says it."""
    assert answered(made, b"1,2", "text/csv", accept).body == b"1,2"


def test_a_dictionary_of_arrays_is_had_in_the_type_that_is_asked_for(made):
    """JSON of npz, and npz of JSON."""
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    answer = answered(made, file.getvalue(), NPZ, "application/json")
    assert (json.loads(answer.body), answer.content_type) == ({"a": [1.0, 1.0]}, "application/json")
    answer = answered(made, b'{"a": [1, 2]}', "application/json", NPZ)
    assert np.load(io.BytesIO(answer.body))["a"].tolist() == [1, 2]
    assert answered(made, file.getvalue(), NPZ, "application/json;q=0.5, */*").content_type == NPZ


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([], True),
        (["code/inference.py", "README.md", "labels.json", "manifest.json"], True),
        ([".DS_Store"], True),
        (["model.pt"], False),
        (["model.bin"], False),
        (["weights"], False),
        (["1/saved_model.pb"], False),
    ],
)
def test_only_a_directory_without_anything_like_a_model_has_none(tmp_path, names, missing):
    """What nobody knows may still be a model, and then its absence from the answers would be a lie."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert weights.is_missing(tmp_path) is missing


def test_a_manifest_that_names_weights_asks_for_a_model(tmp_path):
    """Its file was lost."""
    (tmp_path / "manifest.json").write_text('{"format_version": 1, "weights": {"file": "model.pth"}}')
    assert not weights.is_missing(tmp_path)
