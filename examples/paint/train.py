"""Train the painter: an ordinary SageMaker training script that also runs on a laptop, in a few minutes on two cores.

    python examples/paint/train.py
    python examples/paint/train.py --quick                       half a minute, for a first look

On SageMaker the hyperparameters arrive as arguments and the directories as SM_* variables; without them everything is
written below build/paint/. The scenes are made by scenes.py. The network, its arguments and the colours of a map are
those of the run "paint" in code/models.yaml.

Each epoch prints one line that metric definitions can scrape, for example

    {"Name": "validation:regions", "Regex": "validation_regions=([0-9.]+)"}
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from discriminator import Discriminator
from regions import mean_colours, tally
from scenes import CLASSES, Scene, scene
from torch.nn import functional
from tqdm import tqdm

from tidegate.inference.images import data_uri, writing
from tidegate.inference.images.palette import Palette
from tidegate.training_hooks import (
    Example,
    latest_checkpoint,
    reporting_failure,
    save_checkpoint,
    save_model,
    stopping_gracefully,
)

CODE_DIR = Path(__file__).parent / "code"
sys.path.append(str(CODE_DIR))  # at the end: the folder also holds an inference.py, which must hide nothing

from generator import Generator  # noqa: E402 - needs the line above

RUN_ID = "paint"
HELD_OUT = 20
FIRST_HELD_OUT = 1_000_000  # seeds from here on are for validation, and those of measure.py lie elsewhere
COLOUR_WEIGHT, LIKENESS_WEIGHT = 10.0, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Scenes to train on: labels, int64 (N, H, W), and pictures, float32 (N, 3, H, W) with values -1 to 1."""

    labels: torch.Tensor
    pictures: torch.Tensor


def main() -> None:
    """Train, and save the model with an example."""
    options = parse_arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seeds = range(options.seed, options.seed + options.scenes)
    scenes = [scene(seed) for seed in tqdm(seeds, desc="scenes", leave=False, disable=None)]
    held_out = [scene(FIRST_HELD_OUT + number) for number in range(HELD_OUT)]
    colours = mean_colours(((each.labels, each.picture) for each in scenes), len(CLASSES))
    print(f"paint: {options.scenes} scenes to train on, {HELD_OUT} held out, device {device}", flush=True)
    run = yaml.safe_load((CODE_DIR / "models.yaml").read_text(encoding="utf-8"))[RUN_ID]
    training = Training(
        options,
        Generator(**run["arguments"]),
        data=as_data(scenes),
        held_out=held_out,
        colours=colours,
        device=device,
    )
    training.run()

    palette = Palette(run["palette"]["colours"])
    asked = writing.image(palette.paint(held_out[0].labels[::2, ::2]), value_range=(0, 255))
    directory = save_model(
        training.generator,
        model_dir=options.model_dir,
        name="paint",
        labels=CLASSES,
        preprocessing={"mean_colours": dict(zip(CLASSES, colours.tolist(), strict=True))},
        metrics={"validation_regions": training.share, "epochs": training.epoch},
        code_dir=CODE_DIR,
        example=Example(request={"segmap": data_uri.write(asked, "image/png")}),
        batching=True,  # a map becomes the same picture in every batch
    )
    print(f"saved to {directory}; final_validation_regions={training.share:.4f}")


def parse_arguments() -> argparse.Namespace:
    """Read hyperparameters and directories; the defaults come from the SM_* variables where they are set."""
    parser = argparse.ArgumentParser(description="Train a small network to paint landscapes.")
    parser.add_argument("--quick", action="store_true", help="few scenes and epochs: blurred, but in the right colours")
    parser.add_argument("--scenes", type=int, help="default: 640, or 160 with --quick")
    parser.add_argument("--epochs", type=int, help="default: 16, or 5 with --quick")
    parser.add_argument("--batch-size", type=int, help="default: 16, or 8 with --quick")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: %(default)s")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "build/paint/model"))
    parser.add_argument("--checkpoint-dir", default="/opt/ml/checkpoints" if Path("/opt/ml").is_dir() else None)
    options = parser.parse_args()
    options.scenes = options.scenes or (160 if options.quick else 640)
    options.epochs = options.epochs or (5 if options.quick else 16)
    options.batch_size = options.batch_size or (8 if options.quick else 16)
    if min(options.epochs, options.threads) < 1 or not 2 <= options.batch_size <= options.scenes:
        parser.error("--epochs and --threads must be at least 1, and --batch-size 2 to the number of scenes")
    if not 0 <= options.seed <= FIRST_HELD_OUT - options.scenes:
        parser.error(f"--seed must be 0 to {FIRST_HELD_OUT - options.scenes}: the scenes after it are held out")
    return options


def as_data(scenes: list[Scene]) -> Data:
    """The scenes as tensors."""
    pictures = torch.from_numpy(np.stack([each.picture for each in scenes])).permute(0, 3, 1, 2)
    return Data(
        labels=torch.from_numpy(np.stack([each.labels for each in scenes])).long(),
        pictures=pictures.float() / 127.5 - 1,
    )


class Training:
    """The generator paints, the discriminator compares with true pictures, and each learns from the other.

    The colour of an area is taught more simply: shrunk to 8 x 8 pixels, the pictures must be alike.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        generator: Generator,
        *,
        data: Data,
        held_out: list[Scene],
        colours: np.ndarray,
        device: torch.device,
    ) -> None:
        self.generator = generator.to(device)
        self.share, self.epoch = 0.0, 0
        self._options = options
        self._data = data
        self._held_out = held_out
        self._colours = colours
        self._device = device
        self._discriminator = Discriminator(len(CLASSES)).to(device)
        networks = (self.generator, self._discriminator)
        self._optimizers = [torch.optim.Adam(each.parameters(), betas=(0.0, 0.99)) for each in networks]
        steps = options.epochs * (options.scenes // options.batch_size)
        self._schedules = [
            torch.optim.lr_scheduler.OneCycleLR(
                each, max_lr=options.learning_rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
            )
            for each in self._optimizers
        ]

    def run(self) -> None:
        """Train for the asked number of epochs, or until SageMaker asks to stop."""
        first = self._resumed() + 1
        with stopping_gracefully() as stop:
            for epoch in range(first, self._options.epochs + 1):
                self.epoch = epoch
                # Chance depends on the epoch alone, so a resumed run goes on as the interrupted one would have.
                torch.manual_seed(self._options.seed * 100_003 + epoch)
                self.generator.train()
                for rows in tqdm(list(self._batches()), desc=f"epoch {epoch}", leave=False, disable=None):
                    losses = self._step(self._data.labels[rows], self._data.pictures[rows])
                    if stop.requested:
                        break
                self.share = self._share_of_right_regions()
                told = " ".join(f"{name}={loss:.4f}" for name, loss in losses.items())
                print(f"epoch={epoch} {told} validation_regions={self.share:.4f}", flush=True)
                if stop.requested:
                    print(f"asked to stop in epoch {epoch}: saving what it reached")
                    break
                self._save_checkpoint()

    def _batches(self) -> Iterator[torch.Tensor]:
        whole = self._options.scenes // self._options.batch_size
        return itertools.islice(torch.randperm(self._options.scenes).split(self._options.batch_size), whole)

    def _step(self, labels: torch.Tensor, pictures: torch.Tensor) -> dict[str, float]:
        """One batch; returns the losses."""
        labels, pictures = labels.to(self._device), pictures.to(self._device)
        areas = functional.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2).float()
        painted = self.generator(labels)

        of_true, seen_in_true = self._discriminator(pictures, areas)
        of_painted, _ = self._discriminator(painted.detach(), areas)
        mistaken = functional.relu(1 - of_true).mean() + functional.relu(1 + of_painted).mean()
        self._learn(1, mistaken)

        verdict, seen = self._discriminator(painted, areas)
        colour = functional.l1_loss(functional.avg_pool2d(painted, 8), functional.avg_pool2d(pictures, 8))
        pairs = zip(seen, seen_in_true, strict=True)
        likeness = torch.stack([functional.l1_loss(mine, true.detach()) for mine, true in pairs]).sum()
        self._learn(0, COLOUR_WEIGHT * colour + LIKENESS_WEIGHT * likeness - verdict.mean())
        return {"discriminator": mistaken.item(), "colour": colour.item(), "likeness": likeness.item()}

    def _learn(self, which: int, loss: torch.Tensor) -> None:
        self._optimizers[which].zero_grad()
        loss.backward()
        self._optimizers[which].step()
        self._schedules[which].step()

    def _share_of_right_regions(self) -> float:
        self.generator.eval()
        painted = []
        with torch.inference_mode():
            for each in self._held_out:
                picture = self.generator(torch.from_numpy(each.labels).long().to(self._device)[None])[0]
                painted.append(((picture.cpu() + 1) * 127.5).permute(1, 2, 0).numpy())
        pairs = zip((each.labels for each in self._held_out), painted, strict=True)
        return tally(pairs, self._colours).share

    def _parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]:
        parts = {"generator": self.generator, "discriminator": self._discriminator}
        for name, kind in (("optimizer", self._optimizers), ("schedule", self._schedules)):
            parts |= {f"{name}_{number}": each for number, each in enumerate(kind)}
        return parts

    def _save_checkpoint(self) -> None:
        if self._options.checkpoint_dir:
            state = {name: part.state_dict() for name, part in self._parts().items()} | {"share": self.share}
            save_checkpoint(state, step=self.epoch, directory=self._options.checkpoint_dir)

    def _resumed(self) -> int:
        """The epoch that an earlier, interrupted run had finished; 0 where there is none."""
        directory = self._options.checkpoint_dir
        if not directory or not (checkpoint := latest_checkpoint(directory, map_location=self._device)):
            return 0
        for name, part in self._parts().items():
            part.load_state_dict(checkpoint.state[name])
        self.share, self.epoch = checkpoint.state["share"], checkpoint.step
        print(f"resuming after epoch {checkpoint.step} from {checkpoint.path}")
        return checkpoint.step


if __name__ == "__main__":
    with reporting_failure():
        main()
