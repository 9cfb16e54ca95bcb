"""The network that paints: spatially-adaptive normalisation (SPADE), as in GauGAN, at the size of a toy.

Park and others, "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019.
"""

import torch
from torch import nn
from torch.nn import functional

SCALE = 8  # the first layer has one pixel for so many of the picture, each way


class Spade(nn.Module):
    """Normalises, then scales and shifts every pixel by what the map says there."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        # Of batches, not of pictures: what a map becomes does not depend on its size or on its neighbours in a batch.
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.read = nn.Conv2d(classes, hidden, 3, padding=1)
        self.scale_and_shift = nn.Conv2d(hidden, 2 * channels, 3, padding=1)

    def forward(self, features: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
        """Features (N, C, h, w), areas (N, classes, h, w)."""
        scale, shift = self.scale_and_shift(functional.relu(self.read(areas))).chunk(2, dim=1)
        return self.normalise(features) * (1 + scale) + shift


class Block(nn.Module):
    """Two convolutions, each behind a Spade, with noise to make texture of, and a way around."""

    def __init__(self, inside: int, outside: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = Spade(inside, classes, hidden), Spade(outside, classes, hidden)
        self.convolve = nn.Conv2d(inside, outside, 3, padding=1)
        self.convolve_again = nn.Conv2d(outside, outside, 3, padding=1)
        self.around = nn.Conv2d(inside, outside, 1, bias=False)
        self.grain = nn.Parameter(torch.full((inside, 1, 1), 0.3))

    def forward(self, features: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
        """Features (N, inside, h, w) to (N, outside, h, w)."""
        features = features + self.grain * noise(*features.shape[1:], features.device)
        changed = self.convolve(functional.leaky_relu(self.first(features, areas), 0.2))
        changed = self.convolve_again(functional.leaky_relu(self.second(changed, areas), 0.2))
        return self.around(features) + changed


class Generator(nn.Module):
    """Paints maps of any size: labels, int64 of shape (N, H, W), become pictures, (N, 3, H, W), values -1 to 1.

    The same map always becomes the same picture, alone and in a batch.

    Args:
        classes: the labels are 0 to classes - 1.
        width: channels of the last layers; the first ones have three times as many.
        hidden: channels in which the map is read.
    """

    def __init__(self, classes: int, width: int = 16, hidden: int = 16) -> None:
        super().__init__()
        self.classes = classes
        self.start = nn.Conv2d(classes + 8, 3 * width, 3, padding=1)
        widths = (3 * width, 3 * width, 2 * width, width)
        self.blocks = nn.ModuleList(
            Block(inside, outside, classes, hidden)
            for inside, outside in zip(widths, (*widths[1:], width), strict=True)
        )
        self.finish = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Paint."""
        height, width = labels.shape[1:]
        # Up to a whole number of first pixels by repeating the last row and column, which is cut off at the end.
        rows, columns = (
            torch.arange(-(-side // SCALE) * SCALE, device=labels.device).clamp(max=side - 1)
            for side in (height, width)
        )
        areas = functional.one_hot(labels[:, rows][:, :, columns], self.classes).permute(0, 3, 1, 2).float()
        coarse = functional.avg_pool2d(areas, SCALE)
        start = noise(8, *coarse.shape[2:], labels.device).expand(len(labels), -1, -1, -1)
        features = self.start(torch.cat([coarse, start], dim=1))
        for number, block in enumerate(self.blocks):
            if number:
                features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            shrunk = SCALE >> number
            features = block(features, functional.avg_pool2d(areas, shrunk) if shrunk > 1 else areas)
        picture = torch.tanh(self.finish(functional.leaky_relu(features, 0.2)))
        return picture[:, :, :height, :width]


def noise(channels: int, height: int, width: int, device: torch.device) -> torch.Tensor:
    """Numbers from -1 to 1 that look random and depend on the place alone: float32 of shape (C, H, W)."""
    sides = (torch.arange(side, device=device, dtype=torch.int64) for side in (channels, height, width))
    channel, row, column = torch.meshgrid(*sides, indexing="ij")
    mixed = column * 374_761_393 + row * 668_265_263 + channel * 2_246_822_519
    for factor in (1_274_126_177, 2_654_435_761):
        mixed = (mixed ^ (mixed >> 13)) * factor & 0xFFFF_FFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).float() / 32_767.5 - 1
