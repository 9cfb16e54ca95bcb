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
from types import ModuleType

from tidegate import handler
from tidegate.inference.worker.compat import sagemaker_inference, sagemaker_pytorch_serving_container, studio
from tidegate.inference.worker.compat.sagemaker_pytorch_serving_container import default_pytorch_inference_handler
from tidegate.inference.worker.content import Reading

_HANDLER = "tidegate_handler"


def _by_old_names(package: ModuleType) -> dict[str, ModuleType]:
    prefix, name = package.__name__, package.__name__.rpartition(".")[2]
    ours = {key: module for key, module in sys.modules.items() if f"{key}.".startswith(f"{prefix}.")}
    return {name + key.removeprefix(prefix): module for key, module in ours.items()}


# Found before workers are forked: to look through all modules there would give each a copy of the memory that has them.
_PACKAGES = {
    package.__name__.rpartition(".")[2]: _by_old_names(package)
    for package in (sagemaker_inference, sagemaker_pytorch_serving_container, studio)
}


def lend_names(reading: Reading) -> list[str]:
    """Make our packages importable by their old names; returns the names, without those really installed."""
    default_pytorch_inference_handler.DefaultPytorchInferenceHandler.reading = reading
    lent = []
    for name, modules in _PACKAGES.items():
        if importlib.util.find_spec(name) is None:
            sys.modules.update(modules)
            lent.append(name)
    if importlib.util.find_spec(_HANDLER) is None:
        sys.modules[_HANDLER] = handler
        lent.append(_HANDLER)
    return lent
