"""The operations of the control plane: each takes a checked request and returns the members of its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from tidegate.local_cloud.sagemaker.adapter_components import AdapterComponents
from tidegate.local_cloud.sagemaker.creation_rules import (
    check_container,
    check_endpoint_config,
    resolved,
    the_containers,
)
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.fleet import Plan, VariantPlan
from tidegate.local_cloud.sagemaker.inference_components import InferenceComponents
from tidegate.local_cloud.sagemaker.jobs.processing_jobs import ProcessingJobs
from tidegate.local_cloud.sagemaker.jobs.training_jobs import TrainingJobs
from tidegate.local_cloud.sagemaker.jobs.tuning_jobs import TuningJobs
from tidegate.local_cloud.sagemaker.log_groups import LogGroups
from tidegate.local_cloud.sagemaker.model_packages import ModelPackages
from tidegate.local_cloud.sagemaker.monitoring import Monitoring
from tidegate.local_cloud.sagemaker.pipelines.operations import Pipelines
from tidegate.local_cloud.sagemaker.roles import Roles, demand_execution_role, role_of
from tidegate.local_cloud.sagemaker.state import EndpointConfig, Identity, Json, Model, Tags, now, page, part
from tidegate.local_cloud.sagemaker.transform_jobs import TransformJobs


@dataclass(slots=True, kw_only=True)
class ControlPlane:
    """Models and endpoint configurations are plain records here; endpoints and jobs are in the rooms that run them."""

    KEPT: ClassVar[tuple[str, ...]] = ("_models", "_configs")

    identity: Identity
    endpoints: Endpoints
    transform_jobs: TransformJobs
    training_jobs: TrainingJobs
    tuning_jobs: TuningJobs
    processing_jobs: ProcessingJobs
    packages: ModelPackages
    pipelines: Pipelines
    servers: Endpoints  # what runs inference components
    tags: Tags
    log_groups: LogGroups
    adapters: AdapterComponents
    roles: Roles
    components: InferenceComponents = field(init=False)
    monitoring: Monitoring = field(init=False)
    _models: dict[str, Model] = field(default_factory=dict)
    _configs: dict[str, EndpointConfig] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.components = InferenceComponents(
            identity=self.identity,
            tags=self.tags,
            servers=self.servers,
            endpoints=self.endpoints,
            find_model=self.model,
            adapters=self.adapters,
        )
        self.monitoring = Monitoring(identity=self.identity, tags=self.tags, captures=self._captures)

    def operation(self, name: str) -> Callable[[Json], Json] | None:
        """The function that answers an operation, or None when the local cloud does not have it."""
        return {
            "CreateModel": self._create_model,
            "DescribeModel": self._describe_model,
            "ListModels": self._list_models,
            "DeleteModel": self._delete_model,
            "CreateEndpointConfig": self._create_endpoint_config,
            "DescribeEndpointConfig": self._describe_endpoint_config,
            "ListEndpointConfigs": self._list_endpoint_configs,
            "DeleteEndpointConfig": self._delete_endpoint_config,
            "CreateEndpoint": self._create_endpoint,
            "DescribeEndpoint": lambda request: self.endpoints.describe(request["EndpointName"]),
            "ListEndpoints": self._list_endpoints,
            "UpdateEndpoint": self._update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_weights,
            "DeleteEndpoint": self._delete_endpoint,
            "CreateInferenceComponent": self.components.create,
            "DescribeInferenceComponent": self.components.describe,
            "ListInferenceComponents": self.components.listing,
            "UpdateInferenceComponent": self.components.update,
            "UpdateInferenceComponentRuntimeConfig": self.components.update_copies,
            "DeleteInferenceComponent": self.components.delete,
            "CreateModelPackageGroup": self.packages.create_group,
            "DescribeModelPackageGroup": self.packages.describe_group,
            "ListModelPackageGroups": self.packages.list_groups,
            "DeleteModelPackageGroup": self.packages.delete_group,
            "PutModelPackageGroupPolicy": self.packages.put_policy,
            "GetModelPackageGroupPolicy": self.packages.get_policy,
            "DeleteModelPackageGroupPolicy": self.packages.delete_policy,
            "CreateModelPackage": self.packages.create,
            "DescribeModelPackage": self.packages.describe,
            "ListModelPackages": self.packages.list,
            "UpdateModelPackage": self.packages.update,
            "DeleteModelPackage": self.packages.delete,
            "CreateTransformJob": self._create_transform_job,
            "DescribeTransformJob": lambda request: self.transform_jobs.describe(request["TransformJobName"]),
            "ListTransformJobs": self._list_transform_jobs,
            "StopTransformJob": self._stop_transform_job,
            "CreateTrainingJob": self.training_jobs.create,
            "DescribeTrainingJob": self.training_jobs.describe,
            "ListTrainingJobs": self.training_jobs.listing,
            "StopTrainingJob": self.training_jobs.stop,
            "CreateHyperParameterTuningJob": self.tuning_jobs.create,
            "DescribeHyperParameterTuningJob": self.tuning_jobs.describe,
            "ListHyperParameterTuningJobs": self.tuning_jobs.listing,
            "ListTrainingJobsForHyperParameterTuningJob": self.tuning_jobs.trials,
            "StopHyperParameterTuningJob": self.tuning_jobs.stop,
            "CreateProcessingJob": self.processing_jobs.create,
            "DescribeProcessingJob": self.processing_jobs.describe,
            "ListProcessingJobs": self.processing_jobs.listing,
            "StopProcessingJob": self.processing_jobs.stop,
            "CreateDataQualityJobDefinition": self.monitoring.create_definition,
            "DescribeDataQualityJobDefinition": self.monitoring.describe_definition,
            "ListDataQualityJobDefinitions": self.monitoring.list_definitions,
            "DeleteDataQualityJobDefinition": self.monitoring.delete_definition,
            "CreateMonitoringSchedule": self.monitoring.create_schedule,
            "UpdateMonitoringSchedule": self.monitoring.update_schedule,
            "DescribeMonitoringSchedule": self.monitoring.describe_schedule,
            "ListMonitoringSchedules": self.monitoring.list_schedules,
            "DeleteMonitoringSchedule": self.monitoring.delete_schedule,
            "ListMonitoringExecutions": self.monitoring.list_executions,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
            **self.pipelines.operations,
        }.get(name)

    # models

    def _create_model(self, request: Json) -> Json:
        name = request["ModelName"]
        arn = self.identity.arn("model", name)
        containers = {
            hostname: resolved(container, self.packages.container)
            for hostname, container in the_containers(request).items()
        }
        for container in containers.values():
            check_container(container)
        demand_execution_role(self.roles, request.get("ExecutionRoleArn"))
        with self._lock:
            if name in self._models:
                raise validation_exception(f'Cannot create already existing model "{arn}".')
            self._models[name] = Model(name=name, arn=arn, created=now(), request=request, containers=containers)
            self.tags.add(arn, request.get("Tags", []))
        return {"ModelArn": arn}

    def model(self, name: str) -> Model:
        """A created model. Raises the service's ValidationException when there is none of that name."""
        with self._lock:
            if name not in self._models:
                raise validation_exception(f'Could not find model "{self.identity.arn("model", name)}".')
            return self._models[name]

    def _describe_model(self, request: Json) -> Json:
        model = self.model(request["ModelName"])
        described = {key: value for key, value in model.request.items() if key != "Tags"}
        return {"EnableNetworkIsolation": False} | described | {"ModelArn": model.arn, "CreationTime": model.created}

    def _list_models(self, request: Json) -> Json:
        with self._lock:
            models = [
                {"ModelName": model.name, "ModelArn": model.arn, "CreationTime": model.created}
                for model in self._models.values()
            ]
        return _listing("Models", models, request, name_key="ModelName")

    def _delete_model(self, request: Json) -> Json:
        with self._lock:
            model = self.model(request["ModelName"])
            del self._models[model.name]
            self.tags.forget(model.arn)
        return {}

    # endpoint configurations

    def _create_endpoint_config(self, request: Json) -> Json:
        name = request["EndpointConfigName"]
        arn = self.identity.arn("endpoint-config", name)
        with self._lock:
            if name in self._configs:
                raise validation_exception(f'Cannot create already existing endpoint configuration "{arn}".')
            named = {}
            for variant in [*request["ProductionVariants"], *request.get("ShadowProductionVariants", [])]:
                if "ModelName" in variant:
                    named[variant["ModelName"]] = self.model(variant["ModelName"])
            check_endpoint_config(request, named)
            demand_execution_role(self.roles, request.get("ExecutionRoleArn"))
            self._configs[name] = EndpointConfig(name=name, arn=arn, created=now(), request=request)
            self.tags.add(arn, request.get("Tags", []))
        return {"EndpointConfigArn": arn}

    def _config(self, name: str) -> EndpointConfig:
        with self._lock:
            if name not in self._configs:
                arn = self.identity.arn("endpoint-config", name)
                raise validation_exception(f'Could not find endpoint configuration "{arn}".')
            return self._configs[name]

    def _describe_endpoint_config(self, request: Json) -> Json:
        config = self._config(request["EndpointConfigName"])
        described = {key: value for key, value in config.request.items() if key != "Tags"}
        return described | {"EndpointConfigArn": config.arn, "CreationTime": config.created}

    def _list_endpoint_configs(self, request: Json) -> Json:
        with self._lock:
            configs = [
                {
                    "EndpointConfigName": config.name,
                    "EndpointConfigArn": config.arn,
                    "CreationTime": config.created,
                }
                for config in self._configs.values()
            ]
        return _listing("EndpointConfigs", configs, request, name_key="EndpointConfigName")

    def _delete_endpoint_config(self, request: Json) -> Json:
        with self._lock:
            config = self._config(request["EndpointConfigName"])
            del self._configs[config.name]
            self.tags.forget(config.arn)
        return {}

    # endpoints

    def _plan(self, request: Json) -> Plan:
        with self._lock:
            config = self._config(request["EndpointConfigName"])
            return Plan(
                config_name=config.name,
                variants=[
                    VariantPlan(request=variant, model=self.model(variant["ModelName"]))
                    for variant in config.variants
                    if "ModelName" in variant
                ],
                component_variants=[variant for variant in config.variants if "ModelName" not in variant],
                deployment_config=request.get("DeploymentConfig"),
                async_config=config.request.get("AsyncInferenceConfig"),
                role_arn=config.request.get("ExecutionRoleArn"),
                shadow=next(
                    (
                        VariantPlan(request=variant, model=self.model(variant["ModelName"]))
                        for variant in config.request.get("ShadowProductionVariants", [])
                    ),
                    None,
                ),
                capture_config=config.request.get("DataCaptureConfig"),
            )

    def _create_endpoint(self, request: Json) -> Json:
        plan = self._plan(request)
        arn = self.endpoints.create(request["EndpointName"], plan)
        self.tags.add(arn, request.get("Tags", []))
        for variant in plan.all_variants:
            self.log_groups.of_variant(request["EndpointName"], variant.name, role_of(variant.model))
        return {"EndpointArn": arn}

    def _list_endpoints(self, request: Json) -> Json:
        return _listing(
            "Endpoints",
            self.endpoints.summaries(),
            request,
            name_key="EndpointName",
            status_key="EndpointStatus",
        )

    def _update_endpoint(self, request: Json) -> Json:
        all_properties = {"DesiredWeight", "DesiredInstanceCount", "DataCaptureConfig"}
        kept = all_properties if request.get("RetainAllVariantProperties") else set()
        kept -= {item["VariantPropertyType"] for item in request.get("ExcludeRetainedVariantProperties", [])}
        # An endpoint whose configuration was deleted cannot be updated: the service asks for it by that name
        # (https://github.com/hashicorp/terraform-provider-aws/issues/40048).
        self._config(self.endpoints.describe(request["EndpointName"])["EndpointConfigName"])
        again = bool(request.get("RetainDeploymentConfig"))
        plan = self._plan(request)
        return {"EndpointArn": self.endpoints.update(request["EndpointName"], plan, kept=kept, again=again)}

    def _update_weights(self, request: Json) -> Json:
        arn = self.endpoints.update_weights(request["EndpointName"], request["DesiredWeightsAndCapacities"])
        return {"EndpointArn": arn}

    def _delete_endpoint(self, request: Json) -> Json:
        arn = self.endpoints.arn(request["EndpointName"])
        components = self.components.of_endpoint(request["EndpointName"])
        if components:
            raise validation_exception(f"Endpoint {arn} still has inference components: {', '.join(components)}.")
        self.endpoints.delete(request["EndpointName"])
        self.tags.forget(arn)
        return {}

    # transform jobs

    def _create_transform_job(self, request: Json) -> Json:
        model = self.model(request["ModelName"])
        arn = self.transform_jobs.create(request, model)
        self.tags.add(arn, request.get("Tags", []))
        return {"TransformJobArn": arn}

    def _list_transform_jobs(self, request: Json) -> Json:
        return _listing(
            "TransformJobSummaries",
            self.transform_jobs.summaries(),
            request,
            name_key="TransformJobName",
            status_key="TransformJobStatus",
        )

    def _stop_transform_job(self, request: Json) -> Json:
        self.transform_jobs.stop(request["TransformJobName"])
        return {}

    def _captures(self, endpoint: str) -> bool:
        """Whether the configuration that an endpoint runs has data capture."""
        name = self.endpoints.describe(endpoint)["EndpointConfigName"]
        with self._lock:
            config = self._configs.get(name)
        return config is not None and bool(config.request.get("DataCaptureConfig", {}).get("EnableCapture"))

    # tags

    def _add_tags(self, request: Json) -> Json:
        arn = self._known_arn(request["ResourceArn"])
        self.tags.add(arn, request["Tags"])
        return {"Tags": self.tags.of(arn)}

    def _list_tags(self, request: Json) -> Json:
        tags, token = part(self.tags.of(self._known_arn(request["ResourceArn"])), request)
        return {"Tags": tags} | ({"NextToken": token} if token else {})

    def _delete_tags(self, request: Json) -> Json:
        self.tags.remove(self._known_arn(request["ResourceArn"]), request["TagKeys"])
        return {}

    def _known_arn(self, arn: str) -> str:
        with self._lock:
            known = {model.arn for model in self._models.values()} | {config.arn for config in self._configs.values()}
        known |= {summary["EndpointArn"] for summary in self.endpoints.summaries()}
        known |= self.packages.arns() | self.components.arns() | self.training_jobs.arns()
        known |= self.tuning_jobs.arns() | self.processing_jobs.arns() | self.monitoring.arns() | self.pipelines.arns()
        known |= {summary["TransformJobArn"] for summary in self.transform_jobs.summaries()}
        if arn not in known:
            raise validation_exception(f'Could not find resource "{arn}".')
        return arn


def _listing(
    member: str, summaries: list[Json], request: Json, *, name_key: str, status_key: str | None = None
) -> Json:
    items, token = page(summaries, request, name_key=name_key, status_key=status_key)
    return {member: items} | ({"NextToken": token} if token else {})
