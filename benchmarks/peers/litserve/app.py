"""LitServe as its documentation writes a batched API, with the raw body of the request.

Without postponed annotations: LitServe reads the annotation of `decode_request` itself.
"""

import os
from typing import Annotated

import litserve
import torch
import work
from fastapi import Body, Response

BATCH = int(os.environ["BENCHMARK_BATCH"])


class Inference(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's contract
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        self.work = work.load()

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> object:
        return self.work.decode(request)

    def predict(self, inputs):  # a list with a batch size above 1, and one input otherwise
        return self.work.predict(inputs) if BATCH > 1 else self.work.predict([inputs])[0]

    def batch(self, inputs: list) -> list:
        return inputs

    def unbatch(self, output: list) -> list:
        return output

    def encode_response(self, output: object) -> Response:
        return Response(self.work.encode(output), media_type="application/json")


if __name__ == "__main__":
    api = Inference(max_batch_size=BATCH, batch_timeout=0.005 if BATCH > 1 else 0.0, api_path="/invocations")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["BENCHMARK_WORKERS"]), healthcheck_path="/ping"
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCHMARK_PORT"]), num_api_servers=1, generate_client_file=False)
