"""`tidegate smoke` before anything is made, and a run that does not go well: in moto, and in a stand-in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infra.smoke.test_questions import standing
from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.smoke import command
from tidegate.infra.smoke.account import Account, Operation, Traffic
from tidegate.infra.smoke.plan import plan
from tidegate.infra.smoke.questions import QUESTIONS, Verdict
from tidegate.infra.smoke.run import Run
from tidegate.infra.smoke.seen import Standing
from tidegate.infra.stage import stage_file

STAGE = f"""
region = "{REGION}"
image = {{ tag = "1.4.0" }}
hosting = {{ mode = "realtime" }}
retention = {{ keep_data = false }}
"""
TOPIC = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "dev.toml"
    path.write_text(STAGE, encoding="utf-8")
    return path


@pytest.fixture
def smoke(path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run the command in an account of moto's: status, standard output, standard error."""

    def smoke(*words: str) -> tuple[int, str, str]:
        status = command.main(["--stage", str(path), *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    with mock_aws():
        yield smoke


def stacks() -> list[str]:
    return [stack["StackName"] for stack in boto3.client("cloudformation", REGION).describe_stacks()["Stacks"]]


def test_nothing_is_made_without_the_account_s_number(
    smoke: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.md"
    for answer in ("yes", "", "210987654321"):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        status, out, err = smoke("--report", str(report))
        assert status == 1
        assert "AWS charges for them" in out
        assert err == f"tidegate: error: {answer!r} is not the number of this account, {ACCOUNT}; nothing was done.\n"
    assert stacks() == []
    assert boto3.client("s3", REGION).list_buckets()["Buckets"] == []
    assert not report.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--report is missing; name a file for the answers, such as docs/smoke-report.md"),
        (
            ["--report", "nosuch/folder/report.md", "--yes", ACCOUNT],
            "--report=nosuch/folder/report.md cannot be written",
        ),
        (
            ["--report", "report.json"],
            "--report=report.json does not end in .md; the same as JSON is written beside it",
        ),
        (["--report", "report.md", "--instance-type", "ml.x9.large"], "hosting.instance_type='ml.x9.large' is not"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_before_anything_is_made(
    words: list[str], sentence: str, smoke: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, err = smoke(*words)

    assert status == 1
    assert err.startswith(f"tidegate: error: {sentence}")
    assert err.count("\n") == 1
    assert stacks() == []


def test_what_is_there_already_is_not_touched(
    smoke: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of a run are drawn by chance; here chance repeats itself."""
    monkeypatch.setattr(command.secrets, "token_hex", lambda _: "abcdef")
    boto3.client("cloudformation", REGION).create_stack(StackName="tidegate-sabcdefr-endpoint", TemplateBody=TOPIC)
    sagemaker = boto3.client("sagemaker", REGION)
    role = f"arn:aws:iam::{ACCOUNT}:role/role"
    sagemaker.create_model(ModelName="model", ExecutionRoleArn=role, PrimaryContainer={"Image": "host/name:1"})
    variant = {"VariantName": "primary", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="tidegate-sabcdefc", EndpointConfigName="config")

    status, _, err = smoke("--report", str(tmp_path / "report.md"), "--yes", ACCOUNT)

    assert status == 1
    assert err == (
        "tidegate: error: stack tidegate-sabcdefr-endpoint, endpoint tidegate-sabcdefc: there already, so nothing was "
        "made; run this again.\n"
    )
    assert stacks() == ["tidegate-sabcdefr-endpoint"]
    assert sagemaker.describe_endpoint(EndpointName="tidegate-sabcdefc")["EndpointConfigName"] == "config"


def test_a_clean_up_deletes_what_a_run_has_left_and_nothing_else(smoke: Callable[..., tuple[int, str, str]]) -> None:
    cloudformation, s3 = boto3.client("cloudformation", REGION), boto3.client("s3", REGION)
    tag = {"Key": "tidegate-smoke", "Value": "abcdef"}
    for name, tags in (
        ("tidegate-sabcdefr-storage", [tag]),
        ("tidegate-sabcdefr-endpoint", [tag]),
        ("tidegate-dev-endpoint", []),
        ("tidegate-sabcdefc-endpoint", []),
        ("mine", [tag]),
        ("other-sabcdefr-endpoint", [tag]),
    ):
        cloudformation.create_stack(StackName=name, TemplateBody=TOPIC, Tags=tags)
    bucket = f"tidegate-sabcdefr-data-{ACCOUNT}-{REGION}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=bucket, Key="models/one/model.tar.gz", Body=b"1")

    assert smoke("--clean-up", "--yes", "no")[0] == 1
    assert len(stacks()) == 6

    status, out, err = smoke("--clean-up", "--yes", ACCOUNT)
    assert (status, err) == (0, "")
    assert "This deletes tidegate-sabcdefr-storage, tidegate-sabcdefr-endpoint, and all that their buckets hold." in out
    assert sorted(stacks()) == [
        "mine",
        "other-sabcdefr-endpoint",
        "tidegate-dev-endpoint",
        "tidegate-sabcdefc-endpoint",
    ]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    assert smoke("--clean-up")[:2] == (0, "no stack of a run is there\n")


class StandIn:
    """An account in which every stack comes up; what is asked of it is noted."""

    def __init__(self, *, is_local: bool = False, left: Sequence[str] = (), fails: str = "") -> None:
        self.is_local = is_local
        self.deployed: list[str] = []
        self.deleted: list[str] = []
        self._left = list(left)
        self._fails = fails
        self._config = ""

    def deploy(self, name: str, template: Mapping[str, Any], tags: Mapping[str, str]) -> Operation:
        assert tags["tidegate-smoke"] == "abcdef"
        self.deployed.append(name)
        if name.endswith(self._fails or "?"):
            return Operation(status="ROLLBACK_COMPLETE", failures=("Endpoint: quota exceeded",))
        if name.endswith("storage"):
            return Operation(status="CREATE_COMPLETE")
        first = self._config == ""
        self._config = template["Resources"]["Config"]["Properties"]["EndpointConfigName"]
        return Operation(status="CREATE_COMPLETE" if first else "UPDATE_COMPLETE")

    def put(self, bucket: str, key: str, body: bytes) -> None:
        assert bucket.startswith("tidegate-sabcdefr-data-")
        assert key.startswith("models/")
        assert body

    def standing(self, endpoint: str, *, component: bool) -> Standing | None:  # noqa: ARG002 - it has none
        return standing(config=self._config) if self._config.startswith(endpoint) else None

    def config_is_there(self, name: str) -> bool:
        return name == self._config

    def scale(self, endpoint: str, count: int) -> None:
        assert (endpoint, count) == ("tidegate-sabcdefr", 2)

    def traffic(self, endpoint: str, *, component: bool) -> Traffic:  # noqa: ARG002 - it answers whoever asks
        return Traffic(lambda: "one")

    def delete(self, stacks: Sequence[str], buckets: Sequence[str], log_groups: Sequence[str]) -> list[str]:
        self.deleted += [*stacks, *buckets, *log_groups]
        return self._left


def template(stage: Stage, unit: str) -> dict[str, Any]:
    """As the CDK makes one, with the names that count here."""
    config = {"EndpointConfigName": f"tidegate-{stage.name}-{Counter(str(stage.hosting)).total()}"}
    return {
        "Resources": {
            "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": config},
            "Model": {"Type": "AWS::SageMaker::Model", "Properties": {"ModelName": "model"}},
        }
    }


@pytest.fixture
def run_in(path: Path) -> Callable[[StandIn], Run]:
    """A run of every question in that account."""

    def run_in(cloud: StandIn) -> Run:
        planned = plan(stage_file.read(path), run="abcdef", account=ACCOUNT, region=REGION, instance_type="ml.m5.large")
        quiet: Callable[[object], None] = lambda _: None  # noqa: E731
        return Run(cloud, planned, QUESTIONS, synthesise=template, say=quiet, keep=quiet)

    return run_in


def test_an_endpoint_that_does_not_come_up_leaves_its_questions_open_and_the_others_are_asked(
    run_in: Callable[[StandIn], Run],
) -> None:
    cloud = StandIn(fails="sabcdefr-endpoint")
    run = run_in(cloud)
    run.ask()

    verdicts = {name: answer.verdict for name, answer in run.answers.items()}
    assert {verdicts.pop(name) for name in ("broken-model", "rollout-only", "scaling-removed", "alarm-rollback")} == {
        Verdict.NOT_SETTLED
    }
    assert "ROLLBACK_COMPLETE: Endpoint: quota exceeded" in run.answers["broken-model"].sentence
    assert verdicts == {"component-update": Verdict.DOES_NOT_HOLD}, "the stand-in has no components"
    assert cloud.deployed.count("tidegate-sabcdefr-endpoint") == 1, "a quota is not asked for four times"
    assert cloud.deleted.count("tidegate-sabcdefr-endpoint") == 1


def test_without_a_bucket_nothing_is_asked_and_what_may_be_there_is_deleted(
    run_in: Callable[[StandIn], Run],
) -> None:
    cloud = StandIn(fails="storage")
    run = run_in(cloud)
    with pytest.raises(ConfigurationError, match="tidegate-sabcdefr-storage is ROLLBACK_COMPLETE"):
        run.ask()
    run.tidy()

    assert {answer.verdict for answer in run.answers.values()} == {Verdict.NOT_SETTLED}
    assert {answer.sentence for answer in run.answers.values()} == {"The run ended before this question."}
    assert cloud.deployed == ["tidegate-sabcdefr-storage"]
    assert cloud.deleted == [
        "tidegate-sabcdefr-endpoint",
        "tidegate-sabcdefc-endpoint",
        "tidegate-sabcdefr-storage",
        f"tidegate-sabcdefr-data-{ACCOUNT}-{REGION}",
        f"tidegate-sabcdefr-logs-{ACCOUNT}-{REGION}",
        "/aws/sagemaker/Endpoints/tidegate-sabcdefr",
        "/aws/sagemaker/Endpoints/tidegate-sabcdefc",
        "/aws/sagemaker/InferenceComponents/tidegate-sabcdefc",
    ]


def test_what_could_not_be_deleted_is_named_and_no_success(
    smoke: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(left=["stack tidegate-sabcdefr-endpoint: it is DELETE_FAILED"])
    for name in ("deploy", "put", "standing", "config_is_there", "scale", "traffic", "delete"):
        monkeypatch.setattr(Account, name, staticmethod(getattr(stand_in, name)))
    monkeypatch.setattr(command.secrets, "token_hex", lambda _: "abcdef")
    monkeypatch.setattr(command, "synthesised", lambda stage, unit, **_: template(stage, unit))
    report = tmp_path / "report.md"

    status, _, err = smoke("--report", str(report), "--yes", ACCOUNT, "--question", "rollout-only")

    assert status == 1
    assert "left behind: stack tidegate-sabcdefr-endpoint: it is DELETE_FAILED\n" in err
    assert err.endswith("it may cost money; run this again with --clean-up.\n")
    assert "| left behind | stack tidegate-sabcdefr-endpoint: it is DELETE_FAILED |" in report.read_text(
        encoding="utf-8"
    )
