"""`tidegate cloud up --container`: an endpoint is a container, of an image that `cdk deploy` builds, too."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from container.engine import ROOT, DockerFailed, Engine, local_base
from tests.container.docker_runs import Docker, Job
from tests.contract.running import wait_until
from tests.infra.command_line import cdk
from tidegate.training_hooks import publish

BUCKET = "models-of-containers"
ROLE = "arn:aws:iam::123456789012:role/service"
OURS = "name=local-cloud-"


def local_cloud(*arguments: str, directory: Path) -> str:
    own = os.environ | {"LOCAL_CLOUD_DIR": str(directory)}
    words = [sys.executable, "-m", "local_cloud", *arguments]
    return subprocess.run(words, cwd=ROOT, env=own, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def built(docker: Docker) -> Iterator[list[str]]:
    """Images that a test had built; they go when nothing runs them any more."""
    images: list[str] = []
    yield images
    for image in images:
        with contextlib.suppress(DockerFailed):  # another copy of these tests runs it
            docker.engine.run("image", "rm", image, f"cdkasset-{image.rpartition(':')[2]}")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cloud keeps what it knows."""
    return tmp_path_factory.mktemp("cloud") / "state"


@pytest.fixture(scope="module")
def cloud(docker: Docker, built: list[str], directory: Path) -> Iterator[dict[str, str]]:
    """What `up --container` exports, also set for boto3. At the end nothing of it runs."""
    lines = local_cloud("up", "--container", directory=directory).splitlines()
    exported = dict(shlex.split(line)[1].split("=", 1) for line in lines if line.startswith("export "))
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in exported.items():
                monkeypatch.setenv(name, value)
            yield exported
    finally:
        started = set(started_by(directory))
        local_cloud("down", directory=directory)
    assert started
    assert started.isdisjoint(running(docker.engine))


@pytest.fixture(scope="module")
def archive(cloud: Mapping[str, str], trained: Job, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The trained model as an object of the local S3."""
    path = tmp_path_factory.mktemp("archive") / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(trained.base_dir / "model", ".")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(path), BUCKET, path.name)
    return f"s3://{BUCKET}/{path.name}"


def running(engine: Engine) -> dict[str, str]:
    """The image of every container that any local cloud runs on this machine, by the container's name."""
    listed = engine.run("ps", "--no-trunc", "--filter", OURS, "--format", "{{.Names}} {{.Image}}").splitlines()
    return dict(line.split(" ", 1) for line in listed)


def started_by(directory: Path) -> list[str]:
    """The names of the containers that the local cloud with this directory has not ended yet."""
    return [entry.name.removeprefix("docker.") for entry in directory.rglob("docker.local-cloud-*")]


def serve(name: str, container: Mapping[str, Any]) -> None:
    """An endpoint of one container, in service."""
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.c5.xlarge"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 90})


def answer(endpoint: str, **options: str) -> Any:
    runtime = boto3.client("sagemaker-runtime")
    said = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=b"[1.0]", **options)
    return json.loads(said["Body"].read())


def test_an_endpoint_is_a_container_of_the_image_that_its_model_names(
    cloud: Mapping[str, str], directory: Path, archive: str, docker: Docker
) -> None:
    sagemaker = boto3.client("sagemaker")
    serve("line", {"Image": docker.image, "ModelDataUrl": archive, "Environment": {"TIDEGATE_WORKERS": "1"}})
    (started,) = started_by(directory)
    assert running(docker.engine)[started] == docker.image
    mounts = json.loads(docker.engine.run("inspect", "--format", "{{json .Mounts}}", started))
    assert [(mount["Destination"], mount["RW"]) for mount in mounts] == [("/opt/ml/model", False)]
    assert answer("line") == [3.0]
    sagemaker.delete_endpoint(EndpointName="line")
    wait_until(lambda: started not in running(docker.engine), "the container is gone")


def test_a_training_job_is_a_container_of_its_image_which_trains_the_script(
    cloud: Mapping[str, str], archive: str, directory: Path, docker: Docker
) -> None:
    script = (
        b"import os, pathlib, sys\n"
        b"word = pathlib.Path('/opt/ml/input/data/training/word').read_text()\n"
        b"pathlib.Path('/opt/ml/model/out').write_text(word + ' ' + ' '.join(sys.argv[1:]))\n"
        b"print('trained as', os.environ['TRAINING_JOB_NAME'], flush=True)\n"
    )
    source, s3, sagemaker = io.BytesIO(), boto3.client("s3"), boto3.client("sagemaker")
    with tarfile.open(fileobj=source, mode="w:gz") as tar:
        member = tarfile.TarInfo("train.py")
        member.size = len(script)
        tar.addfile(member, io.BytesIO(script))
    s3.put_object(Bucket=BUCKET, Key="source.tar.gz", Body=source.getvalue())
    s3.put_object(Bucket=BUCKET, Key="training/word", Body=b"read")
    channel = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/training/"}}
    sagemaker.create_training_job(
        TrainingJobName="in-the-image",
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": docker.image, "TrainingInputMode": "File"},
        HyperParameters={"sagemaker_submit_directory": f"s3://{BUCKET}/source.tar.gz", "depth": "2"},
        InputDataConfig=[{"ChannelName": "training", "DataSource": channel}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/trained"},
        ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )
    job: dict[str, Any] = {}

    def is_over() -> bool:
        job.update(sagemaker.describe_training_job(TrainingJobName="in-the-image"))
        return job["TrainingJobStatus"] != "InProgress"

    wait_until(is_over, "the job is over")
    assert job["TrainingJobStatus"] == "Completed", job
    model = s3.get_object(Bucket=BUCKET, Key="trained/in-the-image/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(model)) as tar:
        out = tar.extractfile("out")
        assert out is not None
        assert out.read() == b"read --depth 2"
    log = directory / "logs" / "training-jobs" / "in-the-image" / "algo-1.log"
    assert "trained as in-the-image" in log.read_text()


def test_the_image_follows_a_model_repository_in_a_bucket(
    cloud: Mapping[str, str], archive: str, trained: Job, docker: Docker
) -> None:
    """It holds boto3, and a container with no model data at all starts; what is published is served."""
    variables = {"TIDEGATE_MODEL_REPOSITORY": f"s3://{BUCKET}/live", "TIDEGATE_RELOAD_INTERVAL_S": "0.2"}
    serve("live", {"Image": docker.image, "Environment": variables})
    publish(trained.base_dir / "model", f"s3://{BUCKET}/live", "line")

    def published() -> bool:
        with contextlib.suppress(ClientError):  # model_not_found, until the next listing
            return bool(answer("live", CustomAttributes="model=line;version=1") == [3.0])
        return False

    wait_until(published, "the model that was published answers")
    boto3.client("sagemaker").delete_endpoint(EndpointName="live")


def test_cdk_deploy_builds_the_image_of_a_docker_asset_and_starts_it(
    cloud: Mapping[str, str], directory: Path, archive: str, docker: Docker, built: list[str], tmp_path: Path
) -> None:
    base = os.environ.get("BASE_IMAGE") or local_base(docker.engine)
    stage = tmp_path / "asset.toml"
    arguments = f"build_args = {{ BASE_IMAGE = {json.dumps(base)} }}" if base else ""
    stage.write_text(f"""
account = "{cloud["AWS_ACCOUNT_ID"]}"
region = "{cloud["AWS_REGION"]}"

[image]
build = "{ROOT}"
dockerfile = "container/Dockerfile"
{arguments}

[hosting]
mode = "realtime"

[retention]
keep_data = false
""")

    def run(*arguments: str) -> None:
        done = cdk(*arguments, "-c", f"stage={stage}", output=tmp_path / "cdk.out", cloud=cloud, timeout_s=400)
        assert done.returncode == 0, done.stdout + done.stderr

    run("bootstrap", f"aws://{cloud['AWS_ACCOUNT_ID']}/{cloud['AWS_REGION']}")
    run("deploy", "endpoint", "--exclusively", "--require-approval", "never", "-c", f"model_data_url={archive}")
    images = running(docker.engine)
    built += [images[name] for name in started_by(directory) if "container-assets" in images[name]]
    assert len(built) == 1
    assert answer("tidegate-asset") == [3.0]
