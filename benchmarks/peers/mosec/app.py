"""mosec as its documentation writes a service: one stage, batched; bytes in, bytes out."""

from __future__ import annotations

import os

import torch
import work
from mosec import Server, Worker

BATCH = int(os.environ["BENCHMARK_BATCH"])


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        self.work = work.load()

    def deserialize(self, data: bytes) -> object:
        return self.work.decode(data)

    def forward(self, data):  # mosec gives a list with a batch size above 1, and one input otherwise
        return self.work.predict(data) if BATCH > 1 else self.work.predict([data])[0]

    def serialize(self, data: object) -> bytes:
        return self.work.encode(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Inference, num=int(os.environ["BENCHMARK_WORKERS"]), max_batch_size=BATCH, max_wait_time=5 if BATCH > 1 else 0
    )
    server.run()
