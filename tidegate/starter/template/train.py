"""Trains the model and leaves it in the directory that SM_MODEL_DIR names: here, and in a training job of SageMaker."""

import argparse
import math
import os
import sys
from pathlib import Path

import torch

from tidegate.training_hooks import save_model

CODE = Path(__file__).parent / "code"
sys.path.insert(0, str(CODE))

from network import Moons  # noqa: E402 - found in code/


def moons(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two half-moons that interlock, float32 (count, 2), and which of the two each is of, int64 (count,)."""
    which = torch.arange(count) % 2
    angle = torch.rand(count) * math.pi
    x = torch.where(which == 0, angle.cos(), 1 - angle.cos())
    y = torch.where(which == 0, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], dim=1) + 0.1 * torch.randn(count, 2), which


def main() -> None:
    """Train, say how good it is, and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=300)
    epochs = parser.parse_args().epochs
    torch.manual_seed(7)
    points, labels = moons(1000)
    model = Moons()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(epochs):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(points), labels).backward()
        optimizer.step()
    points, labels = moons(1000)
    print(f"accuracy: {(model(points).argmax(dim=1) == labels).float().mean().item():.3f}")
    example = torch.tensor([[0.0, 1.0], [1.0, -0.5]])
    save_model(model, model_dir=os.environ.get("SM_MODEL_DIR", "build/model"), code_dir=CODE, example=example)


if __name__ == "__main__":
    main()
