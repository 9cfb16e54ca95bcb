"""The archive's script for the GPU benchmark: a raw image of 3x224x224 bytes in, the best class out."""

# ruff: noqa: ARG001 - the contract of the four functions names their arguments

from __future__ import annotations

import os

import torch
import variants


def model_fn(model_dir):
    return variants.build(os.environ["BENCHMARK_VARIANT"])


def model_warmup_fn(model_dir, model):
    largest = int(os.environ["BENCHMARK_BATCH"])
    for count in {1, 2, largest}:
        model(torch.zeros(count, 3, 224, 224, dtype=torch.uint8))


def input_fn(input_data, content_type):
    return torch.frombuffer(input_data, dtype=torch.uint8).reshape(1, 3, 224, 224)


def predict_fn(data, model):
    return model(data)


def output_fn(prediction, accept):
    return {"class": int(prediction.argmax())}
