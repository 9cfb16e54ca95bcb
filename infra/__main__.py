"""`python -m infra`: what cdk.json runs; with a word it is one of the commands below.

A configuration mistake is one line on stderr and exit code 1.
"""

from __future__ import annotations

import importlib
import sys

from tidegate.infra.configuration import ConfigurationError

# Each has a main(arguments) that returns the exit status.
_COMMANDS = {
    "doctor": "tidegate.infra.doctor.command",
    "image": "tidegate.infra.image_push.command",
    "keys": "tidegate.infra.stage.key_tables",
    "models": "tidegate.infra.versions.models_command",
    "schema": "tidegate.infra.stage.stage_schema",
    "served": "tidegate.infra.versions.served_command",
    "smoke": "tidegate.infra.smoke.command",
}


def main() -> int:
    """Synthesise the stage that the CDK command line asked for into its output directory, or run a command."""
    if sys.argv[1:]:
        return _command(sys.argv[1], sys.argv[2:])
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
    status: int = importlib.import_module(_COMMANDS[name]).main(arguments)
    return status


def _fail(sentence: str) -> int:
    print(f"infra: error: {sentence}{'' if sentence.endswith('?') else '.'}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return 1


if __name__ == "__main__":
    sys.exit(main())
