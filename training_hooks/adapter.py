"""A model of peft: the base under its own names, and the adapter beside it, as peft writes and loads it.

Both are in the artifact, so that it needs nothing from elsewhere, and the adapter stays one: the base may take others.
"""

import copy
import importlib
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .arguments import kind_of, shown
from .errors import ArtifactError
from .portable_tensors import portable
from .staging import Stage
from .weight_files import FORMATS, refuse_unwritable
from .weights import checked_weights, unwrapped

DIRECTORY = "adapter"

_CONFIG, _WEIGHTS = f"{DIRECTORY}/adapter_config.json", f"{DIRECTORY}/adapter_model.safetensors"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter, and the network that it adapts.

    Attributes:
        base: the state dict of the network, without the adapter and under the names that it has without one.
        name: of the adapter.
        config: peft's own, without places of this machine.
        weights: of the adapter, as peft names them in a file.
    """

    base: Mapping[str, Any]
    name: str
    config: Any
    weights: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """What the manifest says under `weights.adapter`."""
        kind = getattr(self.config.peft_type, "value", self.config.peft_type)
        return {"directory": DIRECTORY, "name": self.name, "type": str(kind)}

    def write(self, stage: Stage) -> None:
        """Add the adapter's two files, as `save_pretrained` of peft would."""
        (stage.path / DIRECTORY).mkdir()
        self.config.save_pretrained(str(stage.path / DIRECTORY))
        stage.take(_CONFIG)
        FORMATS["safetensors"].write(portable(self.weights), stage.path / _WEIGHTS)
        stage.take(_WEIGHTS)


def adapter_of(model: object, *, allow_non_finite: Any = False) -> Adapter | None:
    """Return the adapter of a PeftModel, wrapped or not, and None for anything else.

    Raises:
        ArtifactError: it has several adapters, or one that cannot be told from the base.
    """
    peft = sys.modules.get("peft")  # who has such a model has imported it
    if peft is None or not isinstance(model, nn.Module):
        return None
    bare = unwrapped(model)
    if isinstance(bare, peft.PeftMixedModel):
        raise ArtifactError("model is a PeftMixedModel; give a PeftModel, or what its merge_and_unload() returns")
    if not isinstance(bare, peft.PeftModel):
        return None
    names = list(bare.peft_config)
    if len(names) != 1:
        raise ArtifactError(
            f"the PeftModel has the adapters {', '.join(map(shown, names))}; keep the one that is to be served and "
            "take the others off by delete_adapter"
        )
    (name,) = names
    network = bare.get_base_model()
    state = checked_weights(
        # The embedding layers that peft would add on its own account are in the base, which is here.
        peft.get_peft_model_state_dict(bare, adapter_name=name, save_embedding_layers=False),
        allow_non_finite=allow_non_finite,
    )
    refuse_unwritable(state, FORMATS["safetensors"])
    return Adapter(base=_base_state(network), name=name, config=_portable_config(bare.peft_config[name]), weights=state)


def _base_state(network: nn.Module) -> OrderedDict[str, Any]:
    layer = importlib.import_module("peft.tuners.tuners_utils").BaseTunerLayer
    wrapper = importlib.import_module("peft.utils.other").AuxiliaryTrainingWrapper
    inner_of: dict[str, str] = {}
    for path, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, layer):
            if getattr(module, "merged", False):
                raise ArtifactError(
                    f"the adapter is merged into {path!r}, and would count twice; call unmerge_adapter(), or save what "
                    "merge_and_unload() returns"
                )
            inner_of[path] = "base_layer"
        elif isinstance(module, wrapper):
            inner_of[path] = "original_module"
        if path in inner_of and inner_of[path] not in dict(module.named_children()):
            raise ArtifactError(
                f"the base of {path!r} cannot be told from its adapter ({kind_of(module)}); save what "
                "merge_and_unload() returns"
            )
    state = network.state_dict()
    base: OrderedDict[str, Any] = OrderedDict()
    for key, value in state.items():
        if (name := _base_name(key, inner_of)) is not None:
            base[name] = value
    metadata = getattr(state, "_metadata", None)
    if isinstance(metadata, Mapping):
        named = ((_base_name(path, inner_of), entry) for path, entry in metadata.items())
        base._metadata = OrderedDict(  # type: ignore[attr-defined]
            (name, entry) for name, entry in named if name is not None
        )
    return base


def _base_name(key: str, inner_of: Mapping[str, str]) -> str | None:
    """Return the name that an entry has without the adapter; None where it is one of the adapter.

    Args:
        key: the entry's name in the adapted network.
        inner_of: by the path of each module that peft put there, under which name it holds the one that was there.
    """
    segments = key.split(".")
    kept = []
    for depth, segment in enumerate(segments):
        inner = inner_of.get(".".join(segments[:depth]))
        if inner is None:
            kept.append(segment)
        elif segment != inner:
            return None
    return ".".join(kept)


def _portable_config(config: Any) -> Any:
    config = copy.deepcopy(config)
    config.inference_mode = True
    base = config.base_model_name_or_path
    if not isinstance(base, str) or not _HUB_NAME.fullmatch(base) or Path(base).exists():
        config.base_model_name_or_path = None  # a place of this machine says nothing elsewhere
    return config
