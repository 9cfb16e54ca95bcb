"""SIGKILL at every point of publish, retire and label: nothing half is ever served, and the next command works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

BEFORE = {"1": "old", "2": "old"}


@pytest.fixture(scope="module", params=["folder", "bucket"])
def kills(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each kill left; the last one of each action came too late."""
    work_dir = tmp_path_factory.mktemp(request.param)
    done = subprocess.run(
        [sys.executable, "-m", "tests.training_hooks.killed_publishes", request.param, str(work_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(kills: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    found = [kill for kill in kills if kill["action"] == action]
    assert [kill["killed"] for kill in found] == [True] * (len(found) - 1) + [False]
    assert len(found) >= 8
    return found


def test_a_publish_that_is_killed_leaves_all_of_its_version_or_nothing(kills: list[dict[str, Any]]) -> None:
    """What was there stays, and the same command given again publishes the whole model."""
    for kill in of(kills, "publish"):
        assert kill["seen"] in (BEFORE, {**BEFORE, "3": "new"}), kill
        assert kill["again"] == "", kill
        new = {number: weights for number, weights in kill["then"].items() if number not in kill["seen"]}
        assert list(new.values()) == ["new"], kill
        assert kill["then"] == {**kill["seen"], **new}, kill
        assert kill["then_labels"] == {"stable": 1}, kill
    outcomes = [len(kill["seen"]) for kill in of(kills, "publish")]
    assert outcomes == sorted(outcomes)
    assert {2, 3} == set(outcomes)


def test_a_retire_that_is_killed_is_finished_by_the_next(kills: list[dict[str, Any]]) -> None:
    """The version is whole or gone, never half, and nothing of it is left in the end."""
    for kill in of(kills, "retire"):
        assert kill["seen"] in (BEFORE, {"1": "old"}), kill
        assert kill["then"] == {"1": "old"}, kill
        assert kill["left"] == ["net/.last-version"], kill
        assert kill["again"] == "" or "has no version 2; its versions are 1" in kill["again"], kill
    assert {len(kill["seen"]) for kill in of(kills, "retire")} == {1, 2}


def test_a_label_that_is_killed_means_the_old_or_the_new_version(kills: list[dict[str, Any]]) -> None:
    """labels.json is never half written, and no version is touched."""
    for kill in of(kills, "label"):
        assert kill["labels"] in ({"stable": 1}, {"stable": 2}), kill
        assert kill["then_labels"] == {"stable": 2}, kill
        assert kill["seen"] == kill["then"] == BEFORE, kill
        assert kill["left"] == [], kill
