"""The main job, end to end, on this machine: train, pack, deploy, invoke, batch transform, tear down.

    make demo                                   (or: python -m examples.digits.demo)

Real pieces throughout: an ordinary training script, the cdk command line, plain boto3, and the server that runs in the
container. Only AWS itself is the local cloud (docs/local-cloud.md says what it fakes). Exit status 0 when every check
held, 1 with one sentence otherwise, 130 after Ctrl-C; no process, port or file is left in any case.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from tqdm import tqdm

from examples.digits import clients, narration
from examples.digits.child_processes import CommandFailed, run
from tidegate.client import ClientFailure
from tidegate.local_cloud.cloud import CloudError, LocalCloud

REPOSITORY = Path(__file__).parents[2]
SINGLE_REQUESTS = 100
BATCH_OBJECTS = 3
MIN_ACCURACY = 0.97
# The same digit, alone or among others: float32 sums are taken in another order, so the last places differ.
MAX_DIFFERENCE = 1e-5


class DemoFailed(Exception):
    """A check did not hold; the text is one sentence."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; carries the exit status that shells expect."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Digits that training did not see: images (N, 8, 8) with values 0 to 16, and their labels as text."""

    images: np.ndarray
    labels: list[str]


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description="Train, deploy and ask a model on this machine.")
    parser.add_argument("--epochs", type=int, default=15, help="of the training (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the work directory with all files and logs")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    work = Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    try:
        # Temporary files of everything that is started below go with the work directory.
        temporary = work / "tmp"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        Demo(work, epochs=options.epochs).run()
    except (DemoFailed, CommandFailed, CloudError, ClientFailure, ClientError, BotoCoreError) as error:
        print(f"\ndemo: error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print("\ndemo: stopped; nothing is left running", file=sys.stderr)
        return stopped.status
    finally:
        if options.keep:
            print(f"files and logs are kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return 0


class Demo:
    """The steps, in the order in which a user takes them."""

    def __init__(self, work: Path, *, epochs: int) -> None:
        self._work = work
        self._epochs = epochs
        self._narrator = narration.Narrator(steps=10)
        # The tools of this environment first: cdk, and the Python that cdk.json starts.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._environment: Mapping[str, str] = {**os.environ, "PATH": path}

    def run(self) -> None:
        """Take every step, check every result, and print the summary."""
        say, step = self._narrator.say, self._narrator.step
        with step("Train: examples/digits/train.py, an ordinary SageMaker training script"):
            held = self._train()
        with step("Pack: model.tar.gz from what save_model wrote"):
            archive = self._work / "model.tar.gz"
            self._python(
                "pack", "-m", "tidegate.training_hooks", "pack", str(self._work / "model"), "--output", str(archive)
            )
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            say(f"{archive.stat().st_size:,} bytes, sha256 {digest}")
        with self._cloud() as cloud:
            with step("Deploy the bucket: cdk deploy storage"):
                bucket = self._cdk("storage")["BucketName"]
                say(f"bucket {bucket}")
            with step("Upload the archive with boto3"):
                # A key of its own for every archive: one uploaded over another is a change that no deploy would see.
                key = f"models/digits/{digest[:12]}/model.tar.gz"
                model_data_url = clients.upload(archive, bucket=bucket, key=key)
                say(model_data_url)
            with step("Deploy the endpoint: cdk deploy endpoint -c model_data_url=..."):
                outputs = self._cdk("endpoint", "-c", f"model_data_url={model_data_url}")
                say(f"endpoint {outputs['EndpointName']} is InService, model {outputs['ModelName']}")
            with step(f"Ask the endpoint: {SINGLE_REQUESTS} held-out digits with boto3, as PNG and as npy"):
                answers = self._ask(outputs["EndpointName"], held)
            with step(f"Batch transform: {len(held.labels)} held-out digits as JSON Lines from S3 to S3"):
                predictions = self._transform(cloud, outputs["ModelName"], bucket, held)
            with step("Compare: the batch's answers with the single ones"):
                difference = self._compare(answers, predictions)
            with step("Tear down: cdk destroy, then the local cloud"):
                clients.empty(bucket)
                self._command("destroy", "cdk", "destroy", "--all", "--force", "--app", str(self._work / "cdk.out"))
                cloud.down()
                say("all stacks are destroyed, all processes have ended")
        latency_ms = np.percentile([answer.latency_s * 1000 for answer in answers], [50, 99])
        single = accuracy([answer.prediction for answer in answers], held)
        rows = [
            ("accuracy, single requests", f"{single:.4f}  ({len(answers)} digits)"),
            ("accuracy, batch transform", f"{accuracy(predictions, held):.4f}  ({len(predictions)} digits)"),
            ("latency, p50 / p99", f"{latency_ms[0]:.1f} ms / {latency_ms[1]:.1f} ms"),
            ("largest difference, single to batch", f"{difference:.1e}  (allowed: {MAX_DIFFERENCE:.0e})"),
            ("time", f"{self._narrator.elapsed_s:.0f} s"),
        ]
        print("\n" + narration.table(rows))
        print("All checks held.", flush=True)

    def _train(self) -> Held:
        self._environment = {
            **self._environment,
            "SM_MODEL_DIR": str(self._work / "model"),
            "SM_OUTPUT_DATA_DIR": str(self._work / "output"),
            "SM_OUTPUT_DIR": str(self._work / "output"),
        }
        script = str(REPOSITORY / "examples" / "digits" / "train.py")
        self._python("train", script, "--epochs", str(self._epochs), echo="epoch=")
        with np.load(self._work / "output" / "held_out.npz") as archive:
            held = Held(images=archive["images"], labels=[str(label) for label in archive["labels"]])
        self._narrator.say(f"{len(held.labels)} digits were held out")
        return held

    @contextmanager
    def _cloud(self) -> Iterator[LocalCloud]:
        """The local cloud from its start to the end of the block, whatever happens in between."""
        cloud = LocalCloud(self._work / "cloud")
        try:
            with self._narrator.step("Start the local cloud: what 'tidegate cloud up' does"):
                cloud.up(outlive_caller=False)
                self._environment = client_environment(self._environment, cloud.environment)
                # From here on this process is a client like any other: boto3 learns where to go from its environment.
                os.environ.clear()
                os.environ.update(self._environment)
                self._narrator.say(f"AWS_ENDPOINT_URL={cloud.environment['AWS_ENDPOINT_URL']}")
            yield cloud
        finally:
            _hold_signals()
            cloud.down()

    def _cdk(self, stack: str, *options: str) -> dict[str, str]:
        """Deploy a stack and return its outputs."""
        outputs = self._work / f"{stack}.outputs.json"
        self._command(
            f"deploy-{stack}",
            *("cdk", "deploy", stack, *options, "--method", "direct", "--require-approval", "never"),
            *("--output", str(self._work / "cdk.out"), "--outputs-file", str(outputs)),
        )
        by_stack: dict[str, dict[str, str]] = json.loads(outputs.read_text())
        return by_stack[next(name for name in by_stack if name.endswith(f"-{stack}"))]

    def _ask(self, endpoint: str, held: Held) -> list[clients.Answered]:
        with tqdm(total=SINGLE_REQUESTS, desc="     asking", leave=False, disable=None) as progress:
            answers = clients.ask(endpoint, held.images[:SINGLE_REQUESTS], progress.update)
        predictions = [answer.prediction for answer in answers]
        found = accuracy(predictions, held)
        # The mistakes first, they are the interesting ones.
        rows = sorted(range(len(answers)), key=lambda row: predictions[row]["label"] == held.labels[row])[:4]
        print(
            narration.drawn(
                [
                    narration.Captioned(
                        image=held.images[row],
                        caption=(
                            f"is {held.labels[row]}, said {predictions[row]['label']}",
                            f"with p = {predictions[row]['probability']:.3f}",
                        ),
                    )
                    for row in rows
                ]
            )
        )
        latency_ms = np.percentile([answer.latency_s * 1000 for answer in answers], [50, 99])
        self._narrator.say(f"accuracy {found:.4f}, latency p50 {latency_ms[0]:.1f} ms, p99 {latency_ms[1]:.1f} ms")
        if found < MIN_ACCURACY:
            raise DemoFailed(f"the endpoint's accuracy is {found:.4f}, and at least {MIN_ACCURACY} was expected")
        return answers

    def _transform(self, cloud: LocalCloud, model: str, bucket: str, held: Held) -> list[dict[str, Any]]:
        with tqdm(total=len(held.labels), desc="     records", leave=False, disable=None) as progress:

            def show(job: str) -> None:
                progress.update(cloud.transform_progress(job)["RecordsDone"] - progress.n)

            predictions = clients.transform(
                model, list(held.images), bucket=bucket, objects=BATCH_OBJECTS, on_poll=show
            )
        found = accuracy(predictions, held)
        self._narrator.say(f"Completed: {BATCH_OBJECTS} objects, {len(predictions)} lines out, accuracy {found:.4f}")
        if found < MIN_ACCURACY:
            raise DemoFailed(f"the batch's accuracy is {found:.4f}, and at least {MIN_ACCURACY} was expected")
        return predictions

    def _compare(self, answers: list[clients.Answered], predictions: list[dict[str, Any]]) -> float:
        """Return the largest difference of two probabilities of the same digit."""
        difference = 0.0
        for row, answer in enumerate(answers):
            alone, among = answer.prediction, predictions[row]
            if alone["label"] != among["label"]:
                raise DemoFailed(f"digit {row} is {alone['label']} alone and {among['label']} in the batch")
            pairs = zip(alone["probabilities"], among["probabilities"], strict=True)
            difference = max(difference, *(abs(one - other) for one, other in pairs))
        if difference > MAX_DIFFERENCE:
            raise DemoFailed(f"a probability differs by {difference:.1e} in the batch, allowed is {MAX_DIFFERENCE:.0e}")
        self._narrator.say(f"{len(answers)} digits, same labels, probabilities within {difference:.1e}")
        return difference

    def _python(self, name: str, *arguments: str, echo: str | None = None) -> None:
        self._command(name, sys.executable, *arguments, echo=echo)

    def _command(self, name: str, program: str, *arguments: str, echo: str | None = None) -> None:
        if shutil.which(program, path=self._environment["PATH"]) is None:
            raise DemoFailed(f"{program} is not on PATH; 'make demo' installs what the demo needs")
        run(
            [program, *arguments],
            log=self._work / f"{name}.log",
            environment=self._environment,
            directory=REPOSITORY,
            echo=echo,
        )


def accuracy(predictions: list[dict[str, Any]], held: Held) -> float:
    """Return the share of right labels among the first digits, as many as there are predictions."""
    hits = [prediction["label"] == label for prediction, label in zip(predictions, held.labels, strict=False)]
    return sum(hits) / len(hits)


def client_environment(base: Mapping[str, str], cloud: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without any AWS setting of the caller (a profile, say) and with those of the local cloud."""
    kept = {name: value for name, value in base.items() if not name.startswith("AWS_")}
    no_proxy = ",".join(filter(None, [base.get("NO_PROXY") or base.get("no_proxy"), "127.0.0.1,localhost"]))
    return {**kept, **cloud, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    _hold_signals()
    raise Stopped(128 + number)


def _hold_signals() -> None:
    """From here on signals are taken but change nothing: all that they could interrupt is the tidying up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    sys.exit(main())
