"""The model of the repository's benchmark, as a handler of TorchServe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

_model: Any = None


def handle(data: Any, context: Any) -> Any:
    """Called without data when the model is loaded, then with each request."""
    global _model  # noqa: PLW0603 - as its documentation has it for handlers of one function
    if _model is None:
        place = Path(context.system_properties["model_dir"])
        _model = torch.load(place / "model.pth", weights_only=True)["marks"]
    if data is None:
        return None
    body = data[0].get("body") or data[0].get("data")
    order = body if isinstance(body, dict) else json.loads(body)
    return [{"mark": int(_model[order["at"] % len(_model)]), "at": order["at"]}]
