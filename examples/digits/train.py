"""Train the digit classifier: an ordinary SageMaker training script that also runs on a laptop.

    python examples/digits/train.py --epochs 12

On SageMaker the hyperparameters arrive as arguments and the directories as SM_* variables; without them everything is
written below build/digits/. The data are the 1,797 scanned digits that scikit-learn ships, or one .npz file in the
`train` channel with `images` (N x 8 x 8, values 0 to 16) and `labels` (N whole numbers from 0 to 9).

Under torchrun, which the SDK's `distribution={"torch_distributed": {"enabled": True}}` starts, each process takes its
share of every batch (DistributedDataParallel), on one host or on several:

    torchrun --nproc-per-node 2 examples/digits/train.py

Each epoch prints one line that metric definitions can scrape, for example

    {"Name": "validation:accuracy", "Regex": "validation_accuracy=([0-9.]+)"}
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from tidegate.training_hooks import (
    Checkpoint,
    Example,
    latest_checkpoint,
    reporting_failure,
    save_checkpoint,
    save_model,
    stopping_gracefully,
)

CODE_DIR = Path(__file__).parent / "code"
sys.path.append(str(CODE_DIR))  # at the end: the folder also holds an inference.py, which must hide nothing

from digit_net import DigitNet  # noqa: E402 - needs the line above

HELD_OUT_SHARE = 0.2
CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images, float32 of shape (N, 8, 8) with values 0 to 16, and their classes, int64 of shape (N,)."""

    images: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of the processes this is that train together; the first and only one, without torchrun."""

    rank: int = 0
    processes: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reads and writes what the job has once: prints, checkpoints, the model."""
        return self.rank == 0


def main() -> None:
    """Train, save the model with an example, and write the held-out digits beside it."""
    options = parse_arguments()
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # on images of 64 pixels, threads only wait for each other
    place, device = join()
    training, held_out = load_data(options.train, seed=options.seed)
    if place.leads:
        print(
            f"digits: {len(training.classes)} to train on, {len(held_out.classes)} held out, device {device}"
            + (f", {place.processes} processes" if place.processes > 1 else "")
        )

    # The constants belong to the model: the server reads them back from preprocessing.json.
    constants = {"mean": float(training.images.mean()), "std": float(training.images.std())}
    net, accuracy, epochs = fit(options, training, held_out, constants, device, place=place)
    if place.processes > 1:
        dist.destroy_process_group()
    if not place.leads:
        return  # one artifact: another host has a model directory of its own, which would stay empty for ever

    output_data_dir = Path(options.output_data_dir)
    output_data_dir.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        output_data_dir / "held_out.npz", images=held_out.images.numpy(), labels=held_out.classes.numpy()
    )
    directory = save_model(
        net,
        model_dir=options.model_dir,
        name="digits",
        labels=[str(digit) for digit in range(CLASSES)],
        preprocessing=constants,
        metrics={"validation_accuracy": accuracy, "epochs": epochs},
        code_dir=CODE_DIR,
        example=Example(request=held_out.images[:4]),
    )
    print(f"saved to {directory}; final_validation_accuracy={accuracy:.4f}")


def join() -> tuple[Place, torch.device]:
    """Find the other processes, where torchrun has started several; return this one's place and device."""
    on_gpu = torch.cuda.is_available()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Place(), torch.device("cuda" if on_gpu else "cpu")
    dist.init_process_group("nccl" if on_gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    return Place(rank=dist.get_rank(), processes=dist.get_world_size()), device


def parse_arguments() -> argparse.Namespace:
    """Read hyperparameters and directories; the defaults come from the SM_* variables where they are set."""
    parser = argparse.ArgumentParser(description="Train a small convolutional net on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "build/digits/model"))
    parser.add_argument("--output-data-dir", default=os.environ.get("SM_OUTPUT_DATA_DIR", "build/digits/output"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"), help="directory with one .npz file")
    parser.add_argument("--checkpoint-dir", default="/opt/ml/checkpoints" if Path("/opt/ml").is_dir() else None)
    options = parser.parse_args()
    if options.epochs < 1 or options.batch_size < 2:
        parser.error("--epochs must be at least 1 and --batch-size at least 2")
    return options


def load_data(channel: str | None, *, seed: int) -> tuple[Digits, Digits]:
    """Return the training part and a held-out fifth with the same share of every digit."""
    if channel:
        files = sorted(Path(channel).glob("*.npz"))
        if len(files) != 1:
            raise ValueError(f"the train channel {channel} must hold exactly one .npz file, it has {len(files)}")
        with np.load(files[0], allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
        if images.ndim != 3 or images.shape[1:] != (8, 8) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{files[0]} must hold images (N, 8, 8) and labels (N,), not {images.shape}, {labels.shape}"
            )
        if images.min() < 0 or images.max() > 16 or labels.min() < 0 or labels.max() >= CLASSES:
            raise ValueError(f"{files[0]} must hold images with values 0 to 16 and labels 0 to 9")
    else:
        bundled = load_digits()
        images, labels = bundled.images, bundled.target
    parts = train_test_split(images, labels, test_size=HELD_OUT_SHARE, stratify=labels, random_state=seed)
    images_in, images_out, labels_in, labels_out = parts
    return as_digits(images_in, labels_in), as_digits(images_out, labels_out)


def as_digits(images: np.ndarray, labels: np.ndarray) -> Digits:
    """Return the arrays as tensors of the documented types."""
    return Digits(
        images=torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)),
        classes=torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)),
    )


def fit(
    options: argparse.Namespace,
    training: Digits,
    held_out: Digits,
    constants: dict[str, float],
    device: torch.device,
    *,
    place: Place,
) -> tuple[nn.Module, float, int]:
    """Train for the asked number of epochs, or until SageMaker asks to stop; return net, accuracy and epochs done."""

    def normalised(images: torch.Tensor) -> torch.Tensor:
        return ((images - constants["mean"]) / constants["std"]).to(device)

    net = DigitNet(CLASSES).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate, weight_decay=1e-2)
    batches = -(-len(training.classes) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.learning_rate, total_steps=options.epochs * batches
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    images, classes = normalised(training.images), training.classes.to(device)
    accuracy, first_epoch = 0.0, 1
    if options.checkpoint_dir and (checkpoint := common_checkpoint(options.checkpoint_dir, device, place)):
        net.load_state_dict(checkpoint.state["net"])
        optimizer.load_state_dict(checkpoint.state["optimizer"])
        schedule.load_state_dict(checkpoint.state["schedule"])
        accuracy, first_epoch = checkpoint.state["accuracy"], checkpoint.step + 1
        if place.leads:
            print(f"resuming after epoch {checkpoint.step} from {checkpoint.path}")
    trained = DistributedDataParallel(net) if place.processes > 1 else net

    epoch = first_epoch - 1
    with stopping_gracefully() as stop:
        for epoch in range(first_epoch, options.epochs + 1):
            # Chance depends on the epoch alone, so a resumed run goes on as the interrupted one would have.
            torch.manual_seed(options.seed * 100_003 + epoch)
            order = torch.randperm(len(classes))
            net.train()
            total_loss = 0.0
            shown = None if place.leads else True
            for batch in tqdm(order.split(options.batch_size), desc=f"epoch {epoch}", leave=False, disable=shown):
                if len(batch) < place.processes:
                    continue  # the last one, which has not a digit for each
                rows = batch[place.rank :: place.processes].to(device)
                # The gradients are averaged over the processes, and one may have a digit more than the other.
                weight = len(rows) * place.processes / len(batch)
                loss = loss_function(trained(shifted(images[rows])), classes[rows]) * weight
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total_loss += loss.item() * len(batch)
            net.eval()
            with torch.inference_mode():
                hits = net(normalised(held_out.images)).argmax(dim=1).cpu() == held_out.classes
            accuracy = hits.double().mean().item()
            # One that stops while the others go on would leave them waiting.
            total_loss, stops = summed(total_loss / place.processes, float(stop.requested), place=place, device=device)
            if place.leads:
                print(
                    f"epoch={epoch} train_loss={total_loss / len(classes):.4f} validation_accuracy={accuracy:.4f}",
                    flush=True,
                )
            if options.checkpoint_dir and place.leads:
                state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"schedule": schedule.state_dict(), "accuracy": accuracy}
                save_checkpoint(state, step=epoch, directory=options.checkpoint_dir)
            if stops:
                if place.leads:
                    print(f"asked to stop: saving what epoch {epoch} reached")
                break
    return net, accuracy, epoch


def common_checkpoint(directory: str, device: torch.device, place: Place) -> Checkpoint | None:
    """Return the checkpoint of the process that leads, on all: hosts have directories of their own."""
    found = latest_checkpoint(directory, map_location=device) if place.leads else None
    if place.processes == 1:
        return found
    told = [found]
    dist.broadcast_object_list(told, src=0, device=device)
    return told[0]


def summed(*numbers: float, place: Place, device: torch.device) -> list[float]:
    """Add up numbers over all processes."""
    if place.processes == 1:
        return list(numbers)
    totals = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Move the whole batch by up to one pixel each way: the scans are centred, a customer's picture may not be."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    ground = images.amin()
    padded = nn.functional.pad(images, (1, 1, 1, 1), value=float(ground))
    return padded[:, 1 - down : 9 - down, 1 - right : 9 - right]


if __name__ == "__main__":
    with reporting_failure():
        main()
