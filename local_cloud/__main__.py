"""``python -m local_cloud up | down | status``: standard output is for ``eval``, remarks go to standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tidegate.local_cloud.cloud import CloudError, LocalCloud
from tidegate.local_cloud.environment import DEFAULT_REGION, shell_lines
from tidegate.local_cloud.processes import stop_on_signals
from tidegate.local_cloud.sagemaker.limits import Limits


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="AWS on a laptop. State is in LOCAL_CLOUD_DIR (default: .local_cloud in the working directory).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help=f'start it, and print the exports for: eval "$(python -m {__package__} up)"')
    up.add_argument("--foreground", action="store_true", help="stay until Ctrl-C, then stop everything")
    up.add_argument("--region", help=f"the only region that answers (default: {DEFAULT_REGION})")
    up.add_argument(
        "--container",
        nargs="?",
        const="",
        metavar="IMAGE",
        help="run real containers by docker: IMAGE, else the image that each model names",
    )
    up.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a limit of AWS's in another size, such as stream_timeout_s=20, to see it act",
    )
    commands.add_parser("down", help="stop everything and remove the state directory")
    commands.add_parser("status", help="print the exports when it is up; exit 1 when it is not")
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "up":
                return _up(options)
            case "down":
                return _down(LocalCloud())
            case _:
                return _status(LocalCloud())
    except CloudError as error:
        _remark(f"local_cloud: error: {error}")
        return 1


def _up(options: argparse.Namespace) -> int:
    foreground: bool = options.foreground
    limits = _limits(options.limit)
    cloud = LocalCloud(region=options.region or DEFAULT_REGION, image=options.container, limits=limits)
    started = cloud.up(outlive_caller=not foreground)
    record = cloud.record()
    if not started and record is not None:
        if options.region not in (None, record.region):
            raise CloudError(f"one is up in {cloud.directory} already, in {record.region} and not in {options.region}")
        if options.container is not None and not record.containers:
            raise CloudError(f"one is up in {cloud.directory} already, with processes and not with containers")
        if limits:
            raise CloudError(f"one is up in {cloud.directory} already, and its limits stay as they are")
    _remark(f"local cloud: {'up' if started else 'already up'}, state and logs in {cloud.directory}")
    _print_exports(cloud)
    if foreground:
        if not started:
            raise CloudError(f"it is already up in the background; `python -m {__package__} down` stops it")
        return _stay(cloud)
    return 0


def _limits(given: Sequence[str]) -> dict[str, float]:
    found = {}
    for item in given:
        name, _, value = item.partition("=")
        try:
            found[name] = float(value)
            Limits.of(found)
        except ValueError as error:
            raise CloudError(f"--limit {item}: {error}") from error
    return found


def _stay(cloud: LocalCloud) -> int:
    """Until Ctrl-C, SIGTERM, or the supervisor's own end."""
    stop = stop_on_signals()
    _remark("local cloud: Ctrl-C stops it")
    while cloud.record() is not None and not stop.wait(0.5):
        pass
    cloud.down()
    _remark("local cloud: down")
    return 0


def _down(cloud: LocalCloud) -> int:
    was_up = cloud.down()
    _remark(f"local cloud: {'down' if was_up else 'was not up'}")
    return 0


def _status(cloud: LocalCloud) -> int:
    record = cloud.record()
    if record is None:
        _remark(f"local cloud: not up in {cloud.directory}")
        return 1
    _remark(f"local cloud: up as process {record.process_id} in {record.region}, state and logs in {cloud.directory}")
    _print_exports(cloud)
    return 0


def _print_exports(cloud: LocalCloud) -> None:
    sys.stdout.write("\n".join(shell_lines(cloud.environment, os.environ)) + "\n")
    sys.stdout.flush()


def _remark(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
