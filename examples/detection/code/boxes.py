"""Boxes: how much two overlap, and which of several are about the same thing. Plain torch.

A box is left, top, right, bottom in pixels; several are a float32 tensor of shape (N, 4).
"""

import torch


def iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each box with each other one: (N, 4) and (M, 4) give (N, M), from 0 to 1."""
    corner = torch.maximum(one[:, None, :2], other[:, :2])
    opposite = torch.minimum(one[:, None, 2:], other[:, 2:])
    shared = (opposite - corner).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-6)


def non_maximum_suppression(boxes: torch.Tensor, scores: torch.Tensor, max_iou: float) -> torch.Tensor:
    """Keep the best box of each thing.

    Args:
        boxes: float32 of shape (N, 4).
        scores: float32 of shape (N,).
        max_iou: boxes that overlap more are about the same thing, whatever they call it.

    Returns:
        The places of those that stay, the best first: int64 of shape (kept,).
    """
    order = scores.argsort(descending=True, stable=True)
    same = iou(boxes, boxes) > max_iou
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[~same[best, rest]]
    return torch.stack(kept) if kept else order
