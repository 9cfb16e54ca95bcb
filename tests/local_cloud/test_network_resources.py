"""A VPC with all that leads out of it: it is made with its stack, and goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.local_cloud.conftest import Account
from tests.local_cloud.test_stacks import Stack

KIND = "AWS::EC2::"


def ref(name: str) -> dict[str, str]:
    return {"Ref": name}


def network() -> dict[str, Any]:
    """As the CDK's Vpc writes it: a public and a private subnet, a NAT gateway, endpoints, a flow log."""
    vpc = {"VpcId": ref("Vpc")}
    resources: dict[str, tuple[str, dict[str, Any]]] = {
        "Vpc": ("VPC", {"CidrBlock": "10.20.0.0/16"}),
        "Gateway": ("InternetGateway", {}),
        "Attached": ("VPCGatewayAttachment", {**vpc, "InternetGatewayId": ref("Gateway")}),
        "Address": ("EIP", {"Domain": "vpc"}),
        "Nat": ("NatGateway", {"SubnetId": ref("Public"), "AllocationId": {"Fn::GetAtt": ["Address", "AllocationId"]}}),
        "Containers": ("SecurityGroup", {**vpc, "GroupDescription": "containers"}),
        "Endpoints": ("SecurityGroup", {**vpc, "GroupDescription": "endpoints"}),
        "FromContainers": (
            "SecurityGroupIngress",
            {
                "GroupId": {"Fn::GetAtt": ["Endpoints", "GroupId"]},
                "SourceSecurityGroupId": {"Fn::GetAtt": ["Containers", "GroupId"]},
                "IpProtocol": "tcp",
                "FromPort": 443,
                "ToPort": 443,
            },
        ),
        "S3": (
            "VPCEndpoint",
            {
                **vpc,
                "ServiceName": "com.amazonaws.us-east-1.s3",
                "RouteTableIds": [ref("PublicTable"), ref("PrivateTable")],
            },
        ),
        "Logs": (
            "VPCEndpoint",
            {
                **vpc,
                "ServiceName": "com.amazonaws.us-east-1.logs",
                "VpcEndpointType": "Interface",
                "SubnetIds": [ref("Private")],
                "SecurityGroupIds": [{"Fn::GetAtt": ["Endpoints", "GroupId"]}],
            },
        ),
    }
    for number, (name, way) in enumerate({"Public": "GatewayId", "Private": "NatGatewayId"}.items()):
        out = {"GatewayId": "Gateway", "NatGatewayId": "Nat"}[way]
        table = {"RouteTableId": ref(f"{name}Table")}
        resources |= {
            name: ("Subnet", {**vpc, "CidrBlock": f"10.20.{number}.0/24"}),
            f"{name}Table": ("RouteTable", vpc),
            f"{name}Associated": ("SubnetRouteTableAssociation", {**table, "SubnetId": ref(name)}),
            f"{name}Out": ("Route", {**table, "DestinationCidrBlock": "0.0.0.0/0", way: ref(out)}),
        }
    template = {name: {"Type": f"{KIND}{kind}", "Properties": said} for name, (kind, said) in resources.items()}
    template["PublicOut"]["DependsOn"] = ["Attached"]
    return {"Resources": template}


@pytest.fixture
def parts(account: Account) -> Callable[[], dict[str, list[str]]]:
    """What of a network the account has, by its ids."""
    ec2 = account.cloud.client("ec2")
    calls = {
        "Vpcs": ("describe_vpcs", "VpcId"),
        "Subnets": ("describe_subnets", "SubnetId"),
        "RouteTables": ("describe_route_tables", "RouteTableId"),
        "InternetGateways": ("describe_internet_gateways", "InternetGatewayId"),
        "NetworkInterfaces": ("describe_network_interfaces", "NetworkInterfaceId"),
        "SecurityGroups": ("describe_security_groups", "GroupId"),
        "Addresses": ("describe_addresses", "AllocationId"),
        "VpcEndpoints": ("describe_vpc_endpoints", "VpcEndpointId"),
    }

    def found() -> dict[str, list[str]]:
        gateways = [
            gateway["NatGatewayId"]
            for gateway in ec2.describe_nat_gateways()["NatGateways"]
            if gateway["State"] != "deleted"  # those are listed for some time
        ]
        others = {
            kind: sorted(each[name] for each in getattr(ec2, call)()[kind]) for kind, (call, name) in calls.items()
        }
        return others | {"NatGateways": gateways}

    return found


def test_a_vpc_with_its_endpoints_goes_with_its_stack(
    account: Account, parts: Callable[[], dict[str, list[str]]]
) -> None:
    before, stack = parts(), Stack(account, account.name("stack"))
    assert stack.create(network()) == "CREATE_COMPLETE", stack.events(stack.name)
    made = {kind: len(there) - len(before[kind]) for kind, there in parts().items()}
    assert made == {
        "Vpcs": 1,
        "Subnets": 2,
        "RouteTables": 3,  # with the main one
        "InternetGateways": 1,
        "NetworkInterfaces": 2,
        "SecurityGroups": 3,  # with the default one
        "Addresses": 1,
        "VpcEndpoints": 2,
        "NatGateways": 1,
    }
    stack.delete()
    assert parts() == before


def test_what_of_a_network_is_gone_already_does_not_hold_up_its_stack(
    account: Account, parts: Callable[[], dict[str, list[str]]]
) -> None:
    before, stack = parts(), Stack(account, account.name("stack"))
    assert stack.create(network()) == "CREATE_COMPLETE", stack.events(stack.name)
    ec2, there = account.cloud.client("ec2"), stack.resources()
    ec2.delete_route(RouteTableId=there["PublicTable"], DestinationCidrBlock="0.0.0.0/0")
    ec2.delete_vpc_endpoints(VpcEndpointIds=[there["Logs"]])
    ec2.detach_internet_gateway(InternetGatewayId=there["Gateway"], VpcId=there["Vpc"])
    stack.delete()
    assert parts() == before
