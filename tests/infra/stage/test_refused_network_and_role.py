"""What is said of networks, keys, alarms and the role that cannot be deployed: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import (
    BOUNDARY_UNKNOWN,
    ROLE,
    refusal,
    written,
)

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- network and alarms
    (
        {"network": 'vpc = "new"\ncidr = "999.0.0.0/16"'},
        "network.cidr='999.0.0.0/16' is not a range of /16 to /24; write one like '10.0.0.0/16'",
    ),
    (
        {"observability": 'topic_arn = "arn:aws:sns:eu-central-1:123456789012:on-call"\nemail = "ml@example.com"'},
        "observability.email='ml@example.com' is for a topic of the stage's own, and observability.topic_arn names "
        "another; subscribe it there, or remove one of the two",
    ),
    # --- network and key
    (
        {"network": 'vpc = "default"'},
        "network.vpc='default' is not a VPC; write 'new', or an id like 'vpc-0a1b2c3d'",
    ),
    (
        {"network": 'vpc = "new"\nsubnets = ["subnet-0a1b2c3d"]'},
        "network.subnets=['subnet-0a1b2c3d'] does not go with vpc = 'new'; remove one of the two",
    ),
    (
        {"network": 'vpc = "vpc-0a1b2c3d"\nsubnets = []\nsecurity_groups = ["sg-0a1b2c3d"]'},
        "network.subnets=[] is not a list of 1 to 16 subnets",
    ),
    (
        {"network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["public"]\nsecurity_groups = ["sg-0a1b2c3d"]'},
        "network.subnets[1]='public' is not a subnet; write an id like 'subnet-0a1b2c3d'",
    ),
    ({"network": "nat = true"}, "network does not say which; write vpc = 'new' or the id of a VPC"),
    *(
        (
            {"network": f'vpc = "new"\navailability_zones = {written}'},
            f"network.availability_zones={said} is neither a number from 2 to 6 nor different zones of one Region, six "
            "at most; write 2, or ['eu-central-1a', 'eu-central-1b']",
        )
        for written, said in (
            ("1", "1"),
            ("true", "true"),
            ('"eu-central-1a"', "'eu-central-1a'"),
            ("[]", "[]"),
            ('["a", "b"]', "['a', 'b']"),
            ('["euc1-az1"]', "['euc1-az1']"),
            ('["eu-central-1a", "eu-central-1a"]', "['eu-central-1a', 'eu-central-1a']"),
            ('["eu-central-1a", "eu-west-1a"]', "['eu-central-1a', 'eu-west-1a']"),
        )
    ),
    (
        {
            "network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
            "availability_zones = 2"
        },
        "network.availability_zones=2 is not a list of different zones of one Region; write it like ['eu-central-1a', "
        "'eu-central-1b']",
    ),
    (
        {
            "network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
            'availability_zones = ["eu-central-1a", "eu-central-1b"]'
        },
        "network.availability_zones=['eu-central-1a', 'eu-central-1b'] is more zones than the 1 of network.subnets can "
        "lie in; name those of the subnets",
    ),
    (
        {"encryption": 'key = "alias/mine"'},
        "encryption.key='alias/mine' is not a key; write 'aws', 'new' or the ARN of a KMS key (not of an alias)",
    ),
    (
        {
            "network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
            'subnets_owner = "1234"'
        },
        "network.subnets_owner='1234' is not an account; write its 12 digits in quotes",
    ),
    # --- the role
    (
        {"role": 'arn = "inference"'},
        "role.arn='inference' is not a role; write arn:aws:iam::ACCOUNT:role/NAME",
    ),
    (
        {"role": f'arn = "{ROLE}"\nmanaged_policies = ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]'},
        "role.managed_policies is for a role that the stage makes, and role.arn names one that is there; give it that "
        "right where it is looked after, or remove role.arn",
    ),
    (
        {"role": 'statements = [{ actions = ["s3:*"], resources = ["*"] }]'},
        "role.statements[1].actions[1]='s3:*' is not an action; write one like 'dynamodb:GetItem', without '*'",
    ),
    (
        {"role": 'statements = [{ actions = ["s3:GetObject"], resources = ["bucket/key"] }]'},
        "role.statements[1].resources[1]='bucket/key' is not an ARN; write one, or '*' where AWS knows none",
    ),
    (
        {"role": 'statements = [{ actions = [], resources = ["*"] }]'},
        "role.statements[1].actions=[] is not a list of 1 to 100 actions",
    ),
    (
        {"role": 'permissions_boundary = "boundary"'},
        "role.permissions_boundary='boundary' is not the ARN of a managed policy",
    ),
    ({"role": 'boundary = "x"'}, BOUNDARY_UNKNOWN),
]


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence
