"""Train a regression on a table: an ordinary SageMaker training script that also runs on a laptop.

    python examples/tabular/train.py --training build/pipeline/data/training --model-dir build/tabular/model

The channel `training` holds CSV files with the same names in their first lines; the column `--target` is what is to be
told from the others. On SageMaker the hyperparameters arrive as arguments and the directories as SM_* variables. A
fifth of the rows is held out, and the end of the training says how far the model is off on these, for example

    {"Name": "validation:rmse", "Regex": "validation_rmse=([0-9.]+)"}
"""

import argparse
import csv
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import trange

from tidegate.training_hooks import Example, model_directory, reporting_failure, save_model, stopping_gracefully

CODE_DIR = Path(__file__).parent / "code"
sys.path.append(str(CODE_DIR))

from tabular_net import TabularNet  # noqa: E402 - needs the line above

HELD_OUT_SHARE = 0.2
MIN_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Names of the features, their values, float32 of shape (N, features), and the targets, of shape (N, 1)."""

    features: list[str]
    rows: torch.Tensor
    targets: torch.Tensor


def main() -> None:
    """Train, and save the model with an example."""
    options = parse_arguments()
    model_dir = model_directory(options.model_dir)
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # on tables of this size, threads only wait for each other
    table = load_table(options.training, options.target)
    order = torch.randperm(len(table.rows))
    held_out, training = order[: int(len(order) * HELD_OUT_SHARE)], order[int(len(order) * HELD_OUT_SHARE) :]
    print(f"table: {len(training)} rows to train on, {len(held_out)} held out, features {', '.join(table.features)}")
    net = fit(options, table.rows[training], table.targets[training])
    with torch.inference_mode():
        error = net(table.rows[held_out]) - table.targets[held_out]
    rmse = error.square().mean().sqrt().item()
    directory = save_model(
        net,
        model_dir=model_dir,
        name="tabular",
        preprocessing={"features": table.features, "target": options.target},
        metrics={"validation_rmse": rmse, "target_std": net.target_std.item()},
        code_dir=CODE_DIR,
        architecture="tabular_net:TabularNet",
        arguments={"features": len(table.features), "hidden": options.hidden},
        example=Example(request=table.rows[held_out[:4]].tolist()),
        batching=True,  # rows know nothing of each other
    )
    print(f"saved to {directory}; validation_rmse={rmse:.3f} of a standard deviation of {net.target_std.item():.3f}")


def parse_arguments() -> argparse.Namespace:
    """Read hyperparameters and directories; the defaults come from the SM_* variables where they are set."""
    parser = argparse.ArgumentParser(description="Train a regression on CSV files.")
    parser.add_argument("--target", default="progression", help="the column to tell (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--training", default=os.environ.get("SM_CHANNEL_TRAINING"), help="a folder of .csv files")
    options = parser.parse_args()
    if options.training is None:
        parser.error("nothing to train on: give --training, or a channel `training`")
    if min(options.epochs, options.batch_size, options.hidden) < 1:
        parser.error("--epochs, --batch-size and --hidden must be at least 1")
    return options


def load_table(channel: str, target: str) -> Table:
    """Read all CSV files of the channel, in the order of their names.

    Raises `ValueError` that names file and line where they are no table of numbers, or not the same one.
    """
    files = sorted(Path(channel).rglob("*.csv"))
    if not files:
        raise ValueError(f"the channel {channel} holds no .csv file")
    names, rows = header_of(files[0]), []
    if target not in names:
        raise ValueError(f"{files[0]} has no column {target!r}; it has {', '.join(names)}")
    for file in files:
        if header_of(file) != names:
            raise ValueError(f"{file} has other columns than {files[0]}, or in another order")
        rows += rows_of(file, names)
    if len(rows) < MIN_ROWS:
        raise ValueError(f"the channel {channel} holds {len(rows)} rows, and at least {MIN_ROWS} are needed")
    values, place = torch.tensor(rows), names.index(target)
    features = torch.tensor([index for index in range(len(names)) if index != place])
    return Table(
        features=[name for name in names if name != target],
        rows=values[:, features],
        targets=values[:, place : place + 1],
    )


def header_of(file: Path) -> list[str]:
    """The names in the first line of a file."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        return next(csv.reader(lines), [])


def rows_of(file: Path, names: list[str]) -> list[list[float]]:
    """The numbers of a file, without its first line. Blank lines are passed over."""
    rows = []
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        next(reader)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                raise ValueError(f"{file}, line {reader.line_num}: {len(cells)} cells for {len(names)} columns")
            rows.append(
                [
                    number(cell, f"{file}, line {reader.line_num}: {name}")
                    for name, cell in zip(names, cells, strict=True)
                ]
            )
    return rows


def number(cell: str, where: str) -> float:
    """A finite number, or an error that says where there is none."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where} is {cell!r}, and no number")
    return value


def fit(options: argparse.Namespace, rows: torch.Tensor, targets: torch.Tensor) -> TabularNet:
    """Train for the asked number of epochs, or until SageMaker asks to stop.

    Args:
        options: the command line.
        rows: float32 of shape (N, features).
        targets: float32 of shape (N, 1).

    Returns the net, ready to answer.
    """
    net = TabularNet(rows.shape[1], options.hidden)
    net.feature_mean.copy_(rows.mean(dim=0))
    net.feature_std.copy_(rows.std(dim=0).clamp_min(1e-6))  # a column that never changes tells nothing
    net.target_mean.copy_(targets.mean())
    net.target_std.copy_(targets.std().clamp_min(1e-6))
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate, weight_decay=0.05)
    with stopping_gracefully() as stop:
        for epoch in trange(options.epochs, desc="epochs", leave=False, disable=None):
            total = 0.0
            for batch in torch.randperm(len(rows)).split(options.batch_size):
                loss = nn.functional.mse_loss(net(rows[batch]) / net.target_std, targets[batch] / net.target_std)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            if (epoch + 1) % 50 == 0 or epoch + 1 == options.epochs:
                print(f"epoch={epoch + 1} train_loss={total / len(rows):.4f}", flush=True)
            if stop.requested:
                print(f"asked to stop: saving what epoch {epoch + 1} reached")
                break
    return net.eval()


if __name__ == "__main__":
    with reporting_failure():
        main()
