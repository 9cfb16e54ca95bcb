"""The page as a document, what a model directory proposes, and which requests are the page's own: without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from tidegate.playground import loopback
from tidegate.playground.first_request import MAX_EXAMPLE_BYTES, first_request
from tidegate.playground.page import PLAYGROUND, REFERENCE, Sources, page


@pytest.mark.parametrize("sources", [PLAYGROUND, REFERENCE], ids=lambda sources: str(sources.document))
def test_the_page_is_one_document_whose_policy_names_its_own_style_and_script_alone(sources: Sources) -> None:
    """Nothing inline but the two that the policy has the hashes of, and no address of anywhere."""
    shown = page({"kind": "cloud", "token": "</script><b>", "region": "us-east-1"}, sources)
    document = shown.body.decode()
    policy = shown.headers["Content-Security-Policy"]
    for element in ("style", 'script type="module"'):
        source = document.partition(f"<{element}>")[2].partition(f"</{element.split()[0]}>")[0]
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert source
        assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert not re.findall(
        r"""\s(?:on\w+|style|src|href)\s*=\s*["'](?!#|data:,|/[a-z])""", document.partition("<script")[0]
    )
    assert set(re.findall(r"https?://[^\s'\"`)]+", document)) <= {
        "http://www.w3.org/2000/svg",  # a name, and nothing that is fetched
        "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html",
    }
    facts = re.search(r'<script type="application/json" id="facts">(.*?)</script>', document)
    assert facts is not None
    assert json.loads(facts[1])["token"] == "</script><b>"


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("127.0.0.1:8080", "", ""),
        ("localhost", "", "none"),
        ("LOCALHOST:1", "http://localhost:1", "same-origin"),
        ("[::1]:8080", "http://[::1]:8080", "same-origin"),
        ("127.8.9.1:8080", "http://127.8.9.1:8080", ""),
    ],
)
def test_a_request_of_this_machines_own_page_is_let_in(host: str, origin: str, site: str) -> None:
    """By any loopback name, where the page, if one is named, is the same."""
    assert loopback.refusal(host=host, origin=origin, site=site) is None


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("", "", ""),
        ("evil.example:8080", "", ""),
        ("127.0.0.1.evil.example", "", ""),
        ("localhost.evil.example", "", ""),
        ("10.0.0.1:8080", "", ""),
        ("[::1", "", ""),
        ("127.0.0.1:8080", "http://evil.example", ""),
        ("127.0.0.1:8080", "null", ""),
        ("127.0.0.1:8080", "http://127.0.0.1:9090", "same-site"),
        ("127.0.0.1:8080", "", "cross-site"),
        ("127.0.0.1:8080", "", "same-site"),
    ],
)
def test_a_request_by_another_name_or_of_another_page_is_refused_in_a_sentence(
    host: str, origin: str, site: str
) -> None:
    """Rebound names in Host, other pages in Origin, and what browsers say of both in Sec-Fetch-Site."""
    refused = loopback.refusal(host=host, origin=origin, site=site)
    assert refused is not None
    assert refused.startswith("This page answers")


def model_directory(root: Path, manifest: object, **files: bytes) -> Path:
    for name, data in {"manifest_json": json.dumps(manifest).encode(), **files}.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return root


def example_of(name: str) -> dict[str, object]:
    request = {"file": name, "content_type": "text/csv", "accept": "application/json"}
    return {"format_version": 1, "name": "cats", "example": {"request": request}}


def test_the_first_request_is_the_example_of_the_manifest_with_labels_colours_and_chat(tmp_path: Path) -> None:
    """Everything that the page proposes comes from the archive."""
    directory = model_directory(
        tmp_path,
        example_of("example/request.csv"),
        example__request_csv=b"1,2\n",
        labels_json=b'["cat", 7]',
        code__models_yaml=b'paint:\n  palette:\n    colours:\n      sky: "#6699DD"\n      "old brick": \'#b0705a\'\n',
        code__inference_py=b"def model_fn(d): ...\n\ndef chat_fn(request, model): ...\n",
    )
    assert first_request(directory) == {
        "name": "cats",
        "example": {
            "content_type": "text/csv",
            "accept": "application/json",
            "body": base64.b64encode(b"1,2\n").decode(),
        },
        "reason": "",
        "labels": ["cat", "7"],
        "colours": {"sky": "#6699dd", "old brick": "#b0705a"},
        "chat": True,
    }


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ([], "another tool's"),
        ({"format_version": 1}, "carries no example"),
        ({"format_version": 1, "example": {"request": {"file": "x"}}}, "incomplete"),
        ({"format_version": 1, "example": 7}, "incomplete"),
        (example_of("example/missing.csv"), "cannot be read"),
        (example_of("../secret.csv"), "cannot be read"),
        (example_of("example/large.csv"), f"more than {MAX_EXAMPLE_BYTES} bytes"),
    ],
)
def test_a_model_without_a_usable_example_says_why_in_a_sentence(tmp_path: Path, manifest: object, reason: str) -> None:
    """Nothing outside the directory is read, nothing large is sent, and the page goes on without."""
    (tmp_path / "secret.csv").write_bytes(b"1")
    (tmp_path / "model").mkdir()
    directory = model_directory(
        tmp_path / "model", manifest, example__large_csv=bytes(MAX_EXAMPLE_BYTES + 1), labels_json=b"{"
    )
    found = first_request(directory)
    assert found["example"] is None
    assert reason in found["reason"]
    assert found["reason"].count(".") >= 1
    assert found["labels"] == []


def test_an_archive_that_was_packed_with_its_folder_is_looked_into_as_the_server_does(tmp_path: Path) -> None:
    (tmp_path / "around" / "cats").mkdir(parents=True)
    inside = model_directory(
        tmp_path / "around" / "cats", example_of("example/request.csv"), example__request_csv=b"1,2\n"
    )
    found = first_request(tmp_path / "around")
    assert found == first_request(inside)
    assert found["example"]["content_type"] == "text/csv"


def test_an_empty_directory_has_no_first_request(tmp_path: Path) -> None:
    """Most archives have no manifest, which is no fault; one that cannot be read is."""
    found = first_request(tmp_path)
    assert found["example"] is None
    assert "no manifest.json" in found["reason"]
    assert "cannot" not in found["reason"]
    assert found["chat"] is False
    (tmp_path / "manifest.json").symlink_to(tmp_path / "nowhere")
    assert "manifest.json cannot be read" in first_request(tmp_path)["reason"]
