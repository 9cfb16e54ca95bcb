"""Scores become the names of classes where the manifest says how."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_models import answered, computation, outcomes, refused, request
from tidegate.inference.declarations import classes
from tidegate.inference.errors import DeploymentError
from tidegate.inference.protocol import Answer
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.declared import class_names
from tidegate.inference.worker.declared.sides import declared

LABELS = ["cat", "dog", "newt"]
READING = Reading(max_decoded_bytes=1 << 20)


def toy(tmp_path: Path, said: Any, model: Any = lambda data: data, labels: Any = LABELS, **how: Any) -> Computation:
    """A server whose model gives back the numbers that it is sent, as scores."""
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    manifest = {"classes": said} | ({} if labels is None else {"labels": "labels.json"})
    return computation(model=model, declared=declared(manifest, READING, tmp_path), **how)


def best(server: Computation, body: Any, **how: Any) -> Any:
    return json.loads(answered(server, request(body, **how)).body)


def test_the_best_class_comes_first_with_its_softmax(tmp_path: Path) -> None:
    found = best(toy(tmp_path, {}), [[1.0, 3.0, 2.0]])
    powers = np.exp([1.0, 3.0, 2.0])
    assert [each["label"] for each in found] == ["dog", "newt", "cat"]
    assert [each["score"] for each in found] == pytest.approx((powers / powers.sum())[[1, 2, 0]], abs=1e-6)


def test_each_record_of_a_list_has_a_list_of_its_own(tmp_path: Path) -> None:
    found = best(toy(tmp_path, {"top_k": 1}), [[1.0, 3.0, 2.0], [9.0, 0.0, 0.0]])
    assert [[each["label"] for each in one] for one in found] == [["dog"], ["cat"]]


def test_of_two_as_good_the_first_wins_and_large_numbers_do_no_harm(tmp_path: Path) -> None:
    found = best(toy(tmp_path, {"top_k": 2}), [[1e30, 1e30, -1e30]])
    assert found == [{"label": "cat", "score": 0.5}, {"label": "dog", "score": 0.5}]
    sigmoid = best(toy(tmp_path, {"activation": "sigmoid"}), [[1e30, -1e30, 0.0]])
    assert [(each["label"], each["score"]) for each in sigmoid] == [("cat", 1.0), ("newt", 0.5), ("dog", 0.0)]


def test_a_threshold_is_the_least_score_and_may_leave_nothing(tmp_path: Path) -> None:
    server = toy(tmp_path, {"activation": "none", "threshold": 0.5})
    assert best(server, [[0.5, 0.25, 0.75]]) == [{"label": "newt", "score": 0.75}, {"label": "cat", "score": 0.5}]
    assert best(server, [[0.0, 0.0, 0.0]]) == []
    assert answered(server, request([[0.0, 0.0, 0.0]], accept="text/csv")).body == b'""\n', "a line, which counts"


def test_lines_tables_and_arrays_are_written_on_request(tmp_path: Path) -> None:
    server, body = toy(tmp_path, {"activation": "none", "top_k": 2}), [[0.5, 0.25, 0.75], [1.0, 0.0, 0.0]]
    lines = answered(server, request(body, accept="application/jsonlines")).body.splitlines()
    assert [json.loads(line)[0]["label"] for line in lines] == ["newt", "cat"]
    table = answered(server, request(body, accept="text/csv")).body.decode()
    assert list(csv.reader(io.StringIO(table))) == [["newt", "0.75", "cat", "0.5"], ["cat", "1.0", "dog", "0.0"]]
    array = np.load(io.BytesIO(answered(server, request(body, accept="application/x-npy")).body))
    assert (array.dtype, array.tolist()) == (np.float32, body), "all scores, in the order of the labels"
    assert refused(server, request(body, accept="image/png")).status == 406


def test_a_label_with_a_comma_or_a_quote_is_one_cell(tmp_path: Path) -> None:
    server = toy(tmp_path, {"activation": "none"}, labels=['a, "b"', "c"])
    table = answered(server, request([[1.0, 0.0]], accept="text/csv")).body.decode()
    assert list(csv.reader(io.StringIO(table))) == [['a, "b"', "1.0", "c", "0.0"]]


def test_without_labels_classes_are_told_by_their_numbers(tmp_path: Path) -> None:
    found = best(toy(tmp_path, {"activation": "none", "top_k": 1}, labels=None), [[0.0, 2.0]])
    assert found == [{"label": 1, "score": 2.0}]


def test_scores_of_half_precision_and_of_a_named_prediction_are_taken(tmp_path: Path) -> None:
    said = {"activation": "none", "from": "logits", "top_k": 1}
    for dtype in (torch.bfloat16, torch.float16, torch.int64):
        server = toy(tmp_path, said, lambda data, dtype=dtype: {"aux": data, "logits": data.to(dtype)})
        assert best(server, [[0.0, 2.0, 1.0]]) == [{"label": "dog", "score": 2.0}]


@pytest.mark.parametrize(
    ("said", "scores", "sentence"),
    [
        ({}, torch.zeros(1, 2), "The model gives 2 scores, and there are 3 labels."),
        ({}, torch.zeros(1, 1), "The model gives 1 scores, and there are 3 labels."),
        ({}, torch.zeros(2, 3), "The model gives the scores of 2 records for 1."),
        ({}, torch.zeros(1, 3, 2), "The model's scores have the shape (1, 3, 2); they must be (records, classes)."),
        ({}, torch.zeros(()), "The model's scores have the shape (); they must be (records, classes)."),
        ({}, torch.tensor([[0.0, float("nan"), 0.0]]), "The model's scores hold nan, for the class 1 of the record 0."),
        (
            {"activation": "none"},
            torch.tensor([[0.0, float("inf"), 0.0]]),
            "hold inf, for the class 1 of the record 0.",
        ),
        ({}, torch.zeros(1, 3, dtype=torch.bool), "The model's scores hold bool; they must be numbers."),
        ({}, {"a": torch.zeros(1), "b": torch.zeros(1)}, "has 'a', 'b'; classes.from of the manifest must name one."),
        ({}, ["cat"], "The model's scores hold <U3; they must be numbers."),
    ],
)
def test_what_are_no_scores_is_the_fault_of_the_model(tmp_path: Path, said: Any, scores: Any, sentence: str) -> None:
    error = refused(toy(tmp_path, said, lambda _: scores), request([[0.0]]))
    assert error.status == 500
    assert sentence in error.message


def test_without_labels_top_k_and_softmax_are_held_against_the_scores(tmp_path: Path) -> None:
    few = refused(toy(tmp_path, {"top_k": 3}, labels=None), request([[0.0, 1.0]]))
    assert few.message == "The model gives 2 scores, fewer than classes.top_k of the manifest asks for."
    one = refused(toy(tmp_path, {}, labels=None), request([[0.0]]))
    assert one.message.startswith("The softmax of one score is always 1;")


def test_one_score_for_each_record_is_one_class(tmp_path: Path) -> None:
    server = toy(tmp_path, {"activation": "sigmoid"}, lambda data: data[:, 0], labels=["spam"])
    assert [one[0]["score"] for one in best(server, b"0\n1e9\n", content_type="text/csv")] == [0.5, 1.0]


def test_requests_that_share_a_call_get_their_own_names(tmp_path: Path) -> None:
    sizes = []

    def model(data: torch.Tensor) -> torch.Tensor:
        sizes.append(len(data))
        return data

    server = toy(tmp_path, {"top_k": 1}, model, joins=True)
    found = outcomes(server, [[9.0, 0.0, 0.0]], [[0.0, 0.0, 9.0]], [[0.0, 9.0, 0.0]])
    assert [json.loads(each.body)[0]["label"] for each in found if isinstance(each, Answer)] == ["cat", "newt", "dog"]
    assert sizes == [3]


def test_an_output_fn_of_the_script_wins(tmp_path: Path) -> None:
    server = toy(tmp_path, {}, output_fn=lambda *_: b"mine")
    assert answered(server, request([[1.0, 2.0, 3.0]])).body == b"mine"


@given(
    st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from(["softmax", "sigmoid", "none"]),
    st.one_of(st.none(), st.integers(1, 3)),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_an_answer_is_what_sorting_and_cutting_gives(rows: Any, activation: Any, top_k: Any, threshold: Any) -> None:
    """Held against torch's own softmax and sigmoid."""
    said = classes.Classes(labels=("a", "b", "c"), activation=activation, top_k=top_k, threshold=threshold)
    body = class_names.write(torch.tensor(rows), "application/json", said, records=len(rows), one_alone=False)
    scores = torch.tensor(rows, dtype=torch.float64)
    scores = scores.softmax(1) if activation == "softmax" else scores.sigmoid() if activation == "sigmoid" else scores
    for found, row in zip(json.loads(body), scores.tolist(), strict=True):
        wanted = sorted(row, reverse=True)[:top_k]
        assert [each["score"] for each in found] == pytest.approx(wanted[: len(found)], abs=1e-6)
        assert all(each["score"] >= (threshold or 0) for each in found) or threshold is None
        assert all(score <= (threshold or 0) + 1e-6 for score in wanted[len(found) :])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (None, "classes is None; it must be an object."),
        ({"topk": 1}, "classes has the key 'topk', which is unknown; did you mean top_k?"),
        ({"activation": None}, "classes.activation is None; it must be 'softmax' or 'sigmoid' or 'none'."),
        ({"top_k": 0}, "classes.top_k is 0; it must be a whole number from 1 to 1000000."),
        ({"top_k": True}, "classes.top_k is True; it must be"),
        ({"top_k": 4}, "classes.top_k is 4, and there are 3 labels."),
        ({"threshold": None}, "classes.threshold is None; it must be a number."),
        ({"threshold": 50}, "classes.threshold is 50; a score after softmax is from 0 to 1."),
        ({"from": -1}, "classes.from is -1; it is the name of a prediction, or its number from 0."),
    ],
)
def test_each_mistake_is_said_with_its_place(said: Any, sentence: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        classes.declared({"classes": said}, ("a", "b", "c"))
    assert str(caught.value).removeprefix("manifest.json: ").startswith(sentence)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "labels.json is not readable JSON"),
        (b"[" * 100_000, "labels.json is not readable JSON"),
        (b"{}", "labels.json must be a list of the names of the classes"),
        (b"[1]", "labels.json must be a list of the names of the classes"),
        (b"[]", "labels.json must be a list of the names of the classes"),
        (b'["a", "b", "a"]', "labels.json has the label 'a' twice"),
    ],
)
def test_labels_that_are_none_are_said(data: bytes, sentence: str) -> None:
    with pytest.raises(DeploymentError, match=sentence):
        classes.read_labels(data, "labels.json")


def test_labels_that_are_missing_or_outside_are_said(tmp_path: Path) -> None:
    for name, sentence in (("labels.json", "cannot be read: No such file"), ("../x", "outside the model directory")):
        with pytest.raises(DeploymentError, match=sentence):
            declared({"classes": {}, "labels": name}, READING, tmp_path)


def test_two_declarations_of_one_side_are_refused() -> None:
    said = {"classes": {}, "image": {"output": {}}}
    with pytest.raises(
        DeploymentError, match=r"^manifest.json: image.output and classes both say what the answer is; k"
    ):
        declared(said, READING)
    said = {"tensors": [{"name": "x", "shape": [1]}], "table": {"columns": ["a"]}}
    with pytest.raises(
        DeploymentError, match=r"^manifest.json: table and tensors both say what the input is; keep one"
    ):
        declared(said, READING)


def test_scores_that_are_shares_already_make_a_softmax_doubtful() -> None:
    """Of logits nothing is said, nor where no softmax is declared."""
    shares = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    said = class_names.doubt(shares, classes.Classes())
    assert said is not None
    assert "as if its network ended in one" in said
    assert class_names.doubt({"a": shares, "b": shares}, classes.Classes(member="b")) is not None
    for logits in (shares * 2, torch.tensor([[1.5, -0.5]]), torch.zeros(0, 2), torch.zeros(3), "word"):
        assert class_names.doubt(logits, classes.Classes()) is None
    assert class_names.doubt(shares, classes.Classes(activation="none")) is None
