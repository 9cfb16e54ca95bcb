"""The network, in a file of its own because training and serving both need it."""

import torch
from torch import nn


class StoryNet(nn.Module):
    """Says which character comes next.

    Input: int64 of shape (N, length), places in the alphabet, and the state that an earlier call returned. Output:
    float32 logits of shape (N, length, characters), and the state after the last of them.
    """

    def __init__(self, characters: int, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 32)
        self.memory = nn.GRU(32, width, batch_first=True)
        self.next = nn.Linear(width, characters)

    def forward(self, characters: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one row of logits for each character, and the state."""
        outputs, state = self.memory(self.embedding(characters), state)
        return self.next(outputs), state
