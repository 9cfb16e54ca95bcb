"""The table of results, by the real `cdk` command line on the local cloud: made, found, filled, changed, destroyed.

Whoever fills the table does it in a role that has the stage's policy for writers and no more, and the cloud enforces
that. What it does not do, and these tests therefore do not show: it runs no query (here DuckDB reads the files that
Athena would), so that the policy for readers is not tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest

from tests.end_to_end.deploying import TRUST, Deployer, archive, document, inventory
from tests.end_to_end.test_promotion import until
from tests.infra.conftest import ROOT

STAGE = """
account = "123456789012"
bootstrapped = false

[image]
tag = "process"

[hosting]
mode = "realtime"

[batch.table]
columns = {{ {columns} }}
first_day = 2026-11-01
query_limit_gib = 7

[retention]
keep_data = false
"""


SCORES = """
import json


def model_fn(model_dir):
    return 2.0


def input_fn(request_body, content_type):
    return json.loads(request_body)


def predict_fn(data, model):
    return {"score": data["x"] * model}


def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
RECORDS = {
    "monday": [{"id": "a", "x": 1.0}, {"id": "b", "x": 2.5}],
    "tuesday": [{"id": "c", "x": 4.0}],
}


@dataclass
class Life:
    """What was seen, in the order of the story."""

    parameter: dict[str, Any]
    table: dict[str, Any]
    bucket: str
    workgroup: dict[str, Any]
    policies: dict[str, list[dict[str, Any]]]
    widened: dict[str, Any]
    filled: str
    files: list[str]
    rows: list[tuple[Any, ...]]
    created: dict[str, list[str]]
    after_update: dict[str, list[str]]
    destroyed: dict[str, list[str]]


def statements(arn: str) -> list[dict[str, Any]]:
    iam = boto3.client("iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]["Statement"]
    return list(found)


def transformed(deployer: Deployer, directory: Path) -> str:
    """A finished job over all records; the model is this job's own."""
    bucket, s3, sagemaker = deployer.output("storage", "BucketName"), boto3.client("s3"), boto3.client("sagemaker")
    for name, records in RECORDS.items():
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        s3.put_object(Bucket=bucket, Key=f"batch/input/week/{name}.jsonl", Body=lines.encode())
    container = {
        "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
        "ModelDataUrl": deployer.upload(archive(directory, weight=2, handlers=SCORES)),
    }
    role = "arn:aws:iam::123456789012:role/AmazonSageMaker-ExecutionRole-local"
    sagemaker.create_model(ModelName="scores", ExecutionRoleArn=role, PrimaryContainer=container)
    sagemaker.create_transform_job(
        TransformJobName="week",
        ModelName="scores",
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/batch/input/week/"}},
            "ContentType": "application/jsonlines",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{bucket}/batch/output/week/", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def status() -> str:
        return str(sagemaker.describe_transform_job(TransformJobName="week")["TransformJobStatus"])

    assert until(lambda: (now := status()) != "InProgress" and now, "the job ends") == "Completed"
    sagemaker.delete_model(ModelName="scores")
    return "week"


def filled(deployer: Deployer, job: str) -> str:
    """What the client says when it puts the job into the table of the stage, as one who may only do that."""
    command = [sys.executable, "-m", "client", "batch", "table", job, "--stage", deployer.name]
    with session_with(deployer.output("batch", "TableWriterPolicyArn")) as credentials:
        own = os.environ | credentials
        done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def session_with(policy_arn: str) -> Iterator[dict[str, str]]:
    """Variables with the credentials of a role that has one policy; of roles, those that a service may take count."""
    iam, name = boto3.client("iam"), "nightly"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(TRUST))["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=policy_arn)
    found = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="filling")["Credentials"]
    yield {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
    }
    iam.detach_role_policy(RoleName=name, PolicyArn=policy_arn)
    iam.delete_role(RoleName=name)


def read_back(bucket: str, directory: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The files of the table, and all their rows as a reader of partitions sees them."""
    s3 = boto3.client("s3")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="tables/").get("Contents", [])]
    for key in keys:
        path = directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, key, str(path))
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select id, score, x, job, split_part(input_file, '/', -1), record, day::varchar"
            " from read_parquet(?, hive_partitioning = true, hive_types = {'day': date}) order by id",
            [str(directory / "tables" / "predictions" / "*" / "*" / "*.parquet")],
        ).fetchall()
    return keys, rows


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


@pytest.fixture(scope="module")
def life(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    directory = tmp_path_factory.mktemp("table")
    file = directory / "tables.toml"
    deployer = Deployer(cloud, directory, stage=str(file))

    def deploy(columns: str) -> dict[str, Any]:
        file.write_text(STAGE.format(columns=columns))
        # Alone: a table needs no endpoint.
        deployer.deploy("storage", "batch", "--exclusively")
        database, table = deployer.output("batch", "TableName").split(".")
        found = boto3.client("glue").get_table(DatabaseName=database, Name=table)["Table"]
        return dict(found)

    table = deploy('id = "string", score = "double"')
    created = inventory("tables")
    parameter = boto3.client("ssm").get_parameter(Name="/tidegate/tables/table")["Parameter"]["Value"]
    workgroup = boto3.client("athena").get_work_group(WorkGroup=deployer.output("batch", "WorkGroupName"))["WorkGroup"]
    policies = {who: statements(deployer.output("batch", f"Table{who}PolicyArn")) for who in ("Reader", "Writer")}
    widened = deploy('id = "string", score = "double", x = "float"')
    job = transformed(deployer, directory)
    location = filled(deployer, job)
    bucket = deployer.output("storage", "BucketName")
    files, rows = read_back(bucket, directory)
    after_update = inventory("tables")
    boto3.resource("s3").Bucket(bucket).object_versions.delete()
    deployer.run("destroy", "storage", "batch", "--exclusively", "--force", *deployer.synthesised())
    return Life(
        parameter=json.loads(parameter),
        table=table,
        bucket=bucket,
        workgroup=dict(workgroup),
        policies=policies,
        widened=widened,
        filled=location,
        files=files,
        rows=rows,
        created=created,
        after_update=after_update,
        destroyed=inventory("tables"),
    )


def columns(table: dict[str, Any]) -> list[tuple[str, str]]:
    return [(column["Name"], column["Type"]) for column in table["StorageDescriptor"]["Columns"]]


ORIGIN = [("job", "string"), ("input_file", "string"), ("record", "bigint")]


def test_a_deploy_makes_the_table_of_the_stage_file(life: Life) -> None:
    assert columns(life.table) == [("id", "string"), ("score", "double"), *ORIGIN]
    assert life.table["PartitionKeys"] == [{"Name": "day", "Type": "string"}]
    assert life.table["StorageDescriptor"]["Location"] == f"s3://{life.bucket}/tables/predictions/"


def test_its_days_are_worked_out_from_the_first_one_on(life: Life) -> None:
    properties = life.table["Parameters"]

    assert properties["projection.enabled"] == "true"
    assert properties["projection.day.range"] == "2026-11-01,NOW"
    assert properties["storage.location.template"] == f"s3://{life.bucket}/tables/predictions/day=${{day}}/"


def test_a_client_finds_it_by_the_name_of_the_stage(life: Life) -> None:
    assert life.parameter == {
        "database": "tidegate_tables",
        "table": "predictions",
        "location": f"s3://{life.bucket}/tables/predictions/",
        "workgroup": "tidegate-tables",
    }


def test_the_workgroup_answers_into_the_stage_s_bucket_and_has_a_limit(life: Life) -> None:
    configuration = life.workgroup["Configuration"]

    assert configuration["EnforceWorkGroupConfiguration"]
    assert configuration["BytesScannedCutoffPerQuery"] == 7 * 1024**3
    assert configuration["ResultConfiguration"]["OutputLocation"] == f"s3://{life.bucket}/athena/results/"


def test_the_policies_name_what_was_deployed(life: Life) -> None:
    resources = {
        who: {
            resource
            for statement in found
            for resource in (
                [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
            )
        }
        for who, found in life.policies.items()
    }
    table = "arn:aws:glue:us-east-1:123456789012:table/tidegate_tables/predictions"
    files = f"arn:aws:s3:::{life.bucket}/tables/predictions/*"

    assert all({table, files} <= found for found in resources.values())


def test_a_further_column_changes_the_table_in_place(life: Life) -> None:
    assert columns(life.widened) == [("id", "string"), ("score", "double"), ("x", "float"), *ORIGIN]
    assert life.widened["CreateTime"] == life.table["CreateTime"]
    assert life.after_update == life.created


def test_a_job_of_the_stage_becomes_one_file_of_its_day(life: Life) -> None:
    (key,) = life.files
    root, day, job, name = key.removeprefix("tables/").split("/")

    assert life.filled == f"s3://{life.bucket}/{key}"
    assert (root, job, name) == ("predictions", "job=week", "part-0.parquet")
    assert day.startswith("day=20")


def test_each_answer_is_a_row_beside_its_record(life: Life) -> None:
    (day,) = {row[-1] for row in life.rows}

    assert life.files[0].split("/")[2] == f"day={day}"
    assert [row[:-1] for row in life.rows] == [
        ("a", 2.0, 1.0, "week", "monday.jsonl", 0),
        ("b", 5.0, 2.5, "week", "monday.jsonl", 1),
        ("c", 8.0, 4.0, "week", "tuesday.jsonl", 0),
    ]


def test_a_destroy_takes_the_table_the_workgroup_and_the_policies_along(life: Life) -> None:
    assert len(life.created["rights"]) == 2
    assert (life.created["databases"], life.created["workgroups"]) == (["tidegate_tables"], ["tidegate-tables"])
    assert life.destroyed == {kind: [] for kind in life.created}
