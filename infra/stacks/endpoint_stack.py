"""Endpoint: the models, what serves them, and the role that both run under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import aws_cdk as cdk
from aws_cdk import aws_ssm as ssm
from constructs import Construct, IConstruct

from tidegate.inference import settings
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import ComponentHosting, RealtimeHosting
from tidegate.infra.configuration.model import ApprovedModel, ArchivedModel, Piped, TrainedModel, UncompressedModel
from tidegate.infra.configuration.network import ExistingVpc, NewVpc
from tidegate.infra.hosting import log_group_names, modes
from tidegate.infra.hosting.adapters import component_of
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.endpoint import Endpoint
from tidegate.infra.hosting.log_groups import LogGroups
from tidegate.infra.hosting.monitor import DataQualityMonitor
from tidegate.infra.models import replaced_archive
from tidegate.infra.models.container_environment import codeartifact_arn
from tidegate.infra.models.remembered_archive import is_forgetful
from tidegate.infra.models.served_models import ServedModels, network_content
from tidegate.infra.rights.caller_rights import CallerRights
from tidegate.infra.rights.execution_role import ExecutionRole
from tidegate.infra.stacks.stage_stack import StageStack
from tidegate.infra.stage.names import (
    BATCH_INPUT_PREFIX,
    BATCH_LISTS,
    BATCH_MANIFESTS_PREFIX,
    BATCH_OUTPUT_PREFIX,
    MODELS_PREFIX,
)


class EndpointStack(StageStack):
    """One endpoint; batch transform jobs run the same model by its name."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage) -> None:
        super().__init__(scope, unit, stage=stage, description=f"Endpoint of {stage.prefix} {stage.name}")
        self._stage = stage
        self._bucket = self.names.bucket(self)
        subnets, security_groups = self._network()
        approved = self._approved_package() if isinstance(stage.model, ApprovedModel) else None
        role = self._make_role(in_network=bool(subnets))
        models = ServedModels(
            self,
            "Models",
            stage=stage,
            names=self.names,
            bucket=self._bucket,
            role=role,
            subnets=subnets,
            security_groups=security_groups,
            approved_arn=None if approved is None else approved.value_as_string,
        )
        endpoint = Endpoint(
            self,
            "Endpoint",
            plan=modes.plan(stage.hosting, size_gib=stage.model.size_gib),
            deployment=Deployment(
                endpoint_name=self.names.endpoint,
                model=models.main,
                variant_models=models.of_variants,
                role_arn=role.arn,
                bucket=self._bucket,
                key_arn=self.key_arn,
                subnets=tuple(subnets),
                security_groups=tuple(security_groups),
                network_content=network_content(stage.network),
                alarm_topic_arn=self._alarm_topic(),
            ),
        )
        self._allow(role, endpoint)
        logs = LogGroups(self, "Logs", retention_days=log_group_names.of_stage(stage, self.names.endpoint))
        for group in logs.groups:
            for writer in (endpoint.resource, endpoint.serves):
                writer.add_resource_dependency(group)
        serving = [models, endpoint, logs, *self._show(endpoint, models)]
        # Transform jobs refuse unpacked models, and name no container of a model.
        by_jobs = not (isinstance(stage.model, Piped) and stage.model.invocation == "direct")
        if endpoint.model_name is not None and by_jobs and not isinstance(stage.model, UncompressedModel):
            serving.append(self._keep_model_name(endpoint.model_name, after=endpoint.serves))
        if isinstance(stage.hosting, RealtimeHosting) and stage.hosting.monitor is not None:
            monitor = DataQualityMonitor(
                self,
                "Monitor",
                stage=stage,
                hosting=stage.hosting,
                monitor=stage.hosting.monitor,
                endpoint_name=self.names.endpoint,
                bucket=self._bucket,
                key_arn=self.key_arn,
                subnets=subnets,
                security_groups=security_groups,
                after=endpoint.resource,
            )
            name = self.output("MonitoringScheduleName", monitor.schedule_name, "For list_monitoring_executions")
            serving += [monitor, name]
        if is_forgetful(stage):
            self._warn_about_the_default_archive()
        elif isinstance(stage.model, ArchivedModel | TrainedModel) and models.main.archive is not None:
            self._remember_archive(models.main.archive, after=endpoint.serves)
        self._warn_about_unknown_variables()
        for model in (models.main, *models.of_variants.values()):
            replaced_archive.warn(model, region=stage.region)
        self.output("ExecutionRoleArn", role.arn, "The role of the endpoint and of transform jobs")
        self.output("BucketName", self._bucket, "models/, batch/input/ and batch/output/ are what the role may touch")
        if approved is not None:
            self._wait_for_approval(approved, serving)

    def _make_role(self, *, in_network: bool) -> ExecutionRole:
        role = ExecutionRole(
            self,
            "ExecutionRole",
            purpose=f"Endpoint {self.names.endpoint} and its batch transform jobs",
            log_groups=list(log_group_names.of_stage(self._stage, self.names.endpoint)),
            wanted=self._stage.role,
        )
        role.may_list("ListBucket", self._s3_arn(self._bucket))
        role.may_read("ReadModels", self._own(MODELS_PREFIX))
        role.may_read("ReadBatchInput", self._own(BATCH_INPUT_PREFIX))
        role.may_read("ReadBatchLists", self._s3_arn(self._bucket, BATCH_LISTS))
        role.may_write("WriteBatchOutput", self._own(BATCH_OUTPUT_PREFIX))
        if self._stage.batch is not None:
            role.may_read("ReadBatchManifests", self._own(BATCH_MANIFESTS_PREFIX))
        if self.key_arn is not None:
            role.may_use_key(self.key_arn)
        if in_network:
            network = self._stage.network
            owner = network.subnets_owner if isinstance(network, ExistingVpc) else None
            role.may_join_network(subnets_owner=owner)
        if (packages := codeartifact_arn(self._stage)) is not None:
            role.may_install_from(packages)
        return role

    def _allow(self, role: ExecutionRole, endpoint: Endpoint) -> None:
        """What only the mode knows."""
        if reads := endpoint.plan.reads_below:
            role.may_read("ReadForEndpoint", *(self._own(prefix) for prefix in reads))
        if writes := endpoint.plan.writes_below:
            role.may_write("WriteForEndpoint", *(self._own(prefix) for prefix in writes))
        if endpoint.publishes_to:
            role.may_publish_to(endpoint.publishes_to)
        if endpoint.rollback_alarm_arns:
            role.may_describe_alarms(endpoint.rollback_alarm_arns)
        hosting = self._stage.hosting
        if isinstance(hosting, ComponentHosting) and hosting.adapters:
            archives = [self._s3_arn(adapter.archive.removeprefix("s3://")) for adapter in hosting.adapters]
            role.may_read("ReadAdapters", *archives)

    def _network(self) -> tuple[Sequence[str], Sequence[str]]:
        """Subnets and security groups: of the stage file, or of the network stack by the names of its parameters."""
        match self._stage.network:
            case ExistingVpc() as network:
                return network.subnets, network.security_groups
            case NewVpc():
                return self._kept("subnets"), self._kept("security-groups")
            case _:
                return (), ()

    def _kept(self, name: str) -> list[str]:
        return ssm.StringListParameter.value_for_typed_list_parameter(self, self.names.parameter(name))

    def _approved_package(self) -> cdk.CfnParameter:
        """Its value is changed by the promotion and kept by `cdk deploy`, so neither takes back what the other did."""
        return cdk.CfnParameter(
            self,
            "ModelPackageArn",
            type="String",
            default="",
            allowed_pattern=r"|arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:model-package/[A-Za-z0-9-]+/\d+",
            description="The approved model package; empty until there is one, and so long there is no endpoint",
        )

    def _wait_for_approval(self, approved: cdk.CfnParameter, serving: Iterable[IConstruct]) -> None:
        """Before the first approval there is nothing to serve, so what serves is not made, and the role alone is."""
        there = cdk.CfnCondition(
            self, "IsApproved", expression=cdk.Fn.condition_not(cdk.Fn.condition_equals(approved.value_as_string, ""))
        )
        for construct in (one for root in serving for one in root.node.find_all()):
            if isinstance(construct, cdk.CfnResource):
                construct.cfn_options.condition = there
            elif isinstance(construct, cdk.CfnOutput):
                construct.condition = there
        self.output("ServedModelPackageArn", approved.value_as_string, "What the endpoint serves")

    def _alarm_topic(self) -> str | None:
        """Who hears when a new version is sent back: whoever hears of the other alarms."""
        observability = self._stage.observability
        if observability is None:
            return None
        return observability.topic_arn or self.format_arn(service="sns", resource=self.names.alarm_topic)

    def _keep_model_name(self, name: str, *, after: cdk.CfnResource) -> IConstruct:
        """Where transform jobs look when they start, those of the batch stack and those of people.

        It changes when the endpoint has: no job runs a model that the endpoint is still trying out.
        """
        parameter = ssm.CfnParameter(
            self,
            "ModelNameParameter",
            name=self.names.model_name_parameter,
            type="String",
            value=name,
            description="What transform jobs of the stage run",
        )
        parameter.add_resource_dependency(after)
        return parameter

    def _remember_archive(self, url: str, *, after: cdk.CfnResource) -> None:
        """For the next synthesis, if the stage file names none; `remembered_archive.recall` reads it."""
        parameter = ssm.CfnParameter(
            self,
            "ArchiveParameter",
            name=self.names.archive_parameter,
            type="String",
            value=url,
            description="What the endpoint serves, and what the next deploy goes on with",
        )
        parameter.add_resource_dependency(after)

    def _show(self, endpoint: Endpoint, models: ServedModels) -> Iterator[IConstruct]:
        yield self.output("EndpointName", endpoint.name, "For invoke_endpoint")
        yield self.output("EndpointConfigName", endpoint.config_name, "What the endpoint runs now")
        yield self.output("ModelName", models.main.name, "For create_transform_job")
        caller = CallerRights(
            self,
            "CallerRights",
            hosting=self._stage.hosting,
            endpoint_name=endpoint.name,
            bucket=self._bucket,
            key_arn=self.key_arn,
        )
        yield caller
        yield self.output("InvokePolicyArn", caller.arn, "For the roles of those who ask the endpoint")
        if endpoint.component_name is not None:
            yield self.output(
                "InferenceComponentName", endpoint.component_name, "For invoke_endpoint, beside EndpointName"
            )
        if isinstance(self._stage.hosting, ComponentHosting) and (adapters := self._stage.hosting.adapters):
            names = ",".join(component_of(endpoint.name, adapter) for adapter in adapters)
            yield self.output(
                "AdapterComponentNames", names, "In the place of InferenceComponentName, one for each adapter"
            )

    def _own(self, prefix: str) -> str:
        return self._s3_arn(self._bucket, f"{prefix}*")

    def _s3_arn(self, *parts: str) -> str:
        return self.format_arn(service="s3", region="", account="", resource="/".join(parts))

    def _warn_about_unknown_variables(self) -> None:
        """Those that the server would only tell its log of."""
        for name, hint in settings.unknown(self._stage.environment).items():
            cdk.Annotations.of(self).add_warning_v2(f"tidegate:unknown-variable:{name}", f"environment.{name}: {hint}")

    def _warn_about_the_default_archive(self) -> None:
        cdk.Annotations.of(self).add_warning_v2(
            "tidegate:default-model",
            f"no model archive is named, and none of an earlier deploy is known here, so {self.names.endpoint} takes "
            f"{MODELS_PREFIX}model.tar.gz of its bucket, and a new archive at that key would not reach it; give "
            f"-c model_data_url=s3://… or write [model] into the file of stage {self._stage.name}",
        )
