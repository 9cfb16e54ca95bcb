"""Flask as its documentation deploys it: a WSGI application that gunicorn starts workers for."""

from __future__ import annotations

import os

import torch
import work
from flask import Flask, Response, request

torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
app = Flask(__name__)
model = work.load()


@app.get("/ping")
def ping() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/invocations")
def invocations() -> Response:
    data = model.decode(request.get_data())
    return Response(model.encode(model.predict([data])[0]), mimetype="application/json")
