"""The filters and the join of a batch transform job (DataProcessing), for JSON and CSV records.

Source of the rules: "Associate Prediction Results with Input Records" (batch-transform-data-processing): the input
filter takes a part of each record, the join puts the answer beside the input, the output filter takes a part of that.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.record_filters import Format, RecordError, RecordFilter, compiled_filter
from tidegate.local_cloud.sagemaker.records import flaw_of_line

_FORMATS: Mapping[str, Format] = {
    "application/json": "json",
    "application/jsonlines": "json",
    "application/x-jsonlines": "json",
    "application/jsonl": "json",
    "application/x-ndjson": "json",
    "text/csv": "csv",
}
# The module csv ends a cell at 131,072 characters. What bounds a record here is the size of a request.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcessing:
    """What happens to each record before it is sent (:meth:`to_model`) and to its answer (:meth:`to_output`)."""

    content_type: str  # of the input
    data_format: Format
    charset: str
    input_filter: RecordFilter | None
    output_filter: RecordFilter | None
    join: bool

    @property
    def reads_answers(self) -> bool:
        """Whether each record needs an answer of its own."""
        return self.join or self.output_filter is not None

    def to_model(self, record: bytes) -> bytes:
        """The part of a record that is sent, in the charset of the input; it keeps its newline.

        Raises :class:`RecordError`, also without an input filter, for what is no record by itself.
        """
        value = self._read(record, self.charset)
        if self.input_filter is None:
            return record
        newline = b"\n" if record.endswith(b"\n") else b""
        return self._written(self.input_filter(value), self.charset) + newline

    def check_answer(self, content_type: str | None) -> None:
        """Raises :class:`RecordError` for an answer of another format than the input's."""
        if content_type is not None and _FORMATS.get(media_type(content_type)) != self.data_format:
            raise RecordError(
                f"the answer is {media_type(content_type) or 'of no type'}, and JoinSource and OutputFilter need the"
                f" format of the input; set Accept to {self.content_type}"
            )

    def to_output(self, source: bytes, answer: bytes, *, charset: str = "utf-8") -> bytes:
        """The output of one record, in UTF-8 and without a newline; ``charset`` is the answer's."""
        value = self._read(answer, charset)
        if self.join:
            value = self._joined(self._read(source, self.charset), value)
        if self.output_filter is not None:
            value = self.output_filter(value)
        return self._written(value, "utf-8")

    def _joined(self, source: Any, answer: Any) -> Any:
        if self.data_format == "csv":
            return [*source, *answer]
        if isinstance(source, dict):
            return {**source, "SageMakerOutput": answer}
        return {"SageMakerInput": source, "SageMakerOutput": answer}

    def _read(self, record: bytes, charset: str) -> Any:
        try:
            text = record.decode(charset)
            if self.data_format == "json":
                return json.loads(text)
            # Strict: a quote that is left open is no record, and lines are records. An empty answer is an empty cell.
            rows = list(csv.reader(io.StringIO(text.rstrip("\r\n")), strict=True)) or [[""]]
        except (ValueError, LookupError, RecursionError, csv.Error) as error:
            flaw = flaw_of_line(record, quotes=self.data_format == "csv")
            raise RecordError(f"not a {self.data_format.upper()} record: {flaw or error}") from error
        if len(rows) != 1:
            raise RecordError(f"{len(rows)} CSV rows where one record was expected")
        return rows[0]

    def _written(self, value: Any, charset: str) -> bytes:
        if self.data_format == "json":
            try:
                return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(charset)
            except UnicodeEncodeError:  # an escape in the input may stand for any character, and for half of one
                return json.dumps(value, separators=(",", ":")).encode(charset)
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(value if isinstance(value, list) else [value])
        row = text.getvalue()
        # A row of one cell of spaces would be a blank line, which is no record.
        return (row if row.strip() else f'"{row}"').encode(charset)


def data_processing(request: Mapping[str, Any]) -> DataProcessing | None:
    """What a CreateTransformJob request asks for; None when it asks for nothing.

    Raises a ValidationException for a filter that the service does not take and for content that cannot be filtered or
    joined.
    """
    asked = request.get("DataProcessing", {})
    # The API takes an empty filter too.
    input_filter, output_filter = asked.get("InputFilter") or "$", asked.get("OutputFilter") or "$"
    join = asked.get("JoinSource", "None") == "Input"
    if input_filter == "$" and output_filter == "$" and not join:
        return None
    described = request["TransformInput"].get("ContentType", "")
    content_type = media_type(described)
    accept = media_type(request["TransformOutput"].get("Accept", "")) or content_type
    data_format = _FORMATS.get(content_type)
    if data_format is None:
        raise validation_exception(
            f"DataProcessing needs a ContentType of {', '.join(_FORMATS)}; this job has {content_type or 'none'}."
        )
    if _FORMATS.get(accept) != data_format and (join or output_filter != "$"):
        raise validation_exception(
            f"JoinSource and OutputFilter need answers in the input's format; Accept is {accept}."
        )
    if data_format == "csv" and request["TransformInput"].get("SplitType", "None") != "Line":
        raise validation_exception("DataProcessing of CSV needs SplitType Line.")

    def compiled(member: str, expression: str) -> RecordFilter | None:
        if expression == "$":
            return None
        return compiled_filter(member, expression, data_format, content_type=content_type)

    return DataProcessing(
        content_type=content_type,
        data_format=data_format,
        charset=_charset_of_lines(described),
        input_filter=compiled("InputFilter", input_filter),
        output_filter=compiled("OutputFilter", output_filter),
        join=join,
    )


def charset_of(content_type: str) -> str:
    """The charset parameter of a media type; UTF-8 where it has none."""
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_charset("utf-8")


def _charset_of_lines(content_type: str) -> str:
    charset = charset_of(content_type)
    try:
        plain = "\n,".encode(charset) == b"\n,"
    except LookupError as error:
        raise validation_exception(f"ContentType {content_type!r} has a charset that is not known.") from error
    if not plain:
        raise validation_exception(
            f"ContentType {content_type!r} has a charset in which lines do not end with the byte 0A; use UTF-8."
        )
    return charset


def media_type(content_type: str) -> str:
    """A content type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()
