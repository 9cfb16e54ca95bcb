"""Telling SageMaker why a training job failed.

The platform shows the first 1,024 characters of `/opt/ml/output/failure` as the job's FailureReason, and takes any exit
status but 0 as a failure. A traceback starts with its least useful line, so the reason is written first. Where several
processes of a job fail, the first one is the cause and the others are its consequences, so the first report stays.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from .container_paths import output_directory
from .durable_files import write_first

REASON_CHARACTERS = 1024


def reporting_failure(output_dir: str | os.PathLike[str] | None = None) -> AbstractContextManager[None]:
    """Write the failure file when the block raises, and let the exception go on (Python then exits with status 1).

        with reporting_failure():
            main()

    A SystemExit with status 0 or none is a normal end; KeyboardInterrupt is the user's wish; neither is reported.
    A failure file that is there already stays: it tells of the process of this job that failed first.

    Args:
        output_dir: where `failure` is written; SM_OUTPUT_DIR, then /opt/ml/output where /opt/ml exists, if omitted.
            Elsewhere (on a laptop) no file is written: the traceback on the terminal says it all.

    Raises:
        ArtifactError: `output_dir` is no path; at once, not when the block has failed.
    """
    return _reporting(output_directory(output_dir))


@contextlib.contextmanager
def _reporting(directory: Path | None) -> Iterator[None]:
    try:
        yield
    except SystemExit as stop:
        if stop.code not in (None, 0):
            _write_report(directory, f"exit status {stop.code}" if isinstance(stop.code, int) else str(stop.code), "")
        raise
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        _write_report(directory, reason, traceback.format_exc())
        raise


def _write_report(directory: Path | None, reason: str, details: str) -> None:
    if directory is None:
        return
    # The end of the traceback is where it happened, so that part is kept when it has to be cut.
    room = REASON_CHARACTERS - len(reason) - 2
    text = reason[:REASON_CHARACTERS] if room <= 0 else f"{reason}\n\n{details[-room:]}".rstrip()
    target = directory / "failure"
    # The report must not hide the failure it reports.
    with contextlib.suppress(OSError):
        if not write_first(target, text.encode("utf-8", "replace")):
            print(f"training_hooks: {target} tells of an earlier failure and stays as it is", file=sys.stderr)  # noqa: T201
