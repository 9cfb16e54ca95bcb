"""The work of one batch transform job once its container is healthy: read, split, batch, call, assemble, write.

Requests are in flight up to MaxConcurrentTransforms, over the borders of input objects; their answers are taken in the
order of the input, so each output object grows in order and is written when its input is complete. An object with a
failed record is not written; the other objects still are, and the job fails.
"""

from __future__ import annotations

import tempfile
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import split_s3_uri
from tidegate.local_cloud.sagemaker.container import Container
from tidegate.local_cloud.sagemaker.container_answers import Answer, NoAnswer
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.data_processing import DataProcessing, charset_of, data_processing, media_type
from tidegate.local_cloud.sagemaker.manifest_file import NoManifest
from tidegate.local_cloud.sagemaker.pipeline import Client, SerialClient
from tidegate.local_cloud.sagemaker.record_filters import RecordError
from tidegate.local_cloud.sagemaker.records import (
    Batch,
    Record,
    RecordTooLarge,
    answer_lines,
    batches,
    lines,
    output_key,
    whole,
    why_other_lines,
    without_mark,
)
from tidegate.local_cloud.sagemaker.state import Json
from tidegate.local_cloud.sagemaker.transform_inputs import InputObject, content, input_objects
from tidegate.local_cloud.sagemaker.transform_settings import TransformSettings, decide, read_execution_parameters

_SPOOL_BYTES = 8 * 1024 * 1024  # an output object grows in memory up to this size, then in a file
_RETRY_PAUSES_S = (0.2, 1.0, 3.0)
_SHOWN_CHARS = 300
_EXECUTION_PARAMETERS_TIMEOUT_S = 10.0


class TransformFailed(Exception):
    """The job fails; the text is its failure reason."""


class Stopped(Exception):
    """The job was asked to stop."""


class _ObjectFailed(Exception):
    """One input object fails; the text says why."""


@dataclass(slots=True)
class Progress:
    """How far a job is. ``objects`` is the number of input objects, known once they are listed."""

    objects: int = 0
    objects_done: int = 0
    objects_failed: int = 0
    records_done: int = 0

    def as_json(self) -> Json:
        return {
            "ObjectsTotal": self.objects,
            "ObjectsDone": self.objects_done,
            "ObjectsFailed": self.objects_failed,
            "RecordsDone": self.records_done,
        }


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)


@dataclass(slots=True)
class _Output:
    """What comes out of one input object."""

    source: InputObject
    content: IO[bytes] = field(default_factory=_spool)
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A request whose answer is awaited, or (without one) the end of its object."""

    output: _Output
    batch: Batch | None = None
    answer: Future[Answer] | None = None


@dataclass(slots=True, kw_only=True)
class TransformRun:
    """Construct, then :meth:`run` once."""

    s3: Any
    request: Json
    containers: Mapping[str, Container]  # by name, in the order in which a record passes them
    progress: Progress
    stopping: threading.Event
    say: Callable[[str], object] = lambda _: None  # takes what the platform writes into a job's data log
    _failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Returns when all outputs are written. Raises :class:`TransformFailed` or :class:`Stopped`."""
        clients = {name: ContainerClient(container.port) for name, container in self.containers.items()}
        first = next(iter(clients.values()))
        client: Client = first if len(clients) == 1 else SerialClient(clients)
        try:
            # A pipeline is asked as its first container, which gets the records as they are.
            settings = self._settings(first)
            self.say(settings.as_log_line())
            processing = data_processing(self.request)
            try:
                inputs = list(input_objects(self.s3, self.request["TransformInput"]))
            except NoManifest as error:
                raise TransformFailed(f"ClientError: {error}") from error
            except (ClientError, BotoCoreError) as error:
                raise TransformFailed(f"ClientError: the input cannot be listed: {error}") from error
            if not inputs:
                uri = self.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
                raise TransformFailed(f"ClientError: there is no input object at {uri}")
            self.progress.objects = len(inputs)
            self._transform(inputs, client, settings, processing)
        finally:
            for each in clients.values():
                each.close()
        if self._failures:
            more = f" (and {len(self._failures) - 1} more objects failed)" if len(self._failures) > 1 else ""
            raise TransformFailed(f"ClientError: {self._failures[0]}{more}")

    def _transform(
        self,
        inputs: list[InputObject],
        client: Client,
        settings: TransformSettings,
        processing: DataProcessing | None,
    ) -> None:
        flights: deque[_InFlight] = deque()
        with ThreadPoolExecutor(max_workers=settings.max_concurrent, thread_name_prefix="transform") as pool:
            try:
                for source in inputs:
                    output = _Output(source)
                    for batch in self._batches(output, settings, processing):
                        answer = pool.submit(self._invoke, client, batch, settings)
                        flights.append(_InFlight(output, batch, answer))
                        while len(flights) > 2 * settings.max_concurrent:
                            self._land(flights.popleft(), processing)
                        self._heed_stop()
                        if output.failure is not None:
                            break
                    flights.append(_InFlight(output))
                while flights:
                    self._land(flights.popleft(), processing)
                    self._heed_stop()
            finally:
                for flight in flights:
                    if flight.answer is not None:
                        flight.answer.cancel()
                    flight.output.content.close()

    def _heed_stop(self) -> None:
        if self.stopping.is_set():
            raise Stopped

    def _settings(self, client: ContainerClient) -> TransformSettings:
        try:
            answer = client.call("GET", "/execution-parameters", headers={}, timeout_s=_EXECUTION_PARAMETERS_TIMEOUT_S)
            parameters = read_execution_parameters(answer.status, answer.body)
        except (NoAnswer, ValueError) as error:
            raise TransformFailed(f"ClientError: GET /execution-parameters is not usable: {error}") from error
        return decide(self.request, parameters)

    def _batches(
        self, output: _Output, settings: TransformSettings, processing: DataProcessing | None
    ) -> Iterator[Batch]:
        """The requests of one object; what is wrong with the object ends them and becomes its failure."""
        try:
            asked = self.request["TransformInput"]
            chunks = content(self.s3, output.source, compression=asked.get("CompressionType", "None"))
            # What reads records must not take the mark for a part of the first; a model gets bytes as they are.
            chunks = chunks if processing is None else without_mark(chunks)
            # What is sent may be less than the record only where a filter takes a part of it.
            filtered = processing is not None and processing.input_filter is not None
            bound = None if filtered else settings.max_payload_bytes
            split = asked.get("SplitType", "None")
            sources = (lines if split == "Line" else whole)(chunks, max_bytes=bound)
            prepared = _prepared(sources, processing)
            multi = settings.multi_record and split != "None"
            yield from batches(prepared, multi=multi, max_bytes=settings.max_payload_bytes)
        except (RecordTooLarge, RecordError) as error:
            output.failure = f"{output.source.uri}: {error}"
        except (ClientError, BotoCoreError, EOFError, OSError, zlib.error) as error:
            output.failure = f"{output.source.uri} cannot be read: {error}"

    def _invoke(self, client: Client, batch: Batch, settings: TransformSettings) -> Answer:
        headers = {}
        if content_type := self.request["TransformInput"].get("ContentType"):
            headers["Content-Type"] = content_type
        if accept := self.request["TransformOutput"].get("Accept"):
            headers["Accept"] = accept
        said = ""
        for attempt in range(settings.max_retries + 1):
            if attempt and self.stopping.wait(_RETRY_PAUSES_S[attempt - 1]):
                raise Stopped
            # MaxPayloadInMB=0: the platform sends requests of unlimited size in HTTP chunks.
            body: bytes | Iterable[bytes] = batch.payload if settings.max_payload_bytes else iter([batch.payload])
            try:
                answer = client.call("POST", "/invocations", headers=headers, body=body, timeout_s=settings.timeout_s)
            except NoAnswer as error:
                what, container = self._called(error.container)
                code = container.exit_code()
                if code is not None:
                    raise _ObjectFailed(f"{what} ended with exit code {code}: {container.last_words()}") from error
                said = f"{what} gave no answer: {error}"
                continue
            if answer.status < 300:
                return answer
            said = f"{self._called(answer.container)[0]} answered {answer.status}: {_shown(answer)}"
            if answer.status < 500:
                break
        raise _ObjectFailed(said)

    def _called(self, name: str) -> tuple[str, Container]:
        """What a failure calls a container, and the container."""
        if name not in self.containers:  # the only one
            return "the container", next(iter(self.containers.values()))
        return f"the container {name}" if len(self.containers) > 1 else "the container", self.containers[name]

    def _land(self, flight: _InFlight, processing: DataProcessing | None) -> None:
        """Takes the next answer in the order of the input, or ends its object."""
        output = flight.output
        if flight.batch is None or flight.answer is None:
            self._finish(output)
            return
        if output.failure is not None:
            flight.answer.cancel()
            return
        records = flight.batch.records
        try:
            made = self._assembled(flight.answer.result(), records, processing)
        except (_ObjectFailed, RecordError) as error:
            first, last = records[0].index, records[-1].index
            where = f"record {first}" if first == last else f"records {first} to {last}"
            output.failure = f"{output.source.uri}, {where}: {error}"
            return
        output.content.write(made)
        self.progress.records_done += len(records)

    def _assembled(self, answer: Answer, records: Sequence[Record], processing: DataProcessing | None) -> bytes:
        """What one answer adds to the output: with lines, one for each record. Raises :class:`RecordError`."""
        split = self.request["TransformInput"].get("SplitType", "None") == "Line"
        by_line = self.request["TransformOutput"].get("AssembleWith", "None") == "Line"
        content_type = answer.headers.get("content-type")
        if processing is not None and processing.reads_answers:
            processing.check_answer(content_type)
            parts = [answer.body] if len(records) == 1 else self._lines(answer, records)
            charset = charset_of(content_type or "")
            made = [
                _output(processing, record, part, charset, alone=len(records) == 1)
                for record, part in zip(records, parts, strict=True)
            ]
            # Records that were lines are lines again, whatever AssembleWith says: nothing else would part them.
            return b"\n".join(made) + (b"\n" if split or by_line else b"")
        if split and by_line:
            return b"".join(line + b"\n" for line in self._lines(answer, records))
        return answer.body + b"\n" if by_line and not answer.body.endswith(b"\n") else answer.body

    def _lines(self, answer: Answer, records: Sequence[Record]) -> list[bytes]:
        try:
            return answer_lines(answer.body, len(records))
        except ValueError as error:
            why = why_other_lines(
                answer.body,
                records,
                answered=media_type(answer.headers.get("content-type", "")),
                sent=media_type(self.request["TransformInput"].get("ContentType", "")),
            )
            raise RecordError(f"{error}, and lines need one for each; {why}") from error

    def _finish(self, output: _Output) -> None:
        with output.content as content:
            if output.failure is not None:
                self.progress.objects_failed += 1
                self._failures.append(output.failure)
                source = output.source
                self.say(f"{source.bucket}/{source.key}: {output.failure.removeprefix(source.uri).lstrip(', :')}")
                return
            bucket, prefix = split_s3_uri(self.request["TransformOutput"]["S3OutputPath"])
            key = output_key(output.source.key, input_prefix=output.source.prefix, output_prefix=prefix)
            content.seek(0)
            try:
                self.s3.put_object(Bucket=bucket, Key=key, Body=content)
            except (ClientError, BotoCoreError) as error:
                raise TransformFailed(f"ClientError: s3://{bucket}/{key} cannot be written: {error}") from error
            self.progress.objects_done += 1


def _prepared(sources: Iterable[bytes], processing: DataProcessing | None) -> Iterator[Record]:
    for index, source in enumerate(sources):
        try:
            payload = source if processing is None else processing.to_model(source)
        except RecordError as error:
            raise RecordError(f"record {index}: {error}") from error
        yield Record(index=index, source=source, payload=payload)


def _output(processing: DataProcessing, record: Record, part: bytes, charset: str, *, alone: bool) -> bytes:
    try:
        return processing.to_output(record.source, part, charset=charset)
    except RecordError as error:
        raise error if alone else RecordError(f"record {record.index}: {error}") from error


def _shown(answer: Answer) -> str:
    return answer.body[: 4 * _SHOWN_CHARS].decode(errors="replace")[:_SHOWN_CHARS]
