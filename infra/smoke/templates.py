"""The templates of the stages that a run deploys: those of `cdk deploy`, made in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.infra.configuration import Stage


def synthesised(stage: Stage, unit: str, *, outdir: Path) -> dict[str, Any]:
    """The template of one stack, `storage` or `endpoint`, with the feature flags of cdk.json where it is run."""
    beside = str(Path(sys.executable).parent)
    if beside not in os.environ.get("PATH", "").split(os.pathsep):
        # The CDK starts `node` when it is imported; the one that `make env` chose lies beside this Python.
        os.environ["PATH"] = f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    import aws_cdk as cdk  # noqa: PLC0415 - loading it takes seconds, and nothing is made before the yes

    from tidegate.infra.stacks.endpoint_stack import EndpointStack  # noqa: PLC0415
    from tidegate.infra.stacks.storage_stack import StorageStack  # noqa: PLC0415

    app = cdk.App(context=_flags(Path("cdk.json")), outdir=str(outdir))
    {"storage": StorageStack, "endpoint": EndpointStack}[unit](app, unit, stage=stage)
    app.synth()
    template: dict[str, Any] = json.loads((outdir / f"{unit}.template.json").read_text(encoding="utf-8"))
    return template


def name_in(template: Mapping[str, Any], kind: str, key: str) -> str:
    """The name that the template gives its one resource of that kind."""
    (resource,) = (each for each in template["Resources"].values() if each["Type"] == kind)
    return str(resource["Properties"][key])


def _flags(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    flags: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")).get("context", {})
    return flags
