"""What an archive declares about batching, and how it goes together with the deployer's environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.inference.batching import MAX_AUTO_SIZE, Auto, Batching, declared, declared_in
from tidegate.inference.errors import DeploymentError


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, Batching()),
        ("auto", Batching()),
        (True, Batching(joins=True)),
        (False, Batching(joins=False)),
        ({"max_batch_size": 8, "max_wait_ms": 5}, Batching(joins=True, max_batch_size=8, max_wait_ms=5.0)),
        ({"max_wait_ms": 0}, Batching(joins=True, max_wait_ms=0.0)),
        ({"max_batch_size": "auto"}, Batching(joins=True, max_batch_size="auto")),
    ],
)
def test_every_form_is_read(tmp_path: Path, said: Any, expected: Batching) -> None:
    assert declared({"batching": said}) == expected
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 1, "batching": said}), encoding="utf-8")
    assert declared_in(tmp_path) == expected


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (8, "'batching' is 8; it must be true, false, \"auto\" or an object"),
        ("on", "'batching' is 'on'; it must be"),
        ([], "'batching' is []; it must be"),
        ({}, "'batching' is {}; it must be"),
        ({"size": 8}, "'batching' is {'size': 8}; it must be"),
        ({"max_batch_size": 0}, "max_batch_size is 0; it must be a whole number from 1 to 4096"),
        ({"max_batch_size": True}, "max_batch_size is True; it must be"),
        ({"max_batch_size": 8.0}, "max_batch_size is 8.0; it must be"),
        ({"max_batch_size": "many"}, "max_batch_size is 'many'; it must be a whole number from 1 to 4096, or \"auto\""),
        ({"max_batch_size": None}, "'batching' is {'max_batch_size': None}; it must be"),
        ({"max_wait_ms": -1}, "max_wait_ms is -1; it must be a number from 0 to 60000"),
        ({"max_wait_ms": "5"}, "max_wait_ms is '5'; it must be"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(said: Any, sentence: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        declared({"batching": said})
    assert sentence in str(caught.value)


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"batching": true}', '{"batching": 8}', b"\xff"], ids=str)
def test_a_manifest_that_is_not_ours_or_not_readable_declares_nothing(tmp_path: Path, manifest: Any) -> None:
    """What is wrong with it is the worker's to say, which reads all of it."""
    if manifest is not None:
        (tmp_path / "manifest.json").write_bytes(manifest.encode() if isinstance(manifest, str) else manifest)
    assert declared_in(tmp_path) == Batching()
    assert declared_in(tmp_path / "missing") == Batching()


@pytest.mark.parametrize(
    ("said", "asked", "size"),
    [
        (Batching(), None, 1),
        (Batching(), 16, 16),
        (Batching(joins=True), None, 1),
        (Batching(joins=True, max_batch_size=8), None, 8),
        (Batching(joins=True, max_batch_size=8), 2, 2),
        (Batching(joins=True, max_batch_size=8), 1, 1),
        (Batching(joins=False), 16, 1),
        (Batching(joins=False), "auto", 1),
        (Batching(), "auto", MAX_AUTO_SIZE),
        (Batching(joins=True, max_batch_size="auto"), None, MAX_AUTO_SIZE),
        (Batching(joins=True, max_batch_size="auto"), 8, 8),
        (Batching(joins=True, max_batch_size=8), "auto", MAX_AUTO_SIZE),
    ],
)
def test_the_environment_has_the_last_word_on_the_size_but_joins_nothing_that_must_not_be(
    said: Batching, asked: int | Auto | None, size: int
) -> None:
    assert said.size(asked) == size


@pytest.mark.parametrize(
    ("said", "asked", "finds"),
    [
        (Batching(), None, False),
        (Batching(), "auto", True),
        (Batching(), 8, False),
        (Batching(joins=False), "auto", True),
        (Batching(joins=True, max_batch_size=8), None, False),
        (Batching(joins=True, max_batch_size="auto"), None, True),
        (Batching(joins=True, max_batch_size="auto"), 8, False),
    ],
)
def test_a_size_is_found_only_where_the_environment_or_else_the_archive_asks_for_that(
    said: Batching, asked: int | Auto | None, finds: bool
) -> None:
    assert said.finds_size(asked) is finds


@pytest.mark.parametrize(
    ("said", "asked", "wait_ms"), [(None, None, 5), (None, 0.0, 0), (0.0, None, 0), (20.0, None, 20), (20.0, 1.0, 1)]
)
def test_the_environment_has_the_last_word_on_the_wait(said: float | None, asked: float | None, wait_ms: float) -> None:
    assert Batching(joins=True, max_wait_ms=said).wait_ms(asked) == wait_ms
