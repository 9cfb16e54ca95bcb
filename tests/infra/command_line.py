"""The real `cdk` command line, started at the repository's root as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.infra.conftest import ROOT

# No look at ~/.aws, and no wait for a metadata service that is not there.
WITHOUT_ACCOUNT = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def cdk(
    *arguments: str, output: Path, cloud: Mapping[str, str] = WITHOUT_ACCOUNT, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `cdk` with the tools beside this Python first on PATH and no AWS setting but those of `cloud`."""
    beside = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    environment |= {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"} | dict(cloud)
    return subprocess.run(
        [beside / "cdk", *arguments, "--output", output],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
