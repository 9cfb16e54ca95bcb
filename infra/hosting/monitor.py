"""Model Monitor's data quality: jobs that compare what was captured with a baseline, by the clock.

SageMaker starts a processing job for each, under a role of its own. Since 30 July 2026 new customers of AWS cannot use
Model Monitor. Sources: SageMaker guide, "Schedule monitoring jobs", "Container contract inputs" and "Container contract
outputs".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import RealtimeHosting
from tidegate.infra.configuration.monitor import Monitor
from tidegate.infra.configuration.network import ExistingVpc
from tidegate.infra.configuration.role import Role
from tidegate.infra.hosting import instance_types, log_group_names
from tidegate.infra.hosting.analyzer_image import ANALYZER_ACCOUNTS, ANALYZER_REPOSITORY, analyzer_image
from tidegate.infra.hosting.deployment import wait_for
from tidegate.infra.models.image import repository_arn
from tidegate.infra.models.served_models import network_content
from tidegate.infra.rights.execution_role import ExecutionRole
from tidegate.infra.stage.names import content_name

_Cfn = sagemaker.CfnDataQualityJobDefinition

# As the guide has them; the job is told by its environment.
_CAPTURES, _REPORTS = "/opt/ml/processing/endpointdata", "/opt/ml/processing/resultdata"


class DataQualityMonitor(Construct):
    """A definition, which cannot be changed and so is called by its content, and the schedule that names it."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
        hosting: RealtimeHosting,
        monitor: Monitor,
        endpoint_name: str,
        # The stage's own.
        bucket: str,
        key_arn: str | None,
        subnets: Sequence[str],
        security_groups: Sequence[str],
        # The service looks whether the endpoint is there and captures.
        after: cdk.CfnResource,
    ) -> None:
        super().__init__(scope, id_)
        self._bucket, self._key_arn = bucket, key_arn
        image = monitor.image_uri or analyzer_image(stage.region or "")
        if image is None:
            raise ConfigurationError(f"region={stage.region!r} has no analyzer; write hosting.monitor.image_uri")
        role = self._role(stage, hosting, monitor, endpoint_name=endpoint_name)
        properties: dict[str, Any] = {
            "data_quality_app_specification": _Cfn.DataQualityAppSpecificationProperty(
                image_uri=image,
                environment=dict(monitor.environment) or None,
                record_preprocessor_source_uri=monitor.preprocessor,
                post_analytics_processor_source_uri=monitor.postprocessor,
            ),
            "data_quality_baseline_config": _baseline(monitor),
            "data_quality_job_input": _Cfn.DataQualityJobInputProperty(
                endpoint_input=_Cfn.EndpointInputProperty(endpoint_name=endpoint_name, local_path=_CAPTURES)
            ),
            "data_quality_job_output_config": self._output(monitor),
            "job_resources": _Cfn.MonitoringResourcesProperty(cluster_config=self._cluster(monitor)),
            "stopping_condition": _Cfn.StoppingConditionProperty(max_runtime_in_seconds=monitor.max_runtime_s),
            "network_config": _Cfn.NetworkConfigProperty(
                enable_inter_container_traffic_encryption=True,
                vpc_config=_Cfn.VpcConfigProperty(subnets=list(subnets), security_group_ids=list(security_groups)),
            )
            if subnets
            else None,
            "role_arn": role.arn,
        }
        content = [properties, network_content(stage.network)]
        name = content_name(cdk.Stack.of(self), endpoint_name, content)
        definition = _Cfn(self, "Definition", job_definition_name=name, **properties)
        definition.add_resource_dependency(after)
        self.schedule_name = f"{endpoint_name}-data-quality"
        schedule = sagemaker.CfnMonitoringSchedule(
            self,
            "Schedule",
            monitoring_schedule_name=self.schedule_name,
            monitoring_schedule_config=sagemaker.CfnMonitoringSchedule.MonitoringScheduleConfigProperty(
                monitoring_job_definition_name=name,
                monitoring_type="DataQuality",
                schedule_config=sagemaker.CfnMonitoringSchedule.ScheduleConfigProperty(
                    schedule_expression=monitor.schedule
                ),
            ),
        )
        wait_for(schedule, definition, name=name)

    def _role(self, stage: Stage, hosting: RealtimeHosting, monitor: Monitor, *, endpoint_name: str) -> ExecutionRole:
        """It reads captures and the baseline, writes reports, and nothing else; a model's data is not its business."""
        role = ExecutionRole(
            self,
            "Role",
            purpose=f"Looks at what {endpoint_name} captured",
            log_groups=[log_group_names.PROCESSING_JOBS],
            wanted=Role(arn=monitor.role_arn),
            metadata="MonitorPolicy",
        )
        if hosting.capture is not None:
            role.may_list("FindCaptures", self._s3(self._bucket), below=hosting.capture.prefix)
            role.may_read("ReadCaptures", self._s3(f"{self._bucket}/{hosting.capture.prefix}*"))
        role.may_write("WriteReports", self._s3(f"{self._bucket}/{monitor.prefix}*"))
        named = (monitor.statistics, monitor.constraints, monitor.preprocessor, monitor.postprocessor)
        files = [url.removeprefix("s3://") for url in named if url is not None]
        if files:
            role.may_read("ReadBaseline", *(self._s3(path) for path in files))
        for number, bucket in enumerate(dict.fromkeys(path.partition("/")[0] for path in files), start=1):
            role.may_list(f"FindBaseline{number}", self._s3(bucket))
        if (repository := self._repository(stage, monitor)) is not None:
            role.may_pull_from(repository)
        if self._key_arn is not None:
            role.may_use_key(self._key_arn)
        if (network := stage.network) is not None:
            role.may_join_network(subnets_owner=network.subnets_owner if isinstance(network, ExistingVpc) else None)
        return role

    def _repository(self, stage: Stage, monitor: Monitor) -> str | None:
        stack = cdk.Stack.of(self)
        if monitor.image_uri is not None:
            return repository_arn(stack, monitor.image_uri)
        # Its address has no tag.
        return stack.format_arn(
            service="ecr",
            account=ANALYZER_ACCOUNTS[stage.region or ""],
            resource="repository",
            resource_name=ANALYZER_REPOSITORY,
        )

    def _output(self, monitor: Monitor) -> sagemaker.CfnDataQualityJobDefinition.MonitoringOutputConfigProperty:
        reports = _Cfn.S3OutputProperty(local_path=_REPORTS, s3_uri=f"s3://{self._bucket}/{monitor.prefix.rstrip('/')}")
        return _Cfn.MonitoringOutputConfigProperty(
            kms_key_id=self._key_arn, monitoring_outputs=[_Cfn.MonitoringOutputProperty(s3_output=reports)]
        )

    def _cluster(self, monitor: Monitor) -> sagemaker.CfnDataQualityJobDefinition.ClusterConfigProperty:
        return _Cfn.ClusterConfigProperty(
            instance_count=monitor.instance_count,
            instance_type=monitor.instance_type,
            volume_size_in_gb=monitor.volume_gb,
            # For disks of its own an instance takes no key: API reference, MonitoringClusterConfig.
            volume_kms_key_id=None if instance_types.has_local_storage(monitor.instance_type) else self._key_arn,
        )

    def _s3(self, resource: str) -> str:
        return cdk.Stack.of(self).format_arn(service="s3", region="", account="", resource=resource)


def _baseline(monitor: Monitor) -> sagemaker.CfnDataQualityJobDefinition.DataQualityBaselineConfigProperty | None:
    if monitor.statistics is None and monitor.constraints is None:
        return None
    statistics, constraints = monitor.statistics, monitor.constraints
    return _Cfn.DataQualityBaselineConfigProperty(
        statistics_resource=None if statistics is None else _Cfn.StatisticsResourceProperty(s3_uri=statistics),
        constraints_resource=None if constraints is None else _Cfn.ConstraintsResourceProperty(s3_uri=constraints),
    )
