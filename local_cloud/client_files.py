"""What clients read from files and not from variables: the files, and the variables that name them.

botocore takes rules for endpoints from the folders of AWS_DATA_PATH before its own. They are needed for STS: the
SageMaker SDKs pass ``https://sts.REGION.amazonaws.com`` as its address, and an address that is passed wins over
AWS_ENDPOINT_URL. The SDKs also tell AWS of their calls, by plain HTTPS, unless their configuration says not to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_STS_RULES = Path("botocore") / "sts" / "2011-06-15" / "endpoint-rule-set-1.json"
_SDK_CONFIGURATION = Path("sagemaker-sdk.yaml")
_NO_TELEMETRY = "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n"


def write_client_files(directory: Path, *, sts_url: str) -> None:
    """Writes the files; ``sts_url`` is where this cloud's STS answers."""
    rules = directory / _STS_RULES
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text(json.dumps(sts_rules(sts_url), indent=1), encoding="utf-8")
    (directory / _SDK_CONFIGURATION).write_text(_NO_TELEMETRY, encoding="utf-8")


def file_variables(directory: Path) -> dict[str, str]:
    """The variables that lead clients to the files in ``directory``."""
    configuration = str(directory / _SDK_CONFIGURATION)
    return {
        "AWS_DATA_PATH": str(directory / _STS_RULES.parts[0]),
        # Both, so that neither the machine's nor the user's own defaults are read.
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": configuration,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": configuration,
    }


def sts_rules(sts_url: str) -> dict[str, Any]:
    """Rules by which every ``https`` address for STS, as all of AWS's are, is ``sts_url``; an ``http`` one is kept."""
    builtins = {
        "Region": ("AWS::Region", "string"),
        "UseDualStack": ("AWS::UseDualStack", "boolean"),
        "UseFIPS": ("AWS::UseFIPS", "boolean"),
        "Endpoint": ("SDK::Endpoint", "string"),
        "UseGlobalEndpoint": ("AWS::STS::UseGlobalEndpoint", "boolean"),
    }
    given = {"ref": "Endpoint"}
    given_as_http = [
        {"fn": "isSet", "argv": [given]},
        {"fn": "parseURL", "argv": [given], "assign": "address"},
        {"fn": "stringEquals", "argv": [{"fn": "getAttr", "argv": [{"ref": "address"}, "scheme"]}, "http"]},
    ]
    return {
        "version": "1.0",
        "parameters": {
            name: {"builtIn": builtin, "type": kind, "required": False, "documentation": builtin}
            for name, (builtin, kind) in builtins.items()
        },
        "rules": [
            {"type": "endpoint", "conditions": given_as_http, "endpoint": {"url": given}},
            {"type": "endpoint", "conditions": [], "endpoint": {"url": sts_url}},
        ],
    }
