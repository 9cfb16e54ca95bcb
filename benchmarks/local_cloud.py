"""`python -m benchmarks.local_cloud`: what the local cloud adds to the servers that it runs, in some five minutes.

Each part is measured in rounds; within a round its ways come in random order, and one of them is there twice, as the
control. A ratio or a difference is formed within a round, and the median over the rounds is judged.

* `up`: the command, from its start until it has printed the exports, and the processor's time of the cloud until then.
  Beside it: an interpreter that does no more than import boto3, moto's server and moto's CloudFormation, as they are.
* `invoke`: 1 KB to a model that does nothing, on one kept connection, through the runtime and straight to its server.
* `rate`: the same at 32 connections, with a model that computes 5 ms (of the processor's time).
* `noop`: the same with a model that does nothing: what is measured is the cloud.
* `ten`: ten endpoints, created at once, until each gives its own answer.
* `transform`: a job over CSV lines in 200 objects beside a loop that fetches, sends and writes the same batches. The
  job's time begins when its server is up, as the loop's does. Memory is the peak of the cloud's process beyond what it
  had before the job.
* `life`: train, register, approve, deploy, invoke, batch, table: `tests/end_to_end/test_whole_life.py`.

A run of all parts writes the page with the results, after each part. One of some (`--parts up,noop,life`), or a quick
one, writes a page only where `--output` says so.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks import load, machine
from benchmarks.bodies import Body
from benchmarks.environments import BUILD
from benchmarks.report import table
from tidegate.local_cloud import LocalCloud

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "local_cloud.md"
BUCKET, ROLE = "benchmark", "arn:aws:iam::123456789012:role/service"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tidegate:cpu"
MIB = 1024 * 1024
LIMIT_S = 120.0

NOTHING = """
def model_fn(model_dir):
    return None


def transform_fn(model, body, content_type, accept):
    return {word!r}, "text/plain"
"""
COMPUTES = """
import time


def model_fn(model_dir):
    return 0.005


def transform_fn(seconds, body, content_type, accept):
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        pass
    return "done", "text/plain"
"""
NETWORK = """
import numpy as np


def model_fn(model_dir):
    draw = np.random.default_rng(0)
    return [draw.standard_normal(shape, dtype=np.float32) for shape in ((8, 1024), (1024, 1024), (1024, 1))]


def input_fn(body, content_type):
    text = body.decode() if isinstance(body, bytes) else body
    return np.array([line.split(",") for line in text.splitlines()], dtype=np.float32)


def predict_fn(rows, layers):
    for layer in layers:
        rows = np.tanh(rows @ layer)
    return rows[:, 0]


def output_fn(scores, accept):
    return "".join(f"{score:.6f}\\n" for score in scores), "text/csv"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    seconds: float
    endpoints: int
    objects: int
    lines: int
    """In all objects."""


FULL = Size(rounds=5, seconds=2.0, endpoints=10, objects=200, lines=100_000)
QUICK = Size(rounds=1, seconds=0.5, endpoints=2, objects=10, lines=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row of the table. ``reached`` is None where there is no goal."""

    measure: str
    goal: str
    found: str
    reached: bool | None


@dataclass
class Page:
    """What was found, written after each part."""

    output: Path | None
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=machine.describe)

    def add(self, *findings: Finding) -> None:
        for one in findings:
            print(f"{one.measure}: {one.found} (goal: {one.goal})", file=sys.stderr, flush=True)
        self.findings += findings
        if self.output is not None:
            self.output.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The page."""
        verdicts = {True: "reached", False: "**missed**", None: ""}
        rows = [(one.measure, one.goal, one.found, verdicts[one.reached]) for one in self.findings]
        facts = "; ".join(f"{name}: {value}" for name, value in self.facts.items() if name != "Java")
        told = "\n".join((__doc__ or "").splitlines()[2:]).strip()
        return f"# The local cloud\n\n{told}\n\n{facts}.\n\n{table(('measure', 'goal', 'found', 'verdict'), rows)}\n"


def say(words: str) -> None:
    """Progress."""
    print(f"  {words}", file=sys.stderr, flush=True)


def in_rounds(ways: Mapping[str, Callable[[], float]], size: Size, *, unit: str) -> list[dict[str, float]]:
    """What each way measures in each round."""
    found = []
    for number in range(size.rounds):
        order = random.sample(list(ways), len(ways))
        measured = {way: ways[way]() for way in order}
        found.append(measured)
        told = ", ".join(f"{way} {measured[way]:.4g} {unit}" for way in ways)
        say(f"round {number + 1} of {size.rounds}: {told}")
    return found


def spread(values: Sequence[float], form: str) -> str:
    """The median and the range."""
    told = format(statistics.median(values), form)
    return told if len(values) == 1 else f"{told} ({min(values):{form}} to {max(values):{form}})"


# --- a cloud with models


@dataclass
class Stage:
    """A cloud, and what every part does with it."""

    cloud: LocalCloud

    def __post_init__(self) -> None:
        self.s3 = self.cloud.client("s3")
        self.sagemaker = self.cloud.client("sagemaker")
        self.s3.create_bucket(Bucket=BUCKET)

    @property
    def runtime_port(self) -> int:
        return urlsplit(self.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]).port or 0

    @property
    def process(self) -> psutil.Process:
        record = self.cloud.record()
        assert record is not None
        return psutil.Process(record.process_id)

    def model(self, name: str, script: str, **environment: str) -> None:
        content, code = io.BytesIO(), script.encode()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            member = tarfile.TarInfo("code/inference.py")
            member.size = len(code)
            tar.addfile(member, io.BytesIO(code))
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}.tar.gz", Body=content.getvalue())
        container = {
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{BUCKET}/{name}.tar.gz",
            "Environment": {"BENCHMARK_MODEL": name, **environment},
        }
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])

    def create(self, name: str) -> None:
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def await_service(self, name: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while (found := self.sagemaker.describe_endpoint(EndpointName=name))["EndpointStatus"] == "Creating":
            if time.monotonic() > deadline:
                raise TimeoutError(f"endpoint {name} is not there after {LIMIT_S:g} s")
            time.sleep(0.05)
        if found["EndpointStatus"] != "InService":
            raise RuntimeError(f"endpoint {name} is {found['EndpointStatus']}: {found.get('FailureReason')}")

    @contextmanager
    def served(self, name: str, script: str, **environment: str) -> Iterator[int]:
        """The model of that name behind an endpoint of that name; the port of its server."""
        self.model(name, script, **environment)
        self.create(name)
        self.await_service(name)
        try:
            yield self._port_of(name)
        finally:
            self.sagemaker.delete_endpoint(EndpointName=name)
            self.sagemaker.get_waiter("endpoint_deleted").wait(
                EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
            )

    def _port_of(self, name: str) -> int:
        for process in self.process.children(recursive=True):
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if environment.get("BENCHMARK_MODEL") == name:
                return int(environment["SAGEMAKER_BIND_TO_PORT"])
        raise RuntimeError(f"no process serves {name}")


@contextmanager
def stage() -> Iterator[Stage]:
    """A cloud of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="local-cloud-benchmark-") as folder, LocalCloud(Path(folder, "c")) as cloud:
        yield Stage(cloud)


# --- the parts


def up(size: Size) -> list[Finding]:
    imports = "import boto3, moto.moto_server.werkzeug_app, moto.cloudformation.parsing"

    def imported() -> float:
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", imports], check=True)
        return time.monotonic() - began

    processor_s: list[float] = []

    def started() -> float:
        with tempfile.TemporaryDirectory(prefix="local-cloud-benchmark-") as folder:
            cloud = LocalCloud(Path(folder, "c"))
            environment = {"PATH": "/usr/bin:/bin", "LOCAL_CLOUD_DIR": str(cloud.directory), "HOME": folder}
            command = [sys.executable, "-P", "-m", "tidegate.local_cloud", "up"]
            began = time.monotonic()
            try:
                subprocess.run(command, check=True, env=environment, capture_output=True)
                took_s = time.monotonic() - began
                record = cloud.record()
                if record is None:
                    raise RuntimeError("the cloud that came up is not there")
                spent = psutil.Process(record.process_id).cpu_times()
                processor_s.append(spent.user + spent.system)
                return took_s
            finally:
                cloud.down()

    found = in_rounds({"up": started, "imports": imported}, size, unit="s")
    times = [each["up"] for each in found]
    beside = spread([each["imports"] for each in found], ".2f")
    spent_s = spread(processor_s, ".2f")
    told = f"{spread(times, '.2f')} s, of the processor {spent_s} s; plain imports {beside} s"
    return [Finding(measure="`up`, ready", goal="≤ 3 s", found=told, reached=statistics.median(times) <= 3)]


def _body() -> Body:
    return Body(data=b"x" * 1024, content_type="text/plain", file=BUILD / "bodies" / "local-cloud")


def _result(port: int, path: str, *, connections: int, seconds: float) -> load.Result:
    body = _body()
    result = asyncio.run(load.closed_loop(port, path, lambda _: body, connections=connections, seconds=seconds))
    if result.failed:
        raise RuntimeError(f"{path} at port {port}: {result.outcomes}")
    return result


def invoke(size: Size) -> list[Finding]:
    with stage() as here, here.served("nothing", NOTHING.format(word="done"), TIDEGATE_WORKERS="1") as port:

        def p50_ms(port: int, path: str) -> Callable[[], float]:
            return lambda: _result(port, path, connections=1, seconds=size.seconds).p50_ms

        through, straight = (here.runtime_port, "/endpoints/nothing/invocations"), (port, "/invocations")
        for target in (through, straight):
            _result(*target, connections=1, seconds=0.5)
        ways = {"through": p50_ms(*through), "straight": p50_ms(*straight), "control": p50_ms(*straight)}
        found = in_rounds(ways, size, unit="ms")
    beyond = [each["through"] - each["straight"] for each in found]
    noise = spread([each["control"] - each["straight"] for each in found], "+.2f")
    measure = "invoke of 1 KB beyond the same call straight to the server, p50"
    told = f"{spread(beyond, '+.2f')} ms (control {noise} ms)"
    return [Finding(measure=measure, goal="≤ 2 ms", found=told, reached=statistics.median(beyond) <= 2)]


def rate(size: Size) -> list[Finding]:
    with stage() as here:
        return [
            _rate(here, size, "computes", COMPUTES, workers=1, goal=0.9, words="a model that computes 5 ms"),
            _rate(here, size, "everywhere", COMPUTES, workers=2, goal=None, words="the same on two workers"),
        ]


def noop(size: Size) -> list[Finding]:
    with stage() as here:
        return [_rate(here, size, "idle", NOTHING.format(word="done"), workers=1, goal=0.25, words="a no-op")]


def _rate(here: Stage, size: Size, name: str, script: str, *, workers: int, goal: float | None, words: str) -> Finding:
    say(words)
    with here.served(name, script, TIDEGATE_WORKERS=str(workers)) as port:

        def per_s(port: int, path: str) -> Callable[[], float]:
            return lambda: _result(port, path, connections=32, seconds=size.seconds).good_per_s

        through, straight = (here.runtime_port, f"/endpoints/{name}/invocations"), (port, "/invocations")
        for target in (through, straight):
            _result(*target, connections=32, seconds=0.5)
        ways = {"through": per_s(*through), "straight": per_s(*straight), "control": per_s(*straight)}
        found = in_rounds(ways, size, unit="/s")
    ratios = [each["through"] / each["straight"] for each in found]
    noise = spread([each["control"] / each["straight"] for each in found], ".2f")
    speed = f"{statistics.median(each['through'] for each in found):,.0f} requests a second"
    return Finding(
        measure=f"rate at 32 connections over that straight to the server, {words}",
        goal="" if goal is None else f"≥ {goal:g}",
        found=f"{spread(ratios, '.2f')} (control {noise}); {speed}",
        reached=None if goal is None else statistics.median(ratios) >= goal,
    )


def ten(size: Size) -> list[Finding]:
    names = [f"endpoint-{number}" for number in range(size.endpoints)]
    with stage() as here:
        runtime = here.cloud.client("sagemaker-runtime")
        for name in names:
            here.model(name, NOTHING.format(word=name), TIDEGATE_WORKERS="1")
        began = time.monotonic()
        for name in names:
            here.create(name)
        answers = {}
        for name in names:
            here.await_service(name)
            answers[name] = runtime.invoke_endpoint(EndpointName=name, Body=b"x")["Body"].read().decode()
        took_s = time.monotonic() - began
    right = sum(answer == name for name, answer in answers.items())
    told = f"{right} of {len(names)} gave their own answer, the last after {took_s:.1f} s"
    measure = f"{len(names)} endpoints created at once"
    return [Finding(measure=measure, goal="each answers", found=told, reached=right == len(names))]


def transform(size: Size) -> list[Finding]:
    draw = np.random.default_rng(0)
    each = size.lines // size.objects
    numbers = iter(range(10_000))
    peaks_mib: list[float] = []
    with stage() as here, here.served("network", NETWORK, TIDEGATE_WORKERS="1", OMP_NUM_THREADS="1") as port:
        keys = [f"{number:04d}.csv" for number in range(size.objects)]
        for key in keys:
            rows = draw.standard_normal((each, 8))
            body = "".join(",".join(f"{cell:.4f}" for cell in row) + "\n" for row in rows)
            here.s3.put_object(Bucket=BUCKET, Key=f"in/{key}", Body=body.encode())

        def loop() -> float:
            place = f"loop-{next(numbers)}"
            began = time.monotonic()
            with closing(HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)) as server:
                for key in keys:
                    body = here.s3.get_object(Bucket=BUCKET, Key=f"in/{key}")["Body"].read()
                    server.request("POST", "/invocations", body, {"Content-Type": "text/csv", "Accept": "text/csv"})
                    answer = server.getresponse().read()
                    here.s3.put_object(Bucket=BUCKET, Key=f"{place}/{key}.out", Body=answer)
            took_s = time.monotonic() - began
            _demand_all(here, place, keys, each)
            return took_s

        def job() -> float:
            place = f"job-{next(numbers)}"
            with _peak_mib(here.process, peaks_mib):
                described = _completed_job(here, place)
            _demand_all(here, place, keys, each)
            taken: float = (described["TransformEndTime"] - described["TransformStartTime"]).total_seconds()
            return taken

        loop()  # the server's first requests
        found = in_rounds({"job": job, "loop": loop, "control": loop}, size, unit="s")
    ratios = [one["loop"] / one["job"] for one in found]
    noise = spread([one["loop"] / one["control"] for one in found], ".2f")
    what = f"transform job over {size.lines:,} CSV lines in {size.objects} objects"
    told = f"{spread(ratios, '.2f')} (control {noise}); {statistics.median(one['job'] for one in found):.1f} s"
    return [
        Finding(
            measure=f"{what}: its speed over that of a loop over the same batches",
            goal="≥ 0.9",
            found=told,
            reached=statistics.median(ratios) >= 0.9,
        ),
        Finding(
            measure=f"{what}: memory of the cloud beyond what it had before",
            goal="≤ 64 MiB",
            found=f"{max(peaks_mib):.0f} MiB at most",
            reached=max(peaks_mib) <= 64,
        ),
    ]


def _completed_job(here: Stage, name: str) -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}}
    here.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName="network",
        BatchStrategy="MultiRecord",
        TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}", "Accept": "text/csv", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    deadline = time.monotonic() + LIMIT_S
    while True:
        described: dict[str, Any] = here.sagemaker.describe_transform_job(TransformJobName=name)
        if described["TransformJobStatus"] == "Completed":
            return described
        if described["TransformJobStatus"] != "InProgress" or time.monotonic() > deadline:
            raise RuntimeError(f"{name} is {described['TransformJobStatus']}: {described.get('FailureReason')}")
        time.sleep(0.2)


def _demand_all(here: Stage, place: str, keys: Sequence[str], lines: int) -> None:
    """Every line has its answer: the first loop's answers are those of all."""
    for key in keys:
        answer = here.s3.get_object(Bucket=BUCKET, Key=f"{place}/{key}.out")["Body"].read()
        expected = here.s3.get_object(Bucket=BUCKET, Key=f"loop-0/{key}.out")["Body"].read()
        if answer != expected or answer.count(b"\n") != lines:
            raise RuntimeError(f"{place}/{key}.out has other lines than the loop's")


@contextmanager
def _peak_mib(process: psutil.Process, found: list[float]) -> Iterator[None]:
    """The peak of the resident set beyond what it is now, in the block."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before_mib = process.memory_info().rss / MIB
    yield
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    peak_kib = int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    found.append(peak_kib / 1024 - before_mib)


def life(_: Size) -> list[Finding]:
    test = "tests/end_to_end/test_whole_life.py"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.monotonic() - began
    measure, goal = "train, register, approve, deploy, invoke, batch, table as one test", "≤ 120 s"
    if done.returncode != 0:
        last = done.stdout.strip().splitlines()[-1:]
        return [Finding(measure=measure, goal=goal, found=f"it fails: {' '.join(last)}", reached=False)]
    return [Finding(measure=measure, goal=goal, found=f"{took_s:.0f} s", reached=took_s <= 120)]


PARTS: dict[str, Callable[[Size], list[Finding]]] = {
    "up": up,
    "invoke": invoke,
    "rate": rate,
    "noop": noop,
    "ten": ten,
    "transform": transform,
    "life": life,
}


def main(arguments: list[str] | None = None) -> int:
    """0 where every goal is reached, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_cloud", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that all works, not to quote")
    parser.add_argument("--output", type=Path, help=f"default: {RESULTS.name}, of all parts that are not quick")
    options = parser.parse_args(arguments)
    chosen = options.parts.split(",")
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    whole = set(chosen) == PARTS.keys() and not options.quick
    page = Page(options.output or (RESULTS if whole else None))
    for name in chosen:
        print(f"{name}:", file=sys.stderr, flush=True)
        try:
            page.add(*PARTS[name](QUICK if options.quick else FULL))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            page.add(Finding(measure=name, goal="", found=f"could not be measured: {error}", reached=False))
    print(page.text())
    return int(any(one.reached is False for one in page.findings))


if __name__ == "__main__":
    sys.exit(main())
