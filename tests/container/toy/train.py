"""An ordinary training script, with a helper beside it: fit, fail, or wait until the platform stops the job."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from line import fitted

import tidegate.training_hooks
import training_hooks.errors
from training_hooks import Example, save_model, stopping_gracefully

HERE = Path(__file__).parent

assert save_model is tidegate.training_hooks.save_model, (
    "an old script's name for the hooks means a second copy of them"
)
assert training_hooks.errors.ArtifactError is tidegate.training_hooks.ArtifactError


def main() -> None:
    """Do what the hyperparameters ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slope", type=float, default=2.0)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--behaviour", choices=("fit", "fail", "wait"), default="fit")
    options = parser.parse_args()
    if options.behaviour == "fail":
        print("about to fail", flush=True)
        sys.exit(int(Path(os.environ["SM_CHANNEL_TRAINING"], "no such file").read_text()))
    with stopping_gracefully() as stop:
        if options.behaviour == "wait":
            print("waiting to be stopped", flush=True)
            while not stop.requested:
                time.sleep(0.01)
    save_model(fitted(options.slope, options.epochs), code_dir=HERE / "serving", example=Example(request=[1.0, -2.0]))
    facts = {"argv": sys.argv[1:], "uid": os.getuid(), **{k: v for k, v in os.environ.items() if k.startswith("SM_")}}
    Path(os.environ["SM_OUTPUT_DATA_DIR"], "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
