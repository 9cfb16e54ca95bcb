"""A check as a person reads it: aligned rows, then the warnings, then the verdict."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from tidegate.inference.errors import some_of
from tidegate.inference.frontend.check.report import ArchiveReport, CheckReport, clean
from tidegate.inference.load_report import AnsweredExample, Batches, LoadReport, Sharing
from tidegate.inference.protocol import ServedAs

_LABEL = 10
VERDICT = "this model may take traffic"


def text(report: CheckReport, width: int | None) -> str:
    """The report without its steps, which have been told. Lines are wrapped at `width`, or not where that is None."""
    lines: list[str] = []
    for label, value in _rows(report):
        lines += _wrapped(f"{label:<{_LABEL}}", clean(value), width)
    if report.warnings:
        lines += ["", "warnings" if len(report.warnings) > 1 else "warning"]
        for caution in report.warnings:
            sentence = f"{caution.message}; {caution.way_out}" if caution.way_out else caution.message
            lines += _wrapped("  - ", clean(f"{sentence} [{caution.code}]"), width)
    if report.ok:
        lines += ["", VERDICT]
    return "\n".join(lines)


def _wrapped(head: str, value: str, width: int | None) -> list[str]:
    one_line = " ".join(value.split())
    if width is None:
        return [f"{head}{one_line}"]
    return textwrap.wrap(
        one_line,
        width=max(width, 40),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rows(report: CheckReport) -> Iterator[tuple[str, str]]:
    if report.archive is not None:
        yield "archive", _archive(report.archive)
        if report.archive.model_files:
            yield "found", _found(report.archive)
    if (load := report.load) is None:
        return
    yield "model", _model(load, report.archive)
    if load.form is not None:
        yield "form", _form(load.form)
    for label, key in (("takes", "inputs"), ("gives", "outputs")):
        if tensors := load.tensors.get(key):
            yield label, ", ".join(map(_tensor, tensors))
    if load.example is not None:
        yield from _example(load.example, known=bool(load.tensors))
    yield "memory", _memory(load)
    yield "time", _time(load)
    yield "batches", _batches(load.batches)


def _form(form: ServedAs) -> str:
    others = [f"not {each['name']}: {each['why']}" for each in form["passed_over"]]
    return "; ".join([f"{form['name']}: {form['why']}", *others])


def _archive(archive: ArchiveReport) -> str:
    parts = [f"{archive.files} {'file' if archive.files == 1 else 'files'}, {size(archive.bytes)}"]
    if archive.name is not None:
        parts.append(f"its manifest calls it '{archive.name}'")
    elif not archive.manifest:
        parts.append("no manifest")
    parts.append(archive.script or "no script")
    if archive.requirements is not None:
        parts.append(archive.requirements)
    return "; ".join(parts)


def _found(archive: ArchiveReport) -> str:
    named = [f"{each.file} ({each.kind}, {size(each.bytes)})" for each in archive.model_files]
    said = some_of(named)
    if archive.chosen is None or len(named) < 2:
        return said
    return f"{said}; {archive.chosen} is the model, because {archive.chosen_because}"


def _model(load: LoadReport, archive: ArchiveReport | None) -> str:
    by = "the server's own model_fn"
    if load.loaded_by != "default":
        by = f"{load.loaded_by} of {archive.script}" if archive is not None and archive.script else load.loaded_by
    parts = [f"{load.kind} on {load.device}, by {by}"]
    if load.parameters is not None and load.parameter_bytes is not None:
        types = f" of {', '.join(load.dtypes)}" if load.dtypes else ""
        parts.append(f"{load.parameters:,} parameters{types}, {size(load.parameter_bytes)}")
    others = [name for name in load.functions if name != load.loaded_by]
    if others:
        *first, last = others
        parts.append(f"the script also defines {', '.join(first)}{' and ' if first else ''}{last}")
    return "; ".join(parts)


def _tensor(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']} {tensor['datatype']} {tensor['shape']}"


def _example(example: AnsweredExample, *, known: bool) -> Iterator[tuple[str, str]]:
    apart = ""
    if example.largest_difference is not None:
        bounds = f"rtol {example.rtol:g}, atol {example.atol:g}"
        apart = f"; the largest difference is {example.largest_difference:.2g} ({bounds})"
    yield (
        "example",
        f"{size(example.request_bytes)} of {example.request_type} are answered by {size(example.answer_bytes)} of "
        f"{example.answer_type}, as expected{apart}",
    )
    if not known:
        yield "", f"predict_fn is given {example.data} and returns {example.prediction}"
    if example.answer:
        yield "answer", example.answer


def _memory(load: LoadReport) -> str:
    parts = [f"{size(load.memory_bytes)} for each worker, in addition to what all share"]
    if load.gpu_bytes:
        parts.append(f"{size(load.gpu_bytes)} of its {'GPU' if load.gpus < 2 else f'{load.gpus} GPUs'}")
    return "; ".join(parts)


def _time(load: LoadReport) -> str:
    parts = [f"loaded in {duration(load.load_s)}"]
    if load.example is not None:
        threads = f"{load.threads} {'thread' if load.threads == 1 else 'threads'}"
        parts.append(
            f"predicts the example in {duration(load.example.predict_ms / 1000)}, and answers it in "
            f"{duration(load.example.answer_ms / 1000)}, on {threads}"
        )
    return "; ".join(parts)


def _batches(batches: Batches) -> str:
    found = "; how many do, and how long they wait, is found on live traffic" if batches.size_found_on_traffic else ""
    if batches.sharing in (Sharing.PROVED, Sharing.DECLARED):
        together = f", {batches.tried_together} at a time" if batches.tried_together is not None else ""
        return f"requests may share a call: {batches.why}{together}{found}"
    said = {
        Sharing.REFUSED: "requests are answered one by one",
        Sharing.NEVER: "requests are answered one by one",
        Sharing.UNDECIDED: "whether requests may share a call is unknown",
    }
    undecided = found if batches.sharing is Sharing.UNDECIDED else ""
    return f"{said[batches.sharing]}: {batches.why}{undecided}"


def size(count: int) -> str:
    """A number of bytes, in decimal units."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.0f} {unit}" if value >= 99.5 else f"{value:.2g} {unit}"


def duration(seconds: float) -> str:
    """A time, in the unit that suits it."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s"
