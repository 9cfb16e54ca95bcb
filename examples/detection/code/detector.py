"""The network: at every eighth pixel it says what is there, and how far the edges of its box are.

Nothing is anchored and nothing is resized, so that pictures of any size can be looked at; those that share a call are
padded to the largest. A convolution pads with zeros at the edge of a picture, and must find the same zeros there when a
larger neighbour has made the tensor larger: hence the mask after every layer.
"""

import torch
from torch import nn

STRIDE = 8


class Layer(nn.Module):
    """Convolution, normalisation, ReLU; what lies outside of a picture stays zero."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.normalisation = nn.BatchNorm2d(outputs)

    def forward(self, pixels: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take what the layer before gave: its output, and the height and width of each picture in it."""
        sizes = (sizes + self.stride - 1) // self.stride
        outputs = torch.relu(self.normalisation(self.convolution(pixels)))
        return outputs * inside(sizes, outputs.shape[2:])[:, None], sizes


class Detector(nn.Module):
    """Finds things of several classes.

    Input: pictures, float32 of shape (N, 3, H, W) from 0 to 1, with zeros right of and below the smaller ones; their
    heights and widths, int64 of shape (N, 2). Output, one row for each cell of 8 x 8 pixels, the cells of a picture row
    by row: logits of the classes, float32 of shape (N, cells, classes), and boxes in pixels, of shape (N, cells, 4).
    Cells outside of a picture have logits of minus infinity.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (
                Layer(3, width // 4, stride=2),
                Layer(width // 4, width // 2, stride=2),
                Layer(width // 2, width, stride=2),
                Layer(width, width, dilation=2),
                Layer(width, width, dilation=2),
                Layer(width, width),
            )
        )
        self.classes = nn.Conv2d(width, classes, 1)
        self.edges = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.classes.bias, -4.0)  # nearly every cell is empty

    def forward(self, pictures: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and boxes."""
        features = pictures
        for layer in self.layers:
            features, sizes = layer(features, sizes)
        logits = self.classes(features).masked_fill(~inside(sizes, features.shape[2:])[:, None], -torch.inf)
        edges = nn.functional.softplus(self.edges(features)) * STRIDE
        centres = cell_centres(*features.shape[2:], device=features.device)
        boxes = torch.cat([centres - edges[:, :2], centres + edges[:, 2:]], dim=1)
        return logits.flatten(2).mT, boxes.flatten(2).mT


def inside(sizes: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Where the pictures are, bool of shape (N, H, W)."""
    rows, columns = (torch.arange(length, device=sizes.device) for length in shape)
    return (rows[:, None] < sizes[:, 0, None, None]) & (columns < sizes[:, 1, None, None])


def cell_centres(rows: int, columns: int, *, device: torch.device) -> torch.Tensor:
    """The middle of each cell in pixels, x and y: float32 of shape (2, rows, columns)."""
    down, across = (STRIDE * (torch.arange(cells, device=device) + 0.5) for cells in (rows, columns))
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x, y])
