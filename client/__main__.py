"""`tidegate invoke | async | batch`: query an endpoint, or run a transform job, from the shell.

    tidegate invoke tidegate-dev digit.png
    tidegate invoke tidegate-dev question.json --stream
    tidegate async tidegate-dev scan.npy --upload s3://bucket/async/input/scan.npy --output answer.json
    tidegate batch submit --stage dev --input digits.jsonl
    tidegate batch wait JOB
    tidegate batch fetch JOB results/
    tidegate batch table JOB --stage dev
    tidegate batch report JOB --output report.html

Answers go to standard output, everything else to standard error. Exit status 0 when it worked, 1 with one sentence
otherwise, 2 for wrong arguments, 3 for a report in which a part is missing, 130 after Ctrl-C.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from tqdm import tqdm

from tidegate import command_line
from tidegate.client import stages
from tidegate.client.asynchronous import Submitted
from tidegate.client.batch import INPUT_MIB, BatchJob, Progress
from tidegate.client.content_types import content_type_of, is_gzip, unpacked_name
from tidegate.client.endpoint import Endpoint
from tidegate.client.errors import ClientFailure
from tidegate.client.waking import Reason

PART_MISSING = 3
"""The exit status of a report that had to leave something out."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int | None = options.run(options)
    except (ClientFailure, ClientError, BotoCoreError, OSError, ValueError) as error:
        print(f"tidegate: error: {error}{_way_out(error, options)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status or 0


def _way_out(error: Exception, options: argparse.Namespace) -> str:
    """What to add to the sentence of AWS where an option of this command is what it asks for."""
    if isinstance(error, ClientError) and getattr(options, "target_model", "") is None:
        message = error.response.get("Error", {}).get("Message", "").lower()
        if "multi-model" in message or "target model" in message or "targetmodel" in message:
            end = "" if str(error).endswith(".") else "."
            return f"{end} Give --target-model NAME.tar.gz, a path below the endpoint's directory of archives."
    return ""


def _invoke(options: argparse.Namespace) -> None:
    endpoint = Endpoint(
        options.endpoint, component=options.component, wake_timeout_s=options.wake_timeout, on_wait=_say_wait
    )
    body = options.file.read_bytes()
    content_type = options.content_type or content_type_of(options.file.name)
    further = {"TargetModel": options.target_model} if options.target_model else {}
    asked = {"content_type": content_type, "accept": options.accept, **_choice(options), **further}
    with _answer() as write:
        if options.stream:
            for part in endpoint.stream(body, **asked):
                write(part)
        else:
            write(endpoint.invoke(body, **asked).body)


def _asynchronous(options: argparse.Namespace) -> None:
    submitted: Submitted = Endpoint(options.endpoint).submit(
        options.file,
        content_type=options.content_type or content_type_of(options.file.name),
        accept=options.accept,
        input_location=options.upload,
        **_choice(options),
    )
    print(f"the answer will be {submitted.output_location}", file=sys.stderr)
    with tqdm(desc="waiting", unit=" s", bar_format="{desc}: {n:.0f} s", leave=False, disable=None) as bar:

        def show(waited_s: float) -> None:
            bar.update(waited_s - bar.n)

        if options.output is not None:
            submitted.save(options.output, timeout_s=options.timeout, on_poll=show)
            return
        answer = submitted.wait(timeout_s=options.timeout, on_poll=show)
    with _answer() as write:
        write(answer)


def _submit(options: argparse.Namespace) -> None:
    session = boto3.Session()
    stage = stages.Stage.find(session, name=options.stage, prefix=options.prefix) if options.stage else None
    model = options.model or (stage.model_name() if stage is not None else None)
    if model is None:
        raise ValueError("no model is named: give --stage or --model")
    source = options.input
    content_type = options.content_type or content_type_of(unpacked_name(source))
    if not source.startswith("s3://"):
        if stage is None:
            raise ValueError(
                "a file of this machine is uploaded to the bucket of --stage; give that, or an s3:// input"
            )
        source = stage.upload(Path(source), show=_progress_of_upload)
    if options.output is None and stage is None:
        raise ValueError("no place for the answers is named: give --output s3://bucket/prefix/ or --stage")
    job = BatchJob.submit(
        model=model,
        input_location=source,
        output_location=options.output or stages.output_for(source),
        content_type=content_type,
        gzip=is_gzip(options.input),
        accept=options.accept,
        instance_type=options.instance_type,
        instance_count=options.instance_count,
        join_source=options.join_source,
        input_filter=options.input_filter,
        output_filter=options.output_filter,
        environment=_variables(options.environment),
        tags=None if stage is None else stage.tags,
    )
    print(job.name)


def _variables(words: list[str]) -> dict[str, str]:
    if wrong := next((word for word in words if not word.partition("=")[0] or "=" not in word), None):
        raise ValueError(f"--environment {wrong}: write NAME=VALUE")
    return dict(word.split("=", 1) for word in words)


def _wait(options: argparse.Namespace) -> None:
    with tqdm(desc=options.job, unit=" objects", leave=False, disable=None) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.objects_total
            bar.set_postfix_str(progress.status)
            bar.update(progress.objects_done - bar.n)

        BatchJob(options.job).wait(timeout_s=options.timeout, on_poll=show, poll_s=options.poll)
    print(f"{options.job} is completed", file=sys.stderr)


def _fetch(options: argparse.Namespace) -> None:
    with tqdm(desc=options.job, unit=" files", leave=False, disable=None) as bar:
        files = BatchJob(options.job).fetch(options.directory, on_file=lambda _: bar.update())
    for file in files:
        print(file)


def _table(options: argparse.Namespace) -> None:
    with tqdm(desc=options.job, unit=" records", unit_scale=True, leave=False, disable=None) as bar:
        written = BatchJob(options.job).table(
            options.to,
            table=options.table,
            stage=options.stage,
            prefix=options.prefix,
            columns=options.columns,
            null_values=("", *options.null),
            on_records=bar.update,
        )
    print(f"{written.records} records of {written.objects} objects: {', '.join(written.columns)}", file=sys.stderr)
    print(written.location)


@contextmanager
def _answer() -> Iterator[Callable[[bytes], None]]:
    """What writes an answer to standard output as it is; a terminal gets the end of line that the answer lacks."""
    last = b""

    def write(content: bytes) -> None:
        nonlocal last
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        last = content or last

    try:
        yield write
    finally:
        if last and not last.endswith(b"\n") and sys.stdout.isatty():
            write(b"\n")


def _say_wait(reason: Reason, waited_s: float) -> None:
    print(f"the endpoint {reason.value}; {waited_s:.0f} s so far", file=sys.stderr)


def _report(options: argparse.Namespace) -> int:
    """Print the report, and write its page where one is asked for; the exit status."""
    from tidegate.client import report as reports  # noqa: PLC0415 - the other commands make none

    page: Path | None = options.output
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--output {page}: the report is a page; give it a name that ends with .html")
    if page is not None and not page.parent.is_dir():
        raise ValueError(f"--output {page}: there is no folder {page.parent}")
    with tqdm(desc=options.job, unit=" lines", unit_scale=True, delay=2, leave=False, disable=None) as bar:
        made = BatchJob(options.job).report(most_input_mib=options.input_mib, on_lines=bar.update)
    if page is not None:
        partial = page.with_name(f"{page.name}.part")
        partial.write_text(reports.as_page(made), encoding="utf-8")
        partial.replace(page)
    print(json.dumps(made.as_json(), indent=2) if options.json else reports.as_text(made))
    for missing in made.missing if options.json else ():
        print(f"missing: {missing.part}: {missing.why}", file=sys.stderr)
    return 0 if made.is_whole else PART_MISSING


def _progress_of_upload(size_bytes: int) -> stages.Bar:
    bar: stages.Bar = tqdm(total=size_bytes, desc="uploading", unit="B", unit_scale=True, leave=False, disable=None)
    return bar


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0; write one like 600")
    return value


def _seconds_or_none(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)  # of a time to wake, 0 asks once


def _mebibytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB; write one like 256")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    invoke = commands.add_parser("invoke", help="send a file, print the answer")
    _asking(invoke, _invoke)
    invoke.add_argument("--stream", action="store_true", help="print the parts of the answer as they come")
    invoke.add_argument("--component", help="the inference component, if the endpoint has several")
    invoke.add_argument("--target-model", help="the archive to use, on a multi-model endpoint")
    wake = "seconds to retry while it scales from zero, loads or is overloaded (default: %(default)g)"
    invoke.add_argument("--wake-timeout", type=_seconds_or_none, default=900.0, help=wake)

    later = commands.add_parser("async", help="send a file to an asynchronous endpoint, wait for the answer")
    _asking(later, _asynchronous)
    later.add_argument("--upload", required=True, metavar="S3_ADDRESS", help="where to upload the file")
    later.add_argument("--output", type=Path, help="the file for the answer (default: standard output)")
    later.add_argument("--timeout", type=_seconds, default=3600.0, help="seconds to wait (default: %(default)g)")

    _batch(commands.add_parser("batch", help="transform jobs").add_subparsers(required=True, metavar="STEP"))
    return parser


def _batch(batch: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    submit = batch.add_parser("submit", help="start a job, print its name")
    submit.set_defaults(run=_submit)
    submit.add_argument("--stage", help="its current model is used, and a local file is uploaded to its bucket")
    submit.add_argument("--prefix", default="tidegate", help="the stage's prefix (default: %(default)s)")
    submit.add_argument("--model", help="the model, instead of the stage's")
    submit.add_argument(
        "--input", required=True, help="a file, an object s3://bucket/key, or all objects below s3://bucket/prefix/"
    )
    submit.add_argument("--output", metavar="S3_PREFIX", help="default: the input, with batch/output/ for batch/input/")
    submit.add_argument("--content-type", help="default: by the extension of the input")
    submit.add_argument(
        "--accept",
        help="content type of the answers (default: that of text, JSON and arrays; for others the model chooses)",
    )
    submit.add_argument("--instance-type", default="ml.m5.large", help="(default: %(default)s)")
    submit.add_argument("--instance-count", type=int, default=1, help="(default: %(default)s)")
    submit.add_argument("--join-source", choices=["Input", "None"], help="Input: each answer beside its record")
    submit.add_argument(
        "--input-filter", metavar="JSONPATH", help="the part of each record that the model gets, such as '$[1:]'"
    )
    submit.add_argument(
        "--output-filter", metavar="JSONPATH", help="the part of each record that is written, such as '$[0,-1]'"
    )
    submit.add_argument(
        "--environment",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a variable of the container, such as TIDEGATE_DEFAULT_MODEL=digits/4; may be repeated",
    )
    wait = batch.add_parser("wait", help="wait until a job has ended")
    wait.set_defaults(run=_wait)
    wait.add_argument("job")
    wait.add_argument("--timeout", type=_seconds, default=24 * 3600.0, help="seconds (default: %(default)g)")
    wait.add_argument("--poll", type=_seconds, default=5.0, help="seconds between checks (default: %(default)g)")
    fetch = batch.add_parser("fetch", help="download what a job has written, print the files")
    fetch.set_defaults(run=_fetch)
    fetch.add_argument("job")
    fetch.add_argument("directory", type=Path)
    table = batch.add_parser("table", help="write a completed job as one Parquet file of a table, print its address")
    table.set_defaults(run=_table)
    table.add_argument("job")
    table.add_argument("--to", metavar="S3_PREFIX", help="the table's folder (default: the location of the table)")
    which = table.add_mutually_exclusive_group()
    which.add_argument(
        "--table", metavar="DATABASE.TABLE", help="a table in the Glue catalogue, whose columns are used"
    )
    which.add_argument("--stage", help="the stage whose [batch.table] is used")
    table.add_argument("--prefix", default="tidegate", help="the stage's prefix (default: %(default)s)")
    table.add_argument(
        "--columns",
        metavar="NAME[:TYPE],…",
        help="columns for the cells of a record and its answer, in order ('-' skips one), or the members to use",
    )
    table.add_argument(
        "--null", metavar="WORD", action="append", default=[], help="a cell value that means null; may be repeated"
    )

    report = batch.add_parser("report", help="say how long a job took, where the time went, and what failed")
    report.set_defaults(run=_report)
    report.add_argument("job")
    report.add_argument("--output", type=Path, metavar="FILE.html", help="write it as one page with plots, too")
    report.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    report.add_argument(
        "--input-mib",
        type=_mebibytes,
        default=INPUT_MIB,
        metavar="N",
        help="read so much of the input to find the records that were slow or failed; 0: none (default: %(default)g)",
    )


def _choice(options: argparse.Namespace) -> dict[str, str]:
    return {name: value for name in ("model", "version") if (value := getattr(options, name)) is not None}


def _asking(command: argparse.ArgumentParser, run: object) -> None:
    command.set_defaults(run=run)
    command.add_argument("endpoint")
    command.add_argument("file", type=Path)
    command.add_argument("--content-type", help="default: by the extension of the file")
    command.add_argument("--accept", default="application/json", help="(default: %(default)s)")
    command.add_argument("--model", help="name of a model, if the server has a model repository")
    command.add_argument("--version", help="version of that model: a number, latest or a label")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
