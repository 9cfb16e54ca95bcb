"""The other network of the training: it says of each patch of a picture whether it is a true one of its map."""

import torch
from torch import nn
from torch.nn import functional


class Discriminator(nn.Module):
    """Three convolutions and a verdict for every patch of 4 x 4 pixels; only the training needs it."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.spectral_norm
        self.layers = nn.ModuleList(
            [
                normed(nn.Conv2d(classes + 3, width, 4, stride=2, padding=1)),
                normed(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
                normed(nn.Conv2d(2 * width, 2 * width, 3, padding=1)),
            ]
        )
        self.verdict = normed(nn.Conv2d(2 * width, 1, 3, padding=1))

    def forward(self, pictures: torch.Tensor, areas: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Pictures (N, 3, H, W) and maps as (N, classes, H, W); gives the verdicts, and what each layer saw."""
        features = torch.cat([pictures, areas], dim=1)
        seen = []
        for layer in self.layers:
            features = functional.leaky_relu(layer(features), 0.2)
            seen.append(features)
        return self.verdict(features), seen
