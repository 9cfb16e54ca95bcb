"""What a VPC is made of: moto makes these resources for a stack, and has no way to delete them with it.

It would leave them behind, and so could not delete the VPC either. They are deleted by the calls of EC2; what they are,
and how they are made, stays moto's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from tidegate.local_cloud.cloudformation.clients import client

_GONE = (".NotFound", ".NotAttached")


def delete(kind: str, resource: Any) -> bool:
    """Deletes a resource of moto's, if it is of one of these types. What is already gone is no error.

    Raises botocore's ClientError.
    """
    if kind not in _DELETIONS:
        return False
    try:
        _DELETIONS[kind](client("ec2"), resource)
    except ClientError as error:
        if not error.response["Error"]["Code"].endswith(_GONE):
            raise
    return True


def _delete_endpoint(ec2: Any, endpoint: Any) -> None:
    endpoint.vpc_endpoint_type = endpoint.vpc_endpoint_type or "Gateway"  # CloudFormation's default
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint.id])
    # moto lists it for ever as deleted, with security groups that are not there any more: then it cannot list any.
    endpoint.ec2_backend.vpc_end_points.pop(endpoint.id, None)


def _delete_nat_gateway(ec2: Any, gateway: Any) -> None:
    ec2.delete_nat_gateway(NatGatewayId=gateway.id)
    for address in gateway.nat_gateway_addresses:  # on AWS the interface goes with it
        ec2.delete_network_interface(NetworkInterfaceId=address["networkInterfaceId"])


def _delete_route(ec2: Any, route: Any) -> None:
    ec2.delete_route(RouteTableId=route.route_table.id, DestinationCidrBlock=route.destination_cidr_block)


def _detach(ec2: Any, attachment: Any) -> None:
    if str(attachment.gateway_id).startswith("igw-"):
        ec2.detach_internet_gateway(InternetGatewayId=attachment.gateway_id, VpcId=attachment.vpc_id)
    else:
        ec2.detach_vpn_gateway(VpnGatewayId=attachment.gateway_id, VpcId=attachment.vpc_id)


def _release(ec2: Any, address: Any) -> None:
    chosen = {"AllocationId": address.allocation_id} if address.allocation_id else {"PublicIp": address.public_ip}
    ec2.release_address(**chosen)


def _revoke(ec2: Any, ingress: Any) -> None:
    said = ingress.properties
    rule: dict[str, Any] = {"IpProtocol": str(said["IpProtocol"])}
    rule |= {name: int(said[name]) for name in ("FromPort", "ToPort") if name in said}
    if "CidrIp" in said:
        rule["IpRanges"] = [{"CidrIp": said["CidrIp"]}]
    if "SourceSecurityGroupId" in said:
        rule["UserIdGroupPairs"] = [{"GroupId": said["SourceSecurityGroupId"]}]
    ec2.revoke_security_group_ingress(GroupId=ingress.security_group.id, IpPermissions=[rule])


_DELETIONS: Mapping[str, Callable[[Any, Any], object]] = {
    "AWS::EC2::EIP": _release,
    "AWS::EC2::FlowLog": lambda ec2, log: ec2.delete_flow_logs(FlowLogIds=[log.id]),
    "AWS::EC2::InternetGateway": lambda ec2, gateway: ec2.delete_internet_gateway(InternetGatewayId=gateway.id),
    "AWS::EC2::NatGateway": _delete_nat_gateway,
    "AWS::EC2::NetworkInterface": lambda ec2, card: ec2.delete_network_interface(NetworkInterfaceId=card.id),
    "AWS::EC2::Route": _delete_route,
    "AWS::EC2::RouteTable": lambda ec2, table: ec2.delete_route_table(RouteTableId=table.id),
    "AWS::EC2::SecurityGroupIngress": _revoke,
    "AWS::EC2::VPCEndpoint": _delete_endpoint,
    "AWS::EC2::VPCGatewayAttachment": _detach,
    "AWS::EC2::VPCPeeringConnection": lambda ec2, peering: ec2.delete_vpc_peering_connection(
        VpcPeeringConnectionId=peering.id
    ),
    "AWS::EC2::VPNGateway": lambda ec2, gateway: ec2.delete_vpn_gateway(VpnGatewayId=gateway.id),
}
