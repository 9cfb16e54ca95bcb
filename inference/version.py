"""Which Tidegate this is."""

from __future__ import annotations

from functools import cache


@cache
def own_version() -> str:
    """The version of the installed package; looked up once."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - brings a mail parser

    try:
        return version("tidegate")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
