"""What a client needs to know of a deployed stage: its current model, and its bucket."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import boto3

from tidegate.client.addresses import split_s3

INPUT = "batch/input/"
# A stage that transforms uploads by itself leaves this folder to whoever submits his own jobs.
SUBMITTED = f"{INPUT}submitted/"
OUTPUT = "batch/output/"


class Bar(AbstractContextManager[Any], Protocol):
    """A bar of progress, as tqdm's."""

    def update(self, n: float = 1, /) -> bool | None:
        """Go on by `n` bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of the account and Region that the session is for."""

    session: boto3.Session
    name: str
    prefix: str
    bucket: str

    @classmethod
    def find(cls, session: boto3.Session, *, name: str, prefix: str) -> Stage:
        """The stage by its names, which `infra` gives to what it creates."""
        account = session.client("sts").get_caller_identity()["Account"]
        bucket = f"{prefix}-{name}-data-{account}-{session.region_name}"
        return cls(session=session, name=name, prefix=prefix, bucket=bucket)

    @property
    def tags(self) -> dict[str, str]:
        """What the stage's budget counts by."""
        return {"project": self.prefix, "stage": self.name}

    def model_name(self) -> str:
        """The model that the stage's endpoint runs now. It changes with every update, so it is looked up each time.

        Raises `ValueError` where there is none: nothing is deployed, or an endpoint of many models.
        """
        ssm = self.session.client("ssm")
        try:
            value: str = ssm.get_parameter(Name=f"/{self.prefix}/{self.name}/model-name")["Parameter"]["Value"]
        except ssm.exceptions.ParameterNotFound:
            raise ValueError(
                f"stage {self.name} of {self.prefix} has no model for transform jobs in {self.session.region_name}; "
                "deploy its endpoint, or name a model with --model"
            ) from None
        return value

    def upload(self, file: Path, *, show: Callable[[int], Bar]) -> str:
        """Put `file` into a folder of its own under batch/input/submitted/, with progress; return its address."""
        folder = f"{SUBMITTED}{datetime.now(UTC):%Y%m%dT%H%M%S%f}/"
        with show(file.stat().st_size) as bar:
            self.session.client("s3").upload_file(str(file), self.bucket, folder + file.name, Callback=bar.update)
        return f"s3://{self.bucket}/{folder}"


def output_for(source: str) -> str:
    """Where the answers to `source` belong: the same place under batch/output/.

    Raises `ValueError` for a source that is not under batch/input/, as the answers might come to lie among other data.
    """
    bucket, key = split_s3(source)
    if not key.startswith(INPUT):
        raise ValueError(f"{source} is not under {INPUT}; say with --output where the answers are to lie")
    folder = key.removeprefix(INPUT)
    return f"s3://{bucket}/{OUTPUT}{folder[: folder.rfind('/') + 1]}"
