"""The four functions of the archive. Our server and the AWS TorchServe stack get the same file."""

# ruff: noqa: ARG001 - the contract of the four functions names their arguments

from __future__ import annotations

import os

import torch
import work

KIND = work.KINDS[os.environ["BENCHMARK_WORK"]]


def model_fn(model_dir):
    torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
    return work.load(weights=model_dir)


def input_fn(input_data, content_type):
    return KIND.decode(input_data)


def predict_fn(data, model):
    return model.forward(data)


def output_fn(prediction, accept):
    return KIND.encode(prediction)
