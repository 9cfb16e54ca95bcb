"""Which process of a run has which tests: `make test` runs several, and what one makes for its tests it makes alone.

A file is never divided, nor is a folder whose tests share what takes long to make: the stages that the CDK has
synthesised, a local cloud with its deployments, an image, two installations.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

UNDIVIDED = ("tests/container", "tests/end_to_end", "tests/infra", "tests/tidegate")


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """That of `--dist loadfile`, but for these folders."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((folder for folder in UNDIVIDED if file.startswith(f"{folder}/")), file)
