"""The names that user scripts import from AWS's `sagemaker_pytorch_serving_container`."""

from __future__ import annotations

from . import default_pytorch_inference_handler

__all__ = ["default_pytorch_inference_handler"]
