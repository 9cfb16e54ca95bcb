"""The description of models whose files are odd, missing or hostile: it stays valid, true, and of a bounded size."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tidegate.inference.frontend.openapi.described_model import LoadedModel
from tidegate.inference.frontend.openapi.document import MAX_MODELS, Facts, Mode, document
from tidegate.inference.frontend.openapi.examples import MAX_EXAMPLE_BYTES
from tidegate.inference.protocol import Bodies

OURS: Bodies = {
    "reads": ["application/json", "text/csv", "application/x-npy", "image/*"],
    "writes": ["application/json"],
    "chats": False,
}
SCRIPT: Bodies = {"reads": None, "writes": None, "chats": False}


def loaded(directory: Path, name: str = "model", bodies: Bodies = OURS) -> LoadedModel:
    return LoadedModel(
        name=name,
        version=None,
        directory=directory,
        bodies=bodies,
        converses=False,
        max_batch_size=4,
        max_wait_s=0.005,
        finds_batch_size=False,
        timeout_s=60.0,
    )


def described(*models: LoadedModel, mode: Mode = Mode.SINGLE, validate: bool = False) -> dict[str, Any]:
    """The description, which is valid JSON and, where that is asked for (it takes a second), valid OpenAPI."""
    facts = Facts(
        mode=mode,
        url="http://127.0.0.1:8080",
        loaded=models,
        default=("model", None),
        sessions=False,
        default_accept="application/json",
        max_body_bytes=1000,
        max_response_bytes=1000,
        max_queue_wait_s=60.0,
        queue_size=10,
        timeout_s=60.0,
    )

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads(document(facts).decode("utf-8"), parse_constant=refuse)
    if validate:
        OpenAPIV31SpecValidator(found).validate()
    return found


def archive(root: Path, body: bytes | None, content_type: Any = "application/json", **more: Any) -> Path:
    """A model directory with an example request."""
    root.mkdir(exist_ok=True)
    facts = {"file": "request.bin", "content_type": content_type, "accept": "application/json"}
    manifest = {"format_version": 1, "name": "cats", "example": {"request": facts}, **more}
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if body is not None:
        (root / "request.bin").write_bytes(body)
    return root


def request_of(found: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = found["paths"]["/invocations"]["post"]["requestBody"]["content"]
    return content


def example_of(found: dict[str, Any]) -> dict[str, Any]:
    """The one example that a description has for /invocations."""
    (example,) = (each for body in request_of(found).values() for each in body.get("examples", {}).values())
    assert isinstance(example, dict)
    return example


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"text": "</script><img src=x onerror=alert(1)>", "\xf0\x9f\x90\x88": "\\u0000"}', "application/json"),
        (b"[1.5, -2, null]", "application/json; charset=utf-8"),
        (b"1,2\n\xc3\xa9,</style>\n", "text/csv"),
        (b'{"a": 1}\n{"a": 2}\n', "application/jsonlines"),
    ],
)
def test_text_is_shown_as_it_is(tmp_path: Path, body: bytes, content_type: str) -> None:
    """JSON as the value that it holds, and other text as a string."""
    example = example_of(described(loaded(archive(tmp_path, body, content_type), bodies=SCRIPT)))
    assert "externalValue" not in example
    is_json = content_type.startswith("application/json;") or content_type == "application/json"
    assert example["value"] == (json.loads(body) if is_json else body.decode())
    assert example["x-tidegate-headers"] == {"Content-Type": content_type, "Accept": "application/json"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[NaN, 1]", "application/json"),
        (b"[1e999]", "application/json"),
        (b"[9007199254740993]", "application/json"),
        (b'{"a": 1, "a": 2}', "application/json"),
        (b'["\\ud800"]', "application/json"),
        (b"[" * 100_00, "application/json"),
        (b"\xff\xfe{", "application/json"),
        (b"\x93NUMPY\x01\x00", "application/x-npy"),
        (b"\x89PNG\r\n", "image/png"),
        (b"a\x1b[31m,\x00", "text/csv"),
        (b"caf\xe9", "text/csv; charset=latin-1"),
        (b"\xef\xbb\xbf1,2", "text/csv"),
        (b"", "application/octet-stream"),
    ],
)
def test_what_json_would_change_or_cannot_hold_is_a_data_uri_of_the_very_bytes(
    tmp_path: Path, body: bytes, content_type: str
) -> None:
    """Numbers that are none or are rounded, keys that come twice, halves of characters, and bytes that are no text."""
    example = example_of(described(loaded(archive(tmp_path, body, content_type))))
    head, _, data = example["externalValue"].partition(",")
    assert head == f"data:{content_type.partition(';')[0]};base64"
    assert base64.b64decode(data, validate=True) == body
    assert "value" not in example


def test_a_large_example_is_told_by_its_size(tmp_path: Path) -> None:
    """The description is read as a whole: what is over the limit is left out, and it says so."""
    body = json.dumps("x" * MAX_EXAMPLE_BYTES).encode()
    found = described(loaded(archive(tmp_path, body)))
    example = example_of(found)
    assert example["summary"] == f"The example of the archive, {len(body)} bytes"
    assert str(MAX_EXAMPLE_BYTES) in example["description"]
    assert not {"value", "externalValue"} & example.keys()
    assert len(json.dumps(found)) < MAX_EXAMPLE_BYTES


@pytest.mark.parametrize(
    ("manifest", "note"),
    [
        (None, "no manifest.json"),
        ("[]", "another tool's"),
        ("{", "is not JSON"),
        ('{"format_version": 0, "example": 1}', "another version"),
        ('{"format_version": 1}', "no example"),
        ('{"format_version": 1, "example": [1], "lineage": 7, "labels": 3, "image": [], "name": {}}', "cannot be read"),
        ('{"format_version": 1, "example": {"request": {"file": "../x", "content_type": "a/b"}}}', "cannot be read"),
        ('{"format_version": 1, "example": {"request": {"file": "no", "content_type": "a/b"}}}', "cannot be read"),
        ('{"format_version": 1, "example": {"request": {"file": "x", "content_type": "no type"}}}', "cannot be read"),
        ('{"format_version": 1, "table": 7, "tensors": [], "classes": 3}', "no example"),
    ],
)
def test_a_model_that_says_little_has_a_poorer_description(tmp_path: Path, manifest: str | None, note: str) -> None:
    """No example, a sentence that says why, and the types that the server's own functions read."""
    (tmp_path / "x").write_bytes(b"1")
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "x").write_bytes(b"1")
    if manifest is not None:
        (directory / "manifest.json").write_text(manifest, encoding="utf-8")
    found = described(loaded(directory))
    assert note in found["info"]["description"]
    assert found["info"]["title"] == "Tidegate"
    assert list(request_of(found)) == OURS["reads"]
    assert not any("examples" in each for each in request_of(found).values())
    assert list(request_of(described(loaded(directory, bodies=SCRIPT)))) == ["*/*"]


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    """Neither a page nor Markdown gets markup of them, a path is encoded, and lineage that is no JSON is left out."""
    name = 'x`</script><b>\x1b[31m"{model_name}/%2e\u202e\n\U0001f408'
    directory = archive(tmp_path, b"[1]", name=name, lineage={"data": float("nan"), "image": "<i>", "git": {}})
    found = described(loaded(directory), validate=True)
    assert found["info"]["title"] == 'x/scriptb[31m"{model_name}/%2e\U0001f408'
    assert found["x-tidegate-limits"]["max_body_bytes"] == 1000
    assert found["info"]["x-tidegate-lineage"] == {"image": "<i>", "git": {}}
    several = [loaded(tmp_path, each) for each in (name.replace("/", ""), "..", "a b", "a-b", "a.b")]
    paths = described(*several, mode=Mode.MULTI, validate=True)["paths"]
    assert "/models/a%20b/invoke" in paths
    assert "/models/../invoke" not in paths
    assert len([path for path in paths if path.endswith("/invoke")]) == 5


def test_of_many_models_the_first_are_described_one_by_one(tmp_path: Path) -> None:
    """The others by the path with a name in it, and it says how many there are."""
    models = [loaded(archive(tmp_path, b"[1]"), f"m{number:03}") for number in range(MAX_MODELS + 5)]
    found = described(*models, mode=Mode.MULTI)
    assert "/models/m000/invoke" in found["paths"]
    assert f"/models/m{MAX_MODELS:03}/invoke" not in found["paths"]
    assert "/models/{model_name}/invoke" in found["paths"]
    assert f"{MAX_MODELS + 5} models are loaded" in found["info"]["description"]


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        (
            {"table": {"columns": ["age", {"name": "smokes", "dtype": "bool", "missing": False}], "as": "columns"}},
            [{"age": 1.5, "smokes": None}, [2, True], [{"age": 1, "smokes": False}], [[1, 0], {"age": 2, "smokes": 1}]],
            [{"age": None, "smokes": True}, {"age": 1}, [1], {"age": 1, "smokes": True, "x": 1}, "1"],
        ),
        (
            {"tensors": [{"name": "ids", "dtype": "int64", "shape": ["batch", 2]}]},
            [[[1, 2]], {"ids": [[1, 2], [3, 4]]}],
            [[[1, 2, 3]], [1, 2], {"other": [[1, 2]]}, [[1.5, 2]], []],
        ),
        (
            {"image": {"input": {"key": "photo", "size": {"height": 8, "width": 8}}}},
            [{"photo": "data:image/png;base64,AA=="}, [{"photo": "data:,"}]],
            [{"image": "data:,"}, [], "data:,"],
        ),
        ({}, [1, [[1, 2]], {"x": [1]}], ["text", {}, None]),
    ],
)
def test_a_declared_input_has_its_schema(
    tmp_path: Path, declared: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    """What the server reads is valid, and what it refuses is not, as far as JSON Schema can say it."""
    found = described(loaded(archive(tmp_path, b"[[1, 2]]", **declared)))
    validator = Draft202012Validator(request_of(found)["application/json"]["schema"])
    assert [each for each in good if not validator.is_valid(each)] == []
    assert [each for each in bad if validator.is_valid(each)] == []


def test_classes_are_named_in_the_answer(tmp_path: Path) -> None:
    """The labels of the archive, those that can be read."""
    directory = archive(tmp_path, b"[1]", labels="labels.json", classes={"top_k": 2})
    for text, names in (('["cat", "d<o>g"]', ["cat", "d<o>g"]), ("{", None)):
        (directory / "labels.json").write_text(text, encoding="utf-8")
        answer = described(loaded(directory))["paths"]["/invocations"]["post"]["responses"]["200"]
        validator = Draft202012Validator(answer["content"]["application/json"]["schema"])
        assert validator.is_valid([{"label": "cat", "score": 0.5}])
        assert validator.is_valid([[{"label": "cat", "score": 0.5}], []])
        assert validator.is_valid([{"label": "cow", "score": 0.5}]) is (names is None)
        assert not validator.is_valid([{"label": 3, "score": 0.5}])
        assert not validator.is_valid(3 * [{"label": "cat", "score": 0.5}])
