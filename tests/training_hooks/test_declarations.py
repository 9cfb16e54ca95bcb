"""What save_model is told by single arguments stands in the manifest, or is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tidegate.training_hooks import ArtifactError, Example, save_directory, save_model

from .artifacts import manifest_of

SQUARE = {"height": 24, "width": 24, "policy": "crop", "shorter_side": 24}


def saved(directory: Path, **said: Any) -> Any:
    save_model(nn.Linear(2, 2), model_dir=directory, **said)
    manifest = manifest_of(directory)
    return {key: manifest[key] for key in ("image", "classes", "table", "tensors") if key in manifest}


@pytest.mark.parametrize("size", [24, (24, 24), np.int64(24)])
def test_arguments_fill_the_declaration_of_a_classifier(tmp_path: Path, size: Any) -> None:
    said = saved(tmp_path, mean=np.array([0.5, 0.25, 0.0]), std=0.5, size=size, top_k=np.int64(2), labels=["a", "b"])
    assert said == {
        "image": {"input": {"mean": [0.5, 0.25, 0.0], "std": 0.5, "size": SQUARE}},
        "classes": {"top_k": 2},
    }


def test_arguments_and_a_mapping_go_together_where_they_say_different_things(tmp_path: Path) -> None:
    image = {"input": {"key": "photo"}, "output": {"value_range": [0, 1]}}
    assert saved(tmp_path, mean=0.5, image=image) == {
        "image": {"input": {"key": "photo", "mean": 0.5}, "output": {"value_range": [0.0, 1.0]}}
    }
    said = saved(tmp_path, classes={"from": "logits"}, activation="sigmoid", threshold=0.5)
    assert said == {"classes": {"from": "logits", "activation": "sigmoid", "threshold": 0.5}}


def test_columns_are_names_or_say_more(tmp_path: Path) -> None:
    age = {"name": "age", "missing": 38.5}
    assert saved(tmp_path, columns=["id", age]) == {"table": {"columns": [{"name": "id"}, age]}}
    by_name = {"id": "int64", "age": {"dtype": "int64", "missing": 38}}
    assert saved(tmp_path, columns=by_name, table={"header": "required"}) == {
        "table": {
            "columns": [{"name": "id", "dtype": "int64"}, {"name": "age", "dtype": "int64", "missing": 38}],
            "header": "required",
        }
    }
    assert saved(tmp_path, columns=np.array(["a", "b"])) == {"table": {"columns": [{"name": "a"}, {"name": "b"}]}}


def test_a_dtype_of_torch_or_numpy_is_taken_by_its_name(tmp_path: Path) -> None:
    tensors = [{"name": str(n), "dtype": each, "shape": [1]} for n, each in enumerate((torch.int64, np.int64, "int64"))]
    said = saved(tmp_path, tensors=[*tensors, {"name": "3", "dtype": np.dtype("int64"), "shape": [1]}])
    assert [each["dtype"] for each in said["tensors"]] == 4 * ["int64"]
    for columns in ({"a": torch.int64}, {"a": {"dtype": np.int64}}, [{"name": "a", "dtype": torch.int64}]):
        assert saved(tmp_path, columns=columns)["table"]["columns"] == [{"name": "a", "dtype": "int64"}]


def test_a_directory_takes_the_same_arguments(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"1")
    save_directory(tmp_path, tensors=[{"name": "x", "shape": ("batch", 3)}], activation="none")
    manifest = manifest_of(tmp_path)
    assert manifest["tensors"] == [{"name": "x", "shape": ["batch", 3]}]
    assert manifest["classes"] == {"activation": "none"}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"mean": 0.5, "image": {"input": {"mean": 0.5}}},
            r'^mean is given, and image\["input"\] says it too; keep one',
        ),
        ({"mean": 0.5, "image": 7}, r"^image is an int; give a mapping"),
        ({"mean": 0.5, "image": {"input": 7}}, r'^mean is given, and image\["input"\] says it too'),
        ({"top_k": 1, "classes": {"top_k": 1}}, r"^top_k is given, and classes says it too; keep one of them"),
        ({"columns": ["a"], "table": {"columns": ["a"]}}, r"^columns is given, and table says it too"),
        ({"columns": ["a"], "size": 9}, r"^image and table both say what the model takes; give one of them"),
        ({"columns": ["a"], "tensors": [{"name": "x", "shape": [1]}]}, r"^table and tensors both say what the model"),
        (
            {"activation": "none", "image": {"output": {}}},
            r'^image\["output"\] and classes both say what the answer is',
        ),
        ({"top_k": 3, "labels": ["a", "b"]}, r"^top_k is 3, and there are 2 labels"),
        ({"threshold": 50}, r"^threshold is 50\.0; a score after softmax is from 0 to 1"),
        ({"threshold": "0.5"}, r'^classes\["threshold"\] is \'0\.5\'; it must be a number'),
        ({"activation": nn.Softmax()}, r"^classes\[.activation.\] is a Softmax"),
        ({"size": 0}, r"^size is 0; it must be a whole number from 1"),
        ({"size": (1, 2, 3)}, r"^size is a tuple; it must be a whole number"),
        ({"std": 0}, r'^image\["input"\]\["std"\] holds 0'),
        ({"columns": "age"}, r'^table\["columns"\] must be a list of 1 to 65536 columns'),
        (
            {"columns": {"a", "b"}},
            r"^table\['columns'\] is a set, which JSON cannot hold; give a list, which has an or",
        ),
        (
            {"table": {"columns": frozenset(["a"])}},
            r"^table\['columns'\] is a frozenset, which JSON cannot hold; give a list, which has an order",
        ),
        (
            {"tensors": [{"name": "x", "shape": {2, 3}}]},
            r"^tensors\[0\]\['shape'\] is a set, which JSON cannot hold; g",
        ),
        ({"columns": []}, r'^table\["columns"\] must be a list of 1'),
        ({"columns": ["a", "a"]}, r'^table\["columns"\]\[1\] has the name \'a\' of table\["columns"\]\[0\]'),
        (
            {"columns": {"a": "int64", "b": "bool"}},
            r"^the columns have the dtypes int64 and bool, and a",
        ),
        ({"columns": ["a", "7"]}, r"^the column '7' could be a value; say table="),
        ({"columns": [{"name": "a", "missing": "mean"}]}, r'\["missing"\] is \'mean\'; it must be \'refuse\' or'),
        ({"table": {"header": "auto"}}, r'^table has no "columns"'),
        ({"tensors": []}, r"^tensors is empty; give a list of 1 to 1000 mappings"),
        ({"tensors": [{"name": "x", "dtype": torch.complex64, "shape": [1]}]}, r"is 'complex64'; it must be 'float32'"),
        ({"topk": 3}, r"^save_model has no argument 'topk'; did you mean 'top_k'\?$"),
        ({"zzz": 3}, r"^save_model has no argument 'zzz'; there are model, model_dir, name, "),
        ({"tensors": {"x": [1]}}, r"^tensors is a dict; give a list of 1 to 1000 mappings"),
        ({"tensors": [{"name": "x"}]}, r'^tensors\[0\] has no "shape"'),
        ({"tensors": [{"name": "x", "shape": ["n", 0]}]}, r'^tensors\[0\]\["shape"\]\[1\] is 0; it must be a whole'),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(tmp_path: Path, said: Any, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence) as caught:
        saved(tmp_path / "model", **said)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model/manifest.json").exists()


NET = "import torch\n\n\nclass Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n"


def test_an_example_is_answered_by_what_is_declared(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/net.py").write_text(NET)
    said: dict[str, Any] = {"code_dir": tmp_path / "code", "architecture": "net:Net", "labels": ["a", "b"]}
    net = nn.Linear(2, 2)
    nn.init.eye_(net.weight)
    nn.init.zeros_(net.bias)
    example = Example(request=b"y,x\n0,9\n", content_type="text/csv", accept="application/json")
    save_model(net, model_dir=tmp_path / "m", columns=["x", "y"], activation="none", example=example, **said)
    response = (tmp_path / "m/example/response.json").read_text()
    assert response == '[{"label": "a", "score": 9.0}, {"label": "b", "score": 0.0}]'
    with pytest.raises(ArtifactError, match=r"the example lacks the column 'y'"):
        save_model(net, model_dir=tmp_path / "m", columns=["x", "y"], example={"x": 1}, **said)
    more = said | {"labels": ["a", "b", "c"]}
    with pytest.raises(ArtifactError, match=r"the model gives 2 scores, and there are 3 labels"):
        save_model(net, model_dir=tmp_path / "m", activation="softmax", example=[[1.0, 2.0]], **more)


@pytest.mark.parametrize(
    ("said", "request_", "sentence"),
    [
        (
            {"columns": ["a", "b"]},
            {"a": 1},
            "the example cannot be answered here: the example lacks the column 'b'",
        ),
        (
            {"columns": ["a", "b"]},
            {"a": 1, "b": 2, "z": 3},
            "the example cannot be answered here: the example has the column 'z', which is not declared",
        ),
        (
            {"columns": ["a", "b"], "labels": ["x", "y"], "activation": "softmax"},
            {"a": 1, "b": 2},
            "the example cannot be answered here: the model gives 3 scores, and there are 2 labels",
        ),
        (
            {"columns": ["a", "b"], "activation": "softmax"},
            Example(request={"a": 1, "b": 2}, accept="application/x-odd"),
            "the example cannot be answered here: classes are not written here as application/x-odd; define "
            "output_fn, or give the response",
        ),
    ],
)
def test_the_refusal_of_an_example_ends_in_a_way_out_only_where_that_is_one(
    tmp_path: Path, said: Any, request_: Any, sentence: str
) -> None:
    """What the server refuses too is said alone; what is merely not done here names the function to define."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "net.py").write_text("import torch\n\ndef net():\n    return torch.nn.Linear(2, 3)\n")
    with pytest.raises(ArtifactError) as raised:
        save_model(
            nn.Linear(2, 3),
            model_dir=tmp_path / "model",
            code_dir=code,
            architecture="net:net",
            example=request_,
            **said,
        )
    assert str(raised.value) == sentence
