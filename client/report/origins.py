"""Which record of which object a request came from, found by what the server noted of its body.

SageMaker tells a container nothing of where a body comes from. The server's line has two checksums: of the body's first
line, and of its first 4096 bytes. A job over lines is found by the first among the lines of the input, another one by
size and the second among the objects.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.client.report.log_lines import Answered
from tidegate.client.report.objects import InputObject

HEAD_BYTES = 4096
_PIECE_BYTES = 1024 * 1024
_MOST_LOOKS = 100
"""Objects that are opened because their size fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request begins. `line` counts from 1, and is None where the object is one request."""

    address: str
    line: int | None = None
    alike: int = 0
    """How many other places begin alike: it may have been one of these."""


@dataclass(slots=True)
class Found:
    """By `request_id` of the log; `why_not` says why nothing, or not all, was looked through."""

    origins: dict[str, Origin] = field(default_factory=dict)
    blank_lines: int | None = None
    """Of the whole input; None where not all was read."""
    why_not: str = ""

    def note(self, request: Answered, address: str, line: int | None) -> None:
        """A place that fits."""
        known = self.origins.get(request.request_id)
        self.origins[request.request_id] = (
            Origin(address=address, line=line)
            if known is None
            else Origin(address=known.address, line=known.line, alike=known.alike + 1)
        )


def find(
    s3: Any,
    job: Mapping[str, Any],
    inputs: Sequence[InputObject],
    wanted: Iterable[Answered],
    *,
    most_bytes: int,
    on_bytes: Callable[[int], object],
) -> Found:
    """Look for the requests in `wanted`, reading at most so many bytes of the input. Raises what boto3 raises."""
    asked = [request for request in wanted if request.head_crc32]
    if job.get("DataProcessing", {}).get("InputFilter", "$") != "$":
        return Found(why_not="the model was sent a part of each record (InputFilter), which the input does not have")
    if not asked or not inputs:
        return Found()
    match job["TransformInput"].get("SplitType", "None"):
        case "Line":
            return _among_lines(s3, job, inputs, asked, most_bytes=most_bytes, on_bytes=on_bytes)
        case "None" if job["TransformInput"].get("CompressionType") == "Gzip":
            return Found(why_not="an object that is packed cannot be known by the size and beginning of its content")
        case "None":
            return _among_objects(s3, inputs, asked)
        case other:
            return Found(why_not=f"records of {other} are not looked for")


def _among_lines(
    s3: Any,
    job: Mapping[str, Any],
    inputs: Sequence[InputObject],
    asked: Sequence[Answered],
    *,
    most_bytes: int,
    on_bytes: Callable[[int], object],
) -> Found:
    by_line: dict[int, list[Answered]] = {}
    for request in asked:
        by_line.setdefault(int(request.line_crc32, 16), []).append(request)
    found, blank, left_bytes = Found(), 0, most_bytes
    packed = job["TransformInput"].get("CompressionType") == "Gzip"
    for source in inputs:
        for number, (line, size) in enumerate(_lines(s3, source, packed=packed), start=1):
            left_bytes -= size
            blank += not line
            for request in by_line.get(zlib.crc32(line[:HEAD_BYTES]), ()):
                found.note(request, source.address, number)
            if left_bytes < 0:
                found.why_not = (
                    f"only the first {most_bytes // 1024**2} MiB of the input were looked through (--input-mib)"
                    if most_bytes
                    else "the input was not to be read (--input-mib 0)"
                )
                return found
            if not number % 10_000:
                on_bytes(most_bytes - left_bytes)
    found.blank_lines = blank
    return found


def _lines(s3: Any, source: InputObject, *, packed: bool) -> Iterator[tuple[bytes, int]]:
    """Each line without its end, or the first bytes of one that is very long, with its size."""
    rest, cut_bytes = b"", 0
    with s3.get_object(Bucket=source.bucket, Key=source.key)["Body"] as body:
        reader: Any = gzip.GzipFile(fileobj=body) if packed else body
        while piece := reader.read(_PIECE_BYTES):
            *ended, rest = (rest + piece).split(b"\n")
            for line in ended:
                yield line.removesuffix(b"\r"), len(line) + 1 + cut_bytes
                cut_bytes = 0
            if len(rest) > _PIECE_BYTES:  # a line without an end must not fill the memory
                cut_bytes += len(rest) - HEAD_BYTES
                rest = rest[:HEAD_BYTES]
    if rest:
        yield rest.removesuffix(b"\r"), len(rest) + cut_bytes


def _among_objects(s3: Any, inputs: Sequence[InputObject], asked: Sequence[Answered]) -> Found:
    found, looks = Found(), 0
    for source in inputs:
        alike = [request for request in asked if source.size_bytes in (request.request_bytes, None)]
        if not alike:
            continue
        if looks >= _MOST_LOOKS:
            found.why_not = f"more than {_MOST_LOOKS} objects have the size of one of the requests"
            break
        looks += 1
        with s3.get_object(Bucket=source.bucket, Key=source.key)["Body"] as body:
            head = f"{zlib.crc32(body.read(HEAD_BYTES)):08x}"
        for request in alike:
            if request.head_crc32 == head:
                found.note(request, source.address, None)
    return found
