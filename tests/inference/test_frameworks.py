"""A model that another release of Python or torch saved is said to be one, once, at its load."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.running import running
from tidegate.inference.worker.frameworks import OtherRelease, other_releases, sentence, versions_here

HERE = {"python": "3.11.7", "torch": "2.13.0+cpu"}


@pytest.mark.parametrize(
    "saved",
    [
        {"python": "3.11.7", "torch": "2.13.0+cpu"},
        {"python": "3.11.0rc1", "torch": "2.13.1+cu126"},
        {"python": "3.11", "torch": "2.13.0a0+gitabc"},
        {"torch": None, "python": 3.12, "numpy": "1.0"},
        {"python": "new", "torch": ""},
        "2.12",
        None,
    ],
)
def test_nothing_is_said_of_the_same_release_or_of_what_is_no_version(saved: Any) -> None:
    assert other_releases({"frameworks": saved}, HERE) == []
    assert other_releases({}, HERE) == []


def test_another_major_or_minor_number_is_another_release() -> None:
    others = other_releases({"frameworks": {"python": "3.1.7", "torch": "2.130.0"}}, HERE)
    assert others == [
        OtherRelease(name="python", saved="3.1.7", here="3.11.7"),
        OtherRelease(name="torch", saved="2.130.0", here="2.13.0+cpu"),
    ]
    assert sentence(others, asked=False) == (
        "the model was saved by python 3.1.7 (here 3.11.7) and torch 2.130.0 (here 2.13.0+cpu): it has no example that "
        "would show more"
    )


SCRIPT = "def model_fn(model_dir):\n    return lambda data: data\n"


@pytest.mark.parametrize("saved", [{"torch": "1.13.1"}, {}])
def test_the_server_warns_once_and_only_where_they_differ(saved: dict[str, str]) -> None:
    """Not once for each worker."""
    manifest = {"format_version": 1, "files": {}, "frameworks": versions_here() | saved}
    with running({"code/inference.py": SCRIPT, "manifest.json": json.dumps(manifest)}, TIDEGATE_WORKERS="2") as server:
        lines = [line for line in server.entries() if "saved by" in line["message"]]
    assert [line["level"] for line in lines] == ["warning"] * len(saved)
    assert all("torch 1.13.1 (here " in line["message"] for line in lines)
