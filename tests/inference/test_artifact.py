"""An archive with a manifest is held to it: files, sizes, digests, and the answer of its own example."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate.inference.errors import DeploymentError
from tidegate.inference.hashed_file import HashedFile, Identity
from tidegate.inference.worker.artifact import (
    Example,
    difference,
    disregarded,
    read_example,
    read_manifest,
    verify_files,
)


def facts(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def write(root: Path, **manifest: Any) -> dict[str, Any]:
    content = {"format_version": 1} | manifest
    (root / "manifest.json").write_text(json.dumps(content))
    return read_manifest(root)


def test_no_manifest_is_an_empty_one(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == {}


def test_a_manifest_without_a_version_is_another_tools_and_that_it_is_not_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"model": {"handler": "x"}}')
    assert read_manifest(tmp_path) == {}
    assert disregarded(tmp_path) == f' {tmp_path}/manifest.json is not read: it has no "format_version": 1.'
    write(tmp_path)
    assert disregarded(tmp_path) == ""
    (tmp_path / "manifest.json").unlink()
    assert disregarded(tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "manifest.json is not readable JSON: "),
        ("\udcff", "manifest.json is not readable JSON: "),
        ("[]", "manifest.json must hold a JSON object, not list."),
        ('{"format_version": 2}', "manifest.json has format_version 2; this server reads 1."),
        ('{"format_version": "1"}', "manifest.json has format_version '1'; this server reads 1."),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DeploymentError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_files_that_are_what_the_manifest_says_are_counted(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"weights")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_bytes(b"")
    (tmp_path / "unlisted.txt").write_text("may be here")
    manifest = write(tmp_path, files={"model.pth": facts(b"weights"), "code/inference.py": facts(b"")})
    assert verify_files(tmp_path, manifest) == 2
    assert verify_files(tmp_path, write(tmp_path, files={})) == 0


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"gone.pth": facts(b"")}, "/gone.pth is missing, although the manifest lists it."),
        ({"model.pth": facts(b"weight")}, "/model.pth has 7 bytes; the manifest says 6."),
        (
            {"model.pth": {}},
            "manifest.json: the entry of 'model.pth' in 'files' needs size_bytes, a number, and sha256, a",
        ),
        ({"model.pth": {"size_bytes": 7}}, "a number, and sha256, a text; it is {'size_bytes': 7}."),
        ({"model.pth": {"size_bytes": "7", "sha256": "0"}}, "needs size_bytes, a number, and"),
        ({"model.pth": facts(b"Weights")}, "/model.pth is not as it was saved: its SHA-256 is "),
        ({"../other": facts(b"")}, "manifest.json names '../other', which is outside the model directory."),
        ({"/etc/hostname": facts(b"")}, "manifest.json names '/etc/hostname', which is outside the model directory."),
        ({"link": facts(b"secret")}, "manifest.json names 'link', which is outside the model directory."),
        ({"a\0b": facts(b"")}, r"manifest.json names 'a\x00b', which is outside the model directory."),
        (["model.pth"], "manifest.json: 'files' must be an object of objects."),
        ({"model.pth": "abc"}, "manifest.json: 'files' must be an object of objects."),
        (None, "manifest.json: 'files' must be an object of objects."),
    ],
)
def test_files_that_are_not_what_the_manifest_says_are_named(tmp_path: Path, listed: Any, message: str) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "model.pth").write_bytes(b"weights")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DeploymentError) as caught:
        verify_files(root, write(root, files=listed))
    assert message in str(caught.value)


@pytest.mark.parametrize("edited", [b"twice", b"twice as long"])
def test_an_edited_file_is_served_as_its_error_says(tmp_path: Path, edited: bytes) -> None:
    """Without its entry in the manifest; the other files are still compared."""
    (tmp_path / "model.pth").write_bytes(b"weights")
    (tmp_path / "inference.py").write_bytes(edited)
    listed = {"model.pth": facts(b"weights"), "inference.py": facts(b"value")}
    with pytest.raises(DeploymentError) as caught:
        verify_files(tmp_path, write(tmp_path, files=listed))
    assert str(caught.value).endswith(
        " It was edited after save_model, or is damaged: run the training again, or remove the file's entry from "
        "'files' in manifest.json to serve it unchecked."
    )
    del listed["inference.py"]
    assert verify_files(tmp_path, write(tmp_path, files=listed)) == 1


def test_a_hash_that_is_known_is_believed_of_the_very_same_file_and_of_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"weights")
    manifest = write(tmp_path, files={"model.pth": facts(b"weights")})
    known = [HashedFile(Identity.of(path.stat()), "0" * 64).to_plain()]
    with pytest.raises(DeploymentError, match=f"its SHA-256 is {'0' * 64}"):
        verify_files(tmp_path, manifest, known)
    path.unlink()
    path.write_bytes(b"weights")
    assert verify_files(tmp_path, manifest, known) == 1


def test_a_hash_that_is_known_is_not_believed_of_a_file_that_has_taken_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and its opening, too."""
    path = tmp_path / "model.pth"
    path.write_bytes(b"weights")
    (tmp_path / "other").write_bytes(b"Weights")
    manifest = write(tmp_path, files={"model.pth": facts(b"weights")})
    known = [HashedFile(Identity.of(path.stat()), facts(b"weights")["sha256"]).to_plain()]
    opened = Path.open

    def replaced_first(each: Path, *how: Any) -> Any:
        (tmp_path / "other").rename(path)
        return opened(each, *how)

    monkeypatch.setattr(Path, "open", replaced_first)
    with pytest.raises(DeploymentError, match="is damaged"):
        verify_files(tmp_path, manifest, known)


EXAMPLE = {
    "request": {"file": "request.json", "content_type": "application/json", "accept": "text/csv"},
    "response": {"file": "response.csv", "content_type": "text/csv"},
}


def test_an_example_is_read_with_its_tolerances(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_bytes(b"[1]")
    (tmp_path / "response.csv").write_bytes(b"2\n")
    found = read_example(tmp_path, write(tmp_path, example=EXAMPLE | {"rtol": 0.5}))
    assert found == Example(
        body=b"[1]",
        content_type="application/json",
        accept="text/csv",
        expected=b"2\n",
        expected_type="text/csv",
        rtol=0.5,
        atol=1e-5,
    )


def test_an_archive_need_not_carry_an_example(tmp_path: Path) -> None:
    assert read_example(tmp_path, write(tmp_path)) is None


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({}, "manifest.json: 'example' is incomplete: it lacks 'request'."),
        ({"request": EXAMPLE["request"]}, "manifest.json: 'example' is incomplete: it lacks 'response'."),
        (None, "manifest.json: 'example' cannot be read: 'NoneType' object is not subscriptable."),
        (
            EXAMPLE | {"rtol": "small"},
            "manifest.json: 'example' cannot be read: could not convert string to float: 'small'.",
        ),
        (EXAMPLE, "request.json of the manifest's example cannot be read: No such file or directory."),
        (
            EXAMPLE | {"request": EXAMPLE["request"] | {"file": "../request.json"}},
            "manifest.json names '../request.json', which is outside the model directory.",
        ),
    ],
)
def test_an_example_that_cannot_be_read_is_refused(tmp_path: Path, example: Any, message: str) -> None:
    (tmp_path / "response.csv").write_bytes(b"2\n")
    if example != EXAMPLE:
        (tmp_path / "request.json").write_bytes(b"[1]")
    with pytest.raises(DeploymentError) as caught:
        read_example(tmp_path, write(tmp_path, example=example))
    assert message in str(caught.value)


# --- comparing answers


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


JSON, LINES, NPY, CSV = "application/json", "application/jsonlines", "application/x-npy", "text/csv"


def compare(expected: bytes, body: bytes, media_type: str, actual_type: str | None = None) -> str | None:
    example = Example(
        body=b"", content_type="", accept="", expected=expected, expected_type=media_type, rtol=1e-3, atol=1e-5
    )
    return difference(example, body, actual_type or media_type)


@pytest.mark.parametrize(
    ("expected", "body", "media_type"),
    [
        (b'{"a": [1, 2]}', b'{ "a":[1.0005, 2] }', JSON),
        (b"[0]", b"[0.000009]", JSON),
        (b"[NaN, Infinity, null, true]", b"[NaN, Infinity, null, true]", JSON),
        (b"1", b"1.0", JSON),
        (b'{"a": 1}\n[2]', b'{"a": 1.0001}\n[2]\n', LINES),
        (npy(np.arange(4.0)), npy(np.arange(4.0, dtype=np.float32) + 1e-6), NPY),
        (npy(np.float32(1)), npy(np.float32(1)), NPY),
        (b"1,2\n", b"1,2\n", CSV),
    ],
)
def test_answers_within_the_tolerance_are_the_same(expected: bytes, body: bytes, media_type: str) -> None:
    assert compare(expected, body, media_type) is None


@pytest.mark.parametrize(
    ("expected", "body", "media_type", "found"),
    [
        (b'{"p": [1, 2]}', b'{"p": [1, 2.1]}', JSON, "at $.p[1] it has 2.1, expected was 2"),
        (b"[NaN]", b"[1]", JSON, "at $[0] it has 1, expected was nan"),
        (b"[1]", b"[true]", JSON, "at $[0] it has True, expected was 1"),
        (b"[1]", b'["1"]', JSON, "at $[0] it has '1', expected was 1"),
        (b'"cat"', b'"dog"', JSON, "at $ it has 'dog', expected was 'cat'"),
        (b'{"a": 1}', b'{"b": 1}', JSON, "at $ it has the keys ['b'], expected were ['a']"),
        (b"[1, 2]", b"[1]", JSON, "at $ it has 1 entries, expected were 2"),
        (b"[1]", b"[", JSON, "it cannot be read: "),
        (b"[1]", b"", JSON, "it cannot be read: "),
        (b"[1e308]", b"[1" + b"0" * 400 + b"]", JSON, "it cannot be read: "),
        (b"[1]\n[2]", b"[1]", LINES, "at $ it has 1 entries, expected were 2"),
        (npy(np.arange(4.0)), npy(np.arange(4.0) + 1), NPY, "at array[0] it has 1.0, expected was 0.0"),
        (npy(np.zeros((0, 3))), npy(np.zeros((0, 5))), NPY, "its shape is (0, 5), expected was (0, 3)"),
        (npy(np.zeros(3)), b"", NPY, "it cannot be read: "),
        (npy(np.zeros(3)), b"PK\x03\x04", NPY, "it cannot be read: "),
        (b"cat,2\n", b"cat,2.5\n", CSV, "at $[0][1] it has 2.5, expected was 2.0"),
        (b"cat,2\n", b"dog,2\n", CSV, "at $[0][0] it has 'dog', expected was 'cat'"),
        (b"1,2\n", b"1,2\n1,2\n", CSV, "at $ it has 2 entries, expected were 1"),
    ],
)
def test_an_answer_that_differs_is_described(expected: bytes, body: bytes, media_type: str, found: str) -> None:
    assert (compare(expected, body, media_type) or "").startswith(found)


def test_another_type_is_a_difference_but_its_parameters_are_not() -> None:
    assert compare(b"1", b"1", JSON, "text/csv") == "its type is text/csv, expected was application/json"
    assert compare(b"1", b"1", JSON, "Application/JSON; charset=utf-8") is None


def test_a_long_value_is_shortened() -> None:
    found = compare(b'"a"', json.dumps("b" * 1000).encode(), JSON)
    assert found
    assert len(found) < 150
