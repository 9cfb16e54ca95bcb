"""`python -m infra served --stage X`: whether the endpoint serves what was deployed. Exit code 1 where it does not."""

from __future__ import annotations

import argparse
import sys

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.stage import stage_file
from tidegate.infra.versions import served


def main(arguments: list[str]) -> int:
    """Run the command. What is wrong is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m infra served", description=__doc__.partition("\n")[0])
    parser.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    options = parser.parse_args(arguments)
    try:
        seen = served.demand(stage_file.read(stage_file.find(options.stage)))
    except ConfigurationError as error:
        print(f"infra: error: {error}.", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    for one in seen:
        print(f"{one.what} is {one.status} and serves {one.found}")  # noqa: T201
    return 0
