"""What can go wrong between the state and the disk."""

from __future__ import annotations


class KeepError(Exception):
    """What is kept cannot be read or written; the text says what, why, and what to do."""


def reason(error: OSError) -> str:
    """An operating system's error in words, with the file where it names one."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said
