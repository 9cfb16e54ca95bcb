"""The table of results: what Glue knows of it, and the workgroup in which Athena asks it."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from tidegate.infra.configuration.table import DAY, ORIGIN, Table
from tidegate.infra.stage.names import QUERY_RESULTS_PREFIX, TABLES_PREFIX, Names

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNames:
    """What the table is called, and where it lies; bucket names and the place may hold tokens."""

    database: str
    table: str
    # Of the table's objects.
    bucket: str
    prefix: str
    # The stage's own bucket, with what queries answered. None: no workgroup.
    workgroup: str | None
    results_bucket: str

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def query_results(self) -> str:
        return f"s3://{self.results_bucket}/{QUERY_RESULTS_PREFIX}"


def table_names(table: Table, names: Names, *, bucket: str) -> TableNames:
    """What the stage file says, or else what follows from the stage's name; `bucket` is the stage's own."""
    own = f"s3://{bucket}/{TABLES_PREFIX}{table.name}/"
    table_bucket, _, prefix = (table.location or own).removeprefix("s3://").partition("/")
    return TableNames(
        database=table.database or names.database,
        table=table.name,
        bucket=table_bucket,
        prefix=prefix,
        workgroup=names.query_workgroup if table.athena else None,
        results_bucket=bucket,
    )


class ResultsTable(Construct):
    """A Glue database with one table, the Athena workgroup to ask it, and the parameter by which clients find them.

    Athena works out the days by itself (partition projection): a day is there as soon as its first file is, without a
    crawler and without a call. Source: Athena guide, "Use partition projection with Amazon Athena".
    """

    def __init__(
        self, scope: Construct, id_: str, *, names: Names, table: Table, found: TableNames, key_arn: str | None
    ) -> None:
        super().__init__(scope, id_)
        stack = cdk.Stack.of(self)
        title = f"Results of transform jobs of {names.prefix} {names.stage}"
        database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=stack.account,
            database_input=glue.CfnDatabase.DatabaseInputProperty(name=found.database, description=title),
        )
        glue.CfnTable(
            self,
            "Table",
            catalog_id=stack.account,
            database_name=database.ref,
            table_input=_table_input(table, found, title),
        )
        if found.workgroup is not None:
            self._workgroup(found.workgroup, table, found, title, key_arn)
        ssm.CfnParameter(
            self,
            "Parameter",
            name=names.table_parameter,
            type="String",
            value=stack.to_json_string(
                {
                    "database": found.database,
                    "table": found.table,
                    "location": found.location,
                }
                | ({} if found.workgroup is None else {"workgroup": found.workgroup})
            ),
            description="Read by whoever puts results into the table",
        )

    def _workgroup(self, name: str, table: Table, found: TableNames, title: str, key_arn: str | None) -> None:
        limit = None if table.query_limit_gib is None else table.query_limit_gib * _GIB
        athena.CfnWorkGroup(
            self,
            "WorkGroup",
            name=name,
            description=title,
            state="ENABLED",
            # Otherwise a workgroup that was ever used could not be deleted; what its queries answered lies in S3.
            recursive_delete_option=True,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                # Clients can choose no other place and no other encryption.
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                requester_pays_enabled=False,
                bytes_scanned_cutoff_per_query=limit,
                engine_version=athena.CfnWorkGroup.EngineVersionProperty(
                    selected_engine_version="Athena engine version 3"
                ),
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=found.query_results,
                    expected_bucket_owner=cdk.Stack.of(self).account,
                    encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                        encryption_option="SSE_S3" if key_arn is None else "SSE_KMS", kms_key=key_arn
                    ),
                ),
            ),
        )


def _table_input(table: Table, found: TableNames, title: str) -> glue.CfnTable.TableInputProperty:
    return glue.CfnTable.TableInputProperty(
        name=found.table,
        description=title,
        table_type="EXTERNAL_TABLE",
        parameters={
            "EXTERNAL": "TRUE",
            "classification": "parquet",
            "projection.enabled": "true",
            f"projection.{DAY}.type": "date",
            f"projection.{DAY}.format": "yyyy-MM-dd",
            f"projection.{DAY}.range": f"{table.first_day.isoformat()},NOW",
            f"projection.{DAY}.interval": "1",
            f"projection.{DAY}.interval.unit": "DAYS",
            "storage.location.template": f"{found.location}{DAY}=${{{DAY}}}/",
        },
        # A text, so that a query may say day = '2026-11-21' without a cast.
        partition_keys=[_column(DAY, "string")],
        storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
            location=found.location,
            columns=[_column(name, kind) for name, kind in (table.columns | ORIGIN).items()],
            input_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            output_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            serde_info=glue.CfnTable.SerdeInfoProperty(
                serialization_library="org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
                parameters={"serialization.format": "1"},
            ),
        ),
    )


def _column(name: str, kind: str) -> glue.CfnTable.ColumnProperty:
    return glue.CfnTable.ColumnProperty(name=name, type=kind)
