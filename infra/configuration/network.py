"""`[network]` and `[encryption]`: where containers run, and by whose key data is encrypted."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag

from tidegate.infra.configuration.value import KEY_ARN, LISTED, Account, Rule, Value, like, some

_Subnet = Annotated[str, like(r"subnet-[0-9a-f]{8,17}", "not a subnet; write an id like 'subnet-0a1b2c3d'")]
_SecurityGroup = Annotated[str, like(r"sg-[0-9a-f]{8,17}", "not a security group; write an id like 'sg-0a1b2c3d'")]


_ZONE = r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]"


def _is_range(value: str) -> bool:
    try:
        return 16 <= ipaddress.IPv4Network(value).prefixlen <= 24
    except ValueError:
        return False


def _are_zones(value: object) -> bool:
    """Names of different zones of one Region; a name is its Region's and a letter."""
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 6:
        return False
    if not all(isinstance(zone, str) and re.fullmatch(_ZONE, zone) for zone in value):
        return False
    return len(set(value)) == len(value) and len({zone[:-1] for zone in value}) == 1


def _are_zones_or_their_number(value: object) -> bool:
    return _are_zones(value) or (isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 6)


_ZONES = {
    "type": "array",
    "items": {"type": "string", "pattern": f"^{_ZONE}$"},
    "minItems": 1,
    "maxItems": 6,
    "uniqueItems": True,
}
_ZONES_OR_THEIR_NUMBER = {"anyOf": [{"type": "integer", "minimum": 2, "maximum": 6}, _ZONES]}
_LIKE_ZONES = "['eu-central-1a', 'eu-central-1b']"


class NewVpc(Value):
    """A VPC of the stage's own, with the endpoints that containers without a way to the internet need."""

    vpc: Literal["new"]
    """`new`: the stage has its own VPC. Or the id of an existing VPC."""
    nat: bool = False
    """On: containers reach the internet through one NAT gateway (paid by the hour and by the GB)."""
    availability_zones: Annotated[
        int | tuple[str, ...],
        LISTED,
        BeforeValidator(
            Rule(
                _are_zones_or_their_number,
                "neither a number from 2 to 6 nor different zones of one Region, six at most; write 2, or "
                f"{_LIKE_ZONES}",
                _ZONES_OR_THEIR_NUMBER,
            )
        ),
    ] = 2
    """2 to 6, to use the first zones of the Region; or a list of zone names, see [below](#zones)."""
    cidr: Annotated[
        str,
        AfterValidator(
            Rule(
                _is_range,
                "not a range of /16 to /24; write one like '10.0.0.0/16'",
                {"pattern": r"^([0-9]{1,3}\.){3}[0-9]{1,3}/(1[6-9]|2[0-4])$"},
            )
        ),
    ] = "10.0.0.0/16"
    """/16 to /24."""

    @property
    def named_zones(self) -> tuple[str, ...]:
        """The zones that the file names; none where it says how many."""
        return () if isinstance(self.availability_zones, int) else self.availability_zones

    @property
    def zone_count(self) -> int:
        """In how many zones there are subnets."""
        zones = self.availability_zones
        return zones if isinstance(zones, int) else len(zones)


class ExistingVpc(Value):
    """A VPC that somebody else looks after, by its ids. Numbers: API reference, VpcConfig."""

    vpc: Annotated[str, like(r"vpc-[0-9a-f]{8,17}", "not a VPC; write 'new', or an id like 'vpc-0a1b2c3d'")]
    """`new`: the stage has its own VPC. Or the id of an existing VPC."""
    subnets: Annotated[tuple[_Subnet, ...], LISTED, some(16, "subnets")]
    """A list of ids."""
    security_groups: Annotated[tuple[_SecurityGroup, ...], LISTED, some(5, "security groups")]
    """A list of ids."""
    subnets_owner: Account | None = None
    """The account that shares the subnets (Resource Access Manager), whose number is in their ARNs; not verified in an
    account.
    """
    availability_zones: Annotated[
        tuple[str, ...],
        LISTED,
        BeforeValidator(
            Rule(_are_zones, f"not a list of different zones of one Region; write it like {_LIKE_ZONES}", _ZONES)
        ),
    ] = ()
    """The names of the zones of the subnets; the [doctor](doctor.md) compares them with the subnets."""


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
    """`aws`: keys that AWS owns, free of charge. `new`: a KMS key of the stage, rotated every year. Or the ARN of a
    key.
    """
