"""The network of examples/paint: a contract of shapes and values, and the same picture for the same map always."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from examples.paint.scenes import CLASSES

CODE_DIR = Path(__file__).parents[2] / "examples" / "paint" / "code"


@pytest.fixture(scope="module")
def module() -> Iterator[Any]:
    sys.path.insert(0, str(CODE_DIR))
    try:
        import generator

        yield generator
    finally:
        sys.path.remove(str(CODE_DIR))
        sys.modules.pop("generator", None)


@pytest.fixture(scope="module")
def network(module: Any) -> Any:
    """With random weights, and with statistics of a first batch."""
    torch.manual_seed(3)
    network = module.Generator(classes=8, width=8)
    network(torch.randint(0, 8, (4, 32, 32)))
    return network.eval()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 13), (8, 8), (64, 64), (65, 40)])
def test_a_map_of_any_size_becomes_a_picture_of_that_size(network: Any, height: int, width: int) -> None:
    with torch.inference_mode():
        pictures = network(torch.randint(0, 8, (2, height, width)))
    assert pictures.shape == (2, 3, height, width)
    assert pictures.dtype == torch.float32
    assert pictures.abs().max() <= 1


def test_a_map_becomes_the_same_picture_in_every_batch(network: Any) -> None:
    """Nothing is drawn by lot, and nothing is taken from the neighbours."""
    labels = torch.randint(0, 8, (5, 24, 40))
    with torch.inference_mode():
        together = network(labels)
        alone = torch.cat([network(each[None]) for each in labels])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_map_decides_pixel_by_pixel(network: Any) -> None:
    """A change far to the right changes the right, and leaves the left as it is."""
    labels = torch.zeros(1, 16, 160, dtype=torch.int64)
    changed = labels.clone()
    changed[..., 120:] = 3
    with torch.inference_mode():
        before, after = network(labels), network(changed)
    assert torch.equal(before[..., :40], after[..., :40])
    assert (before[..., 124:] - after[..., 124:]).abs().mean() > 0.01


def test_one_class_is_not_one_colour(network: Any) -> None:
    """There is noise to make texture of."""
    with torch.inference_mode():
        assert network(torch.zeros(1, 64, 64, dtype=torch.int64))[0, :, 20:40, 20:40].std(dim=(1, 2)).min() > 0


def test_the_noise_is_spread_evenly_and_repeats_nowhere(module: Any) -> None:
    values = module.noise(3, 128, 256, torch.device("cpu"))
    assert values.shape == (3, 128, 256)
    assert values.abs().max() <= 1
    assert values.mean().abs() < 0.01
    assert values.std() == pytest.approx(3**-0.5, abs=0.01)
    for one, other in ((values[0], values[1]), (values[:, :64], values[:, 64:]), (values[..., :-1], values[..., 1:])):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].abs() < 0.03


def test_a_label_that_is_no_class_is_an_error(network: Any) -> None:
    with pytest.raises(RuntimeError, match="Class values must be smaller"):
        network(torch.full((1, 8, 8), 8))


def test_the_palette_has_the_classes_of_the_scenes_in_their_order() -> None:
    """A class is its number in training, and its colour in a map."""
    runs = yaml.safe_load((CODE_DIR / "models.yaml").read_text())
    assert {run: options["palette"]["unknown"] for run, options in runs.items()} == {
        "paint": "nearest",
        "paint-strict": "error",
    }
    for run in runs.values():
        assert tuple(run["palette"]["colours"]) == CLASSES
        assert run["arguments"]["classes"] == len(CLASSES)
