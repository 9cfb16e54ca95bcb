"""`[network]` and `[encryption]`: where containers run, and by whose key data is encrypted."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Tag

from tidegate.infra.configuration.value import KEY_ARN, LISTED, Rule, Value, like, some, whole

_Subnet = Annotated[str, like(r"subnet-[0-9a-f]{8,17}", "not a subnet; write an id like 'subnet-0a1b2c3d'")]
_SecurityGroup = Annotated[str, like(r"sg-[0-9a-f]{8,17}", "not a security group; write an id like 'sg-0a1b2c3d'")]


def _is_range(value: str) -> bool:
    try:
        return 16 <= ipaddress.IPv4Network(value).prefixlen <= 24
    except ValueError:
        return False


class NewVpc(Value):
    """A VPC of the stage's own, with the endpoints that containers without a way to the internet need."""

    vpc: Literal["new"]
    # On, containers reach the internet through a NAT gateway, which is paid by the hour and by the GB.
    nat: bool = False
    availability_zones: Annotated[int, whole(2, 6)] = 2
    cidr: Annotated[str, AfterValidator(Rule(_is_range, "not a range of /16 to /24; write one like '10.0.0.0/16'"))] = (
        "10.0.0.0/16"
    )


class ExistingVpc(Value):
    """A VPC that somebody else looks after, by its ids. Numbers: API reference, VpcConfig."""

    vpc: Annotated[str, like(r"vpc-[0-9a-f]{8,17}", "not a VPC; write 'new', or an id like 'vpc-0a1b2c3d'")]
    subnets: Annotated[tuple[_Subnet, ...], LISTED, some(16, "subnets")]
    security_groups: Annotated[tuple[_SecurityGroup, ...], LISTED, some(5, "security groups")]
    # Of another account, which shares the subnets (Resource Access Manager): they keep its number in their ARNs.
    subnets_owner: Annotated[str, like(r"\d{12}", "not an account; write its 12 digits in quotes")] | None = None


def _kind(value: Any) -> str | None:
    vpc = value.get("vpc") if isinstance(value, dict) else getattr(value, "vpc", None)
    return vpc and ("new" if vpc == "new" else "existing")


Network = Annotated[
    Annotated[NewVpc, Tag("new")] | Annotated[ExistingVpc, Tag("existing")],
    Discriminator(_kind, custom_error_type="one_key", custom_error_message="vpc = 'new' or the id of a VPC"),
]


class Encryption(Value):
    """Whose key encrypts buckets, images, topics and volumes.

    `aws`: keys that AWS owns, without cost or say. `new`: a key of the stage's own, rotated every year. Else its ARN.
    """

    key: Annotated[
        str, like(rf"aws|new|{KEY_ARN}", "not a key; write 'aws', 'new' or the ARN of a KMS key (not of an alias)")
    ] = "aws"
