"""What `cdk deploy` creates: a bucket, an image registry and a SageMaker endpoint, once per stage.

The files to edit are in `stages/`. `python -m tidegate.infra` is the CDK app that cdk.json names.
"""

from __future__ import annotations

import os
from pathlib import Path


def _can_take_files(folder: Path) -> bool:
    """Whether files can be put below `folder`, which need not be there yet."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


# jsii, which the CDK stands on, ends with an error where the home directory cannot take its cache.
if not os.environ.keys() & {"JSII_RUNTIME_PACKAGE_CACHE", "JSII_RUNTIME_PACKAGE_CACHE_ROOT"} and not _can_take_files(
    Path(os.path.expanduser("~/.cache/aws/jsii")).absolute()  # noqa: PTH111 - Path.home() raises where there is none
):
    os.environ["JSII_RUNTIME_PACKAGE_CACHE"] = "disabled"
