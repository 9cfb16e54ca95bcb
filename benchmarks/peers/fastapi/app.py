"""FastAPI as most people write it: `async def`, inference on the event loop; uvicorn starts the workers."""

from __future__ import annotations

import os

import torch
import work
from fastapi import FastAPI, Request, Response

torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
app = FastAPI()
model = work.load()


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/invocations")
async def invocations(request: Request) -> Response:
    data = model.decode(await request.body())
    return Response(model.encode(model.predict([data])[0]), media_type="application/json")
