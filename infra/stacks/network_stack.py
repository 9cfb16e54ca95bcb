"""Network: a VPC for the containers, with the ways out that they need and no others."""

from __future__ import annotations

from collections.abc import Iterable

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.stacks.interface_endpoints import interface_endpoints
from tidegate.infra.stacks.stage_stack import StageStack


class NetworkStack(StageStack):
    """A VPC of private subnets. Its ids are kept under names of ours, where the endpoint's stack reads them."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage, network: NewVpc) -> None:
        # Read by `availability_zones` below while the base class is being made.
        self._network = network
        super().__init__(scope, unit, stage=stage, description=f"Network of {stage.prefix} {stage.name}")
        private = ec2.SubnetType.PRIVATE_WITH_EGRESS if network.nat else ec2.SubnetType.PRIVATE_ISOLATED
        subnets = [ec2.SubnetConfiguration(name="containers", subnet_type=private)]
        if network.nat:
            subnets.append(ec2.SubnetConfiguration(name="nat", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=28))
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(network.cidr),
            max_azs=network.zone_count,
            nat_gateways=1 if network.nat else 0,
            subnet_configuration=subnets,
            # That would be a custom resource; nothing of ours is in the default security group.
            restrict_default_security_group=False,
        )
        if network.named_zones:
            # What CloudFormation's own check says of a zone that is written out.
            chosen = cdk.Acknowledgment(id="CloudFormation-Validate::W3010", reason="the stage file names the zones")
            cdk.Validations.of(self.vpc).acknowledge(chosen)
        self._log_flows()
        containers = ec2.SecurityGroup(
            self,
            "Containers",
            vpc=self.vpc,
            description=f"Containers of {stage.prefix} {stage.name}: HTTPS out, nothing in",
            allow_all_outbound=False,
        )
        containers.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.HTTPS, "S3, AWS and, with a NAT gateway, the internet")
        # Free of charge, so that models never pass a NAT gateway, which is paid by the GB.
        self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        if services := interface_endpoints(stage):
            self._add_interface_endpoints(containers, services)

        self._keep("subnets", [subnet.subnet_id for subnet in self._private(network)])
        self._keep("security-groups", [containers.security_group_id])
        self.output("VpcId", self.vpc.vpc_id, "Where the containers run")

    @property
    def availability_zones(self) -> list[str]:
        """Those of the stage file, or the first of the Region, so that synthesis need not ask an account."""
        if self._network.named_zones:
            return list(self._network.named_zones)
        return [cdk.Fn.select(index, cdk.Fn.get_azs()) for index in range(self._network.zone_count)]

    def _private(self, network: NewVpc) -> list[ec2.ISubnet]:
        return list(self.vpc.private_subnets if network.nat else self.vpc.isolated_subnets)

    def _add_interface_endpoints(self, containers: ec2.SecurityGroup, services: Iterable[str]) -> None:
        group = ec2.SecurityGroup(
            self, "Endpoints", vpc=self.vpc, description="HTTPS from the containers", allow_all_outbound=False
        )
        group.add_ingress_rule(containers, ec2.Port.HTTPS, "containers")
        for service in services:
            self.vpc.add_interface_endpoint(
                service,
                service=ec2.InterfaceVpcEndpointAwsService(service),
                security_groups=[group],
                open=False,
                private_dns_enabled=True,
            )

    def _log_flows(self) -> None:
        group = logs.LogGroup(
            self,
            "Flows",
            log_group_name=self.names.parameter("network"),
            retention=logs.RetentionDays.ONE_MONTH,
            # It has a fixed name, which would stop the next creation if it stayed.
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = iam.Role(
            self,
            "FlowsRole",
            # Source: VPC guide, IAM role for flow logs, confused deputy.
            assumed_by=iam.ServicePrincipal(
                "vpc-flow-logs.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            description="Writes who connected to whom",
            inline_policies={
                "write": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(
                            sid="WriteFlowLogs",
                            actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                            resources=[group.log_group_arn],
                        )
                    ]
                )
            },
        )
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=self.vpc.vpc_id,
            resource_type="VPC",
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.role_arn,
        )

    def _keep(self, name: str, ids: list[str]) -> None:
        ssm.CfnParameter(
            self,
            f"Parameter-{name}",
            name=self.names.parameter(name),
            type="StringList",
            value=cdk.Fn.join(",", ids),
            description=f"Read by {self.names.stack('endpoint')}",
        )
