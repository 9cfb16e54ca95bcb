"""Training jobs through plain boto3: a real process, fed from S3 and emptied into it."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud import training
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.test_private_opt_ml import UNSHARE, works
from tests.local_cloud.training import (
    archive_of,
    await_line,
    channel,
    completed,
    described,
    ended,
    failure,
    lines,
    secondary_statuses,
)
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.cloud import CloudError
from tidegate.local_cloud.processes import process_birth
from tidegate.local_cloud.sagemaker.container import free_port

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

SAVES = """
import json, os, pathlib, sys
facts = {
    "argv": sys.argv[1:],
    "variables": {k: v for k, v in os.environ.items() if k.startswith(("SM_", "TRAINING_", "AWS_")) or k == "COLOUR"},
    "config": {f.name: json.loads(f.read_text()) for f in pathlib.Path(os.environ["SM_INPUT_CONFIG_DIR"]).iterdir()},
}
pathlib.Path(os.environ["SM_MODEL_DIR"], "facts.json").write_text(json.dumps(facts))
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "curve.txt").write_text("down")
"""
READS = """
import json, os, pathlib
base = pathlib.Path(os.environ["SM_INPUT_DIR"], "data")
found = {str(f.relative_to(base)): f.read_text() for f in sorted(base.rglob("*")) if f.is_file()}
pathlib.Path(os.environ["SM_MODEL_DIR"], f"{os.environ['SM_CURRENT_HOST']}.json").write_text(json.dumps(found))
"""
PIPES = """
import json, os, pathlib
base = pathlib.Path(os.environ["SM_INPUT_DIR"], "data")
read = {name: [base.joinpath(f"{name}_{epoch}").read_text() for epoch in range(3)] for name in ("plain", "packed")}
pathlib.Path(os.environ["SM_MODEL_DIR"], "read.json").write_text(json.dumps(read))
"""
WAITS = """
import os, pathlib, signal, sys, time
model = pathlib.Path(os.environ["SM_MODEL_DIR"], "saved")
signal.signal(signal.SIGTERM, lambda *_: (model.write_text("in time"), sys.exit(0)))
print("waiting", flush=True)
while True:
    time.sleep(0.05)
"""
RESUMES = """
import os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["CHECKPOINTS"].replace("/opt/ml", str(pathlib.Path(os.environ["SM_MODEL_DIR"]).parent)))
place.mkdir(exist_ok=True)
last = place / "last"
epoch = int(last.read_text()) if last.exists() else 0
print(f"epoch={epoch}", flush=True)
if epoch == 0:
    signal.signal(signal.SIGTERM, lambda *_: (last.write_text("7"), sys.exit(0)))
    print("waiting", flush=True)
    while True:
        time.sleep(0.05)
pathlib.Path(os.environ["SM_MODEL_DIR"], "epoch").write_text(str(epoch))
"""
LEAVES_DAEMONS = """
import os, time
for leaves in (os.setsid, os.fork):  # a session of its own; a child of one that is gone, which founds a session then
    if os.fork() == 0:
        if leaves():
            os._exit(0)
        if leaves is os.fork:
            os.setsid()
        with open(os.environ["SM_MODEL_DIR"] + f"/{os.getpid()}", "w"):
            pass
        time.sleep(600)
        os._exit(0)
while len(os.listdir(os.environ["SM_MODEL_DIR"])) < 2:
    time.sleep(0.05)
"""
GATHERS = """
import json, os, pathlib, socket
import torch.distributed as dist
dist.init_process_group("gloo")
told = [None] * dist.get_world_size()
host = os.environ["SM_CURRENT_HOST"]
dist.all_gather_object(told, f"{host} {socket.gethostbyname(host)}")
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["RANK"]).write_text(json.dumps(told))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def trained(account: Account) -> dict[str, Any]:
    data = account.put("trained/data/a.csv", b"1,2")
    return completed(
        account,
        SAVES,
        HyperParameters={"epochs": 3, "rate": 0.5},
        Environment={"COLOUR": "blue"},
        InputDataConfig=[channel("train", data, ContentType="text/csv")],
        Tags=[{"Key": "team", "Value": "blue"}],
    )


@pytest.fixture(scope="module")
def facts(account: Account, trained: dict[str, Any]) -> dict[str, Any]:
    """What the script of the trained job saw."""
    found: dict[str, Any] = json.loads(archive_of(account, trained["ModelArtifacts"]["S3ModelArtifacts"])["facts.json"])
    return found


def test_model_and_output_go_to_s3_as_archives(account: Account, trained: dict[str, Any]) -> None:
    name = trained["TrainingJobName"]
    assert trained["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/{name}/out/{name}/output/model.tar.gz"
    output = archive_of(account, f"s3://{BUCKET}/{name}/out/{name}/output/output.tar.gz")
    assert output == {"curve.txt": b"down"}


def test_the_script_gets_hyperparameters_channels_and_variables(trained: dict[str, Any], facts: dict[str, Any]) -> None:
    variables = facts["variables"]
    assert facts["argv"] == ["--epochs", "3", "--rate", "0.5"]
    assert variables["SM_CHANNEL_TRAIN"].endswith("/opt/ml/input/data/train")
    assert variables["TRAINING_JOB_NAME"] == trained["TrainingJobName"]
    assert variables["TRAINING_JOB_ARN"] == trained["TrainingJobArn"]
    assert variables["COLOUR"] == "blue"
    assert variables["AWS_ENDPOINT_URL_S3"].startswith("http://127.0.0.1:")


def test_the_configuration_is_on_disk_as_the_platform_writes_it(facts: dict[str, Any]) -> None:
    config = facts["config"]
    assert config["hyperparameters.json"]["epochs"] == "3"
    assert config["inputdataconfig.json"] == {
        "train": {
            "ContentType": "text/csv",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    assert config["resourceconfig.json"]["hosts"] == ["algo-1"]
    assert config["resourceconfig.json"]["current_instance_type"] == "ml.m5.large"


def test_a_job_is_described_with_the_statuses_that_it_went_through(trained: dict[str, Any]) -> None:
    assert secondary_statuses(trained) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(transition["EndTime"] >= transition["StartTime"] for transition in trained["SecondaryStatusTransitions"])
    assert trained["SecondaryStatus"] == "Completed"
    assert trained["TrainingEndTime"] >= trained["TrainingStartTime"] >= trained["CreationTime"]
    assert trained["TrainingTimeInSeconds"] >= 1
    assert trained["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert trained["EnableNetworkIsolation"] is False
    output = {"S3OutputPath": f"s3://{BUCKET}/{trained['TrainingJobName']}/out/"}
    assert trained["OutputDataConfig"] == {**output, "KmsKeyId": "", "CompressionType": "GZIP"}


def test_a_job_is_listed_and_has_its_tags(account: Account, trained: dict[str, Any]) -> None:
    name = trained["TrainingJobName"]
    found = account.sagemaker.list_training_jobs(NameContains=name, StatusEquals="Completed")["TrainingJobSummaries"]
    assert [item["TrainingJobName"] for item in found if item["TrainingJobName"] == name] == [name]
    tags = account.sagemaker.list_tags(ResourceArn=trained["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "blue"}]


def test_channels_hold_what_their_prefix_or_manifest_names(account: Account) -> None:
    place = account.name("data")
    for key in ("in/a.txt", "in/deep/b.txt", "in/folder/", "inner.txt"):
        account.put(f"{place}/{key}", key.encode())
    listed = [{"prefix": f"s3://{BUCKET}/{place}/"}, "in/deep/b.txt"]
    manifest = account.put(f"{place}/manifest", json.dumps(listed).encode())
    job = completed(
        account,
        READS,
        InputDataConfig=[
            channel("slash", f"s3://{BUCKET}/{place}/in/"),
            channel("bare", f"s3://{BUCKET}/{place}/in", InputMode="FastFile"),
            channel("single", f"s3://{BUCKET}/{place}/in/deep/b.txt"),
            channel("listed", manifest, "ManifestFile"),
        ],
    )
    found = json.loads(archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"])["algo-1.json"])
    assert found == {
        "slash/a.txt": "in/a.txt",
        "slash/deep/b.txt": "in/deep/b.txt",
        # A prefix is the beginning of keys, and no folder.
        "bare/a.txt": "in/a.txt",
        "bare/deep/b.txt": "in/deep/b.txt",
        "bare/inner.txt": "inner.txt",
        "single/b.txt": "in/deep/b.txt",
        "listed/in/deep/b.txt": "in/deep/b.txt",
    }


def test_pipes_give_all_objects_once_for_each_epoch(account: Account) -> None:
    place = account.name("data")
    long = "x" * 300_000  # more than a pipe holds
    account.put(f"{place}/plain/a", b"first,")
    account.put(f"{place}/plain/b", long.encode())
    account.put(f"{place}/packed/a.gz", gzip.compress(b"packed"))
    job = completed(
        account,
        PIPES,
        AlgorithmSpecification={"TrainingInputMode": "Pipe"},
        InputDataConfig=[
            channel("plain", f"s3://{BUCKET}/{place}/plain/"),
            channel("packed", f"s3://{BUCKET}/{place}/packed/", CompressionType="Gzip"),
        ],
    )
    read = json.loads(archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"])["read.json"])
    assert read == {"plain": [f"first,{long}"] * 3, "packed": ["packed"] * 3}


def test_metrics_are_found_in_the_output_and_go_to_cloudwatch(account: Account) -> None:
    job = completed(
        account,
        "print('loss=3'); print('loss=1.5; accuracy=nan'); print('accuracy=0.75', end='')",
        AlgorithmSpecification={
            "MetricDefinitions": [
                {"Name": "train:loss", "Regex": r"loss=([0-9.]+)"},
                {"Name": "accuracy", "Regex": r"accuracy=(\S+)"},
                {"Name": "absent", "Regex": r"absent=(\S+)"},
            ]
        },
    )
    assert {item["MetricName"]: item["Value"] for item in job["FinalMetricDataList"]} == {
        "train:loss": 1.5,
        "accuracy": 0.75,
    }
    cloudwatch = account.cloud.client("cloudwatch")
    found = cloudwatch.get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="train:loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": job["TrainingJobName"]}],
        StartTime=job["CreationTime"].replace(second=0, microsecond=0),
        EndTime=job["TrainingEndTime"].replace(year=job["TrainingEndTime"].year + 1),
        Period=86400,
        Statistics=["SampleCount", "Maximum"],
    )["Datapoints"]
    cloudwatch.close()
    assert sum(point["SampleCount"] for point in found) == 2
    assert max(point["Maximum"] for point in found) == 3
    assert lines(account, job["TrainingJobName"])[-3:] == ["loss=3", "loss=1.5; accuracy=nan", "accuracy=0.75"]


def test_an_expression_that_takes_too_long_is_given_up_and_holds_nobody_up(account: Account) -> None:
    definitions = [{"Name": "endless", "Regex": r"x=((a+)+)$"}, {"Name": "loss", "Regex": r"loss=([0-9.]+)"}]
    job = completed(
        account,
        f"print('loss=2'); print('x={'a' * 60}!'); print('loss=0.5')",
        AlgorithmSpecification={"MetricDefinitions": definitions},
    )
    assert {item["MetricName"]: item["Value"] for item in job["FinalMetricDataList"]} == {"loss": 0.5}
    said = [line for line in lines(account, job["TrainingJobName"]) if line.startswith("local cloud: ")]
    assert said == [
        "local cloud: the Regex of the metric definition endless takes too long on this output, and is not tried again"
    ]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("raise ValueError('no such column')", "no such column"),
        (
            "open(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('the data ' + 'x' * 5000); sys.exit(3)",
            "the data",
        ),
    ],
)
def test_a_script_that_fails_gives_its_reason_and_its_exit_code(account: Account, ends: str, said: str) -> None:
    reason = failure(account, f"import os, sys\n{ends}\n")
    assert reason.startswith("AlgorithmError: ")
    assert said in reason
    assert reason.endswith(f", exit code: {3 if 'sys.exit' in ends else 1}")
    assert len(reason) <= 1024


def test_a_command_of_the_requests_own_is_run_in_the_place_of_the_images(account: Account) -> None:
    data = account.put(
        f"{account.name('data')}/run.sh", b'printf "%s %s" "$1" "$TRAINING_JOB_NAME" > ../../../model/out'
    )
    job = completed(
        account,
        "",
        AlgorithmSpecification={
            "ContainerEntrypoint": ["/bin/sh", "-c"],
            "ContainerArguments": ['cd "$SAGEMAKER_BASE_DIR/input/data/code" && sh ./run.sh "$0"', "word"],
        },
        InputDataConfig=[channel("code", data)],
        OutputDataConfig={"CompressionType": "NONE"},
    )
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("/output/model/")
    name = job["TrainingJobName"]
    assert account.get(f"{name}/out/{name}/output/model/out").decode() == f"word {name}"


def test_a_command_that_is_not_there_fails_the_job(account: Account) -> None:
    reason = failure(account, "", AlgorithmSpecification={"ContainerEntrypoint": ["/no/such/program"]})
    assert "/no/such/program" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processes that adopt the children of others")
def test_nothing_that_a_job_has_started_outlives_it(account: Account) -> None:
    job = completed(account, LEAVES_DAEMONS)
    daemons = [int(name) for name in archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"])]
    assert [process_birth(daemon) for daemon in daemons] == [None, None]


def test_a_script_that_a_signal_ends_has_the_exit_code_of_a_shell(account: Account) -> None:
    assert failure(account, "import os; os.kill(os.getpid(), 9)").endswith(", exit code: 137")
    entry = {"ContainerEntrypoint": ["sh", "-c", "kill -9 $$"]}
    assert failure(account, "", AlgorithmSpecification=entry).endswith(", exit code: 137")


def test_a_job_that_is_stopped_keeps_what_it_saves(account: Account) -> None:
    name = training.start(account, WAITS)
    await_line(account, name, "waiting")
    account.sagemaker.stop_training_job(TrainingJobName=name)
    job = ended(account, name)
    assert job["TrainingJobStatus"] == "Stopped"
    assert secondary_statuses(job)[-4:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"saved": b"in time"}
    with pytest.raises(ClientError, match=r"The request was rejected because the training job is in status Stopped\."):
        account.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_job_is_stopped_when_its_time_is_over(account: Account) -> None:
    job = ended(account, training.start(account, WAITS, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_job_is_stopped_when_its_time_of_waiting_is_over(account: Account) -> None:
    limits = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    asked = {"EnableManagedSpotTraining": True, "StoppingCondition": limits}
    job = ended(account, training.start(account, WAITS, **asked))
    assert job["TrainingJobStatus"] == "Stopped"
    assert job["SecondaryStatus"] in ("MaxWaitTimeExceeded", "MaxRuntimeExceeded")  # both are over at once


@pytest.mark.parametrize("local_path", [None, "/opt/ml/other"])
def test_an_interrupted_job_starts_again_with_its_checkpoints(account: Account, local_path: str | None) -> None:
    place = account.name("checkpoints")
    config = {"S3Uri": f"s3://{BUCKET}/{place}"} | ({"LocalPath": local_path} if local_path else {})
    name = training.start(
        account,
        RESUMES,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
        CheckpointConfig=config,
        Environment={"CHECKPOINTS": local_path or "/opt/ml/checkpoints"},
    )
    await_line(account, name, "waiting")
    account.cloud.interrupt_training(name)
    job = ended(account, name)
    assert job["TrainingJobStatus"] == "Completed", job
    assert secondary_statuses(job) == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    assert archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"epoch": b"7"}
    assert account.get(f"{place}/last") == b"7"


def test_a_warm_pool_is_kept_and_taken_over_by_a_job_that_fits(account: Account) -> None:
    kept = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 3600, "VolumeSizeInGB": 77}}
    first = completed(account, "", **kept)
    assert first["WarmPoolStatus"]["Status"] == "Available"
    other = completed(account, "", ResourceConfig={"KeepAlivePeriodInSeconds": 3600, "VolumeSizeInGB": 78})
    assert described(account, first["TrainingJobName"])["WarmPoolStatus"]["Status"] == "Available", other
    second = completed(account, "", **kept)
    pool = described(account, first["TrainingJobName"])["WarmPoolStatus"]
    assert pool == {"Status": "Reused", "ReusedByJob": second["TrainingJobName"]}
    found = account.sagemaker.list_training_jobs(WarmPoolStatusEquals="Reused")["TrainingJobSummaries"]
    assert first["TrainingJobName"] in [item["TrainingJobName"] for item in found]


def test_hosts_share_objects_by_key_and_their_models_are_put_together(account: Account) -> None:
    place = account.name("data")
    for number in range(5):
        account.put(f"{place}/{number}", str(number).encode())
    source = {"S3DataDistributionType": "ShardedByS3Key"}
    job = completed(
        account,
        READS,
        ResourceConfig={"InstanceCount": 2},
        InputDataConfig=[channel("train", f"s3://{BUCKET}/{place}/", S3DataSource=source)],
    )
    found = archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"])
    assert {name: sorted(json.loads(content)) for name, content in found.items()} == {
        "algo-1.json": ["train/0", "train/2", "train/4"],
        "algo-2.json": ["train/1", "train/3"],
    }


def test_hosts_find_each_other_by_name_and_train_together(account: Account) -> None:
    if not any(works(*command) for command in UNSHARE.values()):
        pytest.skip("this machine gives a process no /etc/hosts of its own")
    job = completed(
        account,
        GATHERS,
        HyperParameters={"sagemaker_torch_distributed_enabled": True},
        ResourceConfig={"InstanceCount": 2},
        StoppingCondition={"MaxRuntimeInSeconds": 900},
    )
    found = archive_of(account, job["ModelArtifacts"]["S3ModelArtifacts"])
    told = json.loads(found["0"])
    assert json.loads(found["1"]) == told
    network = told[0].removeprefix("algo-1 ").removesuffix(".1")
    assert told == [f"algo-1 {network}.1", f"algo-2 {network}.2"]
    assert network.startswith("127.")


def test_two_jobs_at_once_listen_at_the_same_port_of_their_hosts(account: Account) -> None:
    if not any(works(*command) for command in UNSHARE.values()):
        pytest.skip("this machine gives a process no /etc/hosts of its own")
    script = (
        "import os, signal, socket\n"
        "port = int(os.environ['PORT'])\n"
        "listening = socket.create_server((os.environ['SM_CURRENT_HOST'], port))\n"
        "print('listening', flush=True)\n"
        "signal.pause()\n"
    )
    port = {"PORT": str(free_port())}
    jobs = [training.start(account, script, ResourceConfig={"InstanceCount": 2}, Environment=port) for _ in range(2)]
    for job in jobs:
        await_true(
            lambda job=job: lines(account, job).count("listening") == 2, f"{job} listens", timeout_s=training.LIMIT_S
        )
    for job in jobs:
        account.sagemaker.stop_training_job(TrainingJobName=job)
    assert [ended(account, job)["TrainingJobStatus"] for job in jobs] == ["Stopped", "Stopped"]


def test_a_host_that_fails_fails_the_job_and_ends_the_others(account: Account) -> None:
    script = (
        "import os, signal, sys\n"
        "if os.environ['SM_CURRENT_HOST'] == 'algo-2': sys.exit('the second host fails')\n"
        "signal.pause()\n"
    )
    assert "the second host fails" in failure(account, script, ResourceConfig={"InstanceCount": 2})


def test_eventbridge_hears_when_a_job_begins_and_how_it_ends(account: Account) -> None:
    name, events, sqs = account.name("heard"), account.cloud.client("events"), account.cloud.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    asked = training.request(account, "raise SystemExit('no such column')") | {"TrainingJobName": name}
    pattern = {"detail-type": ["SageMaker Training Job State Change"], "detail": {"TrainingJobName": [name]}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    account.sagemaker.create_training_job(**asked)
    heard: list[dict[str, Any]] = []

    def has_heard_the_end() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            heard.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return any(event["detail"]["TrainingJobStatus"] == "Failed" for event in heard)

    await_true(has_heard_the_end, "the end of the job is heard", timeout_s=training.LIMIT_S)
    by_status = {event["detail"]["TrainingJobStatus"]: event for event in heard}
    assert set(by_status) == {"InProgress", "Failed"}
    end = by_status["Failed"]
    assert end["resources"] == [described(account, name)["TrainingJobArn"]]
    assert "no such column" in end["detail"]["FailureReason"]
    assert end["detail"]["CreationTime"] == round(described(account, name)["CreationTime"].timestamp() * 1000)
    for client in (events, sqs):
        client.close()


def refusal(account: Account, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        training.start(account, "", **members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_input_without_objects_is_refused_as_the_service_refuses_it(account: Account) -> None:
    code, message = refusal(account, InputDataConfig=[channel("train", f"s3://{BUCKET}/nothing-here/")])
    assert code == "ValidationException"
    assert message.startswith(f'No S3 objects found under S3 URL "s3://{BUCKET}/nothing-here/" given in input data')
    assert f'the role "{ROLE}" has "s3:ListBucket" permissions on bucket "{BUCKET}"' in message
    code, message = refusal(account, InputDataConfig=[channel("train", "s3://no-such-bucket-anywhere/x")])
    assert (code, message.startswith("No S3 objects found")) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            {"EnableManagedSpotTraining": True},
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 5, "MaxWaitTimeInSeconds": 9}},
            "MaxWaitTimeInSeconds needs EnableManagedSpotTraining.",
        ),
        (
            {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "loss", "Regex": "loss=[0-9]+"}]}},
            "The Regex of the metric definition loss has no group in parentheses for the value.",
        ),
        (
            {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/c", "LocalPath": "/var/checkpoints"}},
            "LocalPath of CheckpointConfig is /var/checkpoints; it must be a path below /opt/ml.",
        ),
        (
            {"OutputDataConfig": {"S3OutputPath": "https://example.com/x"}},
            "S3OutputPath: https://example.com/x is not an s3:// address.",
        ),
        (
            {"AlgorithmSpecification": {"ContainerEntrypoint": ["sh"], "ContainerArguments": ["a\0b"]}},
            "ContainerArguments has a NUL character, which no process can be given.",
        ),
        ({"Environment": {"A": "a\0b"}}, "Environment has a NUL character, which no process can be given."),
        (
            {"Tags": [{"Key": "aws:team", "Value": "x"}]},
            "The tag key aws:team begins with aws:, which is reserved for AWS.",
        ),
        (
            {"Tags": [{"Key": "team", "Value": "x"}, {"Key": "team", "Value": "y"}]},
            "The tag key team is given more than once; the keys of a resource differ.",
        ),
        ({"ResourceConfig": {"InstanceCount": 0}}, "InstanceCount of ResourceConfig must be at least 1."),
        (
            {"ResourceConfig": {"InstanceCount": 1000}},
            "InstanceCount is 1000, and the local cloud runs each instance as a process of this machine: at most 32.",
        ),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(account: Account, members: dict[str, Any], sentence: str) -> None:
    assert refusal(account, **members) == ("ValidationException", sentence)


def every_request_with_one_member_less(request: Any) -> Iterator[Any]:
    items = request.items() if isinstance(request, dict) else enumerate(request) if isinstance(request, list) else ()
    for key, value in items:
        if isinstance(request, dict):
            yield {name: item for name, item in request.items() if name != key}
        for less in every_request_with_one_member_less(value):
            yield {**request, key: less} if isinstance(request, dict) else [*request[:key], less, *request[key + 1 :]]


def code_of(call: Callable[..., Any], request: dict[str, Any]) -> str | None:
    """The code with which a request is refused; None for one that is accepted."""
    try:
        call(**request)
    except ClientError as error:
        code: str = error.response["Error"]["Code"]
        return code
    return None


def test_a_request_without_a_member_is_accepted_or_refused(account: Account) -> None:
    """Clients that check nothing send such; each of them has an answer that names what it lacks, or makes a job."""
    nowhere = channel(
        "train", f"s3://{BUCKET}/nothing-here/", S3DataSource={"S3DataDistributionType": "ShardedByS3Key"}
    )
    full = training.request(account, "", InputDataConfig=[nowhere], Environment={"A": "b"})
    full["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=(.*)"}]
    full["CheckpointConfig"] = {"S3Uri": f"s3://{BUCKET}/c", "LocalPath": "/opt/ml/checkpoints"}
    limits = {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}
    ranges = {
        "IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "2", "ScalingType": "Linear"}],
        "CategoricalParameterRanges": [{"Name": "c", "Values": ["a"]}],
    }
    tuning = {
        "HyperParameterTuningJobName": "lacking",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": limits,
            "ParameterRanges": ranges,
        },
        "TrainingJobDefinition": {
            key: value
            for key, value in full.items()
            if key not in ("TrainingJobName", "HyperParameters", "Environment", "CheckpointConfig")
        },
    }
    place = {"S3Uri": f"s3://{BUCKET}/nothing-here/", "LocalPath": "/opt/ml/processing/x"}
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    processing = {
        "ProcessingJobName": "lacking",
        "RoleArn": ROLE,
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": training.IMAGE, "ContainerEntrypoint": ["true"]},
        "ProcessingInputs": [{"InputName": "x", "S3Input": {**place, "S3DataType": "S3Prefix"}}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "y", "S3Output": {**place, "S3UploadMode": "EndOfJob"}}]},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    with closing(account.cloud.client("sagemaker", config=Config(parameter_validation=False))) as raw:
        for call, request in (
            (raw.create_training_job, full),
            (raw.create_hyper_parameter_tuning_job, tuning),
            (raw.create_processing_job, processing),
        ):
            assert list(every_request_with_one_member_less(request))
            for number, less in enumerate(every_request_with_one_member_less(request)):
                unique = {key: f"{value}-{number}" for key, value in less.items() if key.endswith("JobName")}
                assert code_of(call, less | unique) in (None, "ValidationException"), less
        with pytest.raises(ClientError, match="AlgorithmSpecification needs TrainingImage"):
            raw.create_training_job(**{key: item for key, item in full.items() if key != "AlgorithmSpecification"})


def test_names_are_taken_once_and_missing_ones_are_not_found(account: Account, trained: dict[str, Any]) -> None:
    for name in (trained["TrainingJobName"], trained["TrainingJobName"].upper()):
        with pytest.raises(ClientError) as caught:
            account.sagemaker.create_training_job(**training.request(account, "") | {"TrainingJobName": name})
        assert caught.value.response["Error"] == {
            "Code": "ResourceInUse",
            "Message": "Training job names must be unique within an AWS account and region, and a training job with"
            f" this name already exists ({trained['TrainingJobArn']})",
        }
    for call in (account.sagemaker.describe_training_job, account.sagemaker.stop_training_job):
        with pytest.raises(ClientError, match=r"\(ValidationException\).*Requested resource not found\."):
            call(TrainingJobName="nobody")


def test_only_a_spot_job_that_trains_can_be_interrupted(account: Account, trained: dict[str, Any]) -> None:
    with pytest.raises(CloudError, match="has no EnableManagedSpotTraining"):
        account.cloud.interrupt_training(trained["TrainingJobName"])
    with pytest.raises(CloudError, match="Requested resource not found"):
        account.cloud.interrupt_training("nobody")


def test_a_script_that_does_not_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "cloud", limits={"job_stop_grace_s": 1}) as cloud:
        account = Account(cloud)
        deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)"
        name = training.start(account, f"{deaf}\nwhile True: time.sleep(60)\n")
        await_line(account, name, "deaf")
        account.sagemaker.stop_training_job(TrainingJobName=name)
        assert ended(account, name)["TrainingJobStatus"] == "Stopped"
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()
