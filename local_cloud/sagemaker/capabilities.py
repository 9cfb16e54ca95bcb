"""What of each operation's input the local cloud honours, what it only stores, and (everything else) what it refuses.

A member that stands in neither list is refused by name, so nothing is ever silently ignored, and a member that a newer
botocore adds is refused until somebody decides about it. The tables in ``docs/local-cloud.md`` are tested against it.

A path covers everything below it; list indices are left out: ``ProductionVariants.ModelName``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.local_cloud.sagemaker.errors import validation_exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """``honoured``: it changes what runs. ``stored``: described back as given, without effect."""

    honoured: frozenset[str]
    stored: frozenset[str] = frozenset()


def _support(honoured: str, stored: str = "") -> Support:
    return Support(honoured=frozenset(honoured.split()), stored=frozenset(stored.split()))


def _containers(members: str) -> str:
    return " ".join(f"{where}.{member}" for where in ("PrimaryContainer", "Containers") for member in members.split())


def _variants(members: str) -> str:
    return " ".join(
        f"{where}.{member}"
        for where in ("ProductionVariants", "ShadowProductionVariants")
        for member in members.split()
    )


def _below(where: str, members: str) -> str:
    return "".join(f" {where}.{member}" for member in members.split())


_LISTING = "SortBy SortOrder NextToken MaxResults NameContains CreationTimeBefore CreationTimeAfter"
_LISTING_CHANGED = f"{_LISTING} LastModifiedTimeBefore LastModifiedTimeAfter StatusEquals"

_LISTING_CREATED = "CreatedAfter CreatedBefore SortBy SortOrder NextToken MaxResults"

_COMPONENT_STORED = (
    "Specification.ComputeResourceRequirements Specification.SchedulingConfig Specification.DataCacheConfig"
    " Specification.StartupParameters.ModelDataDownloadTimeoutInSeconds"
)

_CHANNELS = (
    "InputDataConfig.ChannelName InputDataConfig.ContentType InputDataConfig.CompressionType"
    " InputDataConfig.InputMode InputDataConfig.ShuffleConfig InputDataConfig.RecordWrapperType"
    " InputDataConfig.DataSource.S3DataSource.S3DataType InputDataConfig.DataSource.S3DataSource.S3Uri"
    " InputDataConfig.DataSource.S3DataSource.S3DataDistributionType"
)


def _definition(members: str) -> str:
    """Members of the training jobs that a tuning job starts."""
    return " ".join(f"TrainingJobDefinition.{member}" for member in members.split())


SUPPORT: Mapping[str, Support] = {
    "CreateModel": _support(
        honoured="ModelName EnableNetworkIsolation Tags InferenceExecutionConfig "
        + _containers(
            "ContainerHostname ModelDataUrl Mode Environment ModelPackageName MultiModelConfig"
            " ModelDataSource.S3DataSource.S3Uri ModelDataSource.S3DataSource.S3DataType"
            " ModelDataSource.S3DataSource.CompressionType"
        ),
        stored="ExecutionRoleArn VpcConfig " + _containers("Image ImageConfig ContainerMetricsConfig"),
    ),
    "DescribeModel": _support("ModelName"),
    "ListModels": _support(_LISTING),
    "DeleteModel": _support("ModelName"),
    "CreateEndpointConfig": _support(
        honoured="EndpointConfigName Tags DataCaptureConfig AsyncInferenceConfig.ClientConfig"
        " AsyncInferenceConfig.OutputConfig.S3OutputPath AsyncInferenceConfig.OutputConfig.S3FailurePath"
        " AsyncInferenceConfig.OutputConfig.NotificationConfig "
        + _variants(
            "VariantName ModelName InitialVariantWeight ContainerStartupHealthCheckTimeoutInSeconds"
            " InitialInstanceCount RoutingConfig.RoutingStrategy ServerlessConfig"
        ),
        stored="KmsKeyId AsyncInferenceConfig.OutputConfig.KmsKeyId ExecutionRoleArn VpcConfig EnableNetworkIsolation"
        " MetricsConfig "
        + _variants(
            "InstanceType AcceleratorType VariantInstanceProvisionTimeoutInSeconds CoreDumpConfig VolumeSizeInGB"
            " ModelDataDownloadTimeoutInSeconds EnableSSMAccess ManagedInstanceScaling InferenceAmiVersion"
            " RoutingConfig.PrefixAwareRoutingConfig CapacityReservationConfig"
            # Not ModelNameOverride, which would have another model answer.
            " InstancePools.InstanceType InstancePools.Priority"
        ),
    ),
    "DescribeEndpointConfig": _support("EndpointConfigName"),
    "ListEndpointConfigs": _support(_LISTING),
    "DeleteEndpointConfig": _support("EndpointConfigName"),
    # No fleet is there yet from which traffic could move: kept for an update with RetainDeploymentConfig.
    "CreateEndpoint": _support("EndpointName EndpointConfigName Tags DeploymentConfig"),
    "DescribeEndpoint": _support("EndpointName"),
    "ListEndpoints": _support(_LISTING_CHANGED),
    "UpdateEndpoint": _support(
        "EndpointName EndpointConfigName RetainAllVariantProperties ExcludeRetainedVariantProperties"
        " DeploymentConfig RetainDeploymentConfig",
    ),
    "UpdateEndpointWeightsAndCapacities": _support(
        "EndpointName DesiredWeightsAndCapacities.VariantName DesiredWeightsAndCapacities.DesiredWeight"
        " DesiredWeightsAndCapacities.DesiredInstanceCount",
    ),
    "DeleteEndpoint": _support("EndpointName"),
    "CreateInferenceComponent": _support(
        honoured="InferenceComponentName EndpointName VariantName RuntimeConfig Tags Specification.ModelName"
        " Specification.Container Specification.BaseInferenceComponentName"
        " Specification.StartupParameters.ContainerStartupHealthCheckTimeoutInSeconds",
        stored=_COMPONENT_STORED,
    ),
    "DescribeInferenceComponent": _support("InferenceComponentName"),
    "ListInferenceComponents": _support(f"{_LISTING_CHANGED} EndpointNameEquals VariantNameEquals"),
    "UpdateInferenceComponent": _support(
        honoured="InferenceComponentName RuntimeConfig Specification.ModelName Specification.Container"
        " Specification.BaseInferenceComponentName"
        " Specification.StartupParameters.ContainerStartupHealthCheckTimeoutInSeconds DeploymentConfig",
        stored=_COMPONENT_STORED,
    ),
    "UpdateInferenceComponentRuntimeConfig": _support("InferenceComponentName DesiredRuntimeConfig"),
    "DeleteInferenceComponent": _support("InferenceComponentName"),
    "CreateModelPackageGroup": _support("ModelPackageGroupName Tags", stored="ModelPackageGroupDescription"),
    "DescribeModelPackageGroup": _support("ModelPackageGroupName"),
    "ListModelPackageGroups": _support(_LISTING),
    "DeleteModelPackageGroup": _support("ModelPackageGroupName"),
    "PutModelPackageGroupPolicy": _support("ModelPackageGroupName", stored="ResourcePolicy"),
    "GetModelPackageGroupPolicy": _support("ModelPackageGroupName"),
    "DeleteModelPackageGroupPolicy": _support("ModelPackageGroupName"),
    "CreateModelPackage": _support(
        honoured="ModelPackageGroupName ModelPackageName ModelApprovalStatus Tags"
        " InferenceSpecification.Containers.Image InferenceSpecification.Containers.ModelDataUrl"
        " InferenceSpecification.Containers.ModelDataSource InferenceSpecification.Containers.Environment",
        stored="ModelPackageDescription ClientToken CustomerMetadataProperties ModelMetrics MetadataProperties"
        " SourceUri Domain Task SamplePayloadUrl DriftCheckBaselines ModelCard SkipModelValidation ModelLifeCycle"
        " CertifyForMarketplace ValidationSpecification ModelPackageRegistrationType"
        " InferenceSpecification.SupportedTransformInstanceTypes InferenceSpecification.SupportedContentTypes"
        " InferenceSpecification.SupportedRealtimeInferenceInstanceTypes"
        " InferenceSpecification.SupportedResponseMIMETypes InferenceSpecification.Containers.ImageDigest"
        " InferenceSpecification.Containers.ContainerHostname InferenceSpecification.Containers.ModelDataETag"
        " InferenceSpecification.Containers.Framework InferenceSpecification.Containers.FrameworkVersion"
        " InferenceSpecification.Containers.NearestModelName InferenceSpecification.Containers.ModelInput",
    ),
    "DescribeModelPackage": _support("ModelPackageName"),
    "ListModelPackages": _support(f"{_LISTING} ModelPackageGroupName ModelApprovalStatus ModelPackageType"),
    "UpdateModelPackage": _support(
        "ModelPackageArn ModelApprovalStatus CustomerMetadataProperties CustomerMetadataPropertiesToRemove",
        stored="ApprovalDescription ClientToken SourceUri ModelCard ModelLifeCycle",
    ),
    "DeleteModelPackage": _support("ModelPackageName"),
    "CreateTransformJob": _support(
        honoured="TransformJobName ModelName MaxConcurrentTransforms ModelClientConfig MaxPayloadInMB BatchStrategy"
        " Environment TransformInput DataProcessing Tags TransformOutput.S3OutputPath TransformOutput.Accept"
        " TransformOutput.AssembleWith",
        stored="TransformResources TransformOutput.KmsKeyId ExperimentConfig",
    ),
    "DescribeTransformJob": _support("TransformJobName"),
    "ListTransformJobs": _support(_LISTING_CHANGED),
    "StopTransformJob": _support("TransformJobName"),
    "CreateTrainingJob": _support(
        honoured="TrainingJobName HyperParameters AlgorithmSpecification.TrainingImage Environment Tags"
        " AlgorithmSpecification.TrainingInputMode AlgorithmSpecification.MetricDefinitions"
        " AlgorithmSpecification.ContainerEntrypoint AlgorithmSpecification.ContainerArguments"
        f" {_CHANNELS} OutputDataConfig.S3OutputPath"
        " OutputDataConfig.CompressionType ResourceConfig.InstanceCount ResourceConfig.KeepAlivePeriodInSeconds"
        " StoppingCondition.MaxRuntimeInSeconds StoppingCondition.MaxWaitTimeInSeconds EnableNetworkIsolation"
        " EnableManagedSpotTraining CheckpointConfig",
        stored="RoleArn AlgorithmSpecification.EnableSageMakerMetricsTimeSeries"
        " AlgorithmSpecification.TrainingImageConfig OutputDataConfig.KmsKeyId ResourceConfig.InstanceType"
        " ResourceConfig.VolumeSizeInGB ResourceConfig.VolumeKmsKeyId StoppingCondition.MaxPendingTimeInSeconds"
        " VpcConfig EnableInterContainerTrafficEncryption DebugHookConfig DebugRuleConfigurations"
        " TensorBoardOutputConfig ExperimentConfig ProfilerConfig ProfilerRuleConfigurations RetryStrategy"
        " RemoteDebugConfig InfraCheckConfig SessionChainingConfig",
    ),
    "DescribeTrainingJob": _support("TrainingJobName"),
    "ListTrainingJobs": _support(f"{_LISTING_CHANGED} WarmPoolStatusEquals"),
    "StopTrainingJob": _support("TrainingJobName"),
    "CreateHyperParameterTuningJob": _support(
        honoured="HyperParameterTuningJobName Tags HyperParameterTuningJobConfig.Strategy"
        " HyperParameterTuningJobConfig.HyperParameterTuningJobObjective HyperParameterTuningJobConfig.RandomSeed"
        " HyperParameterTuningJobConfig.ResourceLimits.MaxNumberOfTrainingJobs"
        " HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds"
        " HyperParameterTuningJobConfig.ParameterRanges.IntegerParameterRanges"
        " HyperParameterTuningJobConfig.ParameterRanges.ContinuousParameterRanges"
        " HyperParameterTuningJobConfig.ParameterRanges.CategoricalParameterRanges"
        " HyperParameterTuningJobConfig.TuningJobCompletionCriteria.TargetObjectiveMetricValue"
        " HyperParameterTuningJobConfig.TuningJobCompletionCriteria.BestObjectiveNotImproving "
        + _definition(
            "StaticHyperParameters AlgorithmSpecification.TrainingImage AlgorithmSpecification.TrainingInputMode"
            " AlgorithmSpecification.MetricDefinitions Environment OutputDataConfig.S3OutputPath"
            " OutputDataConfig.CompressionType ResourceConfig.InstanceCount ResourceConfig.KeepAlivePeriodInSeconds"
            " HyperParameterTuningResourceConfig.InstanceCount"
            " HyperParameterTuningResourceConfig.InstanceConfigs.InstanceCount"
            f" StoppingCondition.MaxRuntimeInSeconds StoppingCondition.MaxWaitTimeInSeconds {_CHANNELS}"
            " EnableNetworkIsolation EnableManagedSpotTraining CheckpointConfig"
        ),
        stored="HyperParameterTuningJobConfig.ResourceLimits.MaxParallelTrainingJobs"
        " HyperParameterTuningJobConfig.TrainingJobEarlyStoppingType "
        + _definition(
            "DefinitionName RoleArn OutputDataConfig.KmsKeyId ResourceConfig.InstanceType VpcConfig RetryStrategy"
            " ResourceConfig.VolumeSizeInGB ResourceConfig.VolumeKmsKeyId EnableInterContainerTrafficEncryption"
            " StoppingCondition.MaxPendingTimeInSeconds HyperParameterTuningResourceConfig.InstanceType"
            " HyperParameterTuningResourceConfig.VolumeSizeInGB HyperParameterTuningResourceConfig.VolumeKmsKeyId"
            " HyperParameterTuningResourceConfig.AllocationStrategy"
            " HyperParameterTuningResourceConfig.InstanceConfigs.InstanceType"
            " HyperParameterTuningResourceConfig.InstanceConfigs.VolumeSizeInGB"
        ),
    ),
    "DescribeHyperParameterTuningJob": _support("HyperParameterTuningJobName"),
    "ListHyperParameterTuningJobs": _support(_LISTING_CHANGED),
    "ListTrainingJobsForHyperParameterTuningJob": _support(
        "HyperParameterTuningJobName NextToken MaxResults StatusEquals SortBy SortOrder"
    ),
    "StopHyperParameterTuningJob": _support("HyperParameterTuningJobName"),
    "CreateProcessingJob": _support(
        honoured="ProcessingJobName Environment Tags AppSpecification.ImageUri AppSpecification.ContainerEntrypoint"
        " AppSpecification.ContainerArguments ProcessingInputs.InputName ProcessingInputs.AppManaged"
        " ProcessingInputs.S3Input ProcessingOutputConfig.Outputs.OutputName ProcessingOutputConfig.Outputs.AppManaged"
        " ProcessingOutputConfig.Outputs.S3Output ProcessingResources.ClusterConfig.InstanceCount StoppingCondition"
        " NetworkConfig.EnableNetworkIsolation",
        stored="RoleArn ProcessingOutputConfig.KmsKeyId ProcessingResources.ClusterConfig.InstanceType"
        " ProcessingResources.ClusterConfig.VolumeSizeInGB ProcessingResources.ClusterConfig.VolumeKmsKeyId"
        " NetworkConfig.EnableInterContainerTrafficEncryption NetworkConfig.VpcConfig ExperimentConfig",
    ),
    "DescribeProcessingJob": _support("ProcessingJobName"),
    "ListProcessingJobs": _support(_LISTING_CHANGED),
    "StopProcessingJob": _support("ProcessingJobName"),
    "CreateDataQualityJobDefinition": _support(
        "JobDefinitionName DataQualityJobInput.EndpointInput.EndpointName Tags",
        stored="DataQualityAppSpecification DataQualityBaselineConfig DataQualityJobOutputConfig JobResources"
        " NetworkConfig RoleArn StoppingCondition DataQualityJobInput.BatchTransformInput"
        + _below(
            "DataQualityJobInput.EndpointInput",
            "LocalPath S3InputMode S3DataDistributionType FeaturesAttribute InferenceAttribute ProbabilityAttribute"
            " ProbabilityThresholdAttribute StartTimeOffset EndTimeOffset ExcludeFeaturesAttribute",
        ),
    ),
    "DescribeDataQualityJobDefinition": _support("JobDefinitionName"),
    "ListDataQualityJobDefinitions": _support(f"{_LISTING} EndpointName"),
    "DeleteDataQualityJobDefinition": _support("JobDefinitionName"),
    "CreateMonitoringSchedule": _support(
        "MonitoringScheduleName Tags MonitoringScheduleConfig.MonitoringJobDefinitionName",
        stored="MonitoringScheduleConfig.MonitoringJobDefinition MonitoringScheduleConfig.MonitoringType"
        " MonitoringScheduleConfig.ScheduleConfig",
    ),
    "UpdateMonitoringSchedule": _support(
        "MonitoringScheduleName MonitoringScheduleConfig.MonitoringJobDefinitionName",
        stored="MonitoringScheduleConfig.MonitoringJobDefinition MonitoringScheduleConfig.MonitoringType"
        " MonitoringScheduleConfig.ScheduleConfig",
    ),
    "DescribeMonitoringSchedule": _support("MonitoringScheduleName"),
    "ListMonitoringSchedules": _support(f"{_LISTING_CHANGED} EndpointName"),
    "DeleteMonitoringSchedule": _support("MonitoringScheduleName"),
    "ListMonitoringExecutions": _support("MonitoringScheduleName EndpointName SortBy SortOrder MaxResults"),
    "CreatePipeline": _support(
        "PipelineName PipelineDefinition PipelineDefinitionS3Location ClientRequestToken Tags ParallelismConfiguration",
        stored="PipelineDisplayName PipelineDescription RoleArn",
    ),
    "UpdatePipeline": _support(
        "PipelineName PipelineDefinition PipelineDefinitionS3Location ParallelismConfiguration",
        stored="PipelineDisplayName PipelineDescription RoleArn",
    ),
    "DescribePipeline": _support("PipelineName PipelineVersionId"),
    "ListPipelines": _support(f"PipelineNamePrefix {_LISTING_CREATED}"),
    "DeletePipeline": _support("PipelineName ClientRequestToken"),
    "ListPipelineVersions": _support("PipelineName CreatedAfter CreatedBefore SortOrder NextToken MaxResults"),
    "UpdatePipelineVersion": _support(
        "PipelineArn PipelineVersionId", stored="PipelineVersionDisplayName PipelineVersionDescription"
    ),
    "StartPipelineExecution": _support(
        "PipelineName PipelineParameters ClientRequestToken ParallelismConfiguration SelectiveExecutionConfig"
        " PipelineVersionId",
        stored="PipelineExecutionDisplayName PipelineExecutionDescription RoleArn",
    ),
    "StopPipelineExecution": _support("PipelineExecutionArn ClientRequestToken"),
    "RetryPipelineExecution": _support("PipelineExecutionArn ClientRequestToken ParallelismConfiguration"),
    "UpdatePipelineExecution": _support(
        "PipelineExecutionArn ParallelismConfiguration",
        stored="PipelineExecutionDisplayName PipelineExecutionDescription",
    ),
    "DescribePipelineExecution": _support("PipelineExecutionArn"),
    "DescribePipelineDefinitionForExecution": _support("PipelineExecutionArn"),
    "ListPipelineExecutions": _support(f"PipelineName {_LISTING_CREATED}"),
    "ListPipelineExecutionSteps": _support("PipelineExecutionArn SortOrder NextToken MaxResults"),
    "ListPipelineParametersForExecution": _support("PipelineExecutionArn NextToken MaxResults"),
    "AddTags": _support("ResourceArn Tags"),
    "ListTags": _support("ResourceArn NextToken MaxResults"),
    "DeleteTags": _support("ResourceArn TagKeys"),
}

REFUSED_VALUES: Mapping[tuple[str, str], str] = {
    # (path, the value that is refused): what it would be
    ("CreateTransformJob.TransformInput.SplitType", "RecordIO"): "the RecordIO record format",
    ("CreateTransformJob.TransformInput.SplitType", "TFRecord"): "the TFRecord record format",
    ("CreateTransformJob.TransformInput.DataSource.S3DataSource.S3DataType", "AugmentedManifestFile"): (
        "augmented manifests"
    ),
    ("CreateHyperParameterTuningJob.HyperParameterTuningJobConfig.Strategy", "Hyperband"): "the strategy Hyperband",
    ("CreateProcessingJob.ProcessingInputs.S3Input.S3InputMode", "Pipe"): "pipes of processing jobs",
    **{
        (f"{where}.InputDataConfig.{member}", value): what
        for where in ("CreateTrainingJob", "CreateHyperParameterTuningJob.TrainingJobDefinition")
        for member, value, what in (
            ("RecordWrapperType", "RecordIO", "the RecordIO record format"),
            ("DataSource.S3DataSource.S3DataType", "AugmentedManifestFile", "augmented manifests"),
            ("DataSource.S3DataSource.S3DataType", "Converse", "the Converse format"),
        )
    },
}


def refuse_unsupported(operation: str, request: Mapping[str, Any]) -> None:
    """Raises a ValidationException naming the first member (or value) of ``request`` that is not here."""
    support = SUPPORT[operation]
    for path, value in leaves(request):
        covered = _covered(path, support.honoured) or _covered(path, support.stored)
        empty = isinstance(value, Mapping | list) and _leads_to(path, support.honoured | support.stored)
        if not (covered or empty):
            raise validation_exception(
                f"The local cloud does not have {path} of {operation}; it is refused, not ignored."
            )
        refused = REFUSED_VALUES.get((f"{operation}.{path}", value)) if isinstance(value, str) else None
        if refused is not None:
            raise validation_exception(f"The local cloud does not have {refused} ({path}={value} of {operation}).")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a request with its path; an empty structure or list is a leaf too, because it was asked for."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            if item is not None:
                yield from leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for item in value:
            yield from leaves(item, path)
    elif path:
        yield path, value


def _leads_to(path: str, paths: frozenset[str]) -> bool:
    """Whether a member of ``path`` is among the paths: its being empty asks for nothing that is not here."""
    return any(known.startswith(f"{path}.") for known in paths)


def _covered(path: str, paths: frozenset[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:length]) in paths for length in range(1, len(parts) + 1))
