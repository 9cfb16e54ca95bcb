"""The work that every server does: one module, copied beside each application, so that only the servers differ.

W0: a JSON document of one KiB is parsed, a small one is written; no model.
W1: an array of 256 float32 in .npy → MLP 256-1024-1024-10 → its ten numbers as JSON.
W2: a JPEG of 224x224 pixels → ResNet-18 → the five best classes as JSON.

`decode(body)` → one input; `predict([input, …])` → one prediction for each, in one call of the model;
`encode(prediction)` → the bytes of the answer. Eager torch, float32, no gradients. The variable BENCHMARK_WORK has the
name of the work, BENCHMARK_WEIGHTS the folder of the weights.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

CLASSES = 1000
MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)
DEVIATION = np.array((0.229, 0.224, 0.225), dtype=np.float32)


class NoOp:
    """W0: what is left when there is no model."""

    content_type = "application/json"

    @staticmethod
    def decode(body: bytes | bytearray | memoryview | str) -> Any:
        return json.loads(body if isinstance(body, str) else bytes(body))

    def forward(self, data: Any) -> Any:
        return data

    def predict(self, inputs: list[Any]) -> list[Any]:
        return inputs

    @staticmethod
    def encode(prediction: Any) -> bytes:
        return json.dumps({"id": prediction["id"], "values": len(prediction["values"])}).encode()


class Model:
    """W1 and W2: `predict` joins the inputs to one tensor, calls the model once and cuts the result."""

    content_type: str

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @torch.inference_mode()
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.model(data)
        return result

    def predict(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """One (1, classes) tensor for each input."""
        return list(torch.split(self.forward(inputs[0] if len(inputs) == 1 else torch.cat(inputs)), 1))


class Mlp(Model):
    """W1."""

    content_type = "application/x-npy"

    @staticmethod
    def decode(body: bytes | bytearray | memoryview) -> torch.Tensor:
        """(1, 256) float32."""
        return torch.from_numpy(np.load(io.BytesIO(body), allow_pickle=False))[None]

    @staticmethod
    def encode(prediction: torch.Tensor) -> bytes:
        return json.dumps(prediction[0].tolist()).encode()


class Classifier(Model):
    """W2."""

    content_type = "image/jpeg"

    @staticmethod
    def decode(body: bytes | bytearray | memoryview) -> torch.Tensor:
        """(1, 3, 224, 224) float32, normalised as the ImageNet models expect."""
        pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"), dtype=np.float32) / 255
        pixels = (pixels - MEAN) / DEVIATION
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]

    @staticmethod
    def encode(prediction: torch.Tensor) -> bytes:
        values, classes = prediction[0].softmax(0).topk(5)
        return json.dumps({"classes": classes.tolist(), "probabilities": values.tolist()}).encode()


class Residual(nn.Module):
    """Two 3x3 convolutions and the way around them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            shrink = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.around = nn.Sequential(shrink, nn.BatchNorm2d(channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.first_norm(self.first(images)))
        return torch.relu(self.second_norm(self.second(inner)) + self.around(images))


def resnet18() -> nn.Module:
    """(N, 3, 224, 224) → (N, 1000)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels_in = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(channels_in, channels, stride), Residual(channels, channels, 1)]
        channels_in = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)]
    return nn.Sequential(*layers)


def mlp() -> nn.Module:
    """(N, 256) → (N, 10)."""
    return nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


KINDS: dict[str, type[NoOp | Mlp | Classifier]] = {"W0": NoOp, "W1": Mlp, "W2": Classifier}
NETWORKS: dict[str, Callable[[], nn.Module]] = {"W1": mlp, "W2": resnet18}


def load(name: str | None = None, weights: str | Path | None = None) -> NoOp | Mlp | Classifier:
    """The work `name`, ready to be done, with the weights that `write_weights` wrote to the folder `weights`."""
    name = name or os.environ["BENCHMARK_WORK"]
    if name == "W0":
        return NoOp()
    with torch.device("meta"):
        model = NETWORKS[name]()
    file = Path(weights or os.environ["BENCHMARK_WEIGHTS"]) / f"{name}.pth"
    model.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"), assign=True)
    return (Mlp if name == "W1" else Classifier)(model.eval())


def write_weights(folder: Path) -> None:
    """Random weights from a fixed seed, the same for everyone."""
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        torch.save(network().state_dict(), folder / f"{name}.pth")


def loop(name: str, body: bytes, batch: int, seconds: float) -> None:
    """The limit: the work in a bare loop in one process. Starts at a line on standard input, prints one JSON line."""
    torch.set_num_threads(1)
    work = load(name)
    done = 0

    def once() -> None:
        for prediction in work.predict([work.decode(body) for _ in range(batch)]):
            work.encode(prediction)

    once()
    print("ready", flush=True)
    sys.stdin.readline()
    started, cpu = time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds:
        once()
        done += batch
    print(json.dumps({"per_s": done / elapsed, "cpu_us": (time.process_time() - cpu) / done * 1e6}), flush=True)


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "weights":
        write_weights(Path(arguments[0]))
    elif command == "loop":
        name, file, batch, seconds = arguments
        loop(name, Path(file).read_bytes(), int(batch), float(seconds))


if __name__ == "__main__":
    main()
