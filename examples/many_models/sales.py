"""The sales of shops, made up: each has its own size, its own week, and good and bad days."""

import random
import zlib

import torch

SHOPS = ("antwerp", "bergen", "cadiz", "dublin", "esbjerg", "faro")
DAYS = 14  # that a forecast looks back


def sales_of(shop: str, *, days: int, seed: int) -> torch.Tensor:
    """Units sold on each of `days` days, the first a Monday: float32 of shape (days,). A seed is a season."""
    chance = random.Random(zlib.crc32(f"{shop} {seed}".encode()))  # noqa: S311 - made-up sales
    usual = chance.uniform(20, 2000)
    week = [chance.uniform(0.5, 1.5) for _ in range(7)]
    return torch.tensor([usual * week[day % 7] * chance.gauss(1, 0.05) for day in range(days)])
