"""A model's other forms: ONNX, a compiled package, bfloat16; built, checked, measured and recorded in the manifest."""

from .choosing import Trial
from .exporting import Exported, export

__all__ = ["Exported", "Trial", "export"]
