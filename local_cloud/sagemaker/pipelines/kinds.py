"""The types of steps: which operation each one calls, how it ends, and what makes a run the same as an earlier one.

Sources: "Add a step" and "Caching pipeline steps" in the developer guide
(https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html,
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONDITION, FAIL = "Condition", "Fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A step that makes one thing of SageMaker's."""

    create: str
    """The operation that makes it; the step's arguments are its request."""
    name: str
    """The request's member that names it."""
    describe: str
    status: str | None = None
    """The description's member that tells its state; None: it is there at once."""
    stop: str | None = None
    metadata: str
    """The member of PipelineExecutionStepMetadata that has its ARN."""
    arn: str
    """The member of the answer that is its ARN."""
    cached_by: tuple[str, ...] = ()
    """The arguments that make a run another one, as paths; none: such steps are not cached."""
    is_retried: bool = True
    update: str | None = None
    """The operation that changes the one of the given name where there is one already."""
    name_chars: int = 63


_DEFINITION = (
    "AlgorithmSpecification",
    "HyperParameterRanges",
    "InputDataConfig",
    "StaticHyperParameters",
    "TuningObjective",
)

KINDS: Mapping[str, Kind] = {
    "Processing": Kind(
        create="CreateProcessingJob",
        name="ProcessingJobName",
        describe="DescribeProcessingJob",
        status="ProcessingJobStatus",
        stop="StopProcessingJob",
        metadata="ProcessingJob",
        arn="ProcessingJobArn",
        cached_by=("AppSpecification", "Environment", "ProcessingInputs"),
    ),
    "Training": Kind(
        create="CreateTrainingJob",
        name="TrainingJobName",
        describe="DescribeTrainingJob",
        status="TrainingJobStatus",
        stop="StopTrainingJob",
        metadata="TrainingJob",
        arn="TrainingJobArn",
        cached_by=(
            "AlgorithmSpecification",
            "CheckpointConfig",
            "DebugHookConfig",
            "DebugRuleConfigurations",
            "Environment",
            "HyperParameters",
            "InputDataConfig",
        ),
    ),
    "Tuning": Kind(
        create="CreateHyperParameterTuningJob",
        name="HyperParameterTuningJobName",
        describe="DescribeHyperParameterTuningJob",
        status="HyperParameterTuningJobStatus",
        stop="StopHyperParameterTuningJob",
        metadata="TuningJob",
        arn="HyperParameterTuningJobArn",
        cached_by=(
            "HyperParameterTuningJobConfig",
            *(f"TrainingJobDefinition.{member}" for member in _DEFINITION),
            "TrainingJobDefinitions",
        ),
        name_chars=32,
    ),
    "Transform": Kind(
        create="CreateTransformJob",
        name="TransformJobName",
        describe="DescribeTransformJob",
        status="TransformJobStatus",
        stop="StopTransformJob",
        metadata="TransformJob",
        arn="TransformJobArn",
        cached_by=("DataProcessing", "Environment", "ModelName", "TransformInput"),
    ),
    "Model": Kind(create="CreateModel", name="ModelName", describe="DescribeModel", metadata="Model", arn="ModelArn"),
    "RegisterModel": Kind(
        create="CreateModelPackage",
        name="ModelPackageName",
        describe="DescribeModelPackage",
        metadata="RegisterModel",
        arn="ModelPackageArn",
    ),
    "EndpointConfig": Kind(
        create="CreateEndpointConfig",
        name="EndpointConfigName",
        describe="DescribeEndpointConfig",
        metadata="EndpointConfig",
        arn="EndpointConfigArn",
    ),
    "Endpoint": Kind(
        create="CreateEndpoint",
        name="EndpointName",
        describe="DescribeEndpoint",
        status="EndpointStatus",
        metadata="Endpoint",
        arn="EndpointArn",
        is_retried=False,
        update="UpdateEndpoint",
    ),
    "InferenceComponent": Kind(
        create="CreateInferenceComponent",
        name="InferenceComponentName",
        describe="DescribeInferenceComponent",
        status="InferenceComponentStatus",
        metadata="InferenceComponent",
        arn="InferenceComponentArn",
        is_retried=False,
    ),
}

NOT_HERE = (
    "AutoML",
    "Athena",
    "BedrockCustomModel",
    "BedrockCustomModelDeployment",
    "BedrockModelImport",
    "BedrockProvisionedModelThroughput",
    "Callback",
    "ClarifyCheck",
    "Cleanup",
    "EMR",
    "EMRServerless",
    "ForEach",
    "HubContent",
    "Job",
    "Lambda",
    "Lineage",
    "QualityCheck",
)
"""Types that AWS has and the local cloud has not: a definition with one is refused, by its name."""

DONE, FAILED, STOPPED = ("Completed", "InService"), ("Failed",), ("Stopped",)
"""The states of what a step has made that end the step; every other one goes on."""
