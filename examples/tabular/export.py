"""Make an ONNX artifact of the one that train.py saved, or none where the two do not answer alike.

    pip install --no-deps --target build/onnx --requirement examples/tabular/requirements-onnx.txt
    PYTHONPATH=build/onnx python examples/tabular/export.py build/tabular/model build/tabular/onnx

Both models are asked for the recorded example and for made-up rows, one at a time, many at once, ordinary ones and some
far from all that was trained on. Only where no answer differs by more than `--rtol` is there an artifact: model.onnx, a
code/requirements.txt with the runtime that was asked, and the example with the answer of torch, which the server asks
the ONNX model for again before it takes traffic.
"""

import argparse
import importlib
import importlib.util
import json
import logging
import shutil
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tidegate.training_hooks import ArtifactError, Example, save_directory

EXPORTING = ("onnx", "onnxruntime", "onnxscript")
SERVING = ("flatbuffers", "onnxruntime", "protobuf")  # what the server lacks
ROWS = 1000


class ExportFailed(Exception):
    """There is no artifact; the text is one sentence."""


def main() -> int:
    """Export; return 0, or 1 after one sentence."""
    parser = argparse.ArgumentParser(description="Make an ONNX artifact of a trained one.")
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="what train.py saved")
    parser.add_argument("onnx_dir", type=Path, metavar="ONNX_DIR", help="the artifact to make")
    parser.add_argument("--rtol", type=float, default=1e-5, help="of the target's standard deviation")
    options = parser.parse_args()
    try:
        difference = export(options.model_dir, options.onnx_dir, rtol=options.rtol)
    except (ExportFailed, ArtifactError, OSError) as error:
        print(f"export: error: {error}", file=sys.stderr)
        return 1
    print(f"{options.onnx_dir}: onnxruntime and torch differ by {difference:.1e} of a standard deviation at most")
    return 0


def export(model_dir: Path, onnx_dir: Path, *, rtol: float) -> float:
    """Write the artifact; return the largest difference, as a part of the target's standard deviation."""
    if missing := [name for name in EXPORTING if importlib.util.find_spec(name) is None]:
        raise ExportFailed(f"{', '.join(missing)} cannot be imported: see the head of {Path(__file__).name}")
    manifest = json.loads((model_dir / "manifest.json").read_text(encoding="utf-8"))
    if "weights" not in manifest:
        raise ExportFailed(f"{model_dir} names no network; train.py saves one that does")
    net = load(model_dir, manifest["weights"])
    example = json.loads((model_dir / "example" / "request.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="tabular-export-") as name:
        folder = Path(name) / "onnx"
        folder.mkdir()
        write_onnx(net, torch.tensor(example), folder / "model.onnx")
        difference = parity(net, folder / "model.onnx", torch.tensor(example))
        if not difference <= rtol:
            raise ExportFailed(
                f"onnxruntime and torch differ by {difference:.1e} of a standard deviation, allowed is {rtol:.1e}; "
                f"{onnx_dir} is not written"
            )
        (folder / "code").mkdir()
        pins = "".join(f"{package}=={metadata.version(package)}\n" for package in SERVING)
        (folder / "code" / "requirements.txt").write_text(pins, encoding="utf-8")
        shutil.copy(model_dir / "preprocessing.json", folder)
        with torch.inference_mode():
            answer = net(torch.tensor(example))
        save_directory(
            folder,
            model_dir=onnx_dir,
            name=manifest["name"],
            metrics={**manifest["metrics"], "onnx_difference": difference},
            example=Example(request=example, response=answer, rtol=1e-4),
            batching=True,
        )
    return difference


def load(model_dir: Path, weights: dict[str, Any]) -> torch.nn.Module:
    """Build the network that the manifest names and fill it from model.pth."""
    sys.path.insert(0, str(model_dir / "code"))
    module, _, name = weights["architecture"].partition(":")
    net = getattr(importlib.import_module(module), name)(**weights["arguments"])
    net.load_state_dict(torch.load(model_dir / weights["file"], weights_only=True))
    return net.eval()


def write_onnx(net: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write one file in which the number of rows is free."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about torch's own code
        torch.onnx.export(
            net,
            (example,),
            path,
            dynamo=True,
            external_data=False,
            input_names=["rows"],
            output_names=["estimate"],
            dynamic_shapes=({0: torch.export.Dim("records")},),
            verbose=False,
        )


def parity(net: torch.nn.Module, path: Path, example: torch.Tensor) -> float:
    """The largest difference between the answers of both models, as a part of the target's standard deviation."""
    import onnxruntime  # noqa: PLC0415 - `export` has looked whether it is there

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    spread = example.std(dim=0)
    made_up = example.mean(dim=0) + torch.randn(ROWS, example.shape[1], generator=torch.manual_seed(0)) * spread * 2
    far = made_up[:50] * 100
    scale = float(net.target_std)
    worst = 0.0
    for rows in (example, example[:1], made_up, far):
        with torch.inference_mode():
            wanted = net(rows).numpy()
        (found,) = session.run(None, {"rows": rows.numpy()})
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return float("inf")
        # Beyond a standard deviation it is the number's own size that counts.
        worst = max(worst, float((np.abs(found - wanted) / np.maximum(np.abs(wanted), scale)).max()))
    return worst


if __name__ == "__main__":
    sys.exit(main())
