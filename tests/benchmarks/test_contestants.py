"""Who is measured and with what."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import contestants
from benchmarks.bodies import make
from benchmarks.contestants import (
    BATCHED,
    MAIN,
    PLAIN,
    PREPARE,
    USUAL,
    Contestant,
    Shape,
    as_sent,
    prepare,
    with_two_threads,
)
from benchmarks.environments import REQUIREMENTS, _requirements


@pytest.mark.parametrize("name", ["base", "plot", *PREPARE])
def test_every_environment_is_pinned(name: str) -> None:
    """Ours is made of the project's own dependencies at the project's own pins."""
    lines = [line for line in _requirements(name).splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.]+", line) for line in lines)


def test_every_peer_is_measured_and_has_an_application() -> None:
    assert {each.peer for each in MAIN} == set(PREPARE)
    for peer in PREPARE:
        application = "inference.py" if peer == "tidegate" else "app.py"
        assert (REQUIREMENTS / peer / application).is_file()


def test_the_main_table_is_two_workers_with_one_thread_for_everyone_who_has_workers() -> None:
    assert {(each.shape.workers, each.shape.threads) for each in MAIN if each.peer != "one_process"} == {(2, 1)}


@pytest.mark.parametrize("peer", ["tidegate", "mosec", "litserve"])
def test_who_batches_is_measured_with_and_without(peer: str) -> None:
    assert [each.shape for each in MAIN if each.peer == peer and not each.is_control] == [PLAIN, BATCHED]


def test_every_row_has_a_label_of_its_own() -> None:
    assert len({each.label for each in MAIN}) == len(MAIN)


def test_the_control_is_our_server_in_the_same_shape() -> None:
    (control,) = [each for each in MAIN if each.is_control]
    (ours,) = [each for each in MAIN if each.label == "tidegate"]
    assert (control.peer, control.shape, control.environment) == (ours.peer, ours.shape, ours.environment)


def test_all_but_flask_are_measured_where_nobody_is_named() -> None:
    assert set(USUAL) == set(PREPARE) - {"flask"}


def test_the_other_shapes_have_one_worker_and_the_labels_of_the_grid() -> None:
    assert [(each.label, str(each.shape)) for each in with_two_threads("mosec")] == [
        ("mosec", "1x2 b1"),
        ("mosec, batches of 8", "1x2 b8"),
    ]
    assert [str(each.shape) for each in with_two_threads("fastapi")] == ["1x2 b1"]


@pytest.fixture
def anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Contestants are laid out in a folder of the test, and no environment is made for them."""
    monkeypatch.setattr(contestants, "BUILD", tmp_path)
    monkeypatch.setattr(contestants, "python_of", lambda _: Path(sys.executable))
    monkeypatch.setattr(contestants, "WEIGHTS", tmp_path / "weights")
    return tmp_path


def test_ours_without_batching_is_what_an_archive_gets_that_asks_for_nothing(anywhere: Path) -> None:
    """No setting of batches, and no manifest."""
    start = prepare(Contestant(label="x", peer="tidegate", shape=PLAIN), "W0", 1)
    assert not [name for name in start.environment if "BATCH" in name and name.startswith("TIDEGATE")]
    assert "TIDEGATE_MAX_WAIT_MS" not in start.environment
    archive = start.folder / "model"
    files = {each.relative_to(archive) for each in archive.rglob("*") if each.is_file()}
    assert files == {Path("code/inference.py"), Path("code/work.py")}


def test_ours_in_batches_declares_that_requests_may_be_joined(anywhere: Path) -> None:
    start = prepare(Contestant(label="x", peer="tidegate", shape=BATCHED), "W0", 1)
    assert start.environment["TIDEGATE_MAX_BATCH_SIZE"] == "8"
    assert '"batching": true' in (start.folder / "model" / "manifest.json").read_text()


def test_the_process_with_threads_serves_the_same_archive_as_ours(anywhere: Path) -> None:
    folders = [
        prepare(Contestant(label="x", peer=peer, shape=Shape(workers=1)), "W0", 1).folder
        for peer in ("tidegate", "one_process", "torchserve")
    ]
    scripts = {(folder / "model" / "code" / "inference.py").read_text() for folder in folders}
    assert len(scripts) == 1


def test_everyone_gets_the_same_bytes() -> None:
    bodies = make()
    assert {work: len(body.data) for work, body in bodies.items() if work != "W2"} == {"W0": 1024, "W1": 1152}
    assert bodies["W2"].data[:2] == b"\xff\xd8"
    for contestant in MAIN:
        assert {as_sent(contestant, body).data for body in bodies.values()} == {body.data for body in bodies.values()}
