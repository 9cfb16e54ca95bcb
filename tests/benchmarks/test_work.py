"""The work: what is measured has to be right before it is fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import bodies, work


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    work.write_weights(folder)
    return folder


@pytest.mark.parametrize("name", ["W0", "W1", "W2"])
def test_a_batch_gives_what_its_requests_give_alone(name: str, weights: Path) -> None:
    body, doing = bodies.make()[name].data, work.load(name, weights)
    alone = json.loads(doing.encode(doing.predict([doing.decode(body)])[0]))
    batch = [json.loads(doing.encode(each)) for each in doing.predict([doing.decode(body) for _ in range(3)])]
    assert len(batch) == 3
    for each in batch:
        assert flat(each) == pytest.approx(flat(alone), rel=1e-3, abs=1e-5)


def flat(answer: object) -> list[float]:
    if isinstance(answer, dict):
        return [number for value in answer.values() if not isinstance(value, str) for number in flat(value)]
    return [float(each) for each in answer] if isinstance(answer, list) else [float(answer)]  # type: ignore[arg-type]


def test_the_network_of_w2_has_the_size_of_a_resnet_18() -> None:
    assert sum(each.numel() for each in work.resnet18().parameters()) == 11_689_512


def test_the_weights_are_the_same_in_every_run(tmp_path: Path, weights: Path) -> None:
    work.write_weights(tmp_path)
    first, second = (torch.load(folder / "W1.pth", weights_only=True) for folder in (weights, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)
