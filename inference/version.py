"""Which Tidegate this is."""

from __future__ import annotations


def own_version() -> str:
    """The version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - brings a mail parser

    try:
        return version("tidegate")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
