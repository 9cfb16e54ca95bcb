"""What the two sides of a job look like: in lines or whole, and of which format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from enum import Enum
from typing import Any

from tidegate.client.content_types import CSV, JSON, JSON_LINES, TEXT, media_type
from tidegate.client.errors import TableFailed


class Form(Enum):
    """How the records of an object are written."""

    CSV = "CSV"
    JSON = "JSON Lines"
    TEXT = "lines of text"
    DOCUMENT = "one JSON document"
    OTHER = "one body"

    @property
    def in_lines(self) -> bool:
        """Whether each line is a record; otherwise the object as a whole is one."""
        return self in (Form.CSV, Form.JSON, Form.TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The form of a job's input and of its output."""

    source: Form
    source_charset: str
    packed: bool
    output: Form
    output_charset: str
    joined: bool
    """Whether the output holds the records too, so that the input is not read."""

    @property
    def reads_source(self) -> bool:
        """Whether there is something in the input to put beside the answers."""
        return not self.joined and self.source is not Form.OTHER

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Sides:
        """From what DescribeTransformJob says. Raises `TableFailed` for answers that are no records."""
        asked = job["TransformInput"]
        content_type = asked.get("ContentType", "")
        in_lines = asked.get("SplitType", "None") == "Line"
        processing = job.get("DataProcessing", {})
        joined = processing.get("JoinSource", "None") == "Input"
        written_anew = joined or (processing.get("OutputFilter") or "$") != "$"  # by SageMaker, in UTF-8
        accept = job["TransformOutput"].get("Accept") or content_type
        source = _form(content_type, in_lines=in_lines)
        output = _form(accept, in_lines=source.in_lines)
        if output is Form.OTHER:
            raise TableFailed(
                f"the answers of the job are {media_type(accept) or 'of no type that it names'}, which has no "
                "columns; a table is made of CSV, JSON Lines, JSON or text: submit the job with such an Accept"
            )
        return cls(
            source=source,
            source_charset=_charset(content_type),
            packed=asked.get("CompressionType", "None") == "Gzip",
            output=output,
            output_charset="utf-8" if written_anew else _charset(accept),
            joined=joined,
        )


def _form(content_type: str, *, in_lines: bool) -> Form:
    kind = media_type(content_type)
    if kind == CSV:
        return Form.CSV
    if kind in JSON_LINES:
        return Form.JSON
    if kind == JSON:
        return Form.JSON if in_lines else Form.DOCUMENT
    if kind == TEXT:
        return Form.TEXT
    return Form.OTHER


def _charset(content_type: str) -> str:
    header = Message()
    header["Content-Type"] = content_type
    charset = str(header.get_content_charset("utf-8"))
    try:
        plain = "\n,".encode(charset) == b"\n,"
    except LookupError:
        plain = False
    if not plain:
        raise TableFailed(f"the job's content type {content_type!r} has a charset whose lines cannot be told apart")
    return charset
