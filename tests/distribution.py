"""Which process of a run has which tests, and which it begins with: what a process makes for its tests it makes alone.

A file is never divided, nor is a folder whose tests share what takes long to make: the stages that the CDK has
synthesised, a local cloud with its deployments, an image, two installations. These folders come first: one that began
late would go on when the other processes have nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadFileScheduling

UNDIVIDED = ("tests/end_to_end", "tests/tidegate", "tests/infra", "tests/container")
"""From the longest to the shortest."""


def folder_of(nodeid: str) -> str | None:
    """The undivided folder that a test belongs to."""
    return next((folder for folder in UNDIVIDED if nodeid.startswith(f"{folder}/")), None)


def undivided_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """All of them, those of the undivided folders before the others, and otherwise in their order."""

    def rank(item: pytest.Item) -> int:
        folder = folder_of(item.nodeid)
        return len(UNDIVIDED) if folder is None else UNDIVIDED.index(folder)

    return sorted(items, key=rank)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """That of `--dist loadfile`, but for these folders."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return folder_of(nodeid) or file
