"""The life of the local cloud at the command line: up, used by unmodified tools, down, and what a crash leaves."""

from __future__ import annotations

import gc
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, STAND_IN, await_true
from tests.processes import started
from tidegate.local_cloud import CloudError, LocalCloud
from tidegate.local_cloud.processes import process_birth
from tidegate.local_cloud.state_directory import StateDirectory
from tidegate.local_cloud.supervisor import nothing_collected

COMMAND = (sys.executable, "-m", "local_cloud")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    yield path
    LocalCloud(path).down()


@pytest.fixture
def run(directory: Path) -> Run:
    """Runs ``python -m local_cloud`` with its state in this test's directory."""

    def local_cloud(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LOCAL_CLOUD_DIR": str(directory)}
        command = [*COMMAND, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return local_cloud


def exports(text: str) -> dict[str, str]:
    return dict(shlex.split(line)[1].split("=", 1) for line in text.splitlines() if line.startswith("export "))


def answers(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def started_endpoint(cloud: LocalCloud, **environment: str) -> int:
    """An endpoint in service; the process of its container."""
    sagemaker = cloud.client("sagemaker")
    sagemaker.create_model(
        ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "serve", "Environment": environment}
    )
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    await_true(
        lambda: sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService", "the endpoint serves"
    )
    sagemaker.close()
    (container,) = (cloud.directory / "containers").iterdir()
    return int(container.name)


def test_up_prints_what_unmodified_tools_need_and_down_leaves_nothing(run: Run, directory: Path) -> None:
    up = run("up")
    assert up.returncode == 0, up.stderr
    assert all(line.startswith(("export ", "unset ")) for line in up.stdout.splitlines())
    assert str(directory) in up.stderr
    again = run("up")
    assert (again.returncode, again.stdout) == (0, up.stdout)
    for wish, words in (("--region=eu-west-1", "in us-east-1 and not in eu-west-1"), ("--container", "not with cont")):
        other = run("up", wish)
        assert (other.returncode, other.stdout) == (1, "")
        assert words in other.stderr
    status = run("status")
    assert (status.returncode, status.stdout) == (0, up.stdout)

    variables = exports(up.stdout)
    bare = {"PATH": os.environ["PATH"], "HOME": str(directory), **variables}
    aws = str(Path(sys.executable).parent / "aws")
    for command, said in (
        ([aws, "s3", "mb", "s3://from-the-command-line"], "make_bucket: from-the-command-line"),
        ([aws, "s3", "ls"], "from-the-command-line"),
        ([aws, "sts", "get-caller-identity", "--query", "Account"], variables["AWS_ACCOUNT_ID"]),
        ([aws, "sagemaker", "list-endpoints"], '"Endpoints": []'),
    ):
        done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout

    record = StateDirectory(directory).read()
    assert record is not None
    down = run("down")
    assert (down.returncode, down.stdout) == (0, "")
    assert not record.alive
    assert not directory.exists()
    assert not answers(variables["AWS_ENDPOINT_URL"])
    assert not answers(variables["AWS_ENDPOINT_URL_SAGEMAKER"])
    assert run("status").returncode == 1
    assert run("down").returncode == 0, "down twice is no error"


def test_down_stops_what_endpoints_run(directory: Path) -> None:
    with LocalCloud(directory, container_command=STAND_IN) as cloud:
        process = started_endpoint(cloud)
        assert process_birth(process) is not None
    assert process_birth(process) is None
    assert not directory.exists()


def test_up_after_a_crash_cleans_up_and_starts_afresh(directory: Path) -> None:
    crashed = LocalCloud(directory, container_command=STAND_IN)
    crashed.up()
    orphan = started_endpoint(crashed)
    record = crashed.record()
    assert record is not None
    os.kill(record.process_id, signal.SIGKILL)
    await_true(lambda: crashed.record() is None, "the supervisor is gone")
    assert process_birth(orphan) is not None

    assert crashed.up() is True
    await_true(lambda: process_birth(orphan) is None, "the orphan is ended")
    assert crashed.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert not (directory / "work" / "endpoints").exists()
    with LocalCloud(directory):
        pass
    assert crashed.record() is not None, "a with block ends only what it started"
    assert crashed.down() is True


def test_up_waits_for_a_cloud_that_is_still_stopping(directory: Path, tmp_path: Path) -> None:
    stopping = LocalCloud(directory, container_command=STAND_IN)
    stopping.up()
    may_end = tmp_path / "may-end"
    server = started_endpoint(stopping, STAND_IN_ENDS_ONCE_THERE_IS=str(may_end))
    record = StateDirectory(directory).read()
    assert record is not None
    os.kill(record.process_id, signal.SIGTERM)
    await_true(lambda: stopping.record() is None, "it does not answer any more")
    assert process_birth(server) is not None
    threading.Timer(0.2, may_end.touch).start()
    assert stopping.up() is True
    assert process_birth(server) is None
    assert not record.alive
    assert stopping.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert stopping.down() is True


def test_who_waits_for_a_directory_that_is_removed_gets_a_new_one(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "state")
    waiting, seen = threading.Event(), []

    def second() -> None:
        waiting.set()
        with directory.claimed():
            seen.append(sorted(entry.name for entry in directory.path.iterdir()))

    thread = threading.Thread(target=second)
    with directory.claimed():
        thread.start()
        waiting.wait(60)
        directory.remove()
    thread.join(60)
    assert seen == [["lock", "marker"]]


def test_ctrl_c_in_the_foreground_stops_everything(directory: Path) -> None:
    environment = os.environ | {"LOCAL_CLOUD_DIR": str(directory)}
    with started(
        [*COMMAND, "up", "--foreground"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as foreground:
        assert foreground.stdout is not None
        assert foreground.stderr is not None
        first = foreground.stdout.readline()
        assert first.startswith("export AWS_ENDPOINT_URL=")
        url = exports(first)["AWS_ENDPOINT_URL"]
        while "Ctrl-C" not in foreground.stderr.readline():
            pass
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(60) == 0
    assert not answers(url)
    assert not directory.exists()


def test_a_cloud_ends_with_the_process_that_uses_it(directory: Path) -> None:
    script = (
        "import sys; from local_cloud import LocalCloud; cloud = LocalCloud(sys.argv[1]); cloud.__enter__();"
        "print(cloud.record().process_id, flush=True); input()"
    )
    with started(
        [sys.executable, "-c", script, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        supervisor = int(user.stdout.readline())
        user.kill()
    await_true(lambda: process_birth(supervisor) is None, "the supervisor ends")
    assert not directory.exists()


def test_a_directory_with_somebody_elses_files_is_refused_and_left_alone(run: Run, directory: Path) -> None:
    directory.mkdir()
    (directory / "thesis.txt").write_text("years of work")
    refused = run("up")
    assert refused.returncode == 1
    assert "holds files that are not the local cloud's (thesis.txt); choose another directory" in refused.stderr
    run("down")
    assert [entry.name for entry in directory.iterdir()] == ["thesis.txt"]


def test_two_clouds_live_side_by_side(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "one") as one, LocalCloud(tmp_path / "two", region="eu-central-1") as two:
        one.client("s3").create_bucket(Bucket="only-in-one")
        assert two.client("s3").list_buckets()["Buckets"] == []
        assert two.environment["AWS_REGION"] == "eu-central-1"
        assert two.client("sagemaker").list_models()["Models"] == []


def test_a_cloud_that_is_down_has_no_environment(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="no local cloud is up in"):
        _ = LocalCloud(tmp_path / "nothing").environment


def test_a_profile_and_a_proxy_of_the_caller_lead_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the caller's AWS configuration says nor his proxy keeps the cloud from coming up and working."""
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "nosuch"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    template = {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "past-the-proxy"}}}}
    with LocalCloud(tmp_path / "cloud") as cloud:
        stacks = cloud.client("cloudformation")
        stacks.create_stack(StackName="one", TemplateBody=json.dumps(template))
        stacks.get_waiter("stack_create_complete").wait(StackName="one", WaiterConfig={"Delay": 1})
        assert [b["Name"] for b in cloud.client("s3").list_buckets()["Buckets"]] == ["past-the-proxy"]
        assert stacks.meta.config.read_timeout >= 600, "boto3 would ask a busy machine for the same stack again"
        own = cloud.client("s3", config=Config(read_timeout=5)).meta.config
        assert (own.read_timeout, own.proxies) == (5, {})


def test_a_limit_of_awss_may_be_set_lower_to_see_it_act(directory: Path, run: Run) -> None:
    refused = run("up", "--limit", "patience_s=3")
    assert refused.returncode == 1
    assert "--limit patience_s=3: there is no limit patience_s; there are async_body_bytes, " in refused.stderr
    assert (
        "--limit body_bytes=many: could not convert string to float" in run("up", "--limit", "body_bytes=many").stderr
    )
    with LocalCloud(directory, limits={"body_bytes": 1000}) as cloud:
        runtime = cloud.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))
        with pytest.raises(ClientError, match="HTTP content length exceeded 1000 bytes"):
            runtime.invoke_endpoint(EndpointName="nobody", Body=b"x" * 1001)
        with pytest.raises(ClientError, match="not found"):
            runtime.invoke_endpoint(EndpointName="nobody", Body=b"x" * 1000)
        runtime.close()
        assert "already, and its limits stay as they are" in run("up", "--limit", "body_bytes=2000").stderr


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        ("eu-centrl-1", "AWS has no region 'eu-centrl-1'; is eu-central-1 meant?"),
        ("nowhere!", "AWS has no region 'nowhere!', such as us-east-1."),
    ],
)
def test_a_region_that_there_is_not_is_named(run: Run, directory: Path, region: str, sentence: str) -> None:
    refused = run("up", "--region", region)
    assert refused.returncode == 1
    assert refused.stderr.rstrip().endswith(sentence)


def test_garbage_is_looked_for_again_once_a_cloud_is_up_or_has_failed_to_start() -> None:
    try:
        with nothing_collected():
            assert not gc.isenabled()
        assert gc.isenabled()
        with pytest.raises(CloudError), nothing_collected():
            raise CloudError("no port is free")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
