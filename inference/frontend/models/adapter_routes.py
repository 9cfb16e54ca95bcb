"""`/adapters`: what SageMaker asks of a container that serves an inference component with adapters.

    POST   /adapters  {"name": NAME, "src": DIRECTORY, "preload": true, "pin": false}     200 Adapter NAME registered
    DELETE /adapters/NAME                                                               200 Adapter NAME unregistered
    GET    /adapters, /adapters/NAME                                                    what there is (ours)

Source: AWS's model-hosting-container-standards, whose handlers these are; there is no page of the contract.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from tidegate.inference.errors import BadRequest
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.frontend.models.adapter_table import Adapter
from tidegate.inference.frontend.queue.model_pool import ModelPool

MAX_BODY_BYTES = 64 * 1024
"""A registration is a name and a path."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,255}")
_EXAMPLE = '{"name": "NAME", "src": "adapters/NAME", "preload": true, "pin": false}'


class AdapterRoutes:
    """Answers for the model of `pool`. Adapters lie below its directory, or below `adapters_dir`."""

    def __init__(self, pool: ModelPool, *, adapters_dir: Path | None, timeout_s: float) -> None:
        self._pool = pool
        self._adapters_dir = adapters_dir
        self._timeout_s = timeout_s

    async def answer(self, request: Request) -> Response:
        """Answer one request of these routes. Raises `RequestError`."""
        name, adapters = request.path.removeprefix("/adapters").removeprefix("/"), self._pool.adapters
        if request.method == "POST":
            return await self._register(request)
        if request.method == "DELETE":
            await adapters.unregister(name, self._timeout_s)
            return _text(f"Adapter {name} unregistered")
        if name:
            return json_response(_entry(adapters.demand(name)))
        return json_response({"adapters": [_entry(each) for each in adapters.listing()]})

    async def _register(self, request: Request) -> Response:
        name, src, preload, pin = _wanted(request)
        directory = await asyncio.to_thread(self._directory, src)
        await self._pool.adapters.register(name, str(directory), preload=preload, pinned=pin, timeout_s=self._timeout_s)
        return _text(f"Adapter {name} registered")

    def _directory(self, src: str) -> Path:
        """The directory that `src` names, among those that the deployer has put there. Raises `BadRequest`."""
        if "://" in src:
            raise BadRequest(f"src is a directory in this container, and no address: '{src[:200]}' is not fetched.")
        model_dir = Path(self._pool.spec.model_dir).resolve()
        roots = [model_dir] if self._adapters_dir is None else [model_dir, self._adapters_dir.resolve()]
        try:
            place = (model_dir / src).resolve(strict=True)
            if any(place.is_relative_to(root) and place != root for root in roots):
                if not place.is_dir():
                    raise BadRequest(f"src '{src[:200]}' is no directory.")
                return place
        except (OSError, ValueError, RuntimeError):
            # The same sentence for what lies elsewhere and for what is nowhere: a client learns nothing of the disk.
            pass
        raise BadRequest(
            f"There is no adapter at '{src[:200]}': src is a directory below the model's, or below "
            "TIDEGATE_ADAPTERS_DIR."
        )


def _wanted(request: Request) -> tuple[str, str, bool, bool]:
    if request.body.size > MAX_BODY_BYTES:
        raise BadRequest(f"A registration has at most {MAX_BODY_BYTES} bytes: {_EXAMPLE}.")
    try:
        content = json.loads(request.body.whole())
        name, src = content["name"], content["src"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest(f"The body must be JSON like {_EXAMPLE}; preload and pin may be left out.") from None
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise BadRequest("name must be 1 to 256 letters, digits and . _ : @ + = - and begin with a letter or digit.")
    if not (isinstance(src, str) and src and "\0" not in src):
        raise BadRequest("src must be the path of a directory, absolute or below the model's.")
    preload, pin = content.get("preload", True), content.get("pin", False)
    if not (isinstance(preload, bool) and isinstance(pin, bool)):
        raise BadRequest("preload and pin must be true or false.")
    return name, src, preload, pin


def _entry(adapter: Adapter) -> dict[str, object]:
    return {
        "name": adapter.name,
        "src": adapter.directory,
        "pin": adapter.pinned,
        "state": adapter.state.value,
        "requests": adapter.requests,
    }


def _text(said: str) -> Response:
    return Response(200, "text/plain", said.encode())
