"""The table in the Glue catalogue: its columns, its place, and its partitions."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import boto3

from tidegate.client.addresses import split_s3
from tidegate.client.errors import TableFailed
from tidegate.client.table.column import DAY, ORIGIN, Column, column_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GlueTable:
    """A table of Parquet files, partitioned by `day`."""

    session: boto3.Session
    database: str
    name: str
    location: str
    columns: tuple[Column, ...]
    """In the table's order, without those that the client fills itself."""
    projected: bool
    """Whether readers work the partitions out themselves; otherwise each is registered."""
    storage: dict[str, Any]

    @classmethod
    def of_stage(cls, session: boto3.Session, *, stage: str, prefix: str) -> GlueTable:
        """The table of a stage with `[batch.table]`. Raises `TableFailed` where the stage has none."""
        ssm = session.client("ssm")
        try:
            value = ssm.get_parameter(Name=f"/{prefix}/{stage}/table")["Parameter"]["Value"]
        except ssm.exceptions.ParameterNotFound:
            raise TableFailed(
                f"stage {stage} of {prefix} has no table in {session.region_name}; write [batch.table] into its stage "
                "file and deploy its batch stack, or name a table with --table DATABASE.TABLE"
            ) from None
        found = json.loads(value)
        return cls.find(session, f"{found['database']}.{found['table']}")

    @classmethod
    def find(cls, session: boto3.Session, name: str) -> GlueTable:
        """The table `DATABASE.TABLE`. Raises `TableFailed` for one that is not there or does not suit."""
        database, dot, table = name.partition(".")
        if not (database and dot and table):
            raise TableFailed(f"--table {name}: write DATABASE.TABLE")
        glue = session.client("glue")
        try:
            found = glue.get_table(DatabaseName=database, Name=table)["Table"]
        except glue.exceptions.EntityNotFoundException:
            raise TableFailed(f"there is no table {name} in the Glue catalogue of {session.region_name}") from None
        storage = found.get("StorageDescriptor", {})
        library = storage.get("SerdeInfo", {}).get("SerializationLibrary", "")
        if "parquet" not in library.lower():
            raise TableFailed(f"the table {name} is not of Parquet files but read by {library or 'nothing'}")
        keys = [key["Name"] for key in found.get("PartitionKeys", [])]
        if keys != [DAY]:
            raise TableFailed(
                f"the table {name} is partitioned by {', '.join(keys) or 'nothing'}; the client writes a folder for "
                "each day, so partition it by `day` alone"
            )
        if not storage.get("Location"):
            raise TableFailed(f"the table {name} has no location in S3")
        given = storage.get("Columns", [])
        return cls(
            session=session,
            database=database,
            name=table,
            location=str(storage["Location"]).rstrip("/") + "/",
            columns=tuple(
                column_of(column["Name"], column["Type"]) for column in given if column["Name"] not in ORIGIN
            ),
            projected=str(found.get("Parameters", {}).get("projection.enabled", "")).lower() == "true",
            storage=storage,
        )

    def check_place(self, location: str) -> None:
        """Raise `TableFailed` where the table is read from elsewhere than `location`."""
        if split_s3(location.rstrip("/") + "/") != split_s3(self.location):
            raise TableFailed(f"the table {self.database}.{self.name} is read from {self.location}, not {location}")

    def register(self, day: str) -> None:
        """Make the partition known, last of all, where readers do not work it out; one that is known stays."""
        if self.projected:
            return
        glue = self.session.client("glue")
        place = {**self.storage, "Location": f"{self.location}{DAY}={day}/"}
        with suppress(glue.exceptions.AlreadyExistsException):
            glue.create_partition(
                DatabaseName=self.database,
                TableName=self.name,
                PartitionInput={"Values": [day], "StorageDescriptor": place},
            )
