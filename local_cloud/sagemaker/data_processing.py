"""The filters and the join of a batch transform job (DataProcessing), for JSON and CSV records.

Source of the rules: "Associate Prediction Results with Input Records" (batch-transform-data-processing): the input
filter takes a part of each record, the join puts the answer beside the input, the output filter takes a part of that.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jsonpath_ng import Child, Fields, Index, JSONPath, Root
from jsonpath_ng.parser import parse as parse_path

from local_cloud.sagemaker.errors import validation_exception

_FORMATS = {
    "application/json": "json",
    "application/jsonlines": "json",
    "application/x-jsonlines": "json",
    "application/jsonl": "json",
    "text/csv": "csv",
}


class RecordError(Exception):
    """A record cannot be read or filtered; the text is part of a failure reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcessing:
    """What happens to each record before it is sent (:meth:`to_model`) and to its answer (:meth:`to_output`)."""

    data_format: str
    input_filter: Callable[[Any], Any] | None
    output_filter: Callable[[Any], Any] | None
    join: bool

    @property
    def reads_answers(self) -> bool:
        """Whether each record needs an answer of its own."""
        return self.join or self.output_filter is not None

    def to_model(self, record: bytes) -> bytes:
        """The part of a record that is sent; it keeps its newline."""
        if self.input_filter is None:
            return record
        newline = b"\n" if record.endswith(b"\n") else b""
        return self._written(self.input_filter(self._read(record))) + newline

    def to_output(self, source: bytes, answer: bytes) -> bytes:
        """The output of one record, without a newline."""
        if not self.reads_answers:
            return answer
        value = self._read(answer)
        if self.join:
            value = self._joined(self._read(source), value)
        if self.output_filter is not None:
            value = self.output_filter(value)
        return self._written(value)

    def _joined(self, source: Any, answer: Any) -> Any:
        if self.data_format == "csv":
            return [*source, *answer]
        if isinstance(source, dict):
            return {**source, "SageMakerOutput": answer}
        return {"SageMakerInput": source, "SageMakerOutput": answer}

    def _read(self, record: bytes) -> Any:
        try:
            text = record.decode()
            if self.data_format == "json":
                return json.loads(text)
            # Strict: a quote that is left open is no record, and lines are records.
            rows = list(csv.reader(io.StringIO(text.rstrip("\r\n")), strict=True)) or [[]]
        except (ValueError, csv.Error) as error:
            raise RecordError(f"not a {self.data_format.upper()} record: {error}") from error
        if len(rows) != 1:
            raise RecordError(f"{len(rows)} CSV rows where one record was expected")
        return rows[0]

    def _written(self, value: Any) -> bytes:
        if self.data_format == "json":
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(value if isinstance(value, list) else [value])
        return text.getvalue().encode()


def data_processing(request: Mapping[str, Any]) -> DataProcessing | None:
    """What a CreateTransformJob request asks for; None when it asks for nothing.

    Raises a ValidationException for a filter that is no JSONPath and for content that cannot be filtered or joined.
    """
    asked = request.get("DataProcessing", {})
    # The API takes an empty filter too.
    input_filter, output_filter = asked.get("InputFilter") or "$", asked.get("OutputFilter") or "$"
    join = asked.get("JoinSource", "None") == "Input"
    if input_filter == "$" and output_filter == "$" and not join:
        return None
    content_type = _media_type(request["TransformInput"].get("ContentType", ""))
    accept = _media_type(request["TransformOutput"].get("Accept", "")) or content_type
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
    return DataProcessing(
        data_format=data_format,
        input_filter=None if input_filter == "$" else compiled_filter("InputFilter", input_filter),
        output_filter=None if output_filter == "$" else compiled_filter("OutputFilter", output_filter),
        join=join,
    )


def compiled_filter(member: str, expression: str) -> Callable[[Any], Any]:
    """A function that takes the part of a value that a JSONPath names.

    A path to one place gives the value there, several names (``$['a','b']``) an object of these, and everything else
    (slices, several indices, wildcards) a list.
    """
    try:
        path: JSONPath = parse_path(expression)
    except Exception as error:  # the parser raises bare Exceptions of several kinds
        raise validation_exception(f"{member} {expression!r} is not a JSONPath: {error}") from error
    last = path.right if isinstance(path, Child) else path

    def apply(value: Any) -> Any:
        found = path.find(value)
        if _single(path):
            if not found:
                raise RecordError(f"{member} {expression} finds nothing in the record")
            return found[0].value
        if isinstance(last, Fields) and "*" not in last.fields:
            return {str(match.path): match.value for match in found}
        return [match.value for match in found]

    return apply


def _single(path: JSONPath) -> bool:
    if isinstance(path, Child):
        return _single(path.left) and _single(path.right)
    if isinstance(path, Fields):
        return len(path.fields) == 1 and path.fields[0] != "*"
    if isinstance(path, Index):
        return len(path.indices) == 1
    return isinstance(path, Root)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
