"""The management half of the multi-model contract: load, list, describe, unload.

Shapes and statuses are the platform's (SageMaker developer guide, "Custom containers for multi-model endpoints"); the
texts of success are TorchServe's, which clients compare.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tidegate.inference.errors import (
    BadRequest,
    DeploymentError,
    ModelDoesNotFit,
    ModelLoadFailed,
    NotFound,
    OutOfMemory,
)
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.frontend.models.model_list import page
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.queue.model_pool import ModelPool

MAX_NAME = 1024
"""Characters of a model's name. The platform's own are hashes of 64."""


class ModelRoutes:
    """Answers `/models` and `/models/NAME`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def answer(self, request: Request) -> Response:
        """Answer one request of these routes. Raises `RequestError`."""
        name = request.path.removeprefix("/models").removeprefix("/")
        if request.method == "POST":
            return await self._load(request)
        if request.method == "DELETE":
            await self._registry.unload(name)
            return _status(f'Model "{name}" unregistered')
        return json_response(
            self._entry(name) if name else page(sorted(self._registry.pools), request.query, self._entry)
        )

    async def _load(self, request: Request) -> Response:
        name, model_dir = _wanted(request)
        pool = await load_model(self._registry, name, model_dir)
        return _status(f'Model "{name}" Version: 1.0 registered with {pool.limits.workers} initial workers')

    def _entry(self, name: str) -> dict[str, object]:
        pool = self._registry.find(name)
        return {"modelName": name, "modelUrl": pool.spec.model_dir, **pool.described}


async def load_model(registry: Registry, name: str, model_dir: Path) -> ModelPool:
    """Load a model because a client asks for it. Raises `RequestError`."""
    if not registry.has(name) and not await asyncio.to_thread(model_dir.is_dir):
        raise NotFound(f"The model directory {model_dir} of '{name}' does not exist.")
    try:
        return await registry.load(name, model_dir)
    except ModelDoesNotFit as error:
        raise OutOfMemory(str(error)) from error
    except DeploymentError as error:
        raise ModelLoadFailed(str(error)) from error


def _wanted(request: Request) -> tuple[str, Path]:
    try:
        content = json.loads(request.body.whole())
        name, url = content["model_name"], content["url"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest(
            'The body must be JSON like {"model_name": "NAME", "url": "/opt/ml/models/NAME/model"}.'
        ) from None
    return checked_name(name), checked_directory(url)


def checked_name(name: object) -> str:
    """The name of a model. Raises `BadRequest`."""
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable() and "/" not in name):
        raise BadRequest(f"model_name must be a string of 1 to {MAX_NAME} printable characters without a slash.")
    return name


def checked_directory(url: object) -> Path:
    """The directory that a client names. Raises `BadRequest`."""
    if not (isinstance(url, str) and Path(url).is_absolute() and "\0" not in url):
        raise BadRequest("url must be the absolute path of a directory in this container.")
    return Path(url)


def _status(text: str) -> Response:
    return json_response({"status": text})
