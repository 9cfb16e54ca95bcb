"""The network, for training and for serving."""

import torch


class Moons(torch.nn.Module):
    """Two numbers in, the scores of two classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """`points` is float32 (n, 2); returns float32 (n, 2)."""
        scores: torch.Tensor = self.layers(points)
        return scores
