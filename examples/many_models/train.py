"""Train a small model for each shop and publish it as the next version: one model a shop, one repository for all.

    python examples/many_models/train.py build/many_models/repository
    python examples/many_models/train.py s3://bucket/shops --shops faro --season 2 --label canary

Shops that are trained at the same time, in different jobs, may publish into one repository.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from sales import DAYS, SHOPS, sales_of
from torch import nn
from tqdm import tqdm

from tidegate.training_hooks import Example, publish, reporting_failure, save_model

CODE_DIR = Path(__file__).parent / "code"
sys.path.append(str(CODE_DIR))

from shop_net import AHEAD, ShopNet  # noqa: E402 - needs the line above

PAST = 364
HELD_OUT = 28  # days that the error is measured on


def main() -> None:
    """Train, save and publish one shop after the other."""
    options = parse_arguments()
    torch.set_num_threads(1)  # on nets of this size, threads only wait for each other
    for shop in tqdm(options.shops, desc="shops", leave=False, disable=None):
        sales = sales_of(shop, days=PAST, seed=options.season)
        net, error = fit(sales, seed=options.season)
        with tempfile.TemporaryDirectory(prefix="many-models-") as directory:
            save_model(
                net,
                model_dir=directory,
                name=shop,
                metrics={"relative_error": error},
                code_dir=CODE_DIR,
                architecture="shop_net:ShopNet",
                arguments={"days": DAYS},
                example=Example(request=sales[-DAYS:].reshape(1, DAYS).tolist()),
                batching=True,  # rows are weeks of their own
            )
            published = publish(directory, options.repository, shop, labels=options.label)
        print(f"{shop}: version {published.version}, relative_error={error:.3f}, {published.location}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read what to train on and where to publish."""
    parser = argparse.ArgumentParser(description="Train a small model for each shop and publish it.")
    parser.add_argument("repository", metavar="REPOSITORY", help="a folder, or s3://bucket/prefix")
    parser.add_argument("--shops", nargs="+", metavar="SHOP", default=SHOPS, help=f"default: {' '.join(SHOPS)}")
    parser.add_argument("--season", type=int, default=1, help="which year's sales; another one is worth a new version")
    parser.add_argument("--label", action="append", default=[], help="let it mean the new versions")
    return parser.parse_args()


def fit(sales: torch.Tensor, *, seed: int) -> tuple[nn.Module, float]:
    """Train on all but the last days.

    Args:
        sales: of one shop, float32 of shape (days,).
        seed: of the first weights.

    Returns the net and its mean error on the last days, as a part of what is sold on a usual day.
    """
    torch.manual_seed(seed)
    net = ShopNet(DAYS)
    net.usual.copy_(sales.mean())
    windows = sales.unfold(0, DAYS + AHEAD, 1)
    training, held_out = windows[:-HELD_OUT], windows[-HELD_OUT:]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(200):
        loss = ((net(training[:, :DAYS]) - training[:, DAYS:]) / net.usual).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        error = (net(held_out[:, :DAYS]) - held_out[:, DAYS:]).abs().mean() / net.usual
    return net, error.item()


if __name__ == "__main__":
    with reporting_failure():
        main()
