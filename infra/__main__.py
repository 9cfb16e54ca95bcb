"""`python -m infra`: what cdk.json runs; with a word it is one of the commands below, as `tidegate WORD` is.

A configuration mistake is one line on stderr and exit code 1.
"""

from __future__ import annotations

import importlib
import os
import sys

from tidegate import command_line
from tidegate.infra.configuration import ConfigurationError

# Each has a main(arguments) that returns the exit status.
_COMMANDS = {
    "doctor": ("tidegate.infra.doctor.command", "what would stop a deploy, found out before it"),
    "image": ("tidegate.infra.image_push.command", "build, push and scan the image of a stage"),
    "keys": ("tidegate.infra.stage.key_tables", "the tables of the documentation, made from the keys of a stage"),
    "models": ("tidegate.infra.versions.models_command", "register, list and approve versions of a model"),
    "prometheus": (
        "tidegate.infra.observability.prometheus_command",
        "a Grafana dashboard and alert rules for servers that a Prometheus scrapes",
    ),
    "schema": ("tidegate.infra.stage.stage_schema", "the JSON Schema of a stage file, for editors"),
    "served": ("tidegate.infra.versions.served_command", "which model and image an endpoint serves"),
    "smoke": ("tidegate.infra.smoke.command", "try in an account what no documentation says"),
}
# Where the `cdk` command line wants the stacks; it says so to each app that it starts.
_OUTDIR = "CDK_OUTDIR"


def main() -> int:
    """Synthesise the stage that the CDK command line asked for into its output directory, or run a command."""
    if sys.argv[1:] and sys.argv[1] in {"-h", "--help"}:
        print(_usage())  # noqa: T201 - the command line's own output
        return 0
    if sys.argv[1:]:
        return _command(sys.argv[1], sys.argv[2:])
    if _OUTDIR not in os.environ:
        # Whoever typed this wants to know what there is; only `cdk` wants templates.
        print(_usage(), file=sys.stderr)  # noqa: T201 - the command line's own output
        return 2
    from tidegate.infra import app  # noqa: PLC0415 - loading the CDK takes seconds

    try:
        app.build().synth()
    except ConfigurationError as error:
        return _fail(str(error))
    except RuntimeError as error:
        # The findings themselves are already on stderr, with the constructs that they are about.
        if not str(error).startswith("ValidationFailed"):
            raise
        return _fail("the rules above are broken; mend the construct, or acknowledge the rule there with a reason")
    return 0


def _command(name: str, arguments: list[str]) -> int:
    if name not in _COMMANDS:
        return _fail(f"there is no command {name!r}; there are: {', '.join(_COMMANDS)}")
    # Not at the top: synthesis needs no boto3.
    status: int = importlib.import_module(_COMMANDS[name][0]).main(arguments)
    return status


def _usage() -> str:
    lines = [f"  {name:12}{what}" for name, (_, what) in _COMMANDS.items()]
    last = "Each says more with --help. Stacks: cdk synth, cdk deploy."
    return "\n".join(["usage: python -m infra COMMAND …", "", *lines, "", last])


def _fail(sentence: str) -> int:
    print(f"tidegate: error: {sentence}{'' if sentence.endswith('?') else '.'}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return 1


if __name__ == "__main__":
    sys.exit(command_line.run(main))
