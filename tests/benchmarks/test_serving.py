"""Who goes through which trial, and how a run is asked for."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from benchmarks import grid, probes, serving, trials
from benchmarks.__main__ import _parser, _plan, main
from benchmarks.contestants import MAIN, PLAIN, PREPARE, Contestant
from benchmarks.grid import Cell
from benchmarks.report import Results
from benchmarks.serving import PARTS, meant_for
from tests.benchmarks.records import carried, cell, footprint, trial


def labels(kind: str, trials_of: str = "all") -> list[str]:
    return [each.label for each in meant_for(kind, MAIN, trials_of=trials_of)]


@pytest.mark.parametrize("kind", trials.FOR_ALL)
def test_a_trial_for_all_is_for_every_server_in_each_of_its_shapes(kind: str) -> None:
    everyone = [each.label for each in MAIN if not each.is_control]
    assert [each for each in labels(kind) if "queue of" not in each] == everyone
    assert {each.split(",")[0] for each in labels(kind, "us")} == {"tidegate"}


def test_overload_is_tried_with_a_short_queue_too() -> None:
    queues = [each for each in labels("overload", "us") if "queue of" in each]
    assert queues == ["tidegate, queue of 100", "tidegate, batches of 8, queue of 100"]


@pytest.mark.parametrize("kind", sorted(probes.FOR_US.keys() - probes.IN_ONE_SHAPE))
def test_a_script_that_misbehaves_is_served_in_both_shapes(kind: str) -> None:
    assert labels(kind) == ["tidegate", "tidegate, batches of 8"]


@pytest.mark.parametrize("kind", sorted(probes.IN_ONE_SHAPE))
def test_a_trial_that_chooses_its_shape_is_made_once(kind: str) -> None:
    assert labels(kind) == ["tidegate"]


def test_a_run_that_asks_for_nothing_measures_what_the_goals_are_about_three_times() -> None:
    plan = _plan(_parser().parse_args(["serving"]))
    assert (plan.repetitions, plan.trials_of) == (3, "us")
    assert plan.parts == ("grid", "frontend", "kill", "overload", "hang", "vanishing")


def test_all_is_every_part_and_every_peer() -> None:
    plan = _plan(_parser().parse_args(["serving", "--parts", "all", "--peers", "all"]))
    assert (plan.parts, plan.peers) == (PARTS, tuple(PREPARE))


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["serving", "--parts", "grid,footprint"])
    assert "unknown: footprint; there are: grid, frontend" in capsys.readouterr().err


def written(folder: Path, **records: Any) -> Path:
    output = folder / "serving"
    results = Results(command="first", machine={"revision": "a"}, settings={}, **records)
    output.with_suffix(".json").write_text(json.dumps(asdict(results)))
    return output


def test_what_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    records: dict[str, Any] = {
        "cells": [cell("tidegate")],
        "footprints": [footprint("mosec")],
        "carried": [carried("tidegate", frontend_us=50.0)],
        "trials": [trial("kill", failed=0)],
    }
    output = written(tmp_path, **records)
    found = serving.read(output.with_suffix(".json"))
    assert {name: getattr(found, name) for name in records} == records
    assert found.parts() == {"grid", "frontend", "kill"}


def test_a_part_that_is_there_is_not_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.__main__.signal.signal", lambda *_: None)
    output = written(tmp_path, cells=[cell("tidegate")])
    assert main(["serving", "--add", "--parts", "grid,kill", "--output", str(output)]) == 2
    assert "has grid already: name other parts" in capsys.readouterr().err


def test_a_peer_that_is_measured_once_has_no_block_in_later_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []

    def block(contestant: Contestant, *_: object, repetition: int, **__: object) -> list[Cell]:
        seen.append((repetition, contestant.label))
        return []

    monkeypatch.setattr(grid, "block", block)
    monkeypatch.setattr(grid, "bare_loop", lambda *_, **__: None)
    chosen = [each for each in MAIN if each.peer in ("fastapi", "litserve") and each.shape == PLAIN]
    order = random.SystemRandom()
    list(grid.run(chosen, {"W0": ANY}, ["W0"], repetitions=2, seconds=1, order=order, once=["litserve"]))
    assert sorted(seen) == [(0, "fastapi"), (0, "litserve"), (1, "fastapi")]
