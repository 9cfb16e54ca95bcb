"""A container that runs as a user of no name, or with nowhere to write.

Serverless endpoints and `docker run --user 12345` do that. Libraries then fail where nobody expects it: torch asks for
the name of the user to find its cache, and others write below HOME.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from collections.abc import MutableMapping


def settle(environment: MutableMapping[str, str]) -> None:
    """Give the user a name and a home that can be written to, where there are none."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        environment.setdefault("USER", "tidegate")
        environment.setdefault("LOGNAME", environment["USER"])
    if not os.access(environment.get("HOME") or "/", os.W_OK):
        with contextlib.suppress(FileNotFoundError):  # there is no such directory anywhere; many commands need none
            environment["HOME"] = tempfile.gettempdir()
