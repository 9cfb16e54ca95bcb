"""What the service demands of a model and of an endpoint configuration beyond the shapes of its API. Pure rules.

Sources: CreateModel and CreateEndpointConfig in the API reference; "Serverless Inference" (feature exclusions) and
"Multi-model endpoints" in the developer guide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tidegate.local_cloud.sagemaker.container_answers import PRIMARY
from tidegate.local_cloud.sagemaker.data_capture import check_capture_config
from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.state import Json, Model

_ENVIRONMENT_BYTES = 32 * 1024  # CreateModel, ContainerDefinition: all keys and values of the call together

_DATA = ("Image", "ModelDataUrl", "ModelDataSource")  # what a model package says in the place of the container


def the_containers(request: Json) -> dict[str, Json]:
    """The container definitions of a CreateModel request by name. Raises a ValidationException where they do not fit.

    One without a name among several is called after its place (ContainerDefinition, ContainerHostname).
    """
    containers: list[Json] = request.get("Containers") or []
    if ("PrimaryContainer" in request) == bool(containers):
        raise validation_exception("CreateModel takes either PrimaryContainer or Containers.")
    direct = request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct"
    if len(containers) < 2:
        if direct:
            raise validation_exception("InferenceExecutionConfig with Mode Direct needs more than one container.")
        return {PRIMARY: request["PrimaryContainer"] if "PrimaryContainer" in request else containers[0]}
    given = [container["ContainerHostname"] for container in containers if "ContainerHostname" in container]
    if len(set(given)) != len(given):
        raise validation_exception(f"The names of the containers must differ: {', '.join(given)}.")
    if 0 < len(given) < len(containers) or (direct and not given):
        raise validation_exception("ContainerHostname is needed for each container, or, with Mode Serial, for none.")
    names = given or [f"container-{number}" for number in range(1, len(containers) + 1)]
    if any(container.get("Mode") == "MultiModel" for container in containers):
        raise validation_exception("The local cloud does not have Mode MultiModel in a container among several.")
    size = sum(_environment_bytes(container) for container in containers)
    if size > _ENVIRONMENT_BYTES:
        raise validation_exception("The keys and values of all Environments are together larger than 32 KB.")
    return dict(zip(names, containers, strict=True))


def resolved(container: Json, packaged: Callable[[str], Json]) -> Json:
    """The container with what its model package says; ``packaged`` finds that by the package's name.

    The model's own variables stand over the package's (CreateModel, ContainerDefinition).
    """
    if "ModelPackageName" not in container:
        return container
    for member in _DATA:
        if member in container:
            raise validation_exception(f"A container takes either ModelPackageName or {member}.")
    package = packaged(container["ModelPackageName"])
    environment = {**package.get("Environment", {}), **container.get("Environment", {})}
    described: Json = {name: package[name] for name in _DATA if name in package}
    return {**container, **described, "Environment": environment}


def check_container(container: Json) -> None:
    """Raises a ValidationException for a container definition (after :func:`resolved`) that contradicts itself."""
    if "Image" not in container:
        raise validation_exception("Must supply one of image or model package for the container of the model.")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise validation_exception("A container takes either ModelDataUrl or ModelDataSource.")
    if _environment_bytes(container) > _ENVIRONMENT_BYTES:
        raise validation_exception("The keys and values of Environment are together larger than 32 KB.")
    check_model_data(container)
    if container.get("Mode") == "MultiModel":
        if "ModelDataSource" in container:
            raise validation_exception("A container with Mode MultiModel excludes ModelDataSource.")
        if not container.get("ModelDataUrl", "").endswith("/"):
            raise validation_exception(
                "A container with Mode MultiModel needs a ModelDataUrl that is a prefix and ends with a slash."
            )
    elif "MultiModelConfig" in container:
        raise validation_exception("MultiModelConfig needs Mode MultiModel.")


def check_model_data(container: Json) -> None:
    """Raises a ValidationException for data that is named as none can be (ContainerDefinition, S3ModelDataSource)."""
    url = container.get("ModelDataUrl")
    if url is not None and container.get("Mode") != "MultiModel":
        check_archive("ModelDataUrl", url)
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source is None:
        return
    uri, is_prefix = source["S3Uri"], source["S3DataType"] == "S3Prefix"
    if is_prefix and not uri.endswith("/"):
        raise validation_exception(f"S3Uri is {uri}; with S3DataType S3Prefix it must end with a forward slash (/).")
    if is_prefix and source["CompressionType"] == "Gzip":
        raise validation_exception("CompressionType Gzip needs S3DataType S3Object: it is one archive.")
    if not is_prefix and uri.endswith("/"):
        raise validation_exception(f"S3Uri is {uri}; with S3DataType S3Object it must name an object.")


def check_archive(member: str, url: str) -> None:
    """Raises a ValidationException for an address that is no archive's: "(.tar.gz suffix)" says the API reference."""
    if not url.endswith(".tar.gz"):
        raise validation_exception(
            f"{member} is {url}; it must point to a single gzip compressed tar archive (.tar.gz suffix)."
        )


def _environment_bytes(container: Json) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in container.get("Environment", {}).items())


def check_endpoint_config(request: Json, models: Mapping[str, Model]) -> None:
    """Raises a ValidationException for a CreateEndpointConfig request that the service does not take.

    ``models`` holds the models that the variants name.
    """
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) != len(names):
        raise validation_exception(
            f"The variant names of {request['EndpointConfigName']} must differ: {', '.join(names)}."
        )
    if "AsyncInferenceConfig" in request:
        output = request["AsyncInferenceConfig"]["OutputConfig"]
        if "S3OutputPath" not in output:
            raise validation_exception("AsyncInferenceConfig.OutputConfig needs S3OutputPath.")
        for member in ("S3OutputPath", "S3FailurePath"):
            if not output.get(member, "s3://").startswith("s3://"):
                raise validation_exception(f"{member} is {output[member]}; it must be an s3:// address.")
    if "DataCaptureConfig" in request and (reason := check_capture_config(request["DataCaptureConfig"])) is not None:
        raise validation_exception(reason)
    if request.get("ShadowProductionVariants"):
        _check_shadow(request, models)
    nameless = [variant for variant in variants if "ModelName" not in variant]
    if nameless:
        _check_component_variant(nameless[0], request)
    for variant in variants:
        if "ModelName" in variant:
            _check_variant(variant, request, models[variant["ModelName"]])
            # InvokeEndpointAsync has no TargetContainerHostname.
            if "AsyncInferenceConfig" in request and models[variant["ModelName"]].direct:
                name = variant["VariantName"]
                raise validation_exception(f"Variant {name} has Mode Direct, which excludes AsyncInferenceConfig.")


def _check_shadow(request: Json, models: Mapping[str, Model]) -> None:
    """Sources: CreateEndpointConfig, ShadowProductionVariants; "Shadow tests", exclusions, in the developer guide."""
    production, shadows = request["ProductionVariants"], request["ShadowProductionVariants"]
    if len(production) > 1 or len(shadows) > 1:
        raise validation_exception("ShadowProductionVariants takes one variant beside one production variant.")
    shadow = shadows[0]
    name = shadow["VariantName"]
    if name == production[0]["VariantName"]:
        raise validation_exception(f"The shadow variant must have another name than the production variant {name}.")
    if "ModelName" not in shadow or "ModelName" not in production[0]:
        raise validation_exception(
            f"Shadow variant {name} is not for inference components: both variants need a model."
        )
    if "AsyncInferenceConfig" in request:
        raise validation_exception(f"Shadow variant {name} excludes AsyncInferenceConfig.")
    for variant in (production[0], shadow):
        model = models[variant["ModelName"]]
        if "ServerlessConfig" in variant or model.multi_model or model.direct:
            raise validation_exception(
                f"Shadow variant {name} excludes ServerlessConfig and Modes MultiModel and Direct."
            )
    _check_variant(shadow, request, models[shadow["ModelName"]])


def _check_component_variant(variant: Json, request: Json) -> None:
    """A variant without a model, for inference components; such an endpoint has that variant alone."""
    name = variant["VariantName"]
    if len(request["ProductionVariants"]) > 1:
        raise validation_exception(f"Variant {name} is for inference components, which excludes a second variant.")
    _check_instances(variant)
    if "ExecutionRoleArn" not in request:
        raise validation_exception(f"Variant {name} names no model, so the configuration needs ExecutionRoleArn.")
    for member, given in (
        ("ServerlessConfig", variant.get("ServerlessConfig")),
        ("AsyncInferenceConfig", request.get("AsyncInferenceConfig")),
    ):
        if given:
            raise validation_exception(f"Variant {name} is for inference components, which excludes {member}.")


def _check_instances(variant: Json) -> None:
    """One type or several; source: "Deploy to multiple instance types with instance pools" in the developer guide."""
    name, pools = variant["VariantName"], variant.get("InstancePools", [])
    if "InitialInstanceCount" not in variant:
        raise validation_exception(f"Variant {name} needs InitialInstanceCount.")
    if ("InstanceType" in variant) == bool(pools):
        raise validation_exception(f"Variant {name} needs either InstanceType or InstancePools.")
    for member, of_each in (("InstanceType", "an InstanceType"), ("Priority", "a Priority")):
        if len({pool[member] for pool in pools}) != len(pools):
            raise validation_exception(f"The InstancePools of variant {name} must each have {of_each} of its own.")


def _check_variant(variant: Json, request: Json, model: Model) -> None:
    name = variant["VariantName"]
    if "ServerlessConfig" not in variant:
        _check_instances(variant)
        return
    excluded: dict[str, Any] = {
        member: variant.get(member)
        for member in (
            "InstanceType",
            "InstancePools",
            "InitialInstanceCount",
            "VolumeSizeInGB",
            "InferenceAmiVersion",
            "RoutingConfig",
            "CapacityReservationConfig",
        )
    }
    excluded |= {member: request.get(member) for member in ("AsyncInferenceConfig", "DataCaptureConfig")}
    excluded["a second variant"] = request["ProductionVariants"][1:]
    excluded["Mode MultiModel"] = model.multi_model
    excluded["a second container"] = model.several
    excluded["VpcConfig"] = model.request.get("VpcConfig")
    excluded["EnableNetworkIsolation"] = model.isolated
    excluded["ModelDataSource"] = model.container.get("ModelDataSource")
    for member, given in excluded.items():
        if given:
            raise validation_exception(f"Variant {name} is serverless, which excludes {member}.")
    serverless = variant["ServerlessConfig"]
    if serverless["MemorySizeInMB"] % 1024:
        raise validation_exception(
            f"MemorySizeInMB of variant {name} is {serverless['MemorySizeInMB']}; it must be a multiple of 1024."
        )
    if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
        raise validation_exception(f"ProvisionedConcurrency of variant {name} is larger than its MaxConcurrency.")
