"""`tidegate served --stage X`: whether the endpoint serves what was deployed. Exit code 1 where it does not."""

from __future__ import annotations

import argparse
import sys
import time

from tidegate.infra.arguments import seconds
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.model import ApprovedModel
from tidegate.infra.stage import stage_file
from tidegate.infra.versions import served

_POLL_S = 15.0


def main(arguments: list[str]) -> int:
    """Run the command. What is wrong is one line on stderr."""
    parser = argparse.ArgumentParser(prog="tidegate served", description=__doc__.partition("\n")[0])
    parser.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    parser.add_argument(
        "--wait-s",
        metavar="SECONDS",
        type=seconds,
        default=0.0,
        help="how long to wait for an endpoint that is updating; default: do not wait",
    )
    options = parser.parse_args(arguments)
    try:
        stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
        if isinstance(stage.model, ApprovedModel) and not served.has_endpoint(stage):
            print(f"nothing of {stage.model.group} was approved yet, so there is no endpoint")  # noqa: T201 - the command line's own output
            return 0
        deadline = time.monotonic() + options.wait_s
        while any(one.is_moving for one in served.look(stage)) and time.monotonic() < deadline:
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))
        seen = served.demand(stage)
    except ConfigurationError as error:
        print(f"tidegate: error: {error}.", file=sys.stderr)  # noqa: T201
        return 1
    for one in seen:
        print(f"{one.what} is {one.status} and serves {one.found}")  # noqa: T201
    return 0
