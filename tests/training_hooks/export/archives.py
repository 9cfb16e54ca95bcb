"""Archives of toy networks, each with an example, for tests of export."""

import sys
from pathlib import Path
from typing import Any

import torch

from tidegate.training_hooks import save_model

NETWORKS = """\
import torch

class Wide(torch.nn.Module):
    def __init__(self, inputs=8):
        super().__init__()
        self.first = torch.nn.Linear(inputs, 16)
        self.norm = torch.nn.BatchNorm1d(16)
        self.dropout = torch.nn.Dropout()
        self.last = torch.nn.Linear(16, 4)
    def forward(self, x):
        return self.last(self.dropout(torch.relu(self.norm(self.first(x)))))

class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(50, 8)
        self.last = torch.nn.Linear(8, 3)
    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).to(torch.float32)
        hidden = self.words(input_ids) * mask
        return {"logits": self.last(hidden.sum(1) / mask.sum(1)), "hidden": hidden}

class Keyed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(3, 2)
    def forward(self, inputs):
        return self.last(inputs["one"]), self.last(inputs["other"])

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.last(x) + torch.rand(2)

class Summed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.last(x).sum(0)

class Nested(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(3, 2)
    def forward(self, x):
        return {"a": (self.last(x), x)}

class Picky(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(3, 2)
    def forward(self, x):
        if float(x.sum()) > 0:
            return self.last(x)
        return self.last(-x)
"""


def network(name: str) -> torch.nn.Module:
    """Return a network of that class, always with the same weights, in evaluation mode."""
    namespace: dict[str, Any] = {"__name__": "nets"}
    exec(NETWORKS, namespace)  # noqa: S102 - the module that the archive has as a file
    torch.manual_seed(0)
    made: torch.nn.Module = namespace[name]()
    return made.eval()


def archive(place: Path, name: str, example: Any, *, script: str | None = None, **more: Any) -> Path:
    """Save a network as an artifact in `place`/model; `script` is its inference.py."""
    code = place / "code"
    code.mkdir(exist_ok=True)
    (code / "nets.py").write_text(NETWORKS, encoding="utf-8")
    if script is not None:
        (code / "inference.py").write_text(script, encoding="utf-8")
    return save_model(
        network(name), model_dir=place / "model", code_dir=code, architecture=f"nets:{name}", example=example, **more
    )


def has(*packages: str) -> bool:
    """Whether these packages can be imported."""
    import importlib.util

    return all(name in sys.modules or importlib.util.find_spec(name) for name in packages)
