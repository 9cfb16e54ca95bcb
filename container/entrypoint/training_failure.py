"""Why a training job failed, as the platform shows it: the first 1024 characters of /opt/ml/output/failure."""

from __future__ import annotations

from pathlib import Path

from tidegate.inference.errors import plain

SHOWN_CHARACTERS = 1024


class TrainingFailed(Exception):
    """The job cannot go on; the text is for the user, `status` is the exit status of the container (1 to 255)."""

    def __init__(self, reason: str, status: int = 1) -> None:
        super().__init__(reason)
        self.status = status


def failure_text(reason: str, errors: str) -> str:
    """`reason`, then as much of the end of `errors` as the platform shows: a traceback's last lines say most."""
    room = SHOWN_CHARACTERS - len(reason) - 1
    return f"{reason}\n{plain(errors).strip()[-room:]}".strip() if room > 0 else reason[:SHOWN_CHARACTERS]


def forget_failure(output_dir: Path) -> None:
    """Remove what an earlier job said here, as on a machine where jobs share a directory. Raises `OSError`."""
    (output_dir / "failure").unlink(missing_ok=True)


def report(output_dir: Path, text: str) -> None:
    """Write the failure file, unless the script has written one itself. Raises `OSError` where it cannot be written."""
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with (output_dir / "failure").open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        pass
