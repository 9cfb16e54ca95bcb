"""`tidegate doctor`: looks at an account before a stage is deployed to it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tidegate.infra import validation
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.doctor.asker import Asker
from tidegate.infra.doctor.examination import Examination, examine
from tidegate.infra.doctor.finding import Finding, Severity, exit_status
from tidegate.infra.stage import stage_file

_DEFAULT_QUALIFIER = "hnb659fds"


def main(arguments: list[str]) -> int:
    """Run the command: 0 where nothing is wrong, 1 where something is, 2 where not everything could be asked."""
    options = _parser().parse_args(arguments)
    try:
        stage = _stage(options.stage)
        qualifier = _qualifier(Path("cdk.json"))
    except ConfigurationError as error:
        print(f"tidegate: error: {error}{'' if str(error).endswith('?') else '.'}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    found = examine(stage, options.stage, Asker(stage.region), qualifier=qualifier, load=not options.no_load)
    if options.json:
        print(json.dumps(as_json(stage, found), indent=1))  # noqa: T201
    else:
        for finding in found.findings:
            print("\n".join(_lines(finding)))  # noqa: T201
    return exit_status(found.findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate doctor", description=__doc__.partition("\n")[0])
    parser.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    parser.add_argument("--no-load", action="store_true", help="do not download and load the archive")
    parser.add_argument("--json", action="store_true", help="one object on standard output, for programs")
    return parser


def _stage(argument: str) -> Stage:
    path = stage_file.find(argument, option="--stage ")
    stage = stage_file.read(path)
    with stage_file.blaming(path):
        validation.check(stage)
    return stage


def _qualifier(file: Path) -> str:
    """Of cdk.json, which `cdk` would read too. Source: CDK guide, customize bootstrapping."""
    try:
        context = json.loads(file.read_text(encoding="utf-8")).get("context", {})
    except FileNotFoundError:
        return _DEFAULT_QUALIFIER
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
    return str(context.get("@aws-cdk/core:bootstrapQualifier", _DEFAULT_QUALIFIER))


def as_json(stage: Stage, found: Examination) -> dict[str, object]:
    """What `--json` prints; docs/doctor.md has the keys."""
    return {
        "stage": stage.name,
        "account": found.account,
        "region": found.region,
        "exit_status": exit_status(found.findings),
        "findings": [asdict(finding) for finding in found.findings],
    }


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.severity:<8} {finding.check:<12} {finding.sentence}"]
    if finding.severity is not Severity.OK and finding.command is not None:
        lines.append(f"{'':<21} {finding.command}")
    return lines
