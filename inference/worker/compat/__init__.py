"""What old scripts import from the AWS toolkits and from Studio.ML, under the names that they import it by.

Years of `inference.py` begin with `from sagemaker_inference import content_types, decoder, encoder`, and wrappers of
Studio.ML with `from studio import model_util`; an archive that was packed by hand may lack the `tidegate_handler` that
`pack` would have put into it. The packages here are our own writing with those names and results;
where ours differ on purpose, docs/compatibility.md and docs/migration.md say so. They are imported with the worker,
before user code is, and only lent their old names afterwards: a model that brings the real packages gets those.
"""

from __future__ import annotations

import importlib.util
import sys

from tidegate import handler
from tidegate.inference.worker.compat import sagemaker_inference, sagemaker_pytorch_serving_container, studio
from tidegate.inference.worker.compat.sagemaker_pytorch_serving_container import default_pytorch_inference_handler
from tidegate.inference.worker.content import Reading

_PACKAGES = (sagemaker_inference, sagemaker_pytorch_serving_container, studio)
_HANDLER = "tidegate_handler"


def lend_names(reading: Reading) -> list[str]:
    """Make our packages importable by their old names; returns the names, without those really installed."""
    default_pytorch_inference_handler.DefaultPytorchInferenceHandler.reading = reading
    lent = []
    for prefix in (package.__name__ for package in _PACKAGES):
        name = prefix.rpartition(".")[2]
        if importlib.util.find_spec(name) is not None:
            continue
        ours = {key: module for key, module in sys.modules.items() if f"{key}.".startswith(f"{prefix}.")}
        sys.modules.update({name + key.removeprefix(prefix): module for key, module in ours.items()})
        lent.append(name)
    if importlib.util.find_spec(_HANDLER) is None:
        sys.modules[_HANDLER] = handler
        lent.append(_HANDLER)
    return lent
