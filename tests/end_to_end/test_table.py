"""The table of results, by the real `cdk` command line on the local cloud: made, found, changed in place, destroyed.

What the local cloud does not do, and these tests therefore do not show: no query is run, and rights are not enforced.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from tests.end_to_end.deploying import Deployer, inventory

pytestmark = pytest.mark.timeout(300)  # two deployments and their end

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


@dataclass
class Life:
    """What was seen, in the order of the story."""

    parameter: dict[str, Any]
    table: dict[str, Any]
    bucket: str
    workgroup: dict[str, Any]
    policies: dict[str, list[dict[str, Any]]]
    widened: dict[str, Any]
    created: dict[str, list[str]]
    after_update: dict[str, list[str]]
    destroyed: dict[str, list[str]]


def statements(arn: str) -> list[dict[str, Any]]:
    iam = boto3.client("iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]["Statement"]
    return list(found)


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
    widened = deploy('id = "string", score = "double", label = "string"')
    after_update = inventory("tables")
    deployer.run("destroy", "storage", "batch", "--exclusively", "--force", *deployer.synthesised())
    return Life(
        parameter=json.loads(parameter),
        table=table,
        bucket=deployer.output("storage", "BucketName"),
        workgroup=dict(workgroup),
        policies=policies,
        widened=widened,
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
    assert columns(life.widened) == [("id", "string"), ("score", "double"), ("label", "string"), *ORIGIN]
    assert life.widened["CreateTime"] == life.table["CreateTime"]
    assert life.after_update == life.created


def test_a_destroy_takes_the_table_the_workgroup_and_the_policies_along(life: Life) -> None:
    assert len(life.created["rights"]) == 2
    assert (life.created["databases"], life.created["workgroups"]) == (["tidegate_tables"], ["tidegate-tables"])
    assert life.destroyed == {kind: [] for kind in life.created}
