"""`[batch.table]` as resources: what Glue and Athena are told, what expires, and who may do what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.conftest import Synthesise, Synthesised
from tests.infra.templates import as_list
from tidegate.client.table import column
from tidegate.infra.configuration import table as configuration

HERE = {"account": "123456789012", "region": "eu-central-1"}
BUCKET = "tidegate-dev-data-123456789012-eu-central-1"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
OTHER_KEY = "arn:aws:kms:eu-central-1:123456789012:key/66666666-2222-3333-4444-555555555555"
ARN = "arn:aws:glue:eu-central-1:123456789012"
COLUMNS = {"id": "string", "scores": "array<double>"}


@pytest.fixture(scope="module")
def stage(synthesise: Synthesise) -> Synthesised:
    return synthesise(stage="dev", changes=HERE | {"batch": {"table": {"columns": COLUMNS}}})


@pytest.fixture(scope="module")
def elsewhere(synthesise: Synthesise) -> Synthesised:
    """Everything said: another bucket with a key of its own, and the stage has one too."""
    table = {
        "columns": COLUMNS,
        "name": "answers",
        "database": "lake",
        "location": "s3://lake-of-the-company/tidegate/answers/",
        "location_key": OTHER_KEY,
        "query_results_days": 3,
        "query_limit_gib": False,
    }
    return synthesise(stage="dev", changes=HERE | {"encryption": {"key": KEY}, "batch": {"table": table}})


@pytest.fixture(scope="module")
def without_athena(synthesise: Synthesise) -> Synthesised:
    table = {"columns": COLUMNS, "athena": False}
    return synthesise(stage="dev", changes=HERE | {"batch": {"table": table}})


def parts(value: Any) -> str:
    """A text of a template, its references as `<Name>`."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, found = value["Fn::Join"]
        return str(separator).join(parts(part) for part in found)
    return "aws" if value["Ref"] == "AWS::Partition" else f"<{value['Ref']}>"


def rights(stage: Synthesised, who: str) -> dict[str, tuple[set[str], set[str], Any]]:
    """Actions, resources and condition of a policy by the statement's id."""
    (found,) = (
        policy
        for policy in stage.properties("batch", "AWS::IAM::ManagedPolicy").values()
        if policy["Description"].startswith({"reader": "Asks", "writer": "Puts"}[who])
    )
    return {
        statement["Sid"]: (
            set(as_list(statement["Action"])),
            {parts(resource) for resource in as_list(statement["Resource"])},
            statement.get("Condition"),
        )
        for statement in found["PolicyDocument"]["Statement"]
    }


def test_glue_is_told_the_columns_in_their_order_and_the_origin_last(stage: Synthesised) -> None:
    table = stage.only("batch", "AWS::Glue::Table")["TableInput"]

    assert [(column["Name"], column["Type"]) for column in table["StorageDescriptor"]["Columns"]] == [
        ("id", "string"),
        ("scores", "array<double>"),
        ("job", "string"),
        ("input_file", "string"),
        ("record", "bigint"),
    ]
    assert table["Name"] == "predictions"
    assert table["TableType"] == "EXTERNAL_TABLE"
    assert "Parquet" in table["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"]


def test_athena_works_out_the_days(stage: Synthesised) -> None:
    """The words are those of the Athena guide, "Supported types for partition projection"."""
    table = stage.only("batch", "AWS::Glue::Table")["TableInput"]

    assert table["PartitionKeys"] == [{"Name": "day", "Type": "string"}]
    assert table["Parameters"] == {
        "EXTERNAL": "TRUE",
        "classification": "parquet",
        "projection.enabled": "true",
        "projection.day.type": "date",
        "projection.day.format": "yyyy-MM-dd",
        "projection.day.range": "2026-01-01,NOW",
        "projection.day.interval": "1",
        "projection.day.interval.unit": "DAYS",
        "storage.location.template": f"s3://{BUCKET}/tables/predictions/day=${{day}}/",
    }
    assert table["StorageDescriptor"]["Location"] == f"s3://{BUCKET}/tables/predictions/"


def test_clients_find_the_table_in_parameter_store(stage: Synthesised, without_athena: Synthesised) -> None:
    def kept(found: Synthesised) -> dict[str, Any]:
        parameter = found.only("batch", "AWS::SSM::Parameter")
        assert parameter["Name"] == "/tidegate/dev/table"
        return dict(json.loads(parts(parameter["Value"])))

    names = {
        "database": "tidegate_dev",
        "table": "predictions",
        "location": f"s3://{BUCKET}/tables/predictions/",
    }
    assert kept(stage) == names | {"workgroup": "tidegate-dev"}
    assert kept(without_athena) == names


def test_who_asks_cannot_choose_where_answers_go_nor_read_without_end(stage: Synthesised) -> None:
    workgroup = stage.only("batch", "AWS::Athena::WorkGroup")

    assert workgroup["WorkGroupConfiguration"] == {
        "EnforceWorkGroupConfiguration": True,
        "PublishCloudWatchMetricsEnabled": True,
        "RequesterPaysEnabled": False,
        "BytesScannedCutoffPerQuery": 100 * 1024**3,
        "EngineVersion": {"SelectedEngineVersion": "Athena engine version 3"},
        "ResultConfiguration": {
            "OutputLocation": f"s3://{BUCKET}/athena/results/",
            "ExpectedBucketOwner": "123456789012",
            "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"},
        },
    }


def test_answers_are_encrypted_with_the_stage_s_key_where_it_has_one(elsewhere: Synthesised) -> None:
    configuration = elsewhere.only("batch", "AWS::Athena::WorkGroup")["WorkGroupConfiguration"]

    assert configuration["ResultConfiguration"]["EncryptionConfiguration"] == {
        "EncryptionOption": "SSE_KMS",
        "KmsKey": KEY,
    }
    assert "BytesScannedCutoffPerQuery" not in configuration


@pytest.mark.parametrize(("sample", "days"), [("stage", [30]), ("elsewhere", [3]), ("without_athena", [])])
def test_answers_of_athena_expire_and_results_do_not(
    sample: str, days: list[int], request: pytest.FixtureRequest
) -> None:
    found: Synthesised = request.getfixturevalue(sample)
    buckets = found.properties("storage", "AWS::S3::Bucket").values()
    (data,) = (bucket for bucket in buckets if bucket["BucketName"] == BUCKET)
    rules = {rule.get("Prefix"): rule.get("ExpirationInDays") for rule in data["LifecycleConfiguration"]["Rules"]}

    assert [rules[prefix] for prefix in rules if prefix == "athena/results/"] == days
    assert not [prefix for prefix in rules if prefix is not None and "tables/".startswith(prefix)]


def test_a_reader_may_ask_this_table_in_this_workgroup_and_nothing_else(stage: Synthesised) -> None:
    assert rights(stage, "reader") == {
        "KnowTable": (
            {"glue:GetDatabase", "glue:GetPartition", "glue:GetPartitions", "glue:GetTable", "glue:GetTables"},
            {f"{ARN}:catalog", f"{ARN}:database/tidegate_dev", f"{ARN}:table/tidegate_dev/predictions"},
            None,
        ),
        "KnowDefaultDatabase": ({"glue:GetDatabase"}, {f"{ARN}:catalog", f"{ARN}:database/default"}, None),
        "FindResults": (
            {"s3:ListBucket"},
            {f"arn:aws:s3:::{BUCKET}"},
            {"StringLike": {"s3:prefix": ["tables/predictions/*"]}},
        ),
        "FindBuckets": ({"s3:GetBucketLocation"}, {f"arn:aws:s3:::{BUCKET}"}, None),
        "ReadResults": ({"s3:GetObject"}, {f"arn:aws:s3:::{BUCKET}/tables/predictions/*"}, None),
        "Ask": (
            {
                "athena:GetQueryExecution",
                "athena:GetQueryResults",
                "athena:GetQueryResultsStream",
                "athena:GetWorkGroup",
                "athena:StartQueryExecution",
                "athena:StopQueryExecution",
            },
            {"arn:aws:athena:eu-central-1:123456789012:workgroup/tidegate-dev"},
            None,
        ),
        "FindAnswers": (
            {"s3:ListBucket"},
            {f"arn:aws:s3:::{BUCKET}"},
            {"StringLike": {"s3:prefix": ["athena/results/*"]}},
        ),
        "KeepAnswers": (
            {"s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"},
            {f"arn:aws:s3:::{BUCKET}/athena/results/*"},
            None,
        ),
    }


def test_a_writer_may_read_jobs_and_write_the_table_but_not_read_or_ask_it(stage: Synthesised) -> None:
    assert rights(stage, "writer") == {
        "FindTable": (
            {"ssm:GetParameter"},
            {"arn:aws:ssm:eu-central-1:123456789012:parameter/tidegate/dev/table"},
            None,
        ),
        "KnowTable": (
            {"glue:GetTable"},
            {f"{ARN}:catalog", f"{ARN}:database/tidegate_dev", f"{ARN}:table/tidegate_dev/predictions"},
            None,
        ),
        "LookAtJob": (
            {"sagemaker:DescribeTransformJob"},
            {"arn:aws:sagemaker:eu-central-1:123456789012:transform-job/*"},
            None,
        ),
        "FindRecords": ({"s3:ListBucket"}, {f"arn:aws:s3:::{BUCKET}"}, {"StringLike": {"s3:prefix": ["batch/*"]}}),
        "ReadRecords": ({"s3:GetObject"}, {f"arn:aws:s3:::{BUCKET}/batch/*"}, None),
        "WriteResults": (
            {"s3:AbortMultipartUpload", "s3:PutObject"},
            {f"arn:aws:s3:::{BUCKET}/tables/predictions/*"},
            None,
        ),
    }


def test_without_a_workgroup_a_reader_writes_nothing(without_athena: Synthesised) -> None:
    found = rights(without_athena, "reader")

    assert not without_athena.properties("batch", "AWS::Athena::WorkGroup")
    assert not [
        action for actions, _, _ in found.values() for action in actions if "Put" in action or "athena" in action
    ]


def test_a_table_in_another_bucket_is_read_and_written_there_under_its_own_key(elsewhere: Synthesised) -> None:
    """And keys are used through S3 alone."""
    reader, writer = rights(elsewhere, "reader"), rights(elsewhere, "writer")
    files = "arn:aws:s3:::lake-of-the-company/tidegate/answers/*"
    by_s3 = {"StringLike": {"kms:ViaService": "s3.eu-central-1.amazonaws.com*"}}

    assert elsewhere.only("batch", "AWS::Glue::Table")["TableInput"]["Name"] == "answers"
    assert reader["ReadResults"][1] == writer["WriteResults"][1] == {files}
    assert reader["FindBuckets"][1] == {"arn:aws:s3:::lake-of-the-company", f"arn:aws:s3:::{BUCKET}"}
    assert reader["UseKeyOfLocation"] == ({"kms:Decrypt"}, {OTHER_KEY}, by_s3)
    assert reader["UseKey"] == ({"kms:Decrypt", "kms:GenerateDataKey"}, {KEY}, by_s3)
    assert writer["UseKeyOfLocation"] == ({"kms:Decrypt", "kms:GenerateDataKey"}, {OTHER_KEY}, by_s3)
    assert writer["UseKey"] == ({"kms:Decrypt", "kms:GenerateDataKey"}, {KEY}, by_s3)


def test_one_key_for_both_buckets_is_allowed_once(synthesise: Synthesise) -> None:
    """IAM refuses a policy in which two statements have one id."""
    table = {"columns": COLUMNS, "location": "s3://lake-of-the-company/answers/", "location_key": KEY}
    found = synthesise(stage="dev", changes=HERE | {"encryption": {"key": KEY}, "batch": {"table": table}})

    for policy in found.properties("batch", "AWS::IAM::ManagedPolicy").values():
        sids = [statement["Sid"] for statement in policy["PolicyDocument"]["Statement"]]
        assert len(sids) == len(set(sids))
        assert "UseKey" in sids


def test_every_type_of_a_stage_file_is_one_that_the_client_writes() -> None:
    """And both call the columns of every table the same."""
    plain = (*configuration._PLAIN.split("|"), "decimal(38,9)")
    types = {f"c{number}": kind for number, kind in enumerate([*plain, *(f"array<{kind}>" for kind in plain)])}

    columns = configuration.Table.model_validate({"columns": types}).columns

    assert [column.glue_name(column.arrow_type(kind)) for kind in columns.values()] == list(types.values())
    assert (configuration.DAY, tuple(configuration.ORIGIN)) == (column.DAY, column.ORIGIN)


def test_a_stage_without_a_table_has_none(synthesise: Synthesise) -> None:
    bare = synthesise(stage="dev", changes=HERE | {"batch": {}})
    kinds = {found["Type"] for found in bare.templates["batch"].to_json()["Resources"].values()}

    assert not [kind for kind in kinds if "Glue" in kind or "Athena" in kind or "ManagedPolicy" in kind]
