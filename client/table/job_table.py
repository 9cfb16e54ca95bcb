"""A finished transform job becomes one Parquet file: looked up, checked, read side by side, written whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import boto3
import pyarrow as pa
from botocore.config import Config
from pyarrow import parquet

from tidegate.client.addresses import split_s3
from tidegate.client.errors import BatchFailed, TableFailed
from tidegate.client.table.beside import Opened, blocks_of, pairs, peeked
from tidegate.client.table.column import DAY, Column
from tidegate.client.table.forms import Sides
from tidegate.client.table.glue_table import GlueTable
from tidegate.client.table.job_objects import Place, Span, Transformed, check_apart, transformed
from tidegate.client.table.plan import Asked, Plan, check_seen, names_member, plan_of
from tidegate.client.table.reading import window
from tidegate.client.table.upload import Upload

_AHEAD = 8
_ROW_GROUP_BYTES = 48 * 1024 * 1024
# Of a table of one row nearly all is what it takes to be a table.
_MOST_HELD = 1000
_MAX_CONNECTIONS = 4 * _AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of a job."""

    location: str
    """The Parquet file."""
    records: int
    objects: int
    size_bytes: int
    columns: tuple[str, ...]


def write(
    session: boto3.Session,
    job: str,
    *,
    to: str | None,
    table: GlueTable | None = None,
    columns: tuple[Column, ...] | None = None,
    null_values: tuple[str, ...] = ("",),
    on_records: Callable[[int], object] = lambda _: None,
) -> Written:
    """See `BatchJob.table`."""
    location = _location(to, table)
    s3 = session.client("s3", config=Config(max_pool_connections=_MAX_CONNECTIONS))
    sagemaker = session.client("sagemaker")
    described = sagemaker.describe_transform_job(TransformJobName=job)
    check_finished(job, described)
    asked = Asked(table=None if table is None else table.columns, named=columns, null_values=null_values)
    sides = Sides.of(described)
    objects = transformed(s3, described, needs_source=sides.reads_source)
    check_apart(location, described, objects)
    day = f"{described['CreationTime'].astimezone(UTC):%Y-%m-%d}"
    bucket, root = split_s3(location)
    place = Place(bucket=bucket, key=f"{root}{DAY}={day}/job={job}/part-0.parquet")
    with Upload(s3, place) as upload, ThreadPoolExecutor(2 * _AHEAD, thread_name_prefix="read") as pool:
        file = _File(upload)

        def opened(pair: Transformed) -> Opened:
            return Opened.of(pair, s3=s3, sides=sides, span=Span.of(described), pool=pool)

        for rows in _rows(window(objects, size=_AHEAD, start=opened), asked, sides, job):
            file.write(rows)
            on_records(rows.num_rows)
        if not file.records:
            raise TableFailed(f"there is no record in the input of {job}, so there is no table to write")
        file.close()
        upload.commit()
    if table is not None:
        table.register(day)
    return Written(
        location=place.address,
        records=file.records,
        objects=len(objects),
        size_bytes=upload.size_bytes,
        columns=tuple(file.names),
    )


def check_finished(name: str, job: Mapping[str, Any]) -> None:
    """Raise `BatchFailed` for a job whose answers are not all there."""
    match status := job["TransformJobStatus"]:
        case "Completed":
            return
        case "InProgress" | "Stopping":
            raise BatchFailed(
                f"transform job {name} is {status}: its answers are not all there; wait for it (client batch wait)"
            )
        case "Failed":
            reason = job.get("FailureReason", "no reason is given")
            raise BatchFailed(f"transform job {name} is Failed, and a table holds whole jobs only: {reason}")
        case _:
            raise BatchFailed(f"transform job {name} is {status}, and a table holds whole jobs only; run it again")


def _location(to: str | None, table: GlueTable | None) -> str:
    if to is None:
        if table is None:
            raise TableFailed("no place for the table is named: give --to s3://bucket/table/, --table or --stage")
        return table.location
    bucket, root = split_s3(to)
    if not root.strip("/"):
        raise TableFailed(f"{to} is a whole bucket; name a folder of it for the table")
    location = f"s3://{bucket}/{root.rstrip('/')}/"
    if table is not None:
        table.check_place(location)
    return location


def _rows(opened: Iterable[tuple[Transformed, Opened]], asked: Asked, sides: Sides, job: str) -> Iterator[pa.Table]:
    plan: Plan | None = None
    unseen: frozenset[str] = frozenset()
    for pair, streams in opened:
        source = peeked(blocks_of(streams, sides, of="source")) if sides.reads_source else None
        output = peeked(blocks_of(streams, sides, of="output"))
        if plan is None and output.first is not None and (source is None or source.first is not None):
            plan = plan_of(asked, sides, source=None if source is None else source.first, output=output.first)
            unseen = plan.expected
        record = 0
        one_record = not sides.source.in_lines and not sides.joined
        for left, right in pairs(pair, source, output, plan, one_record=one_record):
            assert plan is not None  # noqa: S101 - where there are two records, there is a plan
            if unseen:
                data = [block.data for side in (source, output) if side is not None for block in side.recent]
                unseen = frozenset(name for name in unseen if not any(names_member(each, name) for each in data))
            yield plan.rows(left, right, job=job, address=pair.source.address, first_record=record)
            record += right.table.num_rows
    check_seen(unseen)


class _File:
    """The Parquet file: rows are gathered to row groups."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._writer: parquet.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self.records = 0
        self.names: list[str] = []

    def write(self, rows: pa.Table) -> None:
        """Take rows; a row group goes out when there are enough."""
        self._held.append(rows)
        self._held_bytes += rows.nbytes
        self.records += rows.num_rows
        if self._held_bytes >= _ROW_GROUP_BYTES:
            self._flush()
        elif len(self._held) >= _MOST_HELD:
            self._held = [pa.concat_tables(self._held).unify_dictionaries().combine_chunks()]

    def close(self) -> None:
        """The last row group, and the end of the file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._held:
            return
        rows = pa.concat_tables(self._held)
        self._held, self._held_bytes = [], 0
        if self._writer is None:
            self.names = rows.schema.names
            # Arrow's own schema is left out: to other readers text is text, not a dictionary.
            self._writer = parquet.ParquetWriter(
                pa.PythonFile(self._upload, mode="w"), rows.schema, compression="snappy", store_schema=False
            )
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
