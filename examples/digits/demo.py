"""The main job, end to end, on this machine: train, pack, deploy, invoke, batch transform, tear down.

    make demo                                   (or: python -m examples.digits.demo)

Real pieces throughout: an ordinary training script, the cdk command line, plain boto3, and the server that runs in the
container. Only AWS itself is the local cloud (docs/local-cloud.md says what it fakes). Exit status 0 when every check
held, 1 with one sentence otherwise, 130 after Ctrl-C; no process, port or file is left in any case.
"""

import hashlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.digits import clients, drawing
from examples.narration import table
from tidegate.local_cloud.cloud import LocalCloud

SINGLE_REQUESTS = 100
BATCH_OBJECTS = 3
MIN_ACCURACY = 0.97
# The same digit, alone or among others: float32 sums are taken in another order, so the last places differ.
MAX_DIFFERENCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Digits that training did not see: images (N, 8, 8) with values 0 to 16, and their labels as text."""

    images: np.ndarray
    labels: list[str]


def main() -> int:
    """Run the demo; return the exit status."""
    parser = arguments("digits", __doc__ or "")
    parser.add_argument("--epochs", type=int, default=15, help="of the training (default: %(default)s)")
    return run(lambda show: Demo(show).run(), parser, steps=10)


class Demo:
    """The steps, in the order in which a user takes them."""

    def __init__(self, show: Demonstration) -> None:
        self._show = show
        self._work = show.work

    def run(self) -> None:
        """Take every step, check every result, and print the summary."""
        say, step = self._show.say, self._show.step
        with step("Train: examples/digits/train.py, an ordinary SageMaker training script"):
            held = self._train()
        with step("Pack: model.tar.gz from what save_model wrote"):
            archive = self._show.pack(self._show.model_dir)
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            say(f"{archive.stat().st_size:,} bytes, sha256 {digest}")
        with self._show.cloud() as cloud:
            with step("Deploy the bucket: cdk deploy storage"):
                bucket = self._show.deploy("storage")["BucketName"]
                say(f"bucket {bucket}")
            with step("Upload the archive with boto3"):
                # A key of its own for every archive: one uploaded over another is a change that no deploy would see.
                key = f"models/digits/{digest[:12]}/model.tar.gz"
                model_data_url = clients.upload(archive, bucket=bucket, key=key)
                say(model_data_url)
            with step("Deploy the endpoint: cdk deploy endpoint -c model_data_url=..."):
                outputs = self._show.deploy("endpoint", "-c", f"model_data_url={model_data_url}")
                say(f"endpoint {outputs['EndpointName']} is InService, model {outputs['ModelName']}")
            with step(f"Ask the endpoint: {SINGLE_REQUESTS} held-out digits with boto3, as PNG and as npy"):
                answers = self._ask(outputs["EndpointName"], held)
            with step(f"Batch transform: {len(held.labels)} held-out digits as JSON Lines from S3 to S3"):
                predictions = self._transform(cloud, outputs["ModelName"], bucket, held)
            with step("Compare: the batch's answers with the single ones"):
                difference = self._compare(answers, predictions)
            with step("Tear down: cdk destroy, then the local cloud"):
                clients.empty(bucket)
                self._show.command("destroy", "cdk", "destroy", "--all", "--force", "--app", str(self._show.cdk_out))
                cloud.down()
                say("all stacks are destroyed, all processes have ended")
        latency_ms = np.percentile([answer.latency_s * 1000 for answer in answers], [50, 99])
        single = accuracy([answer.prediction for answer in answers], held)
        rows = [
            ("accuracy, single requests", f"{single:.4f}  ({len(answers)} digits)"),
            ("accuracy, batch transform", f"{accuracy(predictions, held):.4f}  ({len(predictions)} digits)"),
            ("latency, p50 / p99", f"{latency_ms[0]:.1f} ms / {latency_ms[1]:.1f} ms"),
            ("largest difference, single to batch", f"{difference:.1e}  (allowed: {MAX_DIFFERENCE:.0e})"),
            ("time", f"{self._show.elapsed_s:.0f} s"),
        ]
        print("\n" + table(rows), flush=True)

    def _train(self) -> Held:
        output = self._work / "output"
        self._show.train(
            "examples/digits/train.py",
            *("--epochs", str(self._show.options.epochs), "--output-data-dir", str(output)),
        )
        with np.load(output / "held_out.npz") as archive:
            held = Held(images=archive["images"], labels=[str(label) for label in archive["labels"]])
        self._show.say(f"{len(held.labels)} digits were held out")
        return held

    def _ask(self, endpoint: str, held: Held) -> list[clients.Answered]:
        with tqdm(total=SINGLE_REQUESTS, desc="     asking", leave=False, disable=None) as progress:
            answers = clients.ask(endpoint, held.images[:SINGLE_REQUESTS], progress.update)
        predictions = [answer.prediction for answer in answers]
        found = accuracy(predictions, held)
        # The mistakes first, they are the interesting ones.
        rows = sorted(range(len(answers)), key=lambda row: predictions[row]["label"] == held.labels[row])[:4]
        print(
            drawing.drawn(
                [
                    drawing.Captioned(
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
        self._show.say(f"accuracy {found:.4f}, latency p50 {latency_ms[0]:.1f} ms, p99 {latency_ms[1]:.1f} ms")
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
        self._show.say(f"Completed: {BATCH_OBJECTS} objects, {len(predictions)} lines out, accuracy {found:.4f}")
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
        self._show.say(f"{len(answers)} digits, same labels, probabilities within {difference:.1e}")
        return difference


def accuracy(predictions: list[dict[str, Any]], held: Held) -> float:
    """Return the share of right labels among the first digits, as many as there are predictions."""
    hits = [prediction["label"] == label for prediction, label in zip(predictions, held.labels, strict=False)]
    return sum(hits) / len(hits)


if __name__ == "__main__":
    sys.exit(main())
