"""The network: from a patient's measurements to how far the disease will have progressed a year later.

The constants by which columns are scaled are part of it, so that a request holds the measurements as they are.
"""

import torch
from torch import nn


class TabularNet(nn.Module):
    """Takes rows of `features` numbers, float32 of shape (N, features); gives one number for each, of shape (N, 1)."""

    def __init__(self, features: int, hidden: int = 32) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_std", torch.ones(()))
        self.straight = nn.Linear(features, 1)
        self.bent = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Dropout(0.3), nn.Linear(hidden, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Estimate, in the units of the table's target."""
        scaled = (rows - self.feature_mean) / self.feature_std
        return (self.straight(scaled) + self.bent(scaled)) * self.target_std + self.target_mean
