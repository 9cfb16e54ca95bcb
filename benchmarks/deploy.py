"""From nothing to an endpoint that answers, on the local cloud: how long a user waits for the CDK command line.

Each repetition has a local cloud of its own. The steps are what a user types; a step's time is the command's, from its
start to its end. Beside it stand the processor time that the step and the local cloud took, and how many cores others
used meanwhile: with those the wait is longer than on a quiet machine.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from benchmarks.report import table
from tidegate.local_cloud import LocalCloud

ROOT = Path(__file__).resolve().parents[1]
GOAL_S = 30.0
"""Bootstrap and deploy of the local stage, together, on two cores."""
COUNTED = ("cdk bootstrap", "cdk deploy")

_HANDLERS = """
import json


def model_fn(model_dir):
    return {factor}


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(number, factor):
    return number * factor


def output_fn(product, accept):
    return json.dumps(product)
"""
_BUCKET = "benchmark-archives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of one repetition. `parts_s` is what the command line itself says about where the time went."""

    repetition: int
    name: str
    wall_s: float
    cpu_s: float
    foreign_cores: float
    parts_s: dict[str, float]


class StepFailed(Exception):
    """A command failed, or the endpoint answered wrongly; the text holds what was said."""


def run(output: Path, *, repetitions: int, command: str) -> int:
    """Measures, writes `output`.json and `output`.md, and prints the latter. The exit status is 0."""
    facts = machine.describe()
    steps = [step for repetition in range(repetitions) for step in measure(repetition)]
    output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(steps, facts, command)
    content = {"command": command, "machine": facts, "steps": [asdict(step) for step in steps]}
    output.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    output.with_suffix(".md").write_text(text)
    print(text)
    return 0


def measure(repetition: int) -> Iterator[Step]:
    """The steps of one repetition, each when it is done. Raises `StepFailed`."""
    with tempfile.TemporaryDirectory(prefix="deploy-benchmark-") as directory:
        cloud = LocalCloud(Path(directory) / "cloud")
        seen: list[Step] = []

        @contextmanager
        def step(name: str, parts_s: dict[str, float]) -> Iterator[None]:
            before = _Clocks.read(cloud)
            yield
            seen.append(before.step(_Clocks.read(cloud), repetition=repetition, name=name, parts_s=parts_s))
            print(f"{repetition + 1}: {name}: {seen[-1].wall_s:.1f} s", file=sys.stderr)

        with step("local cloud up", {}):
            cloud.up(outlive_caller=False)
        try:
            environment = _environment(cloud)
            account, region = environment["CDK_DEFAULT_ACCOUNT"], environment["CDK_DEFAULT_REGION"]
            _place_archives(cloud)

            def cdk(name: str, *arguments: str) -> None:
                parts: dict[str, float] = {}
                with step(name, parts):
                    said = _cdk(arguments, environment, Path(directory))
                    parts.update(_parts(said))

            deploy = ("deploy", "--all", "--concurrency", "3", "--require-approval", "never", "-c")
            cdk("cdk bootstrap", "bootstrap", f"aws://{account}/{region}")
            cdk("cdk deploy", *deploy, f"model_data_url=s3://{_BUCKET}/2/model.tar.gz")
            with step("first answer", {}):
                _demand(cloud, 14)
            cdk("cdk deploy, the same again", *deploy, f"model_data_url=s3://{_BUCKET}/2/model.tar.gz")
            cdk("cdk deploy, another model", *deploy, f"model_data_url=s3://{_BUCKET}/3/model.tar.gz")
            _demand(cloud, 21)
            cdk("cdk destroy", "destroy", "--all", "--force")
        finally:
            cloud.down()
        yield from seen


def markdown(steps: list[Step], facts: dict[str, str], command: str) -> str:
    """The report: the goal, then each step's median over the repetitions, with its range."""
    names = list(dict.fromkeys(step.name for step in steps))
    repetitions = sorted({step.repetition for step in steps})
    totals = [
        sum(step.wall_s for step in steps if step.repetition == repetition and step.name in COUNTED)
        for repetition in repetitions
    ]
    total = statistics.median(totals)
    verdict = "reached" if total <= GOAL_S else "**missed**"
    rows = []
    for name in names:
        found = [step for step in steps if step.name == name]
        walls = [step.wall_s for step in found]
        parts = {part: statistics.median(step.parts_s.get(part, 0.0) for step in found) for part in found[0].parts_s}
        rows.append(
            (
                name,
                f"{statistics.median(walls):.1f}",
                f"{min(walls):.1f} to {max(walls):.1f}",
                f"{statistics.median(step.cpu_s for step in found):.1f}",
                f"{statistics.median(step.foreign_cores for step in found):.2f}",
                ", ".join(f"{part} {value:.1f}" for part, value in parts.items()) or "",
            )
        )
    head = ("step", "s, median", "s, range", "CPU s", "cores that others used", "of this, in s")
    return (
        "\n\n".join(
            (
                "# Deploy benchmark",
                f"Command: `{command}`  \nMachine: {', '.join(f'{name}: {value}' for name, value in facts.items())}",
                "## Goal",
                table(
                    ("measure", "goal", "found", "verdict"),
                    [
                        (
                            "bootstrap and deploy of the local stage",
                            f"≤ {GOAL_S:g} s",
                            f"{total:.1f} s ({min(totals):.1f} to {max(totals):.1f}, {len(totals)} repetitions)",
                            verdict,
                        )
                    ],
                ),
                "## Steps",
                table(head, rows),
            )
        )
        + "\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clocks:
    """The clocks around a step: the wall's, ours (ended children and the local cloud), and all cores' busy time."""

    wall_s: float
    own_s: float
    busy_s: float

    @classmethod
    def read(cls, cloud: LocalCloud) -> _Clocks:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own_s = sum(each.ru_utime + each.ru_stime for each in used)
        record = cloud.record()
        if record is not None:
            supervisor = psutil.Process(record.process_id)
            times = [process.cpu_times() for process in (supervisor, *supervisor.children(recursive=True))]
            own_s += sum(each.user + each.system for each in times)
        cores = psutil.cpu_times()
        return cls(wall_s=time.monotonic(), own_s=own_s, busy_s=sum(cores) - cores.idle - cores.iowait)

    def step(self, later: _Clocks, **named: Any) -> Step:
        wall_s, own_s = later.wall_s - self.wall_s, later.own_s - self.own_s
        foreign = max(0.0, later.busy_s - self.busy_s - own_s) / wall_s
        return Step(wall_s=wall_s, cpu_s=own_s, foreign_cores=foreign, **named)


def _environment(cloud: LocalCloud) -> dict[str, str]:
    """What `tidegate cloud up` exports, with the tools beside this Python first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **cloud.environment, "PATH": path}


def _cdk(arguments: tuple[str, ...], environment: dict[str, str], directory: Path) -> str:
    program = Path(sys.executable).parent / "cdk"
    done = subprocess.run(
        [program, *arguments, "--output", directory / "cdk.out"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StepFailed(f"cdk {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _parts(said: str) -> dict[str, float]:
    """The times that the command line prints: the synthesis, and the deployments of the stacks together."""
    found = {}
    for part, pattern in (("synthesis", "Synthesis"), ("stacks", "Deployment")):
        times = [float(seconds) for seconds in re.findall(rf"{pattern} time: ([\d.]+)s", said)]
        if times:
            found[part] = sum(times)
    return found


def _place_archives(cloud: LocalCloud) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=_BUCKET)
    for factor in (2, 3):
        code, content = _HANDLERS.format(factor=factor).encode(), io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            member = tarfile.TarInfo("code/inference.py")
            member.size = len(code)
            tar.addfile(member, io.BytesIO(code))
        s3.put_object(Bucket=_BUCKET, Key=f"{factor}/model.tar.gz", Body=content.getvalue())


def _demand(cloud: LocalCloud, expected: float) -> None:
    (endpoint,) = cloud.client("sagemaker").list_endpoints()["Endpoints"]
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint["EndpointName"], ContentType="application/json", Body=b"7"
    )
    found = json.loads(answer["Body"].read())
    if found != expected:
        raise StepFailed(f"the endpoint answered {found} and not {expected}")
