"""What to do about an operator that a saved model uses and nothing here has registered."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tidegate.inference.errors import text_of
from tidegate.inference.package_layer import protected_version as torch_here

_TORCH = (
    (re.compile(r"Unknown builtin op: (?P<name>[\w:.]*\w)"), "operator"),
    (re.compile(r"Unknown type name '(?:__torch__\.)?(?P<name>[\w.]+)'"), "class"),
    (re.compile(r"'_OpNamespace' '(?P<space>\w+)' object has no attribute '(?P<name>\w+)'"), "operator"),
    (re.compile(r"failed to resolve torch\.ops\.(?P<space>\w+)\.(?P<name>\w+)"), "operator"),
)
_UNFIT = re.compile(r"operator (?P<space>\w+)::(?P<name>\w+) does not exist")
"""What a package says of an operator of its own that it could not register, as it is imported."""
_ONNX = re.compile(
    r"(?P<space>[\w.]*):(?P<name>\w+)\(-?\d+\) is not a registered function"
    r"|No Op registered for (?P<builtin>\w+) with domain_version of (?P<version>\d+)"
)
_PACKAGES: Mapping[str, str] = {
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "torchtext": "torchtext",
    "quantized_decomposed": "torchao",
    "torchao": "torchao",
    "torch_scatter": "torch-scatter",
    "torch_sparse": "torch-sparse",
    "torch_cluster": "torch-cluster",
    "fbgemm": "fbgemm-gpu",
    "xformers": "xformers",
    "detectron2": "detectron2",
    "mmdeploy": "mmcv",
}
"""The packages that register operators in a namespace; of any other namespace the package is mostly called the same."""


def missing_operator(error: BaseException) -> str | None:
    """The operator, or class, and the way out, in words; None where the error is about something else."""
    text = text_of(error)
    for pattern, what in _TORCH:
        if found := pattern.search(text):
            groups = found.groupdict()
            name = "::".join(filter(None, (groups.get("space"), groups["name"])))
            return _of_torch(what, name)
    if unfit := _UNFIT.search(text):
        return _of_another_build(unfit["space"], unfit["name"])
    found = _ONNX.search(text)
    if found is None:
        return None
    if found["builtin"]:
        return (
            f"it needs the operator {found['builtin']} of opset {found['version']}, which this onnxruntime does not "
            "have; name a later onnxruntime in code/requirements.txt, or export the model with an earlier opset"
        )
    if found["space"] == "ai.onnx.contrib":
        return (
            f"it needs the operator {found['name']} of onnxruntime-extensions; name that package in "
            "code/requirements.txt"
        )
    return (
        f"it needs the operator {found['name']} of the domain {found['space']}, which nothing here has registered; "
        "load the model in a model_fn that registers the library of these operators"
    )


def _of_another_build(space: str, name: str) -> str:
    """A package whose compiled part does not load beside this torch: PyPI's wheels are for one CUDA version only."""
    here = torch_here()
    package, build = _PACKAGES.get(space, space), (here or "").partition("+")[2]
    index = f" --extra-index-url https://download.pytorch.org/whl/{build}" if build else ""
    return (
        f"operator {space}::{name} does not exist: the build of {package} that is installed does not fit torch "
        f"{here or '(none)'}; in code/requirements.txt, name {package} in the version for this torch"
        + (f", and in a line of its own the index of its builds:{index}" if index else "")
    )


def _of_torch(what: str, name: str) -> str:
    package = _PACKAGES.get(re.split(r"::|\.", name)[0])
    return (
        f"it needs the {what} {name}, which nothing here has registered; import "
        f"{package or 'the package that does, such as torchvision,'} in code/inference.py, and name it in "
        "code/requirements.txt"
    )
