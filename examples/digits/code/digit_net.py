"""The network, in a file of its own because training and serving both need it."""

import torch
from torch import nn


class DigitNet(nn.Module):
    """A small convolutional net for images of 8 x 8 pixels.

    Input: float32 of shape (N, 8, 8), normalised. Output: float32 logits of shape (N, 10).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, kernel_size=3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return one row of logits per image."""
        return self.classifier(self.features(images.unsqueeze(1)))
