"""Each finding by itself, over answers as plain data."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.doctor import (
    artifact_checks,
    capacity_checks,
    place_checks,
    reservation_checks,
    standing_checks,
    zone_checks,
)
from tidegate.infra.doctor.artifact_checks import CHECKED_BYTES, Object, Verdict
from tidegate.infra.doctor.capacity_checks import Quota
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, exit_status, ok, unknown
from tidegate.infra.doctor.reservation_checks import TrainingPlan
from tidegate.infra.doctor.standing_checks import Role, Taken, names_of
from tidegate.infra.doctor.subject import ENDPOINT, TRANSFORM, Need, Subject, needs
from tidegate.infra.image_push.media_types import DOCKER_MANIFEST
from tidegate.infra.image_push.registries import ImageConfiguration, Manifest
from tidegate.infra.stage import stage_file

ACCOUNT, REGION = "123456789012", "eu-central-1"
DIGEST = "sha256:" + "a" * 64
NO_ANSWER = Unanswered(reason="AWS says 'not authorized' (AccessDenied)")
OK, WARNING, UNKNOWN, ERROR = Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.ERROR


def stage(**changes: Any) -> Stage:
    table = {
        "name": "dev",
        "image": {"tag": "1.4.0"},
        "hosting": {"mode": "realtime"},
        "retention": {"keep_data": False},
    }
    return stage_file.parse(table | changes)


def subject(*, qualifier: str = "hnb659fds", **changes: Any) -> Subject:
    return Subject(stage=stage(**changes), argument="dev", account=ACCOUNT, region=REGION, qualifier=qualifier)


def said(finding: Finding) -> tuple[Severity, str, str | None]:
    assert finding.sentence.endswith((".", "?"))
    return finding.severity, finding.sentence, finding.command


def test_the_exit_status_is_that_of_the_worst_finding() -> None:
    fine = ok("a", "b", "c.")
    lost = unknown("a", "b", NO_ANSWER)
    wrong = Finding(check="a", asked="b", severity=ERROR, sentence="c.")
    warned = Finding(check="a", asked="b", severity=WARNING, sentence="c.")
    assert [exit_status(found) for found in ([fine, warned], [fine, lost], [wrong, lost], [])] == [0, 2, 1, 0]


def test_credentials_are_those_of_the_stage_s_account() -> None:
    assert place_checks.credentials(ACCOUNT, None).severity is OK
    assert place_checks.credentials(ACCOUNT, ACCOUNT).severity is OK
    assert said(place_checks.credentials(ACCOUNT, "2" * 12)) == (
        ERROR,
        f"The credentials are those of account {ACCOUNT}, and the stage belongs to 222222222222.",
        "aws configure list-profiles",
    )
    assert said(place_checks.credentials(NO_ANSWER, None)) == (
        UNKNOWN,
        "This could not be asked: AWS says 'not authorized' (AccessDenied).",
        "aws sts get-caller-identity",
    )
    nobody = place_checks.credentials(Unanswered(reason="Unable to locate credentials"), None)
    assert (nobody.severity, nobody.command) == (UNKNOWN, "aws configure")


def test_a_region_is_set_and_known() -> None:
    assert place_checks.region(REGION, {REGION}).severity is OK
    assert said(place_checks.region(None, {REGION}))[::2] == (ERROR, "export AWS_DEFAULT_REGION=eu-central-1")
    assert place_checks.region("eu-centrall-1", {REGION}).severity is WARNING


@pytest.mark.parametrize(
    ("version", "severity", "sentence"),
    [
        ("21", OK, "The bootstrap stack has version 21."),
        ("6", OK, "The bootstrap stack has version 6."),
        ("5", ERROR, "The bootstrap stack has version 5, and the stacks need 6."),
        (None, ERROR, f"aws://{ACCOUNT}/{REGION} has no bootstrap stack with the qualifier hnb659fds."),
        (NO_ANSWER, UNKNOWN, "This could not be asked: AWS says 'not authorized' (AccessDenied)."),
    ],
)
def test_a_bootstrap_is_there_and_new_enough(
    version: str | Unanswered | None, severity: Severity, sentence: str
) -> None:
    command = None if severity is OK else f"cdk bootstrap aws://{ACCOUNT}/{REGION}"
    assert said(place_checks.bootstrap(subject(), version)) == (severity, sentence, command)


def test_a_bootstrap_is_looked_for_under_its_own_qualifier_and_not_where_none_is_needed() -> None:
    found = place_checks.bootstrap(subject(qualifier="mine"), None)
    assert found.asked == "ssm:GetParameter /cdk-bootstrap/mine/version"
    assert found.command == f"cdk bootstrap aws://{ACCOUNT}/{REGION} --qualifier mine"
    assert place_checks.bootstrap(subject(bootstrapped=False), None).severity is OK


@pytest.mark.parametrize(
    ("status", "severity", "command"),
    [
        ("ROLLBACK_COMPLETE", ERROR, "delete-stack"),
        ("DELETE_FAILED", ERROR, "delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", ERROR, "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", WARNING, "describe-stack-events"),
    ],
)
def test_a_stack_that_stands_in_the_way_is_named_with_the_way_out(
    status: str, severity: Severity, command: str
) -> None:
    (found,) = place_checks.stacks(subject(), {"storage": "CREATE_COMPLETE", "registry": status})
    assert found.severity is severity
    assert f"tidegate-dev-registry is in {status}" in found.sentence or "roll-back of stack" in found.sentence
    assert found.command == f"aws cloudformation {command} --stack-name tidegate-dev-registry --region {REGION}"


def test_stacks_that_are_fine_are_one_finding() -> None:
    there = {"storage": "CREATE_COMPLETE", "endpoint": "UPDATE_ROLLBACK_COMPLETE"}
    (found,) = place_checks.stacks(subject(), there)
    assert said(found) == (OK, "No stack of the stage stands in the way; there are: storage, endpoint.", None)
    (found,) = place_checks.stacks(subject(), NO_ANSWER)
    assert found.severity is UNKNOWN


REALTIME = {"mode": "realtime", "instance_type": "ml.g6.xlarge", "instance_count": 2}
POOLED = {
    "mode": "realtime",
    "instance_count": 2,
    "instance_pools": [{"instance_type": "ml.g6.xlarge"}, {"instance_type": "ml.g5.xlarge"}],
}


@pytest.mark.parametrize(
    ("hosting", "wanted"),
    [
        (REALTIME, [("ml.g6.xlarge", 2, 4)]),
        (REALTIME | {"scaling": {"min_instances": 2, "max_instances": 5}}, [("ml.g6.xlarge", 2, 10)]),
        ({"mode": "serverless"}, []),
        (
            {
                "mode": "component",
                "instance_type": "ml.g6.xlarge",
                "max_instances": 3,
                "copies": {"min_memory_mib": 1024},
            },
            [("ml.g6.xlarge", 1, 3)],
        ),
        (
            REALTIME
            | {
                "variants": [
                    {"name": "a", "weight": 1},
                    {"name": "b", "weight": 1, "instance_type": "ml.g5.xlarge", "instance_count": 1},
                ]
            },
            [("ml.g6.xlarge", 2, 4), ("ml.g5.xlarge", 1, 2)],
        ),
        (REALTIME | {"shadow": {"instance_count": 1}}, [("ml.g6.xlarge", 3, 6)]),
        (REALTIME | {"rollout": {"strategy": "rolling", "percent": 50}}, [("ml.g6.xlarge", 2, 3)]),
        ({"mode": "multi_model", "instance_type": "ml.m7i.xlarge"}, [("ml.m7i.xlarge", 1, 2)]),
        (POOLED, [("ml.g6.xlarge", 2, 4), ("ml.g5.xlarge", 2, 4)]),
    ],
)
def test_a_blue_green_update_takes_twice_the_instances(
    hosting: dict[str, Any], wanted: list[tuple[str, int, int]]
) -> None:
    found = needs(stage(hosting=hosting))
    assert [(need.instance_type, need.first, need.most) for need in found] == wanted
    assert {need.use for need in found} <= {ENDPOINT}


def test_a_type_that_stands_in_for_another_is_no_reason_not_to_deploy() -> None:
    """Neither its quota nor its zones, although SageMaker could then not fall back to it."""
    first, other = needs(stage(hosting=POOLED))
    assert (first.instead_of, other.instead_of) == (None, "ml.g6.xlarge")
    name = "ml.g5.xlarge for endpoint usage"
    found = capacity_checks.quota(subject(), other, {name: Quota(code="L-1", value=1)})
    assert said(found)[:2] == (
        WARNING,
        f"The quota '{name}' is 1, so not all 2 could be of this type where ml.g6.xlarge is short.",
    )
    for offered in (set[str](), {"c"}):
        zones = zone_checks.instances(
            subject(network={"vpc": "new"}),
            "ml.g5.xlarge",
            offered,
            {"a": "a"},
            usable={"a"},
            instead_of="ml.g6.xlarge",
        )
        assert zones.severity is WARNING


def test_a_quota_is_no_reason_not_to_deploy_what_a_reservation_holds() -> None:
    (need,) = needs(stage(hosting=REALTIME | {"capacity_reservation": PLAN}))
    assert need.reserved
    found = capacity_checks.quota(subject(), need, {"ml.g6.xlarge for endpoint usage": Quota(code="L-1", value=0)})
    assert found.severity is WARNING
    assert "takes 4 at most, if those of its reservation count." in found.sentence


def test_transform_jobs_have_a_quota_of_their_own() -> None:
    (_, found) = needs(stage(batch={"instance_type": "ml.m5.2xlarge", "instance_count": 3}))
    assert capacity_checks.quota_name(found) == "ml.m5.2xlarge for transform job usage"
    assert (found.use, found.first, found.most) == (TRANSFORM, 3, 3)


NEED = Need(instance_type="ml.g6.xlarge", use=ENDPOINT, first=2, most=4)
NAME = "ml.g6.xlarge for endpoint usage"


@pytest.mark.parametrize(
    ("value", "severity", "sentence"),
    [
        (4, OK, f"The quota '{NAME}' is 4, and the stage takes 4 at most; other endpoints count too."),
        (3, WARNING, f"The quota '{NAME}' is 3: enough to start 2, and too few for the 4 of an update or of the peak."),
        (0, ERROR, f"The quota '{NAME}' is 0, and the stage starts 2 instances."),
    ],
)
def test_a_quota_has_room_for_the_start_and_for_an_update(value: float, severity: Severity, sentence: str) -> None:
    command = (
        "aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code L-1"
        f" --desired-value 4 --region {REGION}"
    )
    found = capacity_checks.quota(subject(), NEED, {NAME: Quota(code="L-1", value=value)})
    assert said(found) == (severity, sentence, None if severity is OK else command)


@pytest.mark.parametrize("quotas", [{}, NO_ANSWER])
def test_a_quota_that_nobody_tells_is_unknown(quotas: dict[str, Quota] | Unanswered) -> None:
    found = capacity_checks.quota(subject(), NEED, quotas)
    assert found.severity is UNKNOWN
    assert found.command == f"aws service-quotas list-service-quotas --service-code sagemaker --region {REGION}"


PLAN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-plan/ours"
NOW = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)


def plan(**changes: Any) -> TrainingPlan:
    """One that holds what the stage below takes, for a month."""
    held: dict[str, Any] = {
        "status": "Active",
        "targets": ["endpoint"],
        "instance_types": ["ml.p5.48xlarge"],
        "total": 4,
        "available": 3,
        "end": NOW + datetime.timedelta(days=30),
    }
    return TrainingPlan(**held | changes)


@pytest.mark.parametrize(
    ("found", "severity", "words"),
    [
        (plan(), OK, "holds 4 x ml.p5.48xlarge until 2026-12-30 00:00 UTC, 3 of them free; the endpoint stops"),
        (plan(end=None), OK, "holds 4 x ml.p5.48xlarge, 3 of them free"),
        (plan(total=3), WARNING, "enough to start 2, and too few for the 4 of an update"),
        (
            plan(end=NOW + datetime.timedelta(days=2)),
            WARNING,
            "until 2026-12-02 00:00 UTC, and the endpoint stops serving",
        ),
        (plan(total=1), ERROR, "holds 1 instance, and the stage starts 2."),
        (plan(status="Scheduled"), ERROR, "ours is Scheduled, and must be Active"),
        (plan(targets=["training-job"]), ERROR, "ours is for training-job, and not for endpoints."),
        (plan(instance_types=["ml.p4d.24xlarge"]), ERROR, "holds ml.p4d.24xlarge, and the stage takes ml.p5.48xlarge."),
        (None, ERROR, "There is no training plan ours in eu-central-1."),
        (NO_ANSWER, UNKNOWN, "could not be asked"),
    ],
)
def test_a_training_plan_holds_what_the_endpoint_takes(found: Any, severity: Severity, words: str) -> None:
    hosting = {
        "mode": "realtime",
        "instance_type": "ml.p5.48xlarge",
        "instance_count": 2,
        "capacity_reservation": PLAN,
    }
    examined = subject(hosting=hosting)
    assert reservation_checks.arn_of(examined) == PLAN
    said = reservation_checks.reservation(examined, PLAN, found, needs(examined.stage), now=NOW)
    assert said.severity is severity
    assert words in said.sentence
    assert "training-plan" in (said.command or "training-plan")


def test_a_reservation_of_another_kind_is_told_of_by_nobody() -> None:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:ml-reservation/ours"
    assert reservation_checks.plan_name(arn) is None
    found = reservation_checks.reservation(subject(), arn, None, needs(stage()), now=NOW)
    assert (found.severity, found.asked) == (UNKNOWN, "nothing")


EXISTING = {
    "vpc": "vpc-0a1b2c3d",
    "subnets": ["subnet-0a1b2c3d", "subnet-1a1b2c3d"],
    "security_groups": ["sg-0a1b2c3d"],
}


@pytest.mark.parametrize(
    ("network", "offered", "used", "severity", "words"),
    [
        (None, {"a"}, {}, OK, "is offered in a"),
        (None, set(), {}, ERROR, "No zone of eu-central-1 offers ml.g6.xlarge"),
        (EXISTING, {"a", "b"}, {"s1": "a", "s2": "b"}, OK, "Every zone of the network"),
        (EXISTING, {"a"}, {"s1": "a", "s2": "b"}, WARNING, "not in subnets s2 of the network; choose subnets in a."),
        (EXISTING, {"c"}, {"s1": "a", "s2": "b"}, ERROR, "not in subnets s1, s2 of"),
        (
            {"vpc": "new"},
            {"b", "c"},
            {"a": "a", "b": "b"},
            WARNING,
            "not in zones a of the network; write availability_zones = ['b', 'c'] into [network].",
        ),
        (EXISTING, {"a"}, NO_ANSWER, UNKNOWN, "could not be asked"),
        (None, NO_ANSWER, {}, UNKNOWN, "could not be asked"),
    ],
)
def test_the_zones_of_the_network_offer_the_type(
    network: dict[str, Any] | None, offered: Any, used: Any, severity: Severity, words: str
) -> None:
    examined = subject() if network is None else subject(network=network)
    found = zone_checks.instances(
        examined, "ml.g6.xlarge", offered, used, usable=zone_checks.zones_that_have_all(offered)
    )
    assert found.severity is severity
    assert words in found.sentence
    assert severity is OK or "Values=g6.xlarge" in (found.command or "")


@pytest.mark.parametrize(
    ("zones", "taken"),
    [(2, {"a": "a", "b": "b"}), (["eu-central-1c"], {"eu-central-1c": "eu-central-1c"})],
)
def test_a_new_network_takes_the_first_zones_or_those_that_the_file_names(zones: Any, taken: dict[str, str]) -> None:
    network = stage(network={"vpc": "new", "availability_zones": zones}).network
    assert isinstance(network, NewVpc)
    assert zone_checks.zones_of_new_network(network, {"c", "a", "b"}) == taken


def test_the_zones_to_name_are_those_that_have_everything() -> None:
    assert zone_checks.zones_that_have_all({"a", "b"}, {"b", "c"}) == {"b"}
    assert zone_checks.zones_that_have_all({"a"}, NO_ANSWER) is None
    assert zone_checks.zones_that_have_all() is None


@pytest.mark.parametrize(
    ("supported", "used", "severity", "words"),
    [
        ({"sts": {"a", "b"}, "logs": {"a", "b", "c"}}, {"a": "a", "b": "b"}, OK, "Every zone of the network has"),
        ({"sts": {"a"}, "logs": {"a", "b"}}, {"a": "a", "b": "b"}, ERROR, "no endpoint of sts in b; write avail"),
        ({"sts": set(), "logs": {"a"}}, {"a": "a"}, ERROR, "no endpoint of sts in a; no zone of eu-central-1 has all"),
        (NO_ANSWER, {"a": "a"}, UNKNOWN, "could not be asked"),
        ({"sts": {"a"}}, NO_ANSWER, UNKNOWN, "could not be asked"),
    ],
)
def test_the_zones_of_the_network_have_the_endpoints_of_its_vpc(
    supported: Any, used: Any, severity: Severity, words: str
) -> None:
    answers = [supported] if isinstance(supported, Unanswered) else supported.values()
    usable = zone_checks.zones_that_have_all(*answers)
    found = zone_checks.interface_endpoints(subject(network={"vpc": "new"}), supported, used, usable=usable)
    assert found.severity is severity
    assert words in found.sentence


@pytest.mark.parametrize(
    ("used", "severity", "words"),
    [
        ({"s1": "b", "s2": "a"}, OK, "The subnets are in the zones that the file names: a, b."),
        ({"s1": "a", "s2": "c"}, ERROR, "The file names the zones a, b, and there is s2 in c."),
        ({"s1": "a", "s2": "a"}, ERROR, "None of the subnets is in b, which the file names."),
        (NO_ANSWER, UNKNOWN, "could not be asked"),
    ],
)
def test_subnets_that_are_there_lie_in_the_zones_that_the_file_names(used: Any, severity: Severity, words: str) -> None:
    found = zone_checks.subnets(subject(network=EXISTING), ("a", "b"), used)
    assert found.severity is severity
    assert words in found.sentence


ADDRESS = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/tidegate-dev:1.4.0"
PUSH = "tidegate image push --stage dev"


@pytest.mark.parametrize(
    ("manifest", "severity", "sentence", "command"),
    [
        (
            Manifest(media_type=DOCKER_MANIFEST, digest=DIGEST),
            OK,
            f"{ADDRESS} is there, {DIGEST}, as one Docker manifest.",
            None,
        ),
        (None, ERROR, f"There is no image {ADDRESS}.", PUSH),
        (
            Manifest(media_type="application/vnd.oci.image.index.v1+json", digest=DIGEST),
            ERROR,
            f"{ADDRESS} is an OCI index (application/vnd.oci.image.index.v1+json), which SageMaker refuses.",
            f"{PUSH} --tag NEXT",
        ),
        (NO_ANSWER, UNKNOWN, "This could not be asked: AWS says 'not authorized' (AccessDenied).", PUSH),
    ],
)  # fmt: skip
def test_an_image_is_there_in_the_form_that_sagemaker_takes(
    manifest: Any, severity: Severity, sentence: str, command: str | None
) -> None:
    assert said(artifact_checks.image(subject(), manifest, local=False)) == (severity, sentence, command)


def test_an_image_is_not_looked_for_where_nobody_pulls_or_pushes_it() -> None:
    assert artifact_checks.image(subject(), None, local=True).severity is OK
    built = artifact_checks.image(subject(image={"build": "."}), None, local=False)
    assert said(built) == (OK, "Nothing is to be pushed: 'cdk deploy' builds and pushes it.", None)


ARCHIVE = "s3://models/1/model.tar.gz"
THERE = Object(size_bytes=1000, region=REGION)


@pytest.mark.parametrize(
    ("found", "instance_type", "severity", "words"),
    [
        ("linux/amd64", "ml.g6.xlarge", OK, "is for linux/amd64, as the stage's instances are."),
        ("linux/arm64", "ml.g6.xlarge", ERROR, "is for linux/arm64, and the stage's instances are linux/amd64."),
        ("linux/amd64", "ml.c8g.large", ERROR, "is for linux/amd64, and the stage's instances are linux/arm64."),
        ("linux/arm64", "ml.c8g.large", OK, "is for linux/arm64"),
        (None, "ml.g6.xlarge", UNKNOWN, "says nothing of itself."),
        (NO_ANSWER, "ml.g6.xlarge", UNKNOWN, "could not be asked"),
    ],
)
def test_an_image_runs_on_the_processors_of_the_stage(
    found: Any, instance_type: str, severity: Severity, words: str
) -> None:
    examined = subject(hosting={"mode": "realtime", "instance_type": instance_type})
    said = ImageConfiguration(platform=found, labels={}) if isinstance(found, str) else found
    finding = artifact_checks.image_configuration(examined, said)
    assert finding.severity is severity
    assert words in finding.sentence
    assert severity is not ERROR or finding.command == "tidegate image push --stage dev --tag NEXT"


def test_a_stage_of_streams_in_both_directions_wants_an_image_that_says_so() -> None:
    examined = subject(hosting={"mode": "realtime", "bidirectional": True})
    label = "com.amazonaws.sagemaker.capabilities.bidirectional-streaming"

    def finding(labels: dict[str, str]) -> Finding:
        said = ImageConfiguration(platform="linux/amd64", labels=labels)
        return artifact_checks.image_configuration(examined, said)

    assert finding({label: "true"}).severity is OK
    assert finding({label: "false"}).severity is ERROR
    assert f"lacks the label {label}=true" in finding({}).sentence


def test_an_archive_is_there_and_in_the_same_region() -> None:
    examined = subject(model={"archive": ARCHIVE})
    assert said(artifact_checks.archive(examined, THERE)) == (OK, f"{ARCHIVE} is there, 1,000 bytes.", None)
    own = subject()
    missing = artifact_checks.archive(own, None)
    assert missing.severity is ERROR
    assert missing.command == (
        f"cdk deploy storage -c stage=dev && aws s3 cp model.tar.gz {own.archive} --region {REGION}"
    )
    assert said(artifact_checks.archive(examined, None)) == (
        ERROR,
        f"There is no archive {ARCHIVE}; its bucket is not the stage's, and no stack makes it.",
        f"aws s3 cp model.tar.gz {ARCHIVE} --region {REGION}",
    )
    elsewhere = artifact_checks.archive(examined, Object(size_bytes=1, region="us-east-1"))
    assert elsewhere.severity is ERROR
    assert "is in us-east-1, and SageMaker takes models from its own Region, eu-central-1" in elsewhere.sentence
    assert artifact_checks.archive(examined, NO_ANSWER).severity is UNKNOWN


def test_the_default_archive_lies_in_the_stage_s_own_bucket() -> None:
    assert subject().archive == f"s3://tidegate-dev-data-{ACCOUNT}-{REGION}/models/model.tar.gz"
    many = artifact_checks.archive(subject(hosting={"mode": "multi_model"}), None)
    assert many.severity is OK
    assert "were not looked at: run 'tidegate check' on each of them" in many.sentence
    assert subject(model={"repository": "s3://models/live"}).archive is None
    assert artifact_checks.archive(subject(model={"repository": "s3://models/live"}), None).severity is OK


@pytest.mark.parametrize(
    ("verdict", "size_bytes", "severity", "words"),
    [
        (Verdict(error=None), 1, OK, "The model loads, and may take traffic."),
        (Verdict(error=None, warnings=("A. Do B.",)), 1, WARNING, "A. Do B."),
        (Verdict(error="There is no model."), 1, ERROR, "The model may take no traffic: There is no model."),
        (None, CHECKED_BYTES + 1, WARNING, "was not loaded, because it has 2,147,483,649 bytes"),
        (None, 1, WARNING, "was not loaded, because the command line said so"),
        (NO_ANSWER, 1, UNKNOWN, "could not be asked"),
    ],
)
def test_an_archive_is_looked_into(verdict: Any, size_bytes: int, severity: Severity, words: str) -> None:
    examined = subject(model={"archive": ARCHIVE})
    (found,) = artifact_checks.layout(examined, Object(size_bytes=size_bytes, region=REGION), verdict)
    assert found.severity is severity
    assert words in found.sentence
    assert found.command == (None if severity is OK else f"tidegate check {ARCHIVE}")


def test_what_is_not_there_is_not_looked_into() -> None:
    assert artifact_checks.layout(subject(), None, None) == []
    assert artifact_checks.layout(subject(), NO_ANSWER, None) == []


def trust(**statement: Any) -> dict[str, Any]:
    base = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return {"Statement": [base | statement]}


@pytest.mark.parametrize(
    "policy",
    [
        trust(),
        trust(Principal={"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]}, Action=["sts:AssumeRole"]),
        {"Statement": trust()["Statement"][0]},
    ],
)
def test_a_role_that_sagemaker_may_take_on_is_fine(policy: dict[str, Any]) -> None:
    assert standing_checks.role(subject(), Role(name="r", trust=policy)).severity is OK


@pytest.mark.parametrize(
    "policy",
    [
        trust(Principal={"Service": "ec2.amazonaws.com"}),
        trust(Effect="Deny"),
        trust(Action="sts:TagSession"),
        trust(Principal={"AWS": "arn:aws:iam::123456789012:root"}),
        {"Statement": []},
    ],
)
def test_a_role_that_it_may_not_take_on_is_mended_by_a_policy(policy: dict[str, Any]) -> None:
    found = standing_checks.role(subject(), Role(name="r", trust=policy))
    assert found.severity is ERROR
    assert found.command is not None
    assert found.command.startswith("aws iam update-assume-role-policy --role-name r --policy-document '{")


def test_a_role_is_made_by_its_stack_and_may_be_gone_later() -> None:
    assert standing_checks.role(subject(), None).severity is OK
    assert standing_checks.role(subject(), NO_ANSWER).severity is UNKNOWN
    gone = standing_checks.role(subject(), Role(name="r", trust=None))
    assert (gone.severity, gone.command) == (ERROR, "cdk deploy endpoint -c stage=dev")


def test_a_role_of_the_account_s_own_is_not_made_by_a_stack() -> None:
    examined = subject(role={"arn": f"arn:aws:iam::{ACCOUNT}:role/own"})
    gone = standing_checks.role(examined, Role(name="own", trust=None))
    assert gone.command is not None
    assert gone.command.startswith("aws iam create-role --role-name own --assume-role-policy-document '{")


def test_a_name_is_free_or_the_stage_s_own() -> None:
    examined = subject()
    data, _, repository, endpoint, *_ = names_of(examined)
    assert (data.name, repository.name, endpoint.name) == (examined.bucket, "tidegate-dev", "tidegate-dev")
    assert standing_checks.name(examined, data, Taken.FREE, standing=False).severity is OK
    assert standing_checks.name(examined, data, Taken.IN_THIS_ACCOUNT, standing=True).severity is OK
    assert standing_checks.name(examined, data, NO_ANSWER, standing=False).severity is UNKNOWN
    left = standing_checks.name(examined, data, Taken.IN_THIS_ACCOUNT, standing=False)
    assert (left.severity, left.command) == (ERROR, "cdk import storage -c stage=dev")
    left = standing_checks.name(examined, endpoint, Taken.IN_THIS_ACCOUNT, standing=False)
    assert left.command == f"aws sagemaker delete-endpoint --endpoint-name tidegate-dev --region {REGION}"
    other = standing_checks.name(examined, data, Taken.ELSEWHERE, standing=True)
    assert (other.severity, other.command) == (ERROR, "write another prefix into dev.toml")


def test_named_log_groups_are_looked_for_where_a_stack_would_make_them() -> None:
    examined = subject(
        batch={"on_upload": True}, model_registry={"promotion": True}, network={"vpc": "new"}, model={"group": "g"}
    )
    assert {found.name for found in names_of(examined) if found.kind == "log group"} == {
        "/aws/sagemaker/Endpoints/tidegate-dev",
        "/tidegate/dev/network",
        "/aws/vendedlogs/states/tidegate-dev-batch",
        "/aws/vendedlogs/states/tidegate-dev-batch-intake",
        "/aws/vendedlogs/states/tidegate-dev-promotion",
    }
