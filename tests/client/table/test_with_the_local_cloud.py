"""Jobs that the real server answered, as tables: through the shell, as a user would, and read back by DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.client.deployed_model import deploy
from tidegate.local_cloud import LocalCloud

BUCKET = "tidegate-try-data-123456789012-us-east-1"
TABLE = f"s3://{BUCKET}/tables/predictions/"
COLUMNS = {"id": "string", "x": "array<double>", "sum": "double", "label": "string"}
HANDLERS = """
import json

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    text = body if isinstance(body, str) else bytes(body).decode()
    lines = [line for line in text.splitlines() if line.strip()]
    if content_type == "text/csv":
        return [[float(cell) for cell in line.split(",")[1:]] for line in lines]
    return [record if isinstance(record, list) else record["x"] for record in map(json.loads, lines)]

def predict_fn(rows, model):
    return [{"sum": sum(row), "label": "high" if sum(row) > 3 else "low"} for row in rows]

def output_fn(answers, accept):
    if accept == "text/csv":
        return "".join(f"{answer['sum']},{answer['label']}\\n" for answer in answers), accept
    return "".join(json.dumps(answer) + "\\n" for answer in answers), accept
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A stage with a model and a table, as its stacks would make them."""
    with LocalCloud(tmp_path_factory.mktemp("table") / "state") as cloud:
        deploy(cloud, bucket=BUCKET, model="summing", script=HANDLERS)
        ssm, glue = cloud.client("ssm"), cloud.client("glue")
        glue.create_database(DatabaseInput={"Name": "tidegate_try"})
        origin = {"job": "string", "input_file": "string", "record": "bigint"}
        glue.create_table(
            DatabaseName="tidegate_try",
            TableInput={
                "Name": "predictions",
                "PartitionKeys": [{"Name": "day", "Type": "string"}],
                "Parameters": {"projection.enabled": "true"},
                "StorageDescriptor": {
                    "Location": TABLE,
                    "Columns": [{"Name": name, "Type": kind} for name, kind in {**COLUMNS, **origin}.items()],
                    "SerdeInfo": {
                        "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
                    },
                },
            },
        )
        described = {"database": "tidegate_try", "table": "predictions", "location": TABLE, "workgroup": None}
        ssm.put_parameter(Name="/tidegate/try/table", Value=json.dumps(described), Type="String")
        yield cloud
        for client in (ssm, glue):
            client.close()


def client(cloud: LocalCloud, *arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "client", "batch", *arguments],
        env={**os.environ, **cloud.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def table_of(cloud: LocalCloud, folder: Path, file: Path, *asked: str, table: tuple[str, ...]) -> tuple[str, Path]:
    """Submit, wait, write the table; the job's name and a copy of its file, below the folders that it has in S3."""
    job = client(cloud, "submit", "--stage", "try", "--input", str(file), *asked)
    client(cloud, "wait", job, "--poll", "0.1")
    location = client(cloud, "table", job, *table)
    copy = folder / location.removeprefix("s3://")
    copy.parent.mkdir(parents=True)
    s3: Any = cloud.client("s3")
    copy.write_bytes(s3.get_object(Bucket=BUCKET, Key=location.removeprefix(f"s3://{BUCKET}/"))["Body"].read())
    s3.close()
    return job, copy


def created(cloud: LocalCloud, job: str) -> datetime:
    sagemaker: Any = cloud.client("sagemaker")
    moment: datetime = sagemaker.describe_transform_job(TransformJobName=job)["CreationTime"]
    sagemaker.close()
    return moment.astimezone(UTC)


def rows_of(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        files = database.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        return files.order("job, record").project(columns).fetchall()


@pytest.mark.parametrize("joined", [False, True])
def test_json_lines_go_into_the_table_of_the_stage(cloud: LocalCloud, tmp_path: Path, joined: bool) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"id": "a", "x": [1, 2]}\n\n{"id": "b", "x": [3, 4.5]}\n')
    asked = ("--join-source", "Input", "--input-filter", "$.x") if joined else ()
    job, copy = table_of(cloud, tmp_path / "copy", file, *asked, table=("--stage", "try"))
    day = f"{created(cloud, job):%Y-%m-%d}"
    assert str(copy).endswith(f"tables/predictions/day={day}/job={job}/part-0.parquet")
    assert rows_of(
        tmp_path / "copy", "id, x, sum, label, job, record, day::varchar, input_file like '%/rows.jsonl'"
    ) == [
        ("a", [1.0, 2.0], 3.0, "low", job, 0, day, True),
        ("b", [3.0, 4.5], 7.5, "high", job, 1, day, True),
    ]


@pytest.mark.parametrize("joined", [False, True])
def test_csv_gets_its_columns_by_their_place(cloud: LocalCloud, tmp_path: Path, joined: bool) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a,1,2\nb,3,4.5\n")
    asked = ("--join-source", "Input") if joined else ()
    names = "id,first:double,second:double,sum:double,label"
    to = f"s3://{BUCKET}/tables/of-csv-{joined}/"
    table_of(cloud, tmp_path / "copy", file, *asked, table=("--to", to, "--columns", names))
    assert rows_of(tmp_path / "copy", "id, first, second, sum, label") == [
        ("a", 1.0, 2.0, 3.0, "low"),
        ("b", 3.0, 4.5, 7.5, "high"),
    ]
