"""The archive that a deploy named is what the next one goes on with, and never lost without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from tests.infra.conftest import Synthesise
from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.model import ArchivedModel, DefaultArchive
from tidegate.infra.stage import context

ARCHIVE = "s3://team-models/mine/7/model.tar.gz"
NAME = "/tidegate/trial/model-archive"
PARAMETER = "AWS::SSM::Parameter"


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The context that chooses a stage whose file names no archive, with these lines more."""

    def stage(lines: str = "", *, mode: str = "realtime", **more: str) -> dict[str, str]:
        path = tmp_path / "trial.toml"
        path.write_text(
            f'{lines}\n[image]\ntag = "1"\n[hosting]\nmode = "{mode}"\n[retention]\nkeep_data = false\n',
            encoding="utf-8",
        )
        return {"stage": str(path)} | more

    return stage


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account that the CDK's command line has found credentials for."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", ACCOUNT)
    monkeypatch.setenv("CDK_DEFAULT_REGION", REGION)
    with mock_aws():
        yield


def remember(url: str = ARCHIVE) -> None:
    boto3.client("ssm", REGION).put_parameter(Name=NAME, Value=url, Type="String")


def test_a_stage_that_names_no_archive_goes_on_with_the_one_that_it_serves(
    account: None, stage: Callable[..., dict[str, str]]
) -> None:
    assert context.choose(stage("")).model == DefaultArchive()

    remember()
    assert context.choose(stage("")).model == ArchivedModel(archive=ARCHIVE)
    assert context.choose(stage("[model]\nsize_gib = 3")).model == ArchivedModel(archive=ARCHIVE, size_gib=3)


def test_what_the_command_line_or_the_file_names_comes_before_what_is_remembered(
    account: None, stage: Callable[..., dict[str, str]]
) -> None:
    remember()
    other = "s3://team-models/mine/8/model.tar.gz"

    assert context.choose(stage("", model_data_url=other)).model == ArchivedModel(archive=other)
    assert context.choose(stage(f'[model]\narchive = "{other}"')).model == ArchivedModel(archive=other)
    assert context.choose(stage("", mode="multi_model")).model == DefaultArchive()


def test_a_synthesis_without_an_account_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, stage: Callable[..., dict[str, str]]
) -> None:
    monkeypatch.delenv("CDK_DEFAULT_ACCOUNT", raising=False)

    assert context.choose(stage("")).model == DefaultArchive()


def test_credentials_of_another_account_are_no_reason_to_take_another_archive(
    account: None, stage: Callable[..., dict[str, str]]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        context.choose(stage('account = "210987654321"'))

    assert str(caught.value) == (
        f"the archive that stage trial serves is remembered in account 210987654321 ({NAME}), and the credentials here "
        f"are of {ACCOUNT}; set AWS_PROFILE to the right ones, or name the archive: -c model_data_url=s3://…, or "
        "[model] in the stage file"
    )
    unbootstrapped = stage('account = "210987654321"\nbootstrapped = false')
    assert context.choose(unbootstrapped).model == DefaultArchive(), "that one cannot be deployed from here"


def test_an_account_that_does_not_answer_stops_the_synthesis(
    account: None, stage: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy would otherwise take the endpoint back to models/model.tar.gz."""
    from botocore.exceptions import ClientError

    from tidegate.infra.models import remembered_archive

    class Forbidden:
        def get_caller_identity(self) -> dict[str, str]:
            return {"Account": ACCOUNT}

        def get_parameter(self, **_: str) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not for you."}}, "GetParameter")

    monkeypatch.setattr(remembered_archive, "_client", lambda *_: Forbidden())
    with pytest.raises(ConfigurationError) as caught:
        context.choose(stage(""))

    assert (
        f"is remembered in {NAME}, which cannot be read: AWS says 'not for you'; allow ssm:GetParameter, or name"
        in str(caught.value)
    )


def test_the_endpoint_s_stack_keeps_the_archive_once_the_endpoint_has_it(
    account: None, synthesise: Synthesise, stage: Callable[..., dict[str, str]]
) -> None:
    named = synthesise(**stage("", model_data_url=ARCHIVE))
    kept = named.templates["endpoint"].find_resources(PARAMETER, {"Properties": {"Name": NAME}})
    ((logical_id, resource),) = kept.items()
    (endpoint,) = named.templates["endpoint"].find_resources("AWS::SageMaker::Endpoint")
    assert resource["Properties"]["Value"] == ARCHIVE
    assert endpoint in resource["DependsOn"]

    remember()
    again = synthesise(**stage(""))
    assert again.templates["endpoint"].to_json() == named.templates["endpoint"].to_json(), "nothing to deploy"
    assert logical_id in again.templates["endpoint"].find_resources(PARAMETER)


def test_the_archive_that_nobody_named_is_not_kept(
    synthesise: Synthesise, stage: Callable[..., dict[str, str]]
) -> None:
    named = synthesise(**stage(""))

    assert not named.templates["endpoint"].find_resources(PARAMETER, {"Properties": {"Name": NAME}})
    assert "none of an earlier deploy is known here" in named.report
