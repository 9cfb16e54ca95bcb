"""Archives with forms of a toy network, made by hand as `export` makes them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x).tanh()
"""

SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
    "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 3]}],
    "dimensions": {"batch": {"min": 1, "max": 8}},
    "positional": ["x"],
    "keyword": [],
    "structure": "tensor",
}
ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]]

Network = Callable[[], torch.nn.Module]


def network(seed: int = 0) -> torch.nn.Module:
    """A network of `NET` with weights of its own for each seed."""
    names: dict[str, Any] = {}
    exec(NET, names)  # noqa: S102 - the text is the archive's code, too
    torch.manual_seed(seed)
    net: torch.nn.Module = names["Net"]().eval()
    return net


def form(name: str = "onnx", kind: str = "onnx", **changes: Any) -> dict[str, Any]:
    """A form as it stands in a manifest, without the sum of the weights, which `archive` writes."""
    files = {"onnx": "model.onnx", "pt2": "model.pt2", "aoti": "model.pt2"}
    made: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "settings": {},
        "requires": {"device": "cpu"},
        "signature": SIGNATURE,
        "parity": {"rtol": 1e-3, "atol": 1e-5, "batch_sizes": [1, 2]},
        "measured": {"batches": {"1": {"ratio": 1.5}, "8": {"ratio": 2.25}}},
    }
    if kind in files:
        made["file"] = f"forms/{name}/{files[kind]}"
    return {**made, **changes}


def write_onnx(path: Path, net: torch.nn.Module, rows: int = 2) -> None:
    """Export a network whose one input is `x`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.ones(rows, 4),),
            path,
            input_names=["x"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            external_data=False,
            verbose=False,
        )


def write_pt2(path: Path, net: torch.nn.Module) -> None:
    """Save a network by torch.export."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=8)},)
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),), dynamic_shapes=dynamic), path)


def archive(root: Path, forms: list[Any], *, net: torch.nn.Module | None = None, script: str = "") -> Path:
    """A model directory with its weights, an example, and these forms, whose files are in `root` already."""
    net = net or network()
    (root / "code").mkdir(parents=True, exist_ok=True)
    (root / "example").mkdir(exist_ok=True)
    (root / "code" / "net.py").write_text(NET)
    if script:
        (root / "code" / "inference.py").write_text(script)
    torch.save(net.state_dict(), root / "model.pth")
    with torch.no_grad():
        answer = net(torch.tensor(ROWS)).tolist()
    (root / "example" / "request.json").write_text(json.dumps(ROWS))
    (root / "example" / "response.json").write_text(json.dumps(answer))
    weights = sum_of(root / "model.pth")
    for each in forms:
        if isinstance(each, dict):
            each.setdefault("made_from", {"sha256": weights})
    manifest = {
        "format_version": 1,
        "name": "toy",
        "weights": {"file": "model.pth", "format": "state_dict", "architecture": "net:Net", "arguments": {}},
        "example": {
            "request": {
                "file": "example/request.json",
                "content_type": "application/json",
                "accept": "application/json",
            },
            "response": {"file": "example/response.json", "content_type": "application/json"},
            "rtol": 1e-3,
            "atol": 1e-5,
        },
        "forms": forms,
    }
    seal(root, manifest)
    return root


def seal(root: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest that lists every file as it is."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest["files"] = {
        str(path.relative_to(root)): {"sha256": sum_of(path), "size_bytes": path.stat().st_size} for path in found
    }
    (root / "manifest.json").write_text(json.dumps(manifest))


def sum_of(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
