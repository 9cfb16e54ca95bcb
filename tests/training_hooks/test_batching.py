"""What save_model is told about batching stands in the manifest, or is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tidegate.training_hooks import ArtifactError, save_model

from .artifacts import manifest_of


@pytest.mark.parametrize(
    "said",
    [
        True,
        False,
        "auto",
        {"max_batch_size": 8, "max_wait_ms": 5},
        {"max_batch_size": 1},
        {"max_wait_ms": 0.5},
        {"max_batch_size": "auto"},
        {"max_batch_size": "auto", "max_wait_ms": 2},
    ],
)
def test_what_is_said_about_batching_stands_in_the_manifest(tmp_path: Path, said: Any) -> None:
    save_model(nn.Linear(2, 2), model_dir=tmp_path, batching=said)

    assert manifest_of(tmp_path)["batching"] == said


def test_numbers_of_numpy_become_plain_ones(tmp_path: Path) -> None:
    save_model(nn.Linear(2, 2), model_dir=tmp_path, batching={"max_batch_size": np.int64(8)})

    assert manifest_of(tmp_path)["batching"] == {"max_batch_size": 8}


def test_a_manifest_of_which_nothing_was_said_says_nothing(tmp_path: Path) -> None:
    save_model(nn.Linear(2, 2), model_dir=tmp_path)

    assert "batching" not in manifest_of(tmp_path)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (8, 'batching is 8; give True, False, "auto" or the limits'),
        ("on", "batching is 'on'; give True"),
        ({}, "batching is a dict; give True"),
        ({"size": 8}, "batching has the key 'size'; there are max_batch_size and max_wait_ms"),
        ({"max_batch_size": 0}, "batching's max_batch_size is 0; it must be a whole number from 1 to 4096"),
        ({"max_batch_size": True}, "batching's max_batch_size is True; it must be a whole number from 1 to 4096"),
        (
            {"max_batch_size": "many"},
            "batching's max_batch_size is 'many'; it must be a whole number from 1 to 4096, or \"auto\"",
        ),
        ({"max_batch_size": 8.5}, "batching's max_batch_size is 8.5; it must be a whole number from 1 to 4096"),
        ({"max_wait_ms": -1}, "batching's max_wait_ms is -1; it must be a number from 0 to 60000"),
        ({"max_wait_ms": float("nan")}, "batching's max_wait_ms is nan; it must be a number from 0 to 60000"),
        ({"max_wait_ms": "5"}, "batching's max_wait_ms is '5'; it must be a number from 0 to 60000"),
    ],
)
def test_anything_else_is_refused_in_one_sentence_and_nothing_is_written(
    tmp_path: Path, said: Any, sentence: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        save_model(nn.Linear(2, 2), model_dir=tmp_path, batching=said)

    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []
