"""The stacks can be synthesised by a user whose home directory cannot be written, as on a build machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOLD = "import os, infra; print(os.environ.get('JSII_RUNTIME_PACKAGE_CACHE'))"


def cache(program: str = TOLD, **environment: str) -> str:
    """What jsii is told of its cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JSII_RUNTIME_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=True,
    )
    return done.stdout.strip()


def test_the_cdk_starts_without_its_cache_where_the_home_cannot_take_it() -> None:
    program = f"{TOLD}; import aws_cdk; print(aws_cdk.Stack(aws_cdk.App(), 'name').node.id)"
    assert cache(program, HOME="/dev/null/home").split() == ["disabled", "name"]


def test_the_cdk_keeps_its_cache_where_the_home_can_take_it_or_it_has_another_place(tmp_path: Path) -> None:
    assert cache(HOME=str(tmp_path)) == "None"
    assert cache(HOME="/dev/null/home", JSII_RUNTIME_PACKAGE_CACHE_ROOT=str(tmp_path)) == "None"
