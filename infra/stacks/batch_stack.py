"""Batch: transform jobs on upload, on a schedule and by hand, with retry, manifests and messages."""

from __future__ import annotations

from constructs import Construct

from tidegate.infra.batch.jobs import BatchJobs
from tidegate.infra.batch.table import ResultsTable, table_names
from tidegate.infra.batch.table_rights import TableRights
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.batch import Batch
from tidegate.infra.configuration.table import Table
from tidegate.infra.hosting import instance_types
from tidegate.infra.stacks.stage_stack import StageStack


class BatchStack(StageStack):
    """The stage's batch jobs. They run the model that the endpoint's stack names in Parameter Store."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage, batch: Batch) -> None:
        super().__init__(scope, unit, stage=stage, description=f"Batch jobs of {stage.prefix} {stage.name}")
        jobs = BatchJobs(
            self,
            "Batch",
            names=self.names,
            bucket=self.names.bucket(self),
            batch=batch,
            key_arn=self.key_arn,
            # SageMaker encrypts the disks of such a type itself and refuses a key (CreateTransformJob, VolumeKmsKeyId).
            volume_key_arn=None if instance_types.has_local_storage(batch.instance_type) else self.key_arn,
            tags=self.tags.tag_values(),
        )
        self.output("JobMachineArn", jobs.jobs.arn, "Start it by hand for one job; see docs/batch.md")
        self.output("TopicArn", jobs.topic.arn, "Says how each job ended")
        if batch.table is not None:
            self._table(batch.table)

    def _table(self, table: Table) -> None:
        found = table_names(table, self.names, bucket=self.names.bucket(self))
        ResultsTable(self, "Table", names=self.names, table=table, found=found, key_arn=self.key_arn)
        rights = TableRights(
            self,
            "TableRights",
            names=self.names,
            found=found,
            key_arn=self.key_arn,
            location_key_arn=table.location_key,
        )
        self.output("TableName", f"{found.database}.{found.table}", "Results of jobs; tidegate batch table")
        self.output("TableLocation", found.location, "Where its files lie")
        if found.workgroup is not None:
            self.output("WorkGroupName", found.workgroup, "For Athena's start_query_execution")
        self.output("TableReaderPolicyArn", rights.reader.arn, "For the roles of those who ask the table")
        self.output("TableWriterPolicyArn", rights.writer.arn, "For the role that fills it")
