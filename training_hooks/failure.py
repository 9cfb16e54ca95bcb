"""Telling SageMaker why a training job failed.

The platform shows the first 1,024 characters of `/opt/ml/output/failure` as the job's FailureReason, and takes any exit
status but 0 as a failure. A traceback starts with its least useful line, so the reason is written first.
"""

import contextlib
import os
import traceback
from collections.abc import Iterator

from .container_paths import output_directory
from .durable_files import replacing

REASON_CHARACTERS = 1024


@contextlib.contextmanager
def reporting_failure(output_dir: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Write the failure file when the block raises, and let the exception go on (Python then exits with status 1).

        with reporting_failure():
            main()

    A SystemExit with status 0 or none is a normal end; KeyboardInterrupt is the user's wish; neither is reported.

    Args:
        output_dir: where `failure` is written; SM_OUTPUT_DIR, then /opt/ml/output where /opt/ml exists, if omitted.
            Elsewhere (on a laptop) no file is written: the traceback on the terminal says it all.
    """
    try:
        yield
    except SystemExit as stop:
        if stop.code not in (None, 0):
            _write_report(output_dir, f"exit status {stop.code}" if isinstance(stop.code, int) else str(stop.code), "")
        raise
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        _write_report(output_dir, reason, traceback.format_exc())
        raise


def _write_report(output_dir: str | os.PathLike[str] | None, reason: str, details: str) -> None:
    directory = output_directory(output_dir)
    if directory is None:
        return
    # The end of the traceback is where it happened, so that part is kept when it has to be cut.
    room = REASON_CHARACTERS - len(reason) - 2
    text = reason[:REASON_CHARACTERS] if room <= 0 else f"{reason}\n\n{details[-room:]}".rstrip()
    # The report must not hide the failure it reports.
    with contextlib.suppress(OSError), replacing(directory / "failure") as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
