"""Processing jobs through plain boto3: a real process, its inputs and outputs below /opt/ml/processing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.training import LIMIT_S, await_line

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/process:1"
GROUP = "/aws/sagemaker/ProcessingJobs"
CODE = "/opt/ml/processing/input/code"
# The directory that plays /opt/ml, also where the kernel gives a process none of its own.
BASE = "import json, os, pathlib, signal, sys, time\nbase = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'])\n"


def start(account: Account, script: str, *arguments: str, **members: Any) -> str:
    """Starts a job that runs `python3 script.py ARGUMENT…`, as the SDK's ScriptProcessor does; returns its name."""
    name = account.name("processing")
    code = account.put(f"{name}/script.py", f"{BASE}{script}".encode())
    app: dict[str, Any] = {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", f"{CODE}/script.py"]}
    if arguments:
        app["ContainerArguments"] = list(arguments)
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": members.pop("InstanceCount", 1), "VolumeSizeInGB": 1}
    account.sagemaker.create_processing_job(
        **{
            "ProcessingJobName": name,
            "RoleArn": ROLE,
            "AppSpecification": app | members.pop("AppSpecification", {}),
            "ProcessingResources": {"ClusterConfig": cluster},
            "ProcessingInputs": [given("code", code, CODE), *members.pop("ProcessingInputs", [])],
            **members,
        }
    )
    return name


def given(name: str, uri: str, local_path: str, **members: str) -> dict[str, Any]:
    source = {"S3Uri": uri, "LocalPath": local_path, "S3DataType": "S3Prefix", "S3InputMode": "File", **members}
    return {"InputName": name, "S3Input": source}


def made(name: str, uri: str, local_path: str, mode: str = "EndOfJob") -> dict[str, Any]:
    return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": local_path, "S3UploadMode": mode}}


def ended(account: Account, name: str) -> dict[str, Any]:
    description: dict[str, Any] = {}

    def is_over() -> bool:
        description.clear()
        description.update(account.sagemaker.describe_processing_job(ProcessingJobName=name))
        return description["ProcessingJobStatus"] not in ("InProgress", "Stopping")

    await_true(is_over, f"processing job {name} ends", timeout_s=LIMIT_S)
    return description


@pytest.fixture
def place(account: Account) -> str:
    """A folder of the test's own."""
    return account.name("place")


def test_a_script_gets_its_inputs_and_its_outputs_go_to_s3(account: Account, place: str) -> None:
    for key in ("a.csv", "deep/b.csv"):
        account.put(f"{place}/in/{key}", key.encode())
    script = """
out = base / "processing/out"
(out / "deep").mkdir()
for file in (base / "processing/data").rglob("*.csv"):
    (out / "deep" / file.name).write_text(file.read_text().upper())
(out / "link").symlink_to(out / "deep" / "a.csv")
names = ("processingjobconfig", "resourceconfig")
config = {name: json.loads((base / f"config/{name}.json").read_text()) for name in names}
facts = [sys.argv[1:], os.environ["COLOUR"], os.environ["PROCESSING_JOB_ARN"], config]
(out / "facts.json").write_text(json.dumps(facts))
(base / "output/message").write_text("all is well")
print("processed")
"""
    name = start(
        account,
        script,
        "--share",
        "0.2",
        Environment={"COLOUR": "blue"},
        ProcessingInputs=[given("data", f"s3://{BUCKET}/{place}/in/", "/opt/ml/processing/data")],
        ProcessingOutputConfig={"Outputs": [made("out", f"s3://{BUCKET}/{place}/out", "/opt/ml/processing/out")]},
        Tags=[{"Key": "team", "Value": "blue"}],
    )
    job = ended(account, name)
    assert job["ProcessingJobStatus"] == "Completed", job
    assert job["ExitMessage"] == "all is well"
    assert job["ProcessingEndTime"] >= job["ProcessingStartTime"] >= job["CreationTime"]
    # A symbolic link is not followed, as on the platform.
    assert account.keys(f"{place}/out") == [f"{place}/out/{key}" for key in ("deep/a.csv", "deep/b.csv", "facts.json")]
    assert account.get(f"{place}/out/deep/b.csv") == b"DEEP/B.CSV"
    arguments, colour, arn, config = json.loads(account.get(f"{place}/out/facts.json"))
    assert (arguments, colour, arn) == (["--share", "0.2"], "blue", job["ProcessingJobArn"])
    assert config["processingjobconfig"]["ProcessingJobName"] == name
    assert config["resourceconfig"] == {"current_host": "algo-1", "hosts": ["algo-1"]}
    assert account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "blue"}]
    await_line(account, name, "processed", group=GROUP)
    listed = account.sagemaker.list_processing_jobs(NameContains=name)["ProcessingJobSummaries"]
    assert name in [item["ProcessingJobName"] for item in listed]


def test_a_continuous_output_goes_out_while_the_job_runs_and_a_stopped_job_ends(account: Account, place: str) -> None:
    script = "(base / 'processing/out/early').write_text('early')\nwhile True: time.sleep(0.05)\n"
    outputs = [made("out", f"s3://{BUCKET}/{place}/out", "/opt/ml/processing/out", "Continuous")]
    name = start(account, script, ProcessingOutputConfig={"Outputs": outputs})
    await_true(lambda: account.keys(f"{place}/out") == [f"{place}/out/early"], "the output is there", timeout_s=LIMIT_S)
    account.sagemaker.stop_processing_job(ProcessingJobName=name)
    assert ended(account, name)["ProcessingJobStatus"] == "Stopped"
    with pytest.raises(ClientError, match="the processing job is Stopped"):
        account.sagemaker.stop_processing_job(ProcessingJobName=name)


def test_a_job_that_takes_too_long_is_stopped(account: Account) -> None:
    job = ended(account, start(account, "time.sleep(600)\n", StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert job["ProcessingJobStatus"] == "Stopped"
    assert "MaxRuntimeInSeconds (1)" in job["FailureReason"]


def test_a_command_that_fails_gives_its_reason_and_its_message(account: Account, place: str) -> None:
    script = "(base / 'output/message').write_text('x' * 2000)\nsys.exit('no such column')\n"
    outputs = [made("out", f"s3://{BUCKET}/{place}/out", "/opt/ml/processing/out")]
    silent = start(account, "sys.exit(3)\n")
    job = ended(account, start(account, script, ProcessingOutputConfig={"Outputs": outputs}))
    said = ended(account, silent)["FailureReason"]
    assert said.startswith("AlgorithmError: the job's command ended with exit code 3 and said nothing")
    assert job["ProcessingJobStatus"] == "Failed"
    assert "no such column" in job["FailureReason"]
    assert job["FailureReason"].endswith(", exit code: 1")
    assert job["ExitMessage"] == "x" * 1024


def test_a_message_that_is_no_text_fails_the_job(account: Account) -> None:
    job = ended(account, start(account, "(base / 'output/message').write_bytes(bytes([255]))\n"))
    assert (job["ProcessingJobStatus"], job["FailureReason"]) == (
        "Failed",
        "ClientError: /opt/ml/output/message is not encoded in UTF-8.",
    )


def test_hosts_share_the_objects_of_an_input(account: Account, place: str) -> None:
    for number in range(3):
        account.put(f"{place}/in/{number}", b"")
    script = """
host = json.loads((base / "config/resourceconfig.json").read_text())["current_host"]
names = sorted(file.name for file in (base / "processing/data").iterdir())
(base / "processing/out" / host).write_text(" ".join(names))
"""
    shared = {"S3DataDistributionType": "ShardedByS3Key"}
    data = given("data", f"s3://{BUCKET}/{place}/in/", "/opt/ml/processing/data", **shared)
    outputs = [made("out", f"s3://{BUCKET}/{place}/out", "/opt/ml/processing/out")]
    job = ended(
        account,
        start(
            account,
            script,
            InstanceCount=2,
            ProcessingInputs=[data],
            ProcessingOutputConfig={"Outputs": outputs},
        ),
    )
    assert job["ProcessingJobStatus"] == "Completed", job
    assert account.get(f"{place}/out/algo-1") == b"0 2"
    assert account.get(f"{place}/out/algo-2") == b"1"


def test_an_input_that_is_not_there_fails_the_job(account: Account) -> None:
    data = given("data", f"s3://{BUCKET}/nothing-here/", "/opt/ml/processing/data")
    job = ended(account, start(account, "", ProcessingInputs=[data]))
    assert job["FailureReason"] == (
        f"ClientError: Failed to download data. Input data: there is no object at s3://{BUCKET}/nothing-here/"
    )


def test_a_job_without_a_command_says_what_is_missing(account: Account) -> None:
    name = account.name("processing")
    account.sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn=ROLE,
        AppSpecification={"ImageUri": IMAGE},
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}},
    )
    assert "the request names no ContainerEntrypoint" in ended(account, name)["FailureReason"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (given("x", f"s3://{BUCKET}/x", "/opt/ml/other"), "it must be a path below /opt/ml/processing."),
        (given("x", f"s3://{BUCKET}/x", "/opt/ml/processing/../x"), "it must be a path below /opt/ml/processing."),
        (given("code", f"s3://{BUCKET}/x", "/opt/ml/processing/x"), "The names of the inputs must differ: code, code."),
        ({"InputName": "x"}, "Processing input x needs S3Input."),
        (
            {"InputName": "x", "S3Input": {"S3Uri": f"s3://{BUCKET}/x", "S3DataType": "S3Prefix"}},
            "Processing input x needs LocalPath, because it is not AppManaged.",
        ),
    ],
)
def test_an_input_that_contradicts_itself_is_refused(account: Account, entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ClientError) as caught:
        start(account, "", ProcessingInputs=[entry])
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"].endswith(sentence)


def test_a_word_that_no_process_can_be_given_is_refused(account: Account) -> None:
    with pytest.raises(ClientError, match="ContainerArguments has a NUL character"):
        account.sagemaker.create_processing_job(
            ProcessingJobName=account.name("processing"),
            RoleArn=ROLE,
            AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["true"], "ContainerArguments": ["a\0b"]},
            ProcessingResources={
                "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
            },
        )


def test_a_job_that_nobody_created_is_not_found(account: Account) -> None:
    for call in (account.sagemaker.describe_processing_job, account.sagemaker.stop_processing_job):
        with pytest.raises(ClientError, match=r"\(ResourceNotFound\).*Could not find requested job with name: nobody"):
            call(ProcessingJobName="nobody")
