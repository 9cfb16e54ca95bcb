"""Who is measured and with what."""

from __future__ import annotations

import re

import pytest

from benchmarks.bodies import make
from benchmarks.contestants import MAIN, PREPARE, Shape, as_sent, shapes_of
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


def test_the_main_table_is_two_workers_with_one_thread_for_everyone() -> None:
    assert {(each.shape.workers, each.shape.threads) for each in MAIN} == {(2, 1)}


def test_the_control_is_our_server_in_our_shape() -> None:
    ours, control = [each for each in MAIN if each.peer == "tidegate"]
    assert (control.shape, control.environment) == (ours.shape, ours.environment)


def test_the_shapes_of_a_server_that_batches_are_four() -> None:
    assert [str(shape) for shape in shapes_of("mosec")] == ["2x1 b1", "2x1 b8", "1x2 b1", "1x2 b8"]
    assert shapes_of("fastapi") == [Shape(), Shape(workers=1, threads=2)]


def test_everyone_gets_the_same_bytes() -> None:
    bodies = make()
    assert {work: len(body.data) for work, body in bodies.items() if work != "W2"} == {"W0": 1024, "W1": 1152}
    assert bodies["W2"].data[:2] == b"\xff\xd8"
    for contestant in MAIN:
        assert {as_sent(contestant, body).data for body in bodies.values()} == {body.data for body in bodies.values()}
