"""Who may ask the table of results and who may fill it: two policies that the account's people give to their roles."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.batch.table import TableNames
from tidegate.infra.rights.lent_policy import LentPolicy
from tidegate.infra.stage.names import QUERY_RESULTS_PREFIX, Names

_NAMES_UNKNOWN = "files of results are named after jobs, and what queries answer, after queries"


class TableRights(Construct):
    """A managed policy for readers, and one for whoever runs `tidegate batch table`; no role has them yet."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        names: Names,
        found: TableNames,
        key_arn: str | None,
        location_key_arn: str | None,
    ) -> None:
        super().__init__(scope, id_)
        self._names = names
        self._found = found
        self._key_arn = key_arn
        self._location_key_arn = location_key_arn if location_key_arn != key_arn else None
        what = f"{found.database}.{found.table}"
        self.reader = LentPolicy(self, "Reader", f"Asks the table {what}")
        self.writer = LentPolicy(self, "Writer", f"Puts results of transform jobs into the table {what}")
        self._may_read()
        self._may_write()

    def _may_read(self) -> None:
        found, may = self._found, self.reader.may
        may(
            "KnowTable",
            # Athena asks for neither partition, as it works out the days; Redshift Spectrum, Spark and EMR do.
            ["glue:GetDatabase", "glue:GetPartition", "glue:GetPartitions", "glue:GetTable", "glue:GetTables"],
            self._glue(),
        )
        # Source: Athena guide, "Configure access to databases and tables", access to the default database.
        may("KnowDefaultDatabase", ["glue:GetDatabase"], [self._arn("glue", "catalog"), self._database("default")])
        may("FindResults", ["s3:ListBucket"], [self._s3(found.bucket)], below=found.prefix)
        may("FindBuckets", ["s3:GetBucketLocation"], [self._s3(bucket) for bucket in self._buckets()])
        may("ReadResults", ["s3:GetObject"], [self._s3(found.bucket, f"{found.prefix}*")], any_because=_NAMES_UNKNOWN)
        if found.workgroup is not None:
            self._may_query(found.workgroup)
        self._may_use_keys(self.reader, ["kms:Decrypt"], self._location_key_arn)
        self._may_use_keys(self.reader, ["kms:Decrypt", "kms:GenerateDataKey"], self._key_arn)

    def _buckets(self) -> list[str]:
        """Those that a query touches."""
        found = self._found
        return list(dict.fromkeys([found.bucket] if found.workgroup is None else [found.bucket, found.results_bucket]))

    def _may_query(self, workgroup: str) -> None:
        may, bucket = self.reader.may, self._found.results_bucket
        may(
            "Ask",
            [
                "athena:GetQueryExecution",
                "athena:GetQueryResults",
                # Of the JDBC and ODBC drivers.
                "athena:GetQueryResultsStream",
                "athena:GetWorkGroup",
                "athena:StartQueryExecution",
                "athena:StopQueryExecution",
            ],
            [self._arn("athena", "workgroup", workgroup)],
        )
        may("FindAnswers", ["s3:ListBucket"], [self._s3(bucket)], below=QUERY_RESULTS_PREFIX)
        may(
            "KeepAnswers",
            # Athena reads and writes as its caller.
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
            [self._s3(bucket, f"{QUERY_RESULTS_PREFIX}*")],
            any_because=_NAMES_UNKNOWN,
        )

    def _may_write(self) -> None:
        found, may = self._found, self.writer.may
        parameter = self._arn("ssm", "parameter", self._names.table_parameter[1:])
        may("FindTable", ["ssm:GetParameter"], [parameter])
        may("KnowTable", ["glue:GetTable"], self._glue())
        may(
            "LookAtJob",
            ["sagemaker:DescribeTransformJob"],
            [self._arn("sagemaker", "transform-job", "*")],
            any_because="a job that somebody started by hand has any name",
        )
        may("FindRecords", ["s3:ListBucket"], [self._s3(found.results_bucket)], below="batch/")
        may(
            "ReadRecords",
            ["s3:GetObject"],
            [self._s3(found.results_bucket, "batch/*")],
            any_because="inputs, outputs and manifests of jobs are named by their owners",
        )
        may(
            "WriteResults",
            ["s3:AbortMultipartUpload", "s3:PutObject"],
            [self._s3(found.bucket, f"{found.prefix}*")],
            any_because=_NAMES_UNKNOWN,
        )
        for key in (self._key_arn, self._location_key_arn):
            self._may_use_keys(self.writer, ["kms:Decrypt", "kms:GenerateDataKey"], key)

    def _may_use_keys(self, policy: LentPolicy, actions: Sequence[str], key_arn: str | None) -> None:
        if key_arn is not None:
            region = cdk.Stack.of(self).region
            sid = "UseKey" if key_arn == self._key_arn else "UseKeyOfLocation"
            policy.may(
                sid, actions, [key_arn], conditions={"StringLike": {"kms:ViaService": f"s3.{region}.amazonaws.com*"}}
            )

    def _glue(self) -> list[str]:
        """A right on a table is asked for on everything above it too. Source: Glue guide, resource ARNs."""
        database, table = self._found.database, self._found.table
        return [
            self._arn("glue", "catalog"),
            self._database(database),
            self._arn("glue", "table", f"{database}/{table}"),
        ]

    def _database(self, name: str) -> str:
        return self._arn("glue", "database", name)

    def _arn(self, service: str, resource: str, name: str | None = None) -> str:
        return cdk.Stack.of(self).format_arn(service=service, resource=resource, resource_name=name)

    def _s3(self, bucket: str, key: str | None = None) -> str:
        resource = bucket if key is None else f"{bucket}/{key}"
        return cdk.Stack.of(self).format_arn(service="s3", region="", account="", resource=resource)
