"""What keeps clients on this machine although they pass an address of AWS or have settings of their own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.local_cloud.conftest import Account
from tidegate.local_cloud.client_files import file_variables, write_client_files
from tidegate.local_cloud.environment import client_environment, shell_lines

WHO_AM_I = """
import boto3, sys
for address in sys.argv[1:]:
    print(boto3.client("sts", endpoint_url=address or None).get_caller_identity()["Arn"].rpartition("/")[2])
"""


def who_am_i(account: Account, *addresses: str, **more: str) -> list[str]:
    """The callers that a fresh process with the exported variables is told at the addresses; no way leads to AWS."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(account.cloud.directory), **account.cloud.environment, **more}
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", WHO_AM_I, *addresses]
    done = subprocess.run(command, env=bare | nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_address_of_aws_that_is_passed_for_sts_leads_to_this_cloud(account: Account) -> None:
    addresses = (
        "https://sts.us-east-1.amazonaws.com",
        "https://sts.amazonaws.com",
        "https://sts-fips.us-east-1.amazonaws.com:443",
        "https://sts.eu-central-1.amazonaws.com/",
        "https://sts.cn-north-1.amazonaws.com.cn",
    )
    assert who_am_i(account, *addresses) == ["local"] * len(addresses)


@pytest.mark.parametrize(
    "setting",
    [
        {"AWS_STS_REGIONAL_ENDPOINTS": "legacy"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    ],
)
def test_no_setting_of_the_callers_leads_sts_elsewhere(account: Account, setting: dict[str, str]) -> None:
    assert who_am_i(account, "", **setting) == ["local"]


def test_another_cloud_on_this_machine_is_still_reached_by_its_address(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_client_files(tmp_path, sts_url="http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DATA_PATH", file_variables(tmp_path)["AWS_DATA_PATH"])
    environment = account.cloud.environment
    session = boto3.Session("key", "secret", region_name="us-east-1")
    sts = session.client("sts", endpoint_url=environment["AWS_ENDPOINT_URL"])
    assert sts.get_caller_identity()["Account"] == environment["AWS_ACCOUNT_ID"]
    sts.close()
    rules = json.loads((tmp_path / "botocore/sts/2011-06-15/endpoint-rule-set-1.json").read_text())
    assert rules["rules"][-1]["endpoint"] == {"url": "http://127.0.0.1:9"}


def test_the_callers_own_data_path_is_kept_behind_ours_however_often_the_lines_are_evaluated(tmp_path: Path) -> None:
    ours = file_variables(tmp_path)

    def exported(caller: dict[str, str]) -> str:
        lines = dict(shlex.split(line)[1].split("=", 1) for line in shell_lines(ours, caller))
        return lines["AWS_DATA_PATH"]

    assert exported({}) == ours["AWS_DATA_PATH"]
    once = exported({"AWS_DATA_PATH": "/my/models:/other"})
    assert once == f"{ours['AWS_DATA_PATH']}:/my/models:/other"
    assert exported({"AWS_DATA_PATH": once}) == once


def test_an_address_for_one_service_in_the_callers_shell_is_unset() -> None:
    ours = client_environment(moto_url="http://m", sagemaker_url="http://s", region="us-east-1")
    caller = {"AWS_ENDPOINT_URL_IAM": "https://a", "AWS_ENDPOINT_URL_S3": "https://b", "AWS_ENDPOINT_URL_STS": ""}
    lines = shell_lines(ours, caller)
    assert "unset AWS_ENDPOINT_URL_IAM AWS_ENDPOINT_URL_STS" in lines
    assert "export AWS_ENDPOINT_URL_S3=http://m" in lines
