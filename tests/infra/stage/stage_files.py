"""Stage files for tests: written, read as `cdk` reads them, and the sentence that refuses one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.stage import context

REALTIME = 'mode = "realtime"'
CPU = 'mode = "realtime"\ninstance_type = "ml.m7i.large"'
COMPONENT = 'mode = "component"\ncopies = { min_memory_mib = 1024 }'
GOOD = {"image": 'tag = "1.4.0"', "hosting": REALTIME, "retention": "keep_data = false"}
TABLE = 'columns = { id = "string" }\n'
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
ROLE = "arn:aws:iam::123456789012:role/inference"
BOUNDARY_UNKNOWN = (
    "role.boundary='x' is not a key of [role]; there are: arn, managed_policies, permissions_boundary, statements"
)
DIGEST = "sha256:" + "0a" * 32
PLAN = "arn:aws:sagemaker:eu-central-1:123456789012:training-plan/p5-for-us"
P5 = 'mode = "realtime"\ninstance_type = "ml.p5.48xlarge"'
LONG = PLAN.replace("training-plan", "ml-reservation") + "s" * 258


def pools(*types: str) -> str:
    """Several instance types, as one line of a stage file."""
    tables = ", ".join(f'{{ instance_type = "{name}" }}' for name in types)
    return f"instance_pools = [{tables}]"


def written(directory: Path, top: str = "", /, name: str = "trial", **tables: str | None) -> Path:
    """A stage file with `top` above its tables; a table that is None is left out."""
    bodies = GOOD | tables
    text = [top, *(f"[{table.replace('__', '.')}]\n{body}\n" for table, body in bodies.items() if body is not None)]
    path = directory / f"{name}.toml"
    path.write_text("\n".join(text))
    return path


def read(path: Path) -> Stage:
    """As `cdk -c stage=PATH` reads it."""
    return context.choose({"stage": str(path)})


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.removeprefix("trial.toml: ")
