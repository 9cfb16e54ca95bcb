"""``tidegate cloud up | down | status | logs | doctor``.

Standard output has what a command was asked for: the exports, what was logged, what the doctor found, JSON. Remarks,
and the table of `status`, whose exports a shell evaluates, go to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidegate import command_line
from tidegate.local_cloud.cloud import CloudError, LocalCloud
from tidegate.local_cloud.environment import DEFAULT_REGION, shell_lines
from tidegate.local_cloud.processes import stop_on_signals
from tidegate.local_cloud.sagemaker.limits import Limits
from tidegate.local_cloud.sagemaker.server_commands import CommandRefused, ServerCommands
from tidegate.local_cloud.state_directory import StateDirectory, SupervisorRecord

PROGRAM = "tidegate cloud"
EXIT_CODES = """\
exit codes:
  0    done; status: a cloud is up; doctor: nothing is in the way of one
  1    not done, and standard error says why; status: no cloud is up; doctor: something is in the way
  2    the command line itself is wrong
  130  logs --follow: ended by Ctrl-C"""
_FOLLOW_PAUSE_S = 0.2

_REMARKS = 20  # that `up` prints; the log has them all


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    whole = argparse.ArgumentParser(
        prog=PROGRAM,
        description="AWS on a laptop. State is in LOCAL_CLOUD_DIR (default: .local_cloud in the working directory).",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True)
    _describe_up(commands.add_parser("up", help=f'start it, and print the exports for: eval "$({PROGRAM} up)"'))
    down = commands.add_parser("down", help="stop everything and remove the state directory, unless it is kept")
    down.add_argument("--delete", action="store_true", help="remove a state directory that is kept, too")
    status = commands.add_parser("status", help="print the exports, and what runs; exit 1 when no cloud is up")
    status.add_argument("--json", action="store_true", help="all of it as one object on standard output")
    logs = commands.add_parser(
        "logs",
        help="what an endpoint, a component, a job or a pipeline has written",
        description="Print what an endpoint, an inference component, a job or the jobs of a pipeline have written.",
        epilog=f"examples:\n  {PROGRAM} logs my-endpoint --follow\n  {PROGRAM} logs training-job/my-job",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    logs.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="its name, the beginning of it, or KIND/NAME where two have it; without one, the cloud's own log",
    )
    logs.add_argument("--follow", action="store_true", help="go on until it ends, or Ctrl-C")
    doctor = commands.add_parser("doctor", help="what this machine and this shell can do for a cloud, and what not")
    doctor.add_argument("--json", action="store_true", help="one object on standard output")
    return whole


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "up":
                return _up(options)
            case "down":
                return _down(LocalCloud(), delete=options.delete)
            case "status":
                return _status(LocalCloud(), as_json=options.json)
            case "logs":
                return _logs(LocalCloud(), options.name, follow=options.follow)
            case _:
                return _doctor(LocalCloud(), as_json=options.json)
    except CloudError as error:
        _remark(f"{PROGRAM}: error: {error}")
        return 1


def _describe_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("--foreground", action="store_true", help="stay until Ctrl-C, then stop everything")
    up.add_argument("--region", help=f"the only region that answers (default: {DEFAULT_REGION})")
    up.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="[IMAGE=]COMMAND",
        help="command that serves all models, or those of IMAGE; runs in the working directory, must listen on port"
        " 8080. By default Tidegate serves them",
    )
    up.add_argument(
        "--container",
        nargs="?",
        const="",
        metavar="IMAGE",
        help="run real containers with docker: IMAGE, else the image that each model names",
    )
    up.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="change a limit of AWS, such as stream_timeout_s=20, to test it",
    )
    up.add_argument("--json", action="store_true", help="addresses and variables as one object, and no exports")
    up.add_argument(
        "--enforce-iam",
        action="store_true",
        help="enforce the policies of execution roles, state machines and rules",
    )
    up.add_argument("--keep", action="store_true", help="keep the state: the next `up` in this directory restores it")


def _up(options: argparse.Namespace) -> int:
    foreground: bool = options.foreground
    limits = _limits(options.limit)
    if options.server and options.container is not None:
        raise CloudError("--server runs processes and --container runs images: leave one out")
    try:
        servers = ServerCommands.of(options.server, Path.cwd())
    except CommandRefused as error:
        raise CloudError(f"--server: {error}") from error
    cloud = LocalCloud(
        region=options.region,
        container_command=servers.every,
        container_commands=servers.by_image,
        image=options.container,
        limits=limits,
        enforce_iam=options.enforce_iam,
        keep=options.keep,
    )
    started = cloud.up(outlive_caller=not foreground)
    record = cloud.record()
    if not started and record is not None:
        _check_the_one_that_is_up(options, cloud, record, servers)
    enforces = ", enforces the rights of roles" if record is not None and record.enforces_iam else ""
    _remark(f"local cloud: {'up' if started else 'already up'}{enforces}, state and logs in {cloud.directory}")
    if record is not None:
        _remark(f"local cloud: ask its endpoints in a browser at {record.playground_url}")
    if started and record is not None and record.kept:
        _tell_of_memory(record.remarks)
    if options.json:
        _tell(cloud)
    else:
        _print_exports(cloud)
    if foreground:
        if not started:
            raise CloudError(f"it is already up in the background; `{PROGRAM} down` stops it")
        return _stay(cloud)
    return 0


def _check_the_one_that_is_up(
    options: argparse.Namespace, cloud: LocalCloud, record: SupervisorRecord, servers: ServerCommands
) -> None:
    """Raises :class:`CloudError` where it is otherwise than what is asked for."""
    if options.region not in (None, record.region):
        raise CloudError(f"one is up in {cloud.directory} already, in {record.region} and not in {options.region}")
    if options.container is not None and not record.containers:
        raise CloudError(f"one is up in {cloud.directory} already, with processes and not with containers")
    if options.enforce_iam and not record.enforces_iam:
        raise CloudError(f"one is up in {cloud.directory} already, and does not enforce IAM; take it down first")
    if options.limit:
        raise CloudError(f"one is up in {cloud.directory} already, and its limits stay as they are")
    if options.server and ServerCommands.read(record.servers) != servers:
        raise CloudError(
            f"one is up in {cloud.directory} already, with other servers or from another directory:"
            f" `{PROGRAM} down` first"
        )


def _tell_of_memory(remarks: Sequence[str]) -> None:
    if remarks:
        _remark("local cloud: it remembers, but for this:")
        for remark in remarks[:_REMARKS]:
            _remark(f"  {remark}")
        if len(remarks) > _REMARKS:
            _remark(f"  … and {len(remarks) - _REMARKS} more, in supervisor.log")
    else:
        _remark("local cloud: it remembers; `down` leaves its state, `down --delete` removes it")


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


def _down(cloud: LocalCloud, *, delete: bool) -> int:
    was_up = cloud.down(delete=delete)
    kept = f"; its state stays in {cloud.directory} (`down --delete` removes it)" if cloud.is_kept else ""
    _remark(f"local cloud: {'down' if was_up else 'was not up'}{kept}")
    return 0


def _status(cloud: LocalCloud, *, as_json: bool) -> int:
    record = cloud.record()
    if record is None:
        _tell_that_none_is_up(cloud, as_json=as_json)
        return 1
    if as_json:
        _tell(cloud)
        return 0
    from tidegate.local_cloud import inventory, report  # noqa: PLC0415 - nothing else needs boto3

    _remark(report.as_text(inventory.take(cloud.client("sagemaker")), record=record, directory=cloud.directory))
    _print_exports(cloud)
    return 0


def _tell_that_none_is_up(cloud: LocalCloud, *, as_json: bool) -> None:
    remains = StateDirectory(cloud.directory).remains()
    if as_json:
        left = {} if remains is None else {"ended": "without being stopped", "servers_left": list(remains.servers)}
        _print_json({"up": False, "directory": str(cloud.directory), **left})
    _remark(f"local cloud: not up in {cloud.directory}")
    if remains is not None:
        _remark(f"  {remains.sentence}\n  -> {remains.advice}")
    elif cloud.is_kept:
        _remark("  it remembers: up brings everything back")


def _tell(cloud: LocalCloud) -> None:
    from tidegate.local_cloud import inventory, report  # noqa: PLC0415 - nothing else needs boto3

    record, found = cloud.record(), inventory.take(cloud.client("sagemaker"))
    if record is None:
        raise CloudError(f"the local cloud in {cloud.directory} has ended")
    _print_json(report.as_json(found, record=record, directory=cloud.directory, environment=cloud.environment))


def _logs(cloud: LocalCloud, name: str | None, *, follow: bool) -> int:
    from tidegate.local_cloud import log_reading  # noqa: PLC0415 - nothing else needs boto3

    try:
        reading = log_reading.of(cloud, name)
        while True:
            ended = not follow or reading.is_over()
            # What was written before its end was seen is there now.
            for line in reading.lines():
                sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            if ended:
                break
            time.sleep(_FOLLOW_PAUSE_S)
        for line in reading.close():
            sys.stdout.write(f"{line}\n")
    except KeyboardInterrupt:
        return 130
    sys.stdout.flush()
    if remark := reading.remark():
        _remark(remark)
    return 0


def _doctor(cloud: LocalCloud, *, as_json: bool) -> int:
    from tidegate.local_cloud import doctor  # noqa: PLC0415 - its trials are nobody else's

    findings = doctor.examine(doctor.Surroundings(directory=StateDirectory(cloud.directory), shell=os.environ))
    fine = all(finding.level is not doctor.Level.ERROR for finding in findings)
    if as_json:
        _print_json({"ready": fine, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            sys.stdout.write(f"{finding.level:<8} {finding.check}: {finding.sentence}\n")
            if finding.advice:
                sys.stdout.write(f"{'':<8} -> {finding.advice}\n")
    sys.stdout.flush()
    return 0 if fine else 1


def _print_exports(cloud: LocalCloud) -> None:
    sys.stdout.write("\n".join(shell_lines(cloud.environment, os.environ)) + "\n")
    sys.stdout.flush()


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    sys.stdout.flush()


def _remark(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(command_line.run(lambda: main(sys.argv[1:])))
