"""From a live model to weights that load anywhere: plain names, plain tensors, finite numbers.

Facts of torch obeyed here (measured with 2.13): DDP and torch.compile prefix every key, and a strict load then fails;
NaN weights load without a word; `weights_only=True` rejects numpy values and tensor subclasses.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from .arguments import kind_of, shown
from .errors import ArtifactError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_COMPILED_PREFIX = "_orig_mod."
_PARALLEL_PREFIX = "module."
_CHECKED_AT_ONCE = 1 << 22  # isfinite makes copies of what it looks at
_PLAIN_TYPES = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)


def checked_weights(
    model: nn.Module | Mapping[str, Any], *, allow_non_finite: bool | Collection[str] = False
) -> OrderedDict[str, Any]:
    """Return the weights under the names of the bare model, checked, on the devices where they are.

    Wrappers (DataParallel, DistributedDataParallel, AveragedModel, torch.compile) are taken off a module; from a
    mapping, `_orig_mod.` is removed wherever it stands and `module.` when every key starts with it. Module versions
    (`_metadata`) are kept.

    Args:
        model: a module or its state dict.
        allow_non_finite: True, or the names of entries that may hold NaN or infinity (a mask of -inf, say).

    Raises:
        ArtifactError: naming the entry that is not finite, not loaded, not a tensor or not alone under its name.
    """
    exempt = _exempt_names(allow_non_finite)
    if isinstance(model, nn.Module):
        state: Mapping[str, Any] = unwrapped(model).state_dict()
        parallel_depth = 0  # a bare model may well call its only child "module"
    elif isinstance(model, Mapping):
        state = model
        parallel_depth = _parallel_depth(state)
    else:
        raise ArtifactError(f"model is {kind_of(model)}; give a torch.nn.Module or its state dict")
    if not state:
        raise ArtifactError("the model has no parameters and no buffers: there is nothing to save")

    weights: OrderedDict[str, Any] = OrderedDict()
    for key, value in state.items():
        name = _bare_name(key, parallel_depth)
        if name in weights:
            raise ArtifactError(f"two entries are both called {name!r} once the wrapper prefixes are removed")
        if isinstance(value, torch.Tensor):
            weights[name] = _plain_tensor(value, name)
        else:
            _check_extra_state(value, name)
            weights[name] = value
    if exempt is not None:
        _refuse_non_finite(weights, exempt=exempt)
    metadata = getattr(state, "_metadata", None)
    if isinstance(metadata, Mapping):
        refuse_unloadable(dict(metadata), "the state dict's _metadata")
        # An attribute of the OrderedDict, as torch itself keeps it; load_state_dict reads module versions there.
        weights._metadata = OrderedDict(  # type: ignore[attr-defined]
            (_bare_name(f"{path}.", parallel_depth).removesuffix("."), entry) for path, entry in metadata.items()
        )
    return weights


def _exempt_names(given: object) -> frozenset[str] | None:
    """Return the names that may be non-finite; None where all may."""
    if isinstance(given, bool | np.bool_):
        return None if given else frozenset()
    if given is None or isinstance(given, str):
        return frozenset([given] if given else [])
    names: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, torch.Tensor) else [None]
    if not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"allow_non_finite is {shown(given)}; give True, False or a list of names of weights")
    return frozenset(names)


def refuse_unloadable(value: object, where: str) -> None:
    """Raise `ArtifactError` naming the first nested value that `weights_only=True` would refuse to load."""
    try:
        _refuse_unloadable(value, where)
    except RecursionError:
        raise ArtifactError(f"{where} is nested too deeply, or holds itself") from None


def _refuse_unloadable(value: object, where: str) -> None:
    if type(value) in _PLAIN_TYPES or type(value) in (torch.Tensor, nn.Parameter):
        return
    if type(value) in (dict, OrderedDict):
        for key, item in cast("dict[object, object]", value).items():
            _refuse_unloadable(key, f"the key {key!r} of {where}")
            _refuse_unloadable(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, item in enumerate(cast("list[object]", value)):
            _refuse_unloadable(item, f"{where}[{index}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise ArtifactError(
            f"{where} is a {kind}, which torch.load(weights_only=True) rejects; "
            "convert it to a tensor or to plain Python values"
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel, AveragedModel and torch.compile."""
    while True:
        if isinstance(model, _WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _parallel_depth(state: Mapping[str, Any]) -> int:
    """Count how many `module.` prefixes all keys share."""
    for key in state:
        if not isinstance(key, str):
            raise ArtifactError(f"the state dict has the key {key!r}; names of weights must be text")
    depth = 0
    while state and all(_bare_name(key, depth).startswith(_PARALLEL_PREFIX) for key in state):
        depth += 1
    return depth


def _bare_name(name: str, parallel_depth: int) -> str:
    name = name.replace(_COMPILED_PREFIX, "")
    for _ in range(parallel_depth):
        name = name.removeprefix(_PARALLEL_PREFIX)
    return name


def _plain_tensor(value: torch.Tensor, name: str) -> torch.Tensor:
    if is_lazy(value):
        raise ArtifactError(f"{name!r} has no shape yet; run one batch through the lazy module before saving it")
    if value.is_nested:
        raise ArtifactError(
            f"{name!r} is a nested tensor, which no weights are; save its parts under names of their own"
        )
    if value.is_meta:
        raise ArtifactError(f"{name!r} is on the meta device: it has a shape but no numbers")
    if type(value) not in (torch.Tensor, nn.Parameter, nn.Buffer):
        hint = (
            "gather it with torch.distributed.checkpoint.state_dict.get_model_state_dict(full_state_dict=True)"
            if type(value).__name__ in ("DTensor", "ShardedTensor")
            else "convert it to a plain tensor"
        )
        raise ArtifactError(f"{name!r} is {kind_of(value)}, which weights_only loading rejects; {hint}")
    return value.detach()


def _check_extra_state(value: object, name: str) -> None:
    if isinstance(value, Mapping) and not name.endswith("_extra_state"):
        raise ArtifactError(
            f"{name!r} is {kind_of(value)}, not a tensor; this looks like a checkpoint: give the model's own state dict"
        )
    refuse_unloadable(value, f"the entry {name!r}")


def _refuse_non_finite(state: Mapping[str, Any], *, exempt: frozenset[str]) -> None:
    for name, value in state.items():
        if name in exempt or not isinstance(value, torch.Tensor):
            continue
        if not (value.is_floating_point() or value.is_complex()):
            continue
        if value.layout is torch.strided:
            numbers = value
        else:
            numbers = (value.coalesce() if value.layout is torch.sparse_coo else value).values()
        bad = sum(_non_finite(piece) for piece in torch.split(numbers.reshape(-1), _CHECKED_AT_ONCE))
        if bad:
            raise ArtifactError(
                f"{name!r} holds {bad} NaN or infinite numbers of {numbers.numel()}; "
                "pass allow_non_finite=True, or a list of such names, if that is meant"
            )


def _non_finite(numbers: torch.Tensor) -> int:
    if numbers.itemsize == 1:
        numbers = numbers.float()  # isfinite is not defined for the 8-bit floats
    return int(numbers.numel() - torch.isfinite(numbers).sum())
