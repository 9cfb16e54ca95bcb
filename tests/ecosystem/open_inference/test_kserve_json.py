"""What KServe's own documentation and client send: JSON as they write it, over a plain HTTP connection."""

from __future__ import annotations

import json

from tests.contract.running import running

IRIS = """
import torch

def model_fn(model_dir):
    return torch.nn.Identity()

def predict_fn(data, model):
    return data.sum(dim=1).round().to(torch.int64)
"""

DOCUMENTED = {
    "inputs": [
        {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}
    ]
}
"""As the page of KServe's scikit-learn runtime has it: nested data, a name of the client's choice."""
FROM_THE_CLIENT = {
    "id": "a6a9f5e0",
    "inputs": [
        {
            "name": "input-0",
            "shape": [2, 4],
            "datatype": "FP64",
            "parameters": {},
            "data": [6.8, 2.8, 4.8, 1.4, 6.0, 3.4, 4.5, 1.6],
        }
    ],
    "parameters": {},
    "outputs": [{"name": "output_0", "parameters": {}}],
}
"""As `kserve.InferRequest.to_rest` writes it: flat data, and every optional member."""


def test_requests_as_kserve_writes_them_are_answered() -> None:
    with running({"code/inference.py": IRIS}) as server:
        for content in (DOCUMENTED, FROM_THE_CLIENT):
            reply = server.request(
                "POST", "/v2/models/model/infer", json.dumps(content), {"content-type": "application/json"}
            )
            found = reply.json()
            assert (reply.status, found["model_name"], found.get("id")) == (200, "model", content.get("id"))
            (output,) = found["outputs"]
            assert output == {"name": "output_0", "datatype": "INT64", "shape": [2], "data": [16, 16]}
