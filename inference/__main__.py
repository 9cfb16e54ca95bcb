"""`python -m inference serve` and `python -m inference check MODEL_DIR`."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from inference import log_lines, old_variables
from inference.errors import DeploymentError
from inference.settings import describe, read

log = logging.getLogger("tidegate.settings")


def main() -> int:
    """Run the command; a deployer's mistake is one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m inference", description="Serve a PyTorch archive as SageMaker does."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="answer /ping and /invocations; settings come from the environment")
    check = commands.add_parser("check", help="load a model directory and ask its example, without a socket")
    check.add_argument("model_dir", metavar="MODEL_DIR")
    arguments = parser.parse_args()
    try:
        settings = read(os.environ)
        log_lines.configure(settings.log_level)
        if idle := old_variables.without_effect(os.environ):
            log.info("some variables are without effect here", extra={"variables": idle})
        if unknown := old_variables.unknown(os.environ, {name for names, _, _ in describe() for name in names}):
            log.warning("some variables are unknown and without effect", extra={"variables": unknown})
        # Each command imports its own room: the server without torch, the check without HTTP.
        if arguments.command == "serve":
            from inference.frontend import server  # noqa: PLC0415

            return server.run(settings)
        from inference.worker import checking  # noqa: PLC0415

        return checking.run(arguments.model_dir, settings)
    except DeploymentError as error:
        print(f"tidegate: error: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
