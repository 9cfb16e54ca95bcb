"""Transform jobs: submit, wait, fetch, report, make a table. Steps of one program, or of several."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError, ParamValidationError

from tidegate.client.addresses import split_s3
from tidegate.client.content_types import answers_of, is_gzip, is_in_lines
from tidegate.client.errors import BatchFailed, GaveUpWaiting, TableFailed

if TYPE_CHECKING:
    from tidegate.client.report import Report
    from tidegate.client.table import Written

POLL_S = 5.0
INPUT_MIB = 256.0
"""How much of the input a report reads, without other word."""
_RUNNING = ("InProgress", "Stopping")
_UNKNOWN = ("ResourceNotFound", "ValidationException")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: answers appear object by object."""

    status: str
    objects_done: int
    objects_total: int
    waited_s: float


class BatchJob:
    """One transform job, by its name."""

    def __init__(self, name: str, *, session: boto3.Session | None = None) -> None:
        if not name:
            raise ValueError("the name of the transform job is empty")
        self.name = name
        session = self._session = session or boto3.Session()
        self._sagemaker = session.client("sagemaker")
        self._s3 = session.client("s3")

    @classmethod
    def submit(
        cls,
        *,
        model: str,
        input_location: str,
        output_location: str,
        content_type: str,
        gzip: bool | None = None,
        accept: str | None = None,
        instance_type: str = "ml.m5.large",
        instance_count: int = 1,
        name: str | None = None,
        max_payload_mib: int = 6,
        max_concurrent: int | None = None,
        join_source: str | None = None,
        input_filter: str | None = None,
        output_filter: str | None = None,
        environment: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        session: boto3.Session | None = None,
    ) -> BatchJob:
        """Start a job over exactly one object, or over everything below a prefix that ends with a slash.

        `input_location`: `s3://bucket/key`, or `s3://bucket/prefix/`. To SageMaker every address is a prefix, and
        `a.csv` would take `a.csv.bak` along; so an object is named in a list, `JOB.….manifest.json`, which is put below
        `output_location`.
        `gzip`: whether SageMaker is to unpack what it reads; None goes by the ending `.gz` of `input_location`.
        `content_type` is that of what is inside. `accept` is that of the answers; None is the same for CSV, JSON, JSON
        Lines, text and arrays, and for anything else, such as pictures, what the model chooses (`*/*`).
        Content in lines (CSV, JSON Lines) is cut into requests of many lines and put together again line by line, so
        that an output has a line for each line of its input that is not blank; of anything else an object is one
        request.
        `max_payload_mib` bounds a request; `max_concurrent` None leaves the number to the container.
        `join_source="Input"` puts each answer beside its record; `input_filter` and `output_filter` are JSONPaths that
        take a part of each record, before the model and after the join (`DataProcessing` in the API reference).
        `environment` goes into the container beside that of the model: with `{"TIDEGATE_DEFAULT_MODEL": "digits/4"}` a
        server with a model repository answers all records by that model and version.
        `tags` are what budgets and bills know the job by; they need the right to `sagemaker:AddTags`.
        Raises `ValueError` for an address that is none and for an object that is not there, and botocore's
        `ClientError` for what AWS refuses.
        """
        for address in (input_location, output_location):
            split_s3(address)
        in_lines = is_in_lines(content_type)
        job = cls(name or _name(model), session=session)
        whole_prefix = _is_prefix(input_location)
        named = input_location if whole_prefix else job._list(input_location, output_location)
        asked = {"JoinSource": join_source, "InputFilter": input_filter, "OutputFilter": output_filter}
        processing = {member: value for member, value in asked.items() if value is not None}
        output: dict[str, Any] = {"S3OutputPath": output_location, "Accept": accept or answers_of(content_type)}
        packed = is_gzip(input_location) if gzip is None else gzip
        request: dict[str, Any] = dict(
            ModelName=model,
            **({"BatchStrategy": "MultiRecord"} if in_lines else {}),
            MaxPayloadInMB=max_payload_mib,
            **({"MaxConcurrentTransforms": max_concurrent} if max_concurrent is not None else {}),
            TransformInput={
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix" if whole_prefix else "ManifestFile", "S3Uri": named}
                },
                "ContentType": content_type,
                **({"CompressionType": "Gzip"} if packed else {}),
                "SplitType": "Line" if in_lines else "None",
            },
            TransformOutput=output | ({"AssembleWith": "Line"} if in_lines else {}),
            TransformResources={"InstanceType": instance_type, "InstanceCount": instance_count},
            **({"DataProcessing": processing} if processing else {}),
            **({"Environment": dict(environment)} if environment else {}),
            **({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} if tags else {}),
        )
        try:
            job._sagemaker.create_transform_job(TransformJobName=job.name, **request)
        except (ClientError, ParamValidationError):
            if not whole_prefix:
                job._unlist(named)
            raise
        return job

    def wait(
        self,
        *,
        timeout_s: float = 24 * 3600.0,
        on_poll: Callable[[Progress], object] | None = None,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Return when the job is completed. Raises `BatchFailed` with SageMaker's reason, and `GaveUpWaiting`."""
        began_s = clock()
        wanted: set[str] | None = None
        while True:
            job = self._describe()
            status = str(job["TransformJobStatus"])
            waited_s = clock() - began_s
            if on_poll is not None:
                wanted = self._wanted(job) if wanted is None else wanted
                done = sum(1 for _ in self._outputs(job, wanted))
                on_poll(Progress(status=status, objects_done=done, objects_total=len(wanted), waited_s=waited_s))
            if status == "Completed":
                return
            if status not in _RUNNING:
                reason = job.get("FailureReason", "no reason is given")
                raise BatchFailed(f"transform job {self.name} is {status}: {reason}")
            if waited_s >= timeout_s:
                raise GaveUpWaiting(f"transform job {self.name} was still {status} after {waited_s:.0f} s")
            sleep(min(poll_s, timeout_s - waited_s))

    def fetch(self, directory: Path, *, on_file: Callable[[Path], object] | None = None) -> list[Path]:
        """Download what the job has written, as it lies in S3, below `directory`; return the files.

        A file appears under its name only when it is whole.
        """
        job = self._describe()
        bucket, root = _folder(job["TransformOutput"]["S3OutputPath"])
        files = []
        for key in self._outputs(job, self._wanted(job)):
            # S3 allows any key; one with `..` must not leave the directory.
            parts = [part for part in PurePosixPath(key.removeprefix(root)).parts if part not in ("..", "/")]
            target = directory.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.part")
            self._s3.download_file(bucket, key, str(partial))
            partial.replace(target)
            files.append(target)
            if on_file is not None:
                on_file(target)
        return files

    def table(
        self,
        to: str | None = None,
        *,
        table: str | None = None,
        stage: str | None = None,
        prefix: str = "tidegate",
        columns: str | None = None,
        null_values: Sequence[str] = ("",),
        on_records: Callable[[int], object] = lambda _: None,
    ) -> Written:
        """Write what the completed job read and answered as one Parquet file of a table; needs the extra `table`.

        The file is `TO/day=YYYY-MM-DD/job=NAME/part-0.parquet`, of the day (UTC) on which the job was created. It
        appears as a whole or not at all, and the same job gives the same file again. `to` is the folder of the table;
        None means the location of `table` (`DATABASE.TABLE` in the Glue catalogue) or of the table of `stage`.
        `columns`: `id:string,x:double,-,label`, the columns of the cells of a record and then of its answer, in their
        order (`-` leaves one out), or the members of JSON to take. Types may be left out: they are those of the table,
        or of the first lines. Without `columns` they are those of the table, or the members of JSON.
        `null_values`: what stands for nothing in a cell of CSV. `on_records` is told how many were done since.
        Raises `BatchFailed` for a job that is not completed, `TableFailed` for all that does not fit, naming file and
        line, and botocore's `ClientError` for what AWS refuses.
        """
        try:
            from tidegate.client import table as tables  # noqa: PLC0415 - pyarrow is an extra
            from tidegate.client.table.glue_table import GlueTable  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "pyarrow":
                raise
            raise TableFailed(
                "a table is written by pyarrow, which is not installed: pip install 'tidegate[table]'"
            ) from None
        if table is not None and stage is not None:
            raise ValueError("give the table by its name or by its stage, not both")
        known = None
        if table is not None:
            known = GlueTable.find(self._session, table)
        elif stage is not None:
            known = GlueTable.of_stage(self._session, stage=stage, prefix=prefix)
        with self._known():
            return tables.write(
                self._session,
                self.name,
                to=to,
                table=known,
                columns=None if columns is None else tables.columns_of(columns),
                null_values=tuple(null_values),
                on_records=on_records,
            )

    def report(
        self, *, most_input_mib: float = INPUT_MIB, on_lines: Callable[[int], object] = lambda _: None
    ) -> Report:
        """How long the job took and where the time went, its requests, its errors: of one that ended, or so far.

        It is made of the log streams, the objects and the metrics that the job left; what cannot be had is in
        `missing`, with the reason. At most `most_input_mib` MiB of the input are read, to find the records that were
        slow or failed. `on_lines` is told how many lines of the log were read since.
        Raises `BatchFailed` for a job that SageMaker does not know, and botocore's `ClientError` where it may not be
        described.
        """
        from tidegate.client import report  # noqa: PLC0415 - most programs make none

        return report.make(
            self._session,
            self.name,
            self._describe(),
            most_input_bytes=round(most_input_mib * 1024 * 1024),
            on_progress=on_lines,
        )

    def stop(self) -> None:
        """Have the job stopped; what it has written stays."""
        self._sagemaker.stop_transform_job(TransformJobName=self.name)

    def _list(self, input_location: str, output_location: str) -> str:
        """Write the list that names exactly the object at `input_location`; return the list's address."""
        bucket, key = split_s3(input_location)
        try:
            self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                raise ValueError(
                    f"there is no object {input_location}; an address that ends with a slash means all below it"
                ) from None
            # The job reads it in the role of the model: whether we may does not matter.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.FORBIDDEN:
                raise
        folder, _, file = key.rpartition("/")
        names = [{"prefix": f"s3://{bucket}/{folder}/" if folder else f"s3://{bucket}/"}, file]
        output_bucket, root = _folder(output_location)
        # A list of its own also where the name is taken: the job that has the name reads the one it was given.
        list_key = f"{root}{self.name}.{secrets.token_hex(3)}.manifest.json"
        self._s3.put_object(
            Bucket=output_bucket, Key=list_key, Body=json.dumps(names).encode(), ContentType="application/json"
        )
        return f"s3://{output_bucket}/{list_key}"

    def _unlist(self, address: str) -> None:
        """Take the list of a job that was refused away; why the job was refused is the error that counts."""
        bucket, key = split_s3(address)
        with suppress(ClientError):
            self._s3.delete_object(Bucket=bucket, Key=key)

    def _describe(self) -> dict[str, Any]:
        with self._known():
            job: dict[str, Any] = self._sagemaker.describe_transform_job(TransformJobName=self.name)
        return job

    @contextmanager
    def _known(self) -> Iterator[None]:
        """Raise `BatchFailed` naming the job where SageMaker knows none of that name."""
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if error.operation_name != "DescribeTransformJob" or code not in _UNKNOWN:
                raise
            said = error.response["Error"]["Message"]
            raise BatchFailed(f"there is no transform job {self.name} in {self._session.region_name}: {said}") from None

    def _wanted(self, job: dict[str, Any]) -> set[str]:
        """The names, below the output path, of what the job writes: others may write there too."""
        source = job["TransformInput"]["DataSource"]["S3DataSource"]
        bucket, prefix = split_s3(source["S3Uri"])
        if source["S3DataType"] == "ManifestFile":
            with self._s3.get_object(Bucket=bucket, Key=prefix)["Body"] as stream:
                _, *names = json.loads(stream.read())
            return {f"{name}.out" for name in names}
        folder = prefix[: prefix.rfind("/") + 1]
        return {f"{key.removeprefix(folder)}.out" for key in self._keys(bucket, prefix) if not key.endswith("/")}

    def _outputs(self, job: dict[str, Any], wanted: set[str]) -> Iterator[str]:
        bucket, root = _folder(job["TransformOutput"]["S3OutputPath"])
        for key in self._keys(bucket, root):
            if key.removeprefix(root) in wanted:
                yield key

    def _keys(self, bucket: str, prefix: str) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"]


def _is_prefix(address: str) -> bool:
    _, key = split_s3(address)
    return not key or key.endswith("/")


def _folder(address: str) -> tuple[str, str]:
    bucket, root = split_s3(address)
    return bucket, f"{root.rstrip('/')}/" if root else ""


def _name(model: str) -> str:
    """A name of at most 63 characters that no other job has. Source: API reference, CreateTransformJob."""
    unique = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return f"{model[: 62 - len(unique)].rstrip('-')}-{unique}"
