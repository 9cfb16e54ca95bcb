"""An account of moto's with transform jobs that have run: their input and output are what a test puts there."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from moto import mock_aws
from moto.sagemaker.models import sagemaker_backends

from tidegate.client import BatchJob

BUCKET = "data"
TABLE = "results.predictions"
_numbers = itertools.count()


@dataclass
class Account:
    """What a job left in S3, and what the catalogue has."""

    session: boto3.Session
    folder: Path
    s3: Any = field(init=False)

    def __post_init__(self) -> None:
        self.s3 = self.session.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def keys(self, prefix: str = "") -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    def job(
        self,
        inputs: Mapping[str, bytes],
        outputs: Mapping[str, bytes],
        *,
        content_type: str = "text/csv",
        accept: str | None = None,
        join: bool = False,
        split: str = "Line",
        compression: str = "None",
        listed: bool = False,
    ) -> BatchJob:
        """A completed job over `in/…`, in the order in which things happen: input, job, output."""
        name = f"job-{next(_numbers)}"
        for key, content in inputs.items():
            self.put(f"{name}/in/{key}", content)
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/in/"}
        if listed:
            names = [{"prefix": f"s3://{BUCKET}/{name}/in/"}, *inputs]
            self.put(f"{name}/out/{name}.manifest.json", json.dumps(names).encode())
            source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/{name}/out/{name}.manifest.json"}
        self.session.client("sagemaker").create_transform_job(
            TransformJobName=name,
            ModelName="model",
            TransformInput={
                "DataSource": {"S3DataSource": source},
                "ContentType": content_type,
                "SplitType": split,
                "CompressionType": compression,
            },
            TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}/out", "Accept": accept or content_type},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            DataProcessing={"JoinSource": "Input" if join else "None"},
        )
        for key, content in outputs.items():
            self.put(f"{name}/out/{key}.out", content)
        job = BatchJob(name, session=self.session)
        self.described(job).transform_end_time = datetime.datetime.now(datetime.UTC)
        return job

    def described(self, job: BatchJob) -> Any:
        """What moto has of the job, to be changed."""
        jobs = sagemaker_backends["123456789012"]["us-east-1"].transform_jobs
        return next(found for found in jobs.values() if found.transform_job_name == job.name)

    def table(self, columns: Mapping[str, str], *, projected: bool = True, **changed: Any) -> str:
        """A table as the batch stack makes it."""
        glue = self.session.client("glue")
        glue.create_database(DatabaseInput={"Name": "results"})
        origin = {"job": "string", "input_file": "string", "record": "bigint"}
        described = {
            "Name": "predictions",
            "PartitionKeys": [{"Name": "day", "Type": "string"}],
            "Parameters": {"projection.enabled": "true"} if projected else {},
            "StorageDescriptor": {
                "Location": f"s3://{BUCKET}/tables/predictions/",
                "Columns": [{"Name": name, "Type": kind} for name, kind in {**columns, **origin}.items()],
                "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
            },
        }
        glue.create_table(DatabaseName="results", TableInput={**described, **changed})
        return TABLE

    def query(self, sql: str, *, below: str = "tables/predictions/") -> list[tuple[Any, ...]]:
        """Ask the table `t`, which is all files below a prefix, as Athena and Redshift do."""
        root = self.folder / f"copy-{next(_numbers)}"
        for key in self.keys(below):
            file = root / key.removeprefix(below)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        with duckdb.connect() as database:
            database.execute(
                f"create view t as from read_parquet('{root}/**/*.parquet', hive_partitioning = true, "
                "hive_types_autocast = false)"
            )
            return database.execute(sql).fetchall()


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """One for all: it reads the descriptions of the services once."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")


@pytest.fixture
def account(session: boto3.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Account(session, tmp_path)


@pytest.fixture
def today() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
