"""The main job once in a real AWS account: deploy, invoke, batch transform, destroy. It costs money.

    python -m examples.digits.smoke --image-uri 123456789012.dkr.ecr.eu-central-1.amazonaws.com/tidegate:0.1.0

Needs credentials and a Region as every AWS command does (`aws sts get-caller-identity` shows them), and the serving
image in Amazon ECR of that Region. It makes stacks of a stage of its own, `smoke`, and destroys them again whatever
happens, Ctrl-C included; should the process be killed, `--clean-up` does the rest. Nothing is made before the account's
number has been typed in. Exit status 0 when every check held and nothing is left, 1 otherwise, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

import boto3
import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from examples.child_processes import CommandFailed, run
from examples.digits import clients
from examples.narration import Narrator
from tidegate.client import ClientFailure

REPOSITORY = Path(__file__).parents[2]
STAGE = "smoke"
SINGLE_REQUESTS = 30
BATCH_OBJECTS = 2
MIN_ACCURACY = 0.97
# SageMaker writes what it did into the access log with hours of delay, and a bucket with one object is not deleted.
DESTROY_ATTEMPTS = 4
POLL_TRANSFORM_S = 15.0


class SmokeFailed(Exception):
    """A check did not hold, or something is in the way; the text is one sentence."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; carries the exit status that shells expect."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who runs this, and where: the account's twelve digits and the Region."""

    account: str
    region: str


class Cloud(Protocol):
    """What the run asks of AWS; apart from the run, so that its order and its tidying up can be tested without AWS."""

    def identity(self) -> Identity:
        """Whose credentials these are."""

    def stacks(self, prefix: str) -> list[str]:
        """The names of the stacks that begin with `prefix`, whatever their state."""

    def deploy(self, stack: str, *options: str) -> dict[str, str]:
        """Deploy one stack and those that it needs; return its outputs."""

    def upload(self, archive: Path, bucket: str) -> str:
        """Put the archive into the bucket; return its address."""

    def ask(self, endpoint: str, images: np.ndarray) -> list[dict[str, Any]]:
        """One prediction for each image of shape (8, 8)."""

    def transform(self, model: str, images: np.ndarray, bucket: str) -> list[dict[str, Any]]:
        """The same by a batch transform job."""

    def destroy(self, buckets: Sequence[str]) -> None:
        """Empty the buckets and destroy the stacks of the stage."""

    def forget_logs(self, endpoint: str) -> None:
        """Delete the log group that SageMaker made for the endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """An archive, and digits that its training did not see: images (N, 8, 8) and their labels as text."""

    archive: Path
    images: np.ndarray
    labels: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line. `yes` is the account's number, instead of typing it."""

    image_uri: str | None
    instance_type: str
    prefix: str
    yes: str | None
    clean_up: bool


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; a mistake ends the process with status 2, as argparse does."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.smoke", description=__doc__.splitlines()[0])
    parser.add_argument("--image-uri", help="the serving image in Amazon ECR of this Region, with a tag or a digest")
    parser.add_argument("--instance-type", default="ml.m5.xlarge", help="of the endpoint (default: %(default)s)")
    parser.add_argument("--prefix", default="tidegate", help="of every name (default: %(default)s)")
    parser.add_argument("--yes", metavar="ACCOUNT", help="the account's number, instead of typing it")
    parser.add_argument("--clean-up", action="store_true", help="only destroy what an earlier run left")
    given = parser.parse_args(arguments)
    if given.image_uri is None and not given.clean_up:
        parser.error("--image-uri is missing; docs/image.md says how to build and push it")
    return Options(
        image_uri=given.image_uri,
        instance_type=given.instance_type,
        prefix=given.prefix,
        yes=given.yes,
        clean_up=given.clean_up,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the smoke test against AWS; return the exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    work = Path(tempfile.mkdtemp(prefix="tidegate-smoke-"))
    try:
        cloud = Account(work, options)
        return Smoke(cloud, options, train=lambda: train(work), ask=input).run()
    except (SmokeFailed, CommandFailed, ClientFailure, ClientError, BotoCoreError) as error:
        print(f"\nsmoke: error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        return stopped.status
    finally:
        shutil.rmtree(work, ignore_errors=True)


class Smoke:
    """The steps in their order. Once something may have been made, the last of them runs whatever happened before."""

    def __init__(
        self, cloud: Cloud, options: Options, *, train: Callable[[], Trained], ask: Callable[[str], str]
    ) -> None:
        self._cloud = cloud
        self._options = options
        self._train = train
        self._ask = ask
        self._narrator = Narrator(steps=2 if options.clean_up else 7)
        self._name = f"{options.prefix}-{STAGE}"

    def run(self) -> int:
        """Take every step; return 0. Raises what went wrong, after everything was destroyed."""
        step = self._narrator.step
        with step("Look at the account"):
            identity = self._cloud.identity()
            present = self._cloud.stacks(f"{self._name}-")
            self._narrator.say(f"account {identity.account}, Region {identity.region}")
        if self._options.clean_up:
            self._confirm(identity, f"destroys {', '.join(present) or 'nothing that can be seen'}")
            self._tear_down(identity)
            return 0
        if present:
            raise SmokeFailed(
                f"{', '.join(present)} is there already; if an earlier run left it, run this with --clean-up, "
                "else choose another --prefix"
            )
        self._confirm(
            identity,
            f"starts 1 x {self._options.instance_type} behind an endpoint and 1 x ml.m5.large for a batch job, both "
            "for well under an hour, and destroys them again. AWS charges for it; this script knows no prices",
        )
        with step("Train and pack the model on this machine"):
            trained = self._train()
        try:
            self._take(identity, trained)
        finally:
            _hold_signals()
            self._tear_down(identity)
        print("\nAll checks held, and nothing is left.", flush=True)
        return 0

    def _confirm(self, identity: Identity, what: str) -> None:
        print(f"\nThis {what}.", flush=True)
        typed = self._options.yes
        if typed is None:
            typed = self._ask(f"Type the account's number, {identity.account}, to go on: ").strip()
        if typed != identity.account:
            raise SmokeFailed(f"{typed!r} is not the number of this account, {identity.account}; nothing was made")

    def _take(self, identity: Identity, trained: Trained) -> None:
        step, say = self._narrator.step, self._narrator.say
        with step("Deploy the bucket and upload the archive"):
            bucket = self._cloud.deploy("storage")["BucketName"]
            address = self._cloud.upload(trained.archive, bucket)
            say(address)
        with step("Deploy the endpoint; an instance takes some minutes to start"):
            outputs = self._cloud.deploy("endpoint", "-c", f"model_data_url={address}")
            say(f"endpoint {outputs['EndpointName']} is InService in {identity.region}")
        with step(f"Ask the endpoint: {SINGLE_REQUESTS} held-out digits"):
            single = self._cloud.ask(outputs["EndpointName"], trained.images[:SINGLE_REQUESTS])
            say(self._check("endpoint", single, trained.labels[:SINGLE_REQUESTS]))
        with step(f"Batch transform: {len(trained.labels)} held-out digits"):
            batch = self._cloud.transform(outputs["ModelName"], trained.images, bucket)
            say(self._check("batch job", batch, trained.labels))
        if [p["label"] for p in single] != [p["label"] for p in batch[: len(single)]]:
            raise SmokeFailed("the endpoint and the batch job give different labels for the same digits")

    def _check(self, who: str, predictions: Sequence[dict[str, Any]], labels: Sequence[str]) -> str:
        hits = sum(p["label"] == label for p, label in zip(predictions, labels, strict=True))
        found = hits / len(labels)
        # A few digits may well hold two that are hard; far fewer right ones are another model.
        if found < MIN_ACCURACY - 2 / len(labels):
            raise SmokeFailed(f"the accuracy of the {who} is {found:.4f}, and about {MIN_ACCURACY} was expected")
        return f"accuracy {found:.4f}"

    def _tear_down(self, identity: Identity) -> None:
        buckets = [f"{self._name}-{use}-{identity.account}-{identity.region}" for use in ("data", "logs")]
        with self._narrator.step("Destroy everything; please let this end, it stops what costs money"):
            problem: Exception | None = None
            for attempt in range(1, DESTROY_ATTEMPTS + 1):
                try:
                    self._cloud.destroy(buckets)
                    self._cloud.forget_logs(self._name)
                    problem = None
                except (CommandFailed, ClientError, BotoCoreError) as error:
                    problem = error
                    self._narrator.say(f"attempt {attempt} of {DESTROY_ATTEMPTS} did not succeed")
                else:
                    break
            left = self._cloud.stacks(f"{self._name}-")
            if left or problem:
                raise SmokeFailed(
                    f"{', '.join(left) or 'something'} could not be destroyed and may cost money; run this with "
                    f"--clean-up, or delete it in the CloudFormation console of {identity.region}: {problem}"
                )
            self._narrator.say("no stack of this stage is left")


class Account:
    """AWS itself: the cdk command line and plain boto3."""

    def __init__(self, work: Path, options: Options) -> None:
        self._work = work
        self._options = options
        self._stage_file = work / f"{STAGE}.toml"
        # The tools of this environment first: cdk, and the Python that cdk.json starts.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._environment = {**os.environ, "PATH": path}

    def identity(self) -> Identity:
        """Whose credentials these are; writes the stage file, which is pinned to this account and Region."""
        region = boto3.session.Session().region_name
        if region is None:
            raise SmokeFailed("no Region is set; export AWS_DEFAULT_REGION=eu-central-1, or another one")
        account = boto3.client("sts").get_caller_identity()["Account"]
        identity = Identity(account=account, region=region)
        self._stage_file.write_text(stage_file(identity, self._options), encoding="utf-8")
        return identity

    def stacks(self, prefix: str) -> list[str]:
        """Every stack but those that are deleted."""
        pages = boto3.client("cloudformation").get_paginator("describe_stacks").paginate()
        return [s["StackName"] for page in pages for s in page["Stacks"] if s["StackName"].startswith(prefix)]

    def deploy(self, stack: str, *options: str) -> dict[str, str]:
        """`cdk deploy`; its log is shown when it fails."""
        outputs = self._work / f"{stack}.outputs.json"
        self._cdk("deploy", stack, *options, "--require-approval", "never", "--outputs-file", str(outputs))
        by_stack: dict[str, dict[str, str]] = json.loads(outputs.read_text())
        return by_stack[f"{self._options.prefix}-{STAGE}-{stack}"]

    def upload(self, archive: Path, bucket: str) -> str:
        """Below models/, where the endpoint's role may read."""
        return clients.upload(archive, bucket=bucket, key=f"models/{STAGE}/model.tar.gz")

    def ask(self, endpoint: str, images: np.ndarray) -> list[dict[str, Any]]:
        """One request for each image."""
        return [answer.prediction for answer in clients.ask(endpoint, list(images), lambda: None)]

    def transform(self, model: str, images: np.ndarray, bucket: str) -> list[dict[str, Any]]:
        """A job takes minutes to start, and DescribeTransformJob has a rate limit."""
        return clients.transform(
            model, list(images), bucket=bucket, objects=BATCH_OBJECTS, on_poll=lambda _: time.sleep(POLL_TRANSFORM_S)
        )

    def destroy(self, buckets: Sequence[str]) -> None:
        """Buckets that are not there, or not any more, are passed over."""
        for bucket in buckets:
            try:
                clients.empty(bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchBucket":
                    raise
        self._cdk("destroy", "--all", "--force")

    def forget_logs(self, endpoint: str) -> None:
        """CloudFormation does not know of this log group; the one of transform jobs is shared and stays."""
        logs = boto3.client("logs")
        try:
            logs.delete_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}")
        except logs.exceptions.ResourceNotFoundException:
            return

    def _cdk(self, command: str, *arguments: str) -> None:
        run(
            ["cdk", command, *arguments, "-c", f"stage={self._stage_file}", "--output", str(self._work / "cdk.out")],
            log=self._work / f"{command}.log",
            environment=self._environment,
            directory=REPOSITORY,
            timeout_s=3600.0,
        )


def stage_file(identity: Identity, options: Options) -> str:
    """A stage that keeps nothing, needs no bootstrap and cannot be put into another account."""
    # Destroying reads the file too and looks at no image, so any name that could be one will do.
    image = options.image_uri or "none.example.com/none:none"
    return f"""account = {json.dumps(identity.account)}
region = {json.dumps(identity.region)}
prefix = {json.dumps(options.prefix)}
bootstrapped = false

[image]
uri = {json.dumps(image)}

[hosting]
mode = "realtime"
instance_type = {json.dumps(options.instance_type)}

[retention]
keep_data = false
"""


def train(work: Path) -> Trained:
    """Train and pack on this machine, as `make demo` does."""
    environment = {
        **os.environ,
        "SM_MODEL_DIR": str(work / "model"),
        "SM_OUTPUT_DATA_DIR": str(work / "output"),
        "SM_OUTPUT_DIR": str(work / "output"),
    }
    archive = work / "model.tar.gz"
    script = str(REPOSITORY / "examples" / "digits" / "train.py")
    pack = ["-m", "tidegate.training_hooks", "pack", str(work / "model"), "--output", str(archive)]
    for name, arguments in (("train", [script]), ("pack", pack)):
        run([sys.executable, *arguments], log=work / f"{name}.log", environment=environment, directory=REPOSITORY)
    with np.load(work / "output" / "held_out.npz") as held:
        return Trained(archive=archive, images=held["images"], labels=[str(label) for label in held["labels"]])


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    print("\nsmoke: stopping; what was made is destroyed first", file=sys.stderr, flush=True)
    _hold_signals()
    raise Stopped(128 + number)


def _hold_signals() -> None:
    """From here on signals are taken but change nothing: all that they could interrupt is the tidying up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    sys.exit(main())
