"""The names that user scripts import from AWS's `sagemaker_inference`."""

from __future__ import annotations

from . import (
    content_types,
    decoder,
    default_inference_handler,
    encoder,
    environment,
    errors,
    parameters,
    utils,
)
from . import toolkit_logging as logging

__all__ = [
    "content_types",
    "decoder",
    "default_inference_handler",
    "encoder",
    "environment",
    "errors",
    "logging",
    "parameters",
    "utils",
]
