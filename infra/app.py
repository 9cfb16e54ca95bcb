"""The CDK app: the stacks of one stage, and the rules they must pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra import context as command_line
from infra.configuration import Stage
from infra.endpoint_stack import EndpointStack
from infra.registry_stack import RegistryStack
from infra.storage_stack import StorageStack


def build(
    stages: Mapping[str, Stage],
    default: str,
    *,
    context: Mapping[str, Any] | None = None,
    outdir: str | None = None,
) -> cdk.App:
    """The app of the stage that the context asks for; the command line brings its own context and output directory.

    Raises `ConfigurationError` before any stack is made.
    """
    app = cdk.App(context=context, outdir=outdir)
    stage = command_line.choose(stages, default, app.node.get_all_context())
    add_stacks(app, stage)
    # A finding of cdk-nag that nobody acknowledged fails the synthesis.
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


def add_stacks(app: cdk.App, stage: Stage) -> None:
    """Storage and registry first: the endpoint needs an archive in the one and an image in the other."""
    storage = StorageStack(app, "storage", stage=stage)
    registry = RegistryStack(app, "registry", stage=stage)
    endpoint = EndpointStack(app, "endpoint", stage=stage)
    endpoint.add_stack_dependency(storage)
    endpoint.add_stack_dependency(registry)
