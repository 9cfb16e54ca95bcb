"""`python -m infra`: what cdk.json runs. A configuration mistake is one line on stderr and exit code 1."""

from __future__ import annotations

import sys

from infra.configuration import ConfigurationError


def main() -> int:
    """Synthesise the stage that the CDK command line asked for into its output directory."""
    from infra import app, stages  # noqa: PLC0415 - loading the CDK takes seconds

    try:
        cloud = app.build(stages.STAGES, stages.DEFAULT_STAGE)
    except ConfigurationError as error:
        print(f"infra: error: {error}.", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    cloud.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
