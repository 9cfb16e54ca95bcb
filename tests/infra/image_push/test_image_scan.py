"""`tidegate image scan`: what Amazon ECR found is waited for, and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.image_push import command, scan
from tidegate.infra.image_push.media_types import DOCKER_MANIFEST
from tidegate.infra.image_push.scan import Hole
from tidegate.infra.models.ecr import EcrImage

DIGEST = f"sha256:{'0' * 64}"
IMAGE = EcrImage(account=ACCOUNT, region=REGION, name="tidegate-dev", reference=DIGEST)
ASKED = {"registryId": ACCOUNT, "repositoryName": "tidegate-dev", "imageId": {"imageDigest": DIGEST}}
BASIC = {
    "findings": [
        {
            "name": "CVE-2026-1",
            "severity": "MEDIUM",
            "attributes": [{"key": "package_name", "value": "zlib"}, {"key": "package_version", "value": "1.2"}],
        },
        {"name": "CVE-2026-2", "severity": "CRITICAL"},
        {"name": "CVE-2026-3", "severity": "UNDEFINED"},
    ]
}
ENHANCED = {
    "enhancedFindings": [
        {
            "severity": "HIGH",
            "title": "CVE-2026-4 - openssl",
            "packageVulnerabilityDetails": {
                "vulnerabilityId": "CVE-2026-4",
                "vulnerablePackages": [{"name": "openssl", "version": "3.0"}, {"name": "libssl", "version": "3.0"}],
            },
        }
    ]
}


@pytest.fixture
def ecr() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("ecr", REGION, aws_access_key_id="testing", aws_secret_access_key="testing")
    with Stubber(client) as answers:
        yield client, answers
        answers.assert_no_pending_responses()


def answer(answers: Stubber, status: str, findings: dict[str, Any] | None = None, **more: str) -> None:
    said = {"imageScanStatus": {"status": status} | more} | ({"imageScanFindings": findings} if findings else {})
    answers.add_response("describe_image_scan_findings", said, ASKED)


def test_a_scan_is_waited_for_until_it_is_over(ecr: tuple[Any, Stubber]) -> None:
    client, answers = ecr
    waits: list[float] = []
    answers.add_client_error("describe_image_scan_findings", "ScanNotFoundException", expected_params=ASKED)
    answer(answers, "PENDING")
    answer(answers, "IN_PROGRESS")
    answer(answers, "COMPLETE")
    answer(answers, "COMPLETE", BASIC)

    holes = scan.await_findings(client, IMAGE, timeout_s=600, sleep=waits.append)

    assert len(waits) == 3
    assert {(hole.severity, hole.name, hole.package) for hole in holes} == {
        ("medium", "CVE-2026-1", "zlib 1.2"),
        ("critical", "CVE-2026-2", ""),
        ("undefined", "CVE-2026-3", ""),
    }


def test_enhanced_scanning_is_over_while_it_is_active(ecr: tuple[Any, Stubber]) -> None:
    client, answers = ecr
    answer(answers, "ACTIVE")
    answer(answers, "ACTIVE", ENHANCED)

    assert scan.await_findings(client, IMAGE, timeout_s=0) == (
        Hole(severity="high", name="CVE-2026-4", package="libssl 3.0, openssl 3.0"),
    )


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("FAILED", f"the scan of {DIGEST} is FAILED (no such layer); see its image"),
        ("UNSUPPORTED_IMAGE", "is UNSUPPORTED_IMAGE (no such layer); see its image"),
        (
            "IN_PROGRESS",
            f"there is no scan of {DIGEST} after 0 s (IN_PROGRESS); the stage's repository scans every push",
        ),
    ],
)
def test_a_scan_that_does_not_end_well_is_one_sentence(status: str, sentence: str, ecr: tuple[Any, Stubber]) -> None:
    client, answers = ecr
    answer(answers, status, description="no such layer.")
    with pytest.raises(ConfigurationError) as caught:
        scan.await_findings(client, IMAGE, timeout_s=0)

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("fail_on", "accepted", "bad"),
    [
        ("critical", [], ["c"]),
        ("medium", [], ["m", "h", "c"]),
        ("medium", ["h"], ["m", "c"]),
        ("informational", [], ["m", "h", "c"]),
    ],
)
def test_what_is_bad_enough_and_not_accepted_fails(fail_on: str, accepted: list[str], bad: list[str]) -> None:
    holes = [
        Hole(severity=severity, name=severity[0], package="")
        for severity in ("undefined", "medium", "high", "critical")
    ]

    assert [hole.name for hole in scan.judged(holes, fail_on=fail_on, accepted=accepted)] == bad


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run the command for a stage with this table [image], in an account with one image."""

    def run(*words: str, image: str = 'tag = "1.4.0"') -> tuple[int, str, str]:
        path = tmp_path / "dev.toml"
        path.write_text(
            f'region = "{REGION}"\n[image]\n{image}\n[hosting]\nmode = "realtime"\n[retention]\nkeep_data = false\n',
            encoding="utf-8",
        )
        status = command.main(["scan", "--stage", str(path), *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    with mock_aws():
        ecr = boto3.client("ecr", REGION)
        ecr.create_repository(repositoryName="tidegate-dev")
        manifest = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": {"digest": "sha256:0"}, "layers": []}
        ecr.put_image(repositoryName="tidegate-dev", imageManifest=json.dumps(manifest), imageTag="1.4.0")
        ecr.start_image_scan(repositoryName="tidegate-dev", imageId={"imageTag": "1.4.0"})
        yield run


def test_the_command_fails_by_the_worst_finding_and_passes_what_is_accepted(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    """moto finds one hole of severity HIGH in every image."""
    status, out, err = run("--fail-on", "high")
    assert status == 1
    (line,) = out.splitlines()
    assert line.startswith("error    high ")
    name = line.split()[2]
    assert err == (
        "tidegate: error: tidegate-dev@1.4.0 has 1 finding that is high or worse; build it anew on a newer base "
        "image, or give --accept with the name of one that does not concern you.\n"
    )

    assert run()[0] == 0, "the default is critical"
    status, out, _ = run("--fail-on", "high", "--accept", name)
    assert status == 0
    assert out.startswith("accepted high ")


def test_a_name_that_accepts_nothing_is_told_and_one_finding_is_counted_as_one(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    status, out, err = run("--accept", "not-a-cve", "--accept", "not-a-cve")

    assert (status, out.splitlines()[-1]) == (0, "tidegate-dev 1.4.0: 1 finding, which does not fail")
    assert err == "tidegate: --accept='not-a-cve' is the name of no finding here; leave it out\n"


def test_a_scan_is_not_waited_for_longer_than_was_said(ecr: tuple[Any, Stubber]) -> None:
    client, answers = ecr
    waits: list[float] = []
    for _ in range(3):
        answer(answers, "PENDING")
    with pytest.raises(ConfigurationError, match=r"after 12\.5 s \(PENDING\)"):
        scan.await_findings(client, IMAGE, timeout_s=12.5, sleep=waits.append)

    assert sum(waits) == 12.5


@pytest.mark.parametrize("given", ["-1", "0", "nan", "inf", "1e400", "soon", ""])
def test_a_time_that_cannot_be_waited_is_no_argument(
    given: str, run: Callable[..., tuple[int, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(f"--timeout-s={given}")

    assert ended.value.code == 2
    assert f"argument --timeout-s: '{given}' is not a number of seconds above 0; write one like 600" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "image", "sentence"),
    [
        (["--digest", "1.4.0"], 'tag = "1.4.0"', "--digest='1.4.0' is not a digest; write 'sha256:'"),
        (["--digest", DIGEST], 'tag = "1.4.0"', "tidegate-dev"),
        ([], 'uri = "registry.example.com/serving:1"', "dev.toml names no image in Amazon ECR, whose scan this is"),
        (["--digest", DIGEST], 'uri = "registry.example.com/serving:1"', "dev.toml names no image in Amazon ECR"),
        ([], f'uri = "{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/other:1"', "amazonaws.com/other: AWS says"),
    ],
)
def test_what_cannot_be_scanned_is_one_sentence(
    words: list[str], image: str, sentence: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, err = run(*words, "--timeout-s", "1", image=image)

    assert status == 1
    assert sentence in err
    assert err.count("\n") == 1
