"""Read handwritten numbers with two containers in a row: as an endpoint, in a batch job, and where the second refuses.

    make example NAME=two_containers            (or: python -m examples two_containers)

The first container cuts a picture into digits; the second is the archive of examples/digits as it is.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.exceptions import ClientError

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.narration import table
from examples.two_containers.paper import picture
from tidegate.client import BatchJob

STAGE = "examples/two_containers/stage.toml"
CUT = Path(__file__).parent / "cut"
PNG = "image/png"
NUMBERS = 8
MIN_SHARE = 0.8  # of the digits


def main() -> int:
    """Run the demonstration; return the exit status."""
    parser = arguments("two_containers", __doc__ or "")
    parser.add_argument("--epochs", type=int, default=10, help="of the training (default: %(default)s)")
    return run(demonstrate, parser, steps=8)


def demonstrate(show: Demonstration) -> None:
    """From the training to the refusal."""
    output = show.work / "output"
    with show.step("Train what reads: examples/digits/train.py"):
        epochs = str(show.options.epochs)
        show.train("examples/digits/train.py", "--epochs", epochs, "--output-data-dir", str(output), echo="saved")
    with show.step("Pack both: what cuts has code and no weights"):
        archives = {"digits": show.pack(show.model_dir, "digits"), "cut": show.pack(CUT, "cut")}
    true, pictures = handwritten(output / "held_out.npz")

    with show.cloud():
        with show.step(f"Deploy the bucket: cdk deploy storage -c stage={STAGE}"):
            bucket = show.deploy("storage", "-c", f"stage={STAGE}")["BucketName"]
            for name, archive in archives.items():
                boto3.client("s3").upload_file(str(archive), bucket, f"models/{name}/1/model.tar.gz")
        with show.step("Deploy the endpoint: cdk deploy endpoint, from the templates that are there"):
            outputs = show.deploy("endpoint", "--exclusively", "--app", str(show.cdk_out))
            endpoint, model = outputs["EndpointName"], outputs["ModelName"]
            containers = boto3.client("sagemaker").describe_model(ModelName=model)["Containers"]
            show.say(f"{endpoint} is InService: " + " → ".join(each["ContainerHostname"] for each in containers))
        with show.step(f"Ask the endpoint: {NUMBERS} pictures"):
            answers = [ask(endpoint, each) for each in pictures]
            said = [number_of(answer) for answer in answers]
            show.say(table([("is", "read"), *zip(true, said, strict=True)]))
            check(true, said)
        with show.step("Batch transform: the same pictures from S3 to S3, an object each"):
            in_batch = transform(model, pictures, bucket=bucket, folder=show.work / "batch")
            if [number_of(answer) for answer in in_batch] != said:
                raise DemoFailed("The batch job read other numbers than the endpoint.")
            show.say(f"{len(in_batch)} objects, the same numbers")
        with show.step("Ask with a sheet on which nobody has written: the second container refuses"):
            show.say(refusal(endpoint, picture([], seed=0)))


def handwritten(held_out: Path) -> tuple[list[str], list[bytes]]:
    """Numbers of two to five unseen digits, as text and as pictures."""
    chance = np.random.default_rng(1)
    with np.load(held_out) as archive:
        images, labels = archive["images"], archive["labels"]
    drawn = [chance.choice(len(labels), size=chance.integers(2, 6), replace=False) for _ in range(NUMBERS)]
    true = ["".join(str(label) for label in labels[rows]) for rows in drawn]
    return true, [picture(images[rows], seed=number) for number, rows in enumerate(drawn)]


def ask(endpoint: str, body: bytes) -> Any:
    """Invoke the endpoint as any client does, who need not know that there are two containers."""
    runtime = boto3.client("sagemaker-runtime")
    response = runtime.invoke_endpoint(EndpointName=endpoint, Body=body, ContentType=PNG, Accept="application/json")
    return json.loads(response["Body"].read())


def transform(model: str, pictures: Sequence[bytes], *, bucket: str, folder: Path) -> list[Any]:
    """Run a batch transform job over the pictures; return its answers in their order."""
    s3 = boto3.client("s3")
    names = [f"{number:02d}.png" for number in range(len(pictures))]
    for name, body in zip(names, pictures, strict=True):
        s3.put_object(Bucket=bucket, Key=f"batch/input/numbers/{name}", Body=body)
    job = BatchJob.submit(
        name="numbers",
        model=model,
        input_location=f"s3://{bucket}/batch/input/numbers/",
        output_location=f"s3://{bucket}/batch/output/numbers/",
        content_type=PNG,
        accept="application/json",
    )
    job.wait(poll_s=0.5)
    job.fetch(folder)
    return [json.loads((folder / f"{name}.out").read_text(encoding="utf-8")) for name in names]


def refusal(endpoint: str, body: bytes) -> str:
    """What a client sees of an error in the second container: one sentence of the model, behind a ModelError."""
    try:
        ask(endpoint, body)
    except ClientError as error:
        response: dict[str, Any] = error.response
        if response["Error"]["Code"] != "ModelError":
            raise
        rows = [
            ("Error.Code", response["Error"]["Code"]),
            ("OriginalStatusCode", str(response["OriginalStatusCode"])),
            ("OriginalMessage", response["OriginalMessage"]),
            ("Error.Message", response["Error"]["Message"].partition(" with message")[0] + " with message …"),
        ]
        return table(rows)
    raise DemoFailed("An empty sheet was read.")


def number_of(answer: Any) -> str:
    """The digits of an answer as one number."""
    return "".join(each["label"] for each in answer["predictions"])


def check(true: Sequence[str], said: Sequence[str]) -> None:
    """Most digits must be right."""
    right = sum(one == other for pair in zip(true, said, strict=True) for one, other in zip(*pair, strict=False))
    if right < MIN_SHARE * sum(map(len, true)):
        raise DemoFailed(f"Only {right} of {sum(map(len, true))} digits were read.")


if __name__ == "__main__":
    sys.exit(main())
