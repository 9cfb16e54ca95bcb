"""The CDK app: the stacks of one stage, and the rules they must pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.cost.announce import announce
from tidegate.infra.stacks.api_stack import ApiStack
from tidegate.infra.stacks.batch_stack import BatchStack
from tidegate.infra.stacks.endpoint_stack import EndpointStack
from tidegate.infra.stacks.models_stack import ModelsStack
from tidegate.infra.stacks.network_stack import NetworkStack
from tidegate.infra.stacks.observability_stack import ObservabilityStack
from tidegate.infra.stacks.registry_stack import RegistryStack
from tidegate.infra.stacks.storage_stack import StorageStack
from tidegate.infra.stage import context as command_line


def build(
    *,
    choose: Callable[[Mapping[str, object]], Stage] = command_line.choose,
    context: Mapping[str, Any] | None = None,
    outdir: str | None = None,
) -> cdk.App:
    """The app of the stage that the context asks for; the command line brings its own context and output directory.

    Raises `ConfigurationError` before any stack is made.
    """
    app = cdk.App(context=context, outdir=outdir)
    add_stacks(app, choose(app.node.get_all_context()))
    # A finding of cdk-nag that nobody acknowledged fails the synthesis.
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


def add_stacks(app: cdk.App, stage: Stage) -> None:
    """What the endpoint needs comes first: an archive in the one stack, an image in the other, perhaps a network."""
    storage = StorageStack(app, "storage", stage=stage)
    registry = RegistryStack(app, "registry", stage=stage)
    if stage.encryption.key == "new":
        # The storage stack makes it.
        registry.add_stack_dependency(storage)
    endpoint = EndpointStack(app, "endpoint", stage=stage)
    endpoint.add_stack_dependency(storage)
    endpoint.add_stack_dependency(registry)
    if isinstance(stage.network, NewVpc):
        endpoint.add_stack_dependency(NetworkStack(app, "network", stage=stage, network=stage.network))
    if stage.api is not None:
        ApiStack(app, "api", stage=stage, api=stage.api).add_stack_dependency(endpoint)
    if stage.batch is not None:
        BatchStack(app, "batch", stage=stage, batch=stage.batch).add_stack_dependency(endpoint)
    if stage.model_registry is not None:
        models = ModelsStack(app, "models", stage=stage, registry=stage.model_registry)
        if stage.encryption.key == "new":
            models.add_stack_dependency(storage)
        if stage.model_registry.promotion:
            # An approval updates the endpoint's stack, which has to be there.
            models.add_stack_dependency(endpoint)
    if stage.observability is not None or stage.budget is not None:
        ObservabilityStack(app, "observability", stage=stage).add_stack_dependency(endpoint)
    # Prices are absolute paths by now.
    announce(endpoint, stage, directory=Path("/"))
