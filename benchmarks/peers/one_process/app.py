"""A small server for SageMaker's functions: one uvicorn process, which calls the archive's functions in threads.

Its script is the one that the other servers of archives get; `transform_fn` is what such a server makes of a script
that has none. The pool has as many threads as its library gives it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

MODEL_DIR = Path(__file__).parent / "model"
sys.path.insert(0, str(MODEL_DIR / "code"))

import inference  # noqa: E402 - found by the path above


def transform_fn(model: Any, body: bytes, content_type: str, accept: str) -> Any:
    data = inference.input_fn(body, content_type)
    return inference.output_fn(inference.predict_fn(data, model), accept)


@asynccontextmanager
async def with_model(app: FastAPI) -> AsyncIterator[None]:
    app.state.model = await run_in_threadpool(inference.model_fn, str(MODEL_DIR))
    yield


app = FastAPI(lifespan=with_model)


@app.get("/ping")
async def ping() -> Response:
    return Response()


@app.post("/invocations")
async def invocations(request: Request) -> Response:
    body, headers = await request.body(), request.headers
    content_type, accept = headers.get("content-type", ""), headers.get("accept", "application/json")
    answer = await run_in_threadpool(transform_fn, request.app.state.model, body, content_type, accept)
    return Response(answer, media_type="application/json")
