"""The one process of the local cloud: moto and our SageMaker, until a signal (or the end of its starter) stops it."""

from __future__ import annotations

import argparse
import difflib
import gc
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tidegate.local_cloud import request_gate
from tidegate.local_cloud.client_files import write_client_files
from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.engine import EngineError, find_client
from tidegate.local_cloud.environment import ACCESS_KEY_ID, ACCOUNT, DEFAULT_REGION, KEY_VARIABLES, client_environment
from tidegate.local_cloud.keep import snapshot_file
from tidegate.local_cloud.keep.errors import KeepError
from tidegate.local_cloud.moto_server import MotoServer, hold_on_to_nothing
from tidegate.local_cloud.processes import process_birth, stop_on_signals
from tidegate.local_cloud.sagemaker.container import ContainerRunner
from tidegate.local_cloud.sagemaker.docker_container import DockerRunner
from tidegate.local_cloud.sagemaker.jobs.runners import DockerJobs, JobRunner, ProcessJobs
from tidegate.local_cloud.sagemaker.limits import Limits
from tidegate.local_cloud.sagemaker.process_container import ProcessRunner
from tidegate.local_cloud.sagemaker.roles import UncheckedRoles
from tidegate.local_cloud.sagemaker.server_commands import ServerCommands
from tidegate.local_cloud.sagemaker.service import ALIVE, SageMaker
from tidegate.local_cloud.sagemaker.state import Identity, Json
from tidegate.local_cloud.state_directory import StateDirectory, SupervisorRecord

if TYPE_CHECKING:
    from tidegate.local_cloud.keep.memory import Memory
    from tidegate.local_cloud.minute import Minute

logger = logging.getLogger(__name__)


def supervise(
    directory: StateDirectory,
    *,
    region: str,
    runner: ContainerRunner,
    limits: Limits,
    stop: threading.Event,
    enforce_iam: bool = False,
) -> None:
    """Runs both servers until ``stop`` is set, then stops everything and withdraws its record.

    Raises :class:`.KeepError` where a directory that is kept cannot be read or written.
    """
    with nothing_collected():
        moto, sagemaker, memory, minutes, record = _start(
            directory, region=region, runner=runner, limits=limits, enforce_iam=enforce_iam
        )
    directory.write(record)
    logger.info("moto answers at %s, SageMaker at %s", moto.url, sagemaker.url)
    try:
        stop.wait()
    finally:
        logger.info("stopping")
        directory.write(replace(record, stopping=True))
        _end(sagemaker, moto, memory, minutes)
        directory.record_file.unlink(missing_ok=True)
        logger.info("stopped")


@contextmanager
def nothing_collected() -> Iterator[None]:
    """For the length of the block no garbage is looked for, and what the block leaves is not looked at again.

    A start makes a million objects, nearly all of which stay: to look at them again and again is a third of its time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _start(
    directory: StateDirectory, *, region: str, runner: ContainerRunner, limits: Limits, enforce_iam: bool
) -> tuple[MotoServer, SageMaker, Memory | None, Minute, SupervisorRecord]:
    """Starts both servers; how to reach them."""
    # moto imports jsonschema, which compiles the grammars of rfc3987_syntax for seconds where that happens to be
    # installed, for formats that nothing here checks; jsonschema does without.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    # Importing moto's CloudFormation takes a second, and its interpreter of state machines another half.
    from tidegate.local_cloud import access, cloudformation, minute, moto_time, objects_in_files, workflows  # noqa: PLC0415
    from tidegate.local_cloud.cloudformation import clients  # noqa: PLC0415

    hold_on_to_nothing()
    before = snapshot_file.notes(directory.kept.snapshot)
    moto = MotoServer(port=before.get("moto_port", 0))
    identity = Identity(region=region, account=ACCOUNT)
    # Plain keyword arguments and not the environment: this process must not depend on what its starter has set.
    credentials = {"aws_access_key_id": ACCESS_KEY_ID, "aws_secret_access_key": "local", "region_name": region}
    config = Config(retries={"total_max_attempts": 2}, max_pool_connections=64, s3={"addressing_style": "path"})

    def client(service: str, **signed_as: str) -> Any:
        url = sagemaker.url if service.startswith("sagemaker") else moto.url
        return boto3.client(service, endpoint_url=url, config=config, **{**credentials, **signed_as})

    def announce(happened: str, arn: str, detail: Json) -> None:
        # The events of a pipeline's execution name the pipeline too.
        resources = [arn.partition("/execution/")[0], arn] if "/execution/" in arn else [arn]
        entry = {
            "Source": "aws.sagemaker",
            "DetailType": happened,
            "Resources": resources,
            "Detail": json.dumps(detail),
        }
        events.put_events(Entries=[entry])

    own = {
        service: boto3.client(service, endpoint_url=moto.url, config=config, **credentials)
        for service in ("s3", "sns", "events", "logs", "cloudwatch")
    }
    events = own["events"]
    place = {"account": ACCOUNT, "region": region}
    enforcement = access.Enforcement(**place, free_key=ACCESS_KEY_ID) if enforce_iam else None
    sessions = (
        None
        if enforcement is None
        else access.RoleSessions(client, enforcement=enforcement, address=lambda: sagemaker.url, **place)
    )
    container_environment: dict[str, str] = {}
    past = minute.Past()
    sagemaker = SageMaker(
        roles=sessions or UncheckedRoles(own.__getitem__),
        runner=runner,
        job_runner=_job_runner(runner),
        identity=identity,
        directory=directory.work,
        log_directory=directory.logs,
        container_environment=container_environment,
        announce=announce,
        denial_of_caller=None if enforcement is None else enforcement.denial_of_caller,
        limits=limits,
        beside={"schedules and scaling": past},
        port=before.get("sagemaker_port", 0),
    )
    # What a container's own boto3 reaches is this cloud and never a real account.
    container_environment.update(client_environment(moto_url=moto.url, sagemaker_url=sagemaker.url, region=region))
    if sessions is not None:  # what runs has the credentials of its role, or none
        for name in KEY_VARIABLES:
            del container_environment[name]
    request_gate.install()
    if enforcement is not None:
        enforcement.install()
    objects_in_files.install()
    cloudformation.install(client)
    workflows.install(client, sessions)
    moto_time.follow(CLOCK)
    memory, remarks = _begin(directory, moto, sagemaker, region)
    minutes = minute.begin(
        CLOCK,
        sagemaker,
        clients.client,
        past,
        **place,
        sessions=sessions,
        metrics_file=directory.kept.metrics if memory is not None else None,
    )
    CLOCK.start()
    access.install(client, account=ACCOUNT, region=region, access_key_id=ACCESS_KEY_ID)
    write_client_files(directory.client_files, sts_url=moto.url)
    record = SupervisorRecord(
        process_id=os.getpid(),
        birth=process_birth(os.getpid()) or "",
        moto_url=moto.url,
        sagemaker_url=sagemaker.url,
        region=region,
        containers=isinstance(runner, DockerRunner),
        servers=runner.others.record() if isinstance(runner, ProcessRunner) else {},
        enforces_iam=enforce_iam,
        kept=memory is not None,
        remarks=remarks,
    )
    return moto, sagemaker, memory, minutes, record


def _end(sagemaker: SageMaker, moto: MotoServer, memory: Memory | None, minutes: Minute) -> None:
    """What is running comes to its end while moto still answers, and what it left is kept."""
    CLOCK.close()
    sagemaker.close()
    minutes.close()
    if memory is not None:
        memory.close()
    moto.close()


def _begin(
    directory: StateDirectory, moto: MotoServer, sagemaker: SageMaker, region: str
) -> tuple[Memory | None, list[str]]:
    """Starts both servers, with what was kept where a cloud remembers. Returns what is lost, in sentences."""
    if directory.kept.is_there:
        memory, remarks = _remember(directory, moto, sagemaker, region)
    else:
        memory, remarks = None, []
        moto.start()
    sagemaker.start()
    return memory, remarks


def _remember(
    directory: StateDirectory, moto: MotoServer, sagemaker: SageMaker, region: str
) -> tuple[Memory, list[str]]:
    """Starts moto with what was kept, gives SageMaker its part, and returns what is lost, in sentences."""
    from tidegate.local_cloud import cloudformation, workflows  # noqa: PLC0415 - as above
    from tidegate.local_cloud.keep.remembrance import remember  # noqa: PLC0415

    before = snapshot_file.notes(directory.kept.snapshot)
    ports = {"moto_port": moto.port, "sagemaker_port": sagemaker.port}
    remembered = remember(
        directory.kept,
        sagemaker=sagemaker.kept,
        reducers=ALIVE,
        settle=lambda: [*cloudformation.resume(), *workflows.resume()],
        notes={"region": region, **ports},
    )
    remarks = [
        f"port {before[name]} was taken: it is {port} now"
        for name, port in ports.items()
        if before.get(name, port) != port
    ]
    remarks += remembered.lost
    moto.put_in_front(remembered.in_front_of)
    moto.start()
    sagemaker.remember(remembered.sagemaker, remembered.memory)
    remembered.memory.start()
    remarks += sagemaker.resume()
    remembered.memory.settle()
    for remark in remarks:
        logger.warning("%s", remark)
    return remembered.memory, remarks


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tidegate.local_cloud.supervisor")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--region", default=DEFAULT_REGION)
    parser.add_argument("--servers", type=json.loads, default={}, help="ServerCommands as a JSON object")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when the process that started this one ends"
    )
    parser.add_argument(
        "--container",
        nargs="?",
        const="",
        metavar="IMAGE",
        help="run images instead: IMAGE, else what each model names",
    )
    parser.add_argument("--enforce-iam", action="store_true", help="check what roles do here by their policies")
    parser.add_argument("--limits", type=json.loads, default={}, help="a JSON object that replaces limits of AWS's")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = stop_on_signals()
    if options.until_stdin_closes:
        threading.Thread(target=_await_end_of_stdin, args=(stop,), name="stdin", daemon=True).start()
    directory = StateDirectory(options.directory)
    try:
        runner = _runner(directory, options)
    except EngineError as error:
        sys.stderr.write(f"--container needs docker: {error}\n")
        return 1
    if (refusal := _no_such_region(options.region)) is not None:
        sys.stderr.write(f"{refusal}\n")
        return 1
    try:
        supervise(
            directory,
            region=options.region,
            runner=runner,
            limits=Limits.of(options.limits),
            stop=stop,
            enforce_iam=options.enforce_iam,
        )
    except KeepError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)  # what has been started already is not waited for
    if options.until_stdin_closes:
        directory.leave()  # the starter may be dead: then nobody else does it
    return 0


def _no_such_region(region: str) -> str | None:
    """Why there is no cloud of ``region``; None where there is one."""
    session = boto3.Session()
    partitions = ("aws", "aws-cn", "aws-us-gov")
    known = [each for partition in partitions for each in session.get_available_regions("s3", partition)]
    if region in known:
        return None
    near = difflib.get_close_matches(region, known, n=1)
    return f"AWS has no region {region!r}" + (f"; is {near[0]} meant?" if near else ", such as us-east-1.")


def _runner(directory: StateDirectory, options: argparse.Namespace) -> ContainerRunner:
    if options.container is not None:
        return DockerRunner(find_client(), directory.containers, options.container or None)
    return ProcessRunner(directory.containers, others=ServerCommands.read(options.servers))


def _job_runner(runner: ContainerRunner) -> JobRunner:
    """Jobs run as servers do: in processes, or in images by the same client."""
    match runner:
        case DockerRunner():
            return DockerJobs(runner.client, runner.registry, runner.image)
        case ProcessRunner():
            return ProcessJobs(runner.registry)
    raise TypeError(f"no jobs can run beside {type(runner).__name__}")


def _await_end_of_stdin(stop: threading.Event) -> None:
    # Not through sys.stdin: a thread that holds its lock would abort the interpreter at its exit.
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
