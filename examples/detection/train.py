"""Train the detector: an ordinary SageMaker training script that also runs on a laptop, in seconds.

    python examples/detection/train.py --epochs 12

On SageMaker the hyperparameters arrive as arguments and the directories as SM_* variables; without them everything is
written below build/detection/. The pictures are made by shapes.py.

Each epoch prints one line that metric definitions can scrape, for example

    {"Name": "validation:found", "Regex": "validation_found=([0-9.]+)"}
"""

import argparse
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from shapes import LABELS, Shapes, shapes
from torch.nn import functional
from tqdm import tqdm

from tidegate.training_hooks import Example, reporting_failure, save_model, stopping_gracefully

CODE_DIR = Path(__file__).parent / "code"
sys.path.append(str(CODE_DIR))  # at the end: the folder also holds an inference.py, which must hide nothing

from detector import STRIDE, Detector, cell_centres  # noqa: E402 - needs the line above

SIDE = 96  # of the pictures to train on; the network takes others, too
REACH = 0.8 * STRIDE  # pixels from the middle of a shape to those of the cells that are to find it
HELD_OUT = 64
FIRST_HELD_OUT = 1_000_000  # seeds from here on are for validation
MIN_SCORE = 0.5
EMPTY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Pictures, float32 (N, 3, 96, 96) from 0 to 1; of each cell the class or -1, int64 (N, cells), and the box."""

    pictures: torch.Tensor
    classes: torch.Tensor
    boxes: torch.Tensor


def main() -> None:
    """Train, and save the model with an example."""
    options = parse_arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # on pictures of this size, threads mostly wait for each other
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seeds = range(options.seed, options.seed + options.pictures)
    training = as_data([shapes(seed, height=SIDE, width=SIDE) for seed in tqdm(seeds, leave=False, disable=None)])
    held_out = as_data([shapes(FIRST_HELD_OUT + number, height=SIDE, width=SIDE) for number in range(HELD_OUT)])
    print(f"detection: {options.pictures} pictures to train on, {HELD_OUT} held out, device {device}", flush=True)
    net, found, epochs = fit(options, training, held_out, device)

    buffer = io.BytesIO()
    Image.fromarray(shapes(FIRST_HELD_OUT).picture).save(buffer, "PNG")
    directory = save_model(
        net,
        model_dir=options.model_dir,
        name="shapes",
        labels=LABELS,
        metrics={"validation_found": found, "epochs": epochs},
        code_dir=CODE_DIR,
        example=Example(request=buffer.getvalue(), content_type="image/png", accept="application/json"),
    )
    print(f"saved to {directory}; final_validation_found={found:.4f}")


def parse_arguments() -> argparse.Namespace:
    """Read hyperparameters and directories; the defaults come from the SM_* variables where they are set."""
    parser = argparse.ArgumentParser(description="Train a small network to find shapes in pictures.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "build/detection/model"))
    options = parser.parse_args()
    if options.epochs < 1 or not 2 <= options.batch_size <= options.pictures:
        parser.error("--epochs must be at least 1, and --batch-size from 2 to the number of pictures")
    if not 0 <= options.seed <= FIRST_HELD_OUT - options.pictures:
        parser.error(
            f"--seed must be from 0 to {FIRST_HELD_OUT - options.pictures}: the pictures after it are held out"
        )
    return options


def as_data(made: list[Shapes]) -> Data:
    """The pictures as tensors, with what each cell is to say: a cell near the middle of a shape says what it is."""
    pictures = torch.from_numpy(np.stack([each.picture for each in made])).permute(0, 3, 1, 2) / 255
    cells = -(-SIDE // STRIDE)
    middles = cell_centres(cells, cells, device=pictures.device).flatten(1).T
    classes = torch.full((len(made), len(middles)), EMPTY)
    boxes = torch.zeros(len(made), len(middles), 4)
    for picture, each in enumerate(made):
        for box, label in zip(torch.from_numpy(each.boxes), each.labels.tolist(), strict=True):
            near = ((middles - (box[:2] + box[2:]) / 2).abs() <= REACH).all(dim=1)
            classes[picture, near], boxes[picture, near] = label, box
    return Data(pictures=pictures, classes=classes, boxes=boxes)


def fit(
    options: argparse.Namespace, training: Data, held_out: Data, device: torch.device
) -> tuple[Detector, float, int]:
    """Train for the asked number of epochs, or until SageMaker asks to stop.

    Returns the network, the share of the cells of held-out shapes that say what and where it is, and the epochs done.
    """
    net = Detector(len(LABELS)).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate)
    steps = options.epochs * (options.pictures // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=options.learning_rate, total_steps=steps)
    found, epoch = 0.0, 0
    with stopping_gracefully() as stop:
        for epoch in range(1, options.epochs + 1):
            net.train()
            rows = torch.randperm(options.pictures).split(options.batch_size)[: options.pictures // options.batch_size]
            for batch in tqdm(rows, desc=f"epoch {epoch}", leave=False, disable=None):
                pictures = recoloured(training.pictures[batch]).to(device)
                loss = loss_of(net, pictures, training.classes[batch].to(device), training.boxes[batch].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            found = share_found(net.eval(), held_out, device)
            print(f"epoch={epoch} train_loss={loss.item():.4f} validation_found={found:.4f}", flush=True)
            if stop.requested:
                print(f"asked to stop: saving what epoch {epoch} reached")
                break
    return net, found, epoch


def recoloured(pictures: torch.Tensor) -> torch.Tensor:
    """Exchange red, green and blue, and at times light and dark: a shape is what it is in any colour."""
    pictures = pictures[:, torch.randperm(3)]
    return 1 - pictures if torch.rand(()) < 0.5 else pictures


def loss_of(net: Detector, pictures: torch.Tensor, classes: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """What is there, by the focal loss (Lin et al., 2017), since nearly all cells are empty; and where, by the IoU."""
    logits, told = net(pictures, sizes_of(pictures))
    wanted = functional.one_hot(classes.clamp(min=0), logits.shape[2]) * (classes != EMPTY)[..., None]
    surprise = functional.binary_cross_entropy_with_logits(logits, wanted.float(), reduction="none")
    what = (surprise * (wanted - logits.sigmoid()).square()).sum()
    full = classes != EMPTY
    where = (1 - overlap(told[full], boxes[full])).sum()
    return (what + where) / full.sum().clamp(min=1)


def overlap(told: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """The IoU of each box with the true one: (N, 4) and (N, 4) give (N,)."""
    shared = (torch.minimum(told[:, 2:], true[:, 2:]) - torch.maximum(told[:, :2], true[:, :2])).clamp(min=0)
    areas = (told[:, 2:] - told[:, :2]).prod(dim=1) + (true[:, 2:] - true[:, :2]).prod(dim=1)
    return shared.prod(dim=1) / (areas - shared.prod(dim=1)).clamp(min=1e-6)


def share_found(net: Detector, data: Data, device: torch.device) -> float:
    """The share of the cells with a shape that name it and overlap it by more than a half."""
    pictures = data.pictures.to(device)
    with torch.inference_mode():
        logits, boxes = net(pictures, sizes_of(pictures))
    full = data.classes != EMPTY
    scores, classes = logits.sigmoid().cpu()[full].max(dim=1)
    right = (classes == data.classes[full]) & (scores > MIN_SCORE)
    return (right & (overlap(boxes.cpu()[full], data.boxes[full]) > 0.5)).double().mean().item()


def sizes_of(pictures: torch.Tensor) -> torch.Tensor:
    """The height and width of each, which is here that of all."""
    return torch.tensor(pictures.shape[2:], device=pictures.device).expand(len(pictures), 2)


if __name__ == "__main__":
    with reporting_failure():
        main()
