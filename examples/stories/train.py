"""Train the teller of stories: an ordinary SageMaker training script that also runs on a laptop, in seconds.

    python examples/stories/train.py --epochs 5

On SageMaker the hyperparameters arrive as arguments and the directories as SM_* variables; without them everything is
written below build/stories/. The text is made by story_text.py.

Each epoch prints one line that metric definitions can scrape, for example

    {"Name": "validation:bits", "Regex": "validation_bits=([0-9.]+)"}
"""

import argparse
import math
import os
import sys
from pathlib import Path

import torch
from story_text import HEROES, make_stories, opening
from torch import nn
from tqdm import tqdm

from tidegate.training_hooks import Example, reporting_failure, save_model, stopping_gracefully

CODE_DIR = Path(__file__).parent / "code"
sys.path.append(str(CODE_DIR))  # at the end: the folder also holds an inference.py, which must hide nothing

from story_net import StoryNet  # noqa: E402 - needs the line above

END = "\n"
HELD_OUT = 100
LENGTH = 64


def main() -> None:
    """Train, and save the model with an example."""
    options = parse_arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # on a net of this size, threads only wait for each other
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stories = make_stories(options.stories + HELD_OUT, seed=options.seed)
    alphabet = "".join(sorted({END, *"".join(stories)}))
    training, held_out = (encoded(part, alphabet).to(device) for part in (stories[HELD_OUT:], stories[:HELD_OUT]))
    print(f"stories: {options.stories} to train on, {HELD_OUT} held out, {len(alphabet)} characters, device {device}")
    net, bits, epochs = fit(options, training, held_out, len(alphabet))
    directory = save_model(
        net,
        model_dir=options.model_dir,
        name="stories",
        preprocessing={"alphabet": alphabet, "openings": {hero: opening(hero) for hero in HEROES}},
        metrics={"validation_bits": bits, "epochs": epochs},
        code_dir=CODE_DIR,
        # The likeliest character each time: chance would depend on the last bit of a sum.
        example=Example(request={"prompt": opening("fox"), "max_characters": 80, "temperature": 0}),
        batching=False,  # every story is told by itself
    )
    print(f"saved to {directory}; final_validation_bits={bits:.4f}")


def parse_arguments() -> argparse.Namespace:
    """Read hyperparameters and directories; the defaults come from the SM_* variables where they are set."""
    parser = argparse.ArgumentParser(description="Train a small recurrent net to tell stories.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--stories", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "build/stories/model"))
    options = parser.parse_args()
    if min(options.epochs, options.batch_size) < 1 or options.stories < 100:
        parser.error("--epochs and --batch-size must be at least 1 and --stories at least 100")
    return options


def encoded(stories: list[str], alphabet: str) -> torch.Tensor:
    """Return the stories as rows of LENGTH characters and the one after them: int64 of shape (N, LENGTH + 1)."""
    place = {character: number for number, character in enumerate(alphabet)}
    # What comes before a story is the end of another: so the net learns how to begin.
    numbers = torch.tensor([place[character] for character in END + END.join(stories) + END])
    return numbers.unfold(0, LENGTH + 1, LENGTH)


def fit(
    options: argparse.Namespace, training: torch.Tensor, held_out: torch.Tensor, characters: int
) -> tuple[nn.Module, float, int]:
    """Train for the asked number of epochs, or until SageMaker asks to stop.

    Returns the net, the bits that it needs for a held-out character, and the epochs done.
    """
    net = StoryNet(characters).to(training.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.learning_rate)
    batches = -(-len(training) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.learning_rate, total_steps=options.epochs * batches
    )

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        logits, _ = net(rows[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    bits, epoch = math.inf, 0
    with stopping_gracefully() as stop:
        for epoch in range(1, options.epochs + 1):
            order = torch.randperm(len(training), device=training.device)
            for rows in tqdm(order.split(options.batch_size), desc=f"epoch {epoch}", leave=False, disable=None):
                loss = loss_of(training[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            with torch.inference_mode():
                bits = loss_of(held_out).item() / math.log(2)
            print(f"epoch={epoch} train_loss={loss.item():.4f} validation_bits={bits:.4f}", flush=True)
            if stop.requested:
                print(f"asked to stop: saving what epoch {epoch} reached")
                break
    return net, bits, epoch


if __name__ == "__main__":
    with reporting_failure():
        main()
