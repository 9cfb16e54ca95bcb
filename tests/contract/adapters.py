"""A model that takes adapters as a `PeftModel` does, for tests without peft, and adapters of it on the disk."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save

MODEL = """
import torch
from safetensors.torch import load_file

class Adapted(torch.nn.Module):
    '''Multiplies by the factor of the adapter that is active; the one that it comes with has the factor 1.'''

    def __init__(self):
        super().__init__()
        self.base = torch.nn.Parameter(torch.zeros(1))
        self.peft_config = {"default": None}
        self.factors = {"default": torch.ones(1)}
        self.active_adapter = "default"

    def load_adapter(self, model_id, adapter_name):
        self.peft_config[adapter_name] = None
        self.factors[adapter_name] = load_file(model_id + "/adapter_model.safetensors")["lora_A"][:, 0]

    def set_adapter(self, adapter_name):
        assert adapter_name in self.peft_config
        self.active_adapter = adapter_name

    def delete_adapter(self, adapter_name):
        assert adapter_name != self.active_adapter
        del self.peft_config[adapter_name], self.factors[adapter_name]

    def forward(self, x):
        return x * self.factors[self.active_adapter] + self.base

def model_fn(model_dir):
    return Adapted()
"""


def adapter(name: str, factor: float, **config: Any) -> dict[str, bytes]:
    """The files of an adapter in the directory `adapters/NAME` below the model's."""
    said = {"peft_type": "LORA", "r": 1, **config}
    return {
        f"adapters/{name}/adapter_config.json": json.dumps(said).encode(),
        f"adapters/{name}/adapter_model.safetensors": save({"lora_A": torch.tensor([[factor]])}),
    }
