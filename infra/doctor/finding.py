"""What the doctor says: one finding for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is, the best first."""

    OK = "ok"
    # The first deploy works; something later may not.
    WARNING = "warning"
    # Nobody could be asked, so neither is known.
    UNKNOWN = "unknown"
    # A deploy of this stage fails, or its endpoint does not come up.
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`asked` is what was asked, of whom; `command` is what mends it, as it is typed, or None where nothing does."""

    check: str
    asked: str
    severity: Severity
    sentence: str
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """In place of an answer: why there is none, in a few words without a full stop."""

    reason: str


def ok(check: str, asked: str, sentence: str) -> Finding:
    """Nothing is to be done."""
    return Finding(check=check, asked=asked, severity=Severity.OK, sentence=sentence)


def unknown(check: str, asked: str, answer: Unanswered, command: str | None = None) -> Finding:
    """It could not be asked."""
    sentence = f"This could not be asked: {answer.reason}."
    return Finding(check=check, asked=asked, severity=Severity.UNKNOWN, sentence=sentence, command=command)


def exit_status(findings: Sequence[Finding]) -> int:
    """1 where something is wrong, else 2 where something could not be asked, else 0."""
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities:
        return 1
    return 2 if Severity.UNKNOWN in severities else 0
