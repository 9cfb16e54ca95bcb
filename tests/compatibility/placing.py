"""The archives of this folder, laid out with the weights that their scripts want."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import torch

from tidegate import handler

ARCHIVES = Path(__file__).parent / "archives"
VOCABULARY = {"the": 2, "film": 3, "was": 4, "good": 5, "bad": 6}


def place(name: str, model_dir: Path) -> Path:
    """Copy the archive `name` to `model_dir` and write its weights, the same ones each time."""
    if name != "default":
        shutil.copytree(ARCHIVES / name, model_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    model_dir.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if name == "default":
        _save_script(torch.nn.Flatten(), model_dir / "model.pt")
    elif name == "mnist":
        state = {
            "conv1.weight": normal(4, 1, 5, 5),
            "conv1.bias": normal(4),
            "fc1.weight": normal(10, 576),
            "fc1.bias": normal(10),
        }
        torch.save(state, model_dir / "model.pth")
    elif name == "handler_class":
        torch.save({"weight": normal(2, 3), "bias": normal(2)}, model_dir / "model.pth")
        # As `pack` does it.
        shutil.copyfile(handler.__file__, model_dir / "code" / "tidegate_handler.py")
    elif name == "torchscript_image":
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
        network.load_state_dict({"1.weight": normal(3, 192), "1.bias": normal(3)})
        _save_script(network, model_dir / "resnet.pt")
        (model_dir / "labels.txt").write_text("cat\ndog\nbird\n")
    elif name == "text_classifier":
        (model_dir / "vocab.json").write_text(json.dumps(VOCABULARY))
        state = {
            "embedding.weight": normal(len(VOCABULARY) + 2, 4),
            "head.weight": normal(2, 4),
            "head.bias": normal(2),
        }
        torch.save(state, model_dir / "model.pth")
    return model_dir


def _save_script(module: torch.nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
