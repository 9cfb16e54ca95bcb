"""The archive's script where requests are to share a call: it takes the list that a batch is, as mosec's does."""

# ruff: noqa: ARG001 - the contract of the functions names their arguments

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


def collate_fn(inputs):
    return inputs


def predict_fn(data, model):
    return model.predict(data)


def split_fn(prediction, count):
    return prediction


def output_fn(prediction, accept):
    return KIND.encode(prediction)
