"""The models of a server without a repository, as the open inference protocol asks for them: what the registry holds.

Each has the one version 1. On a multi-model endpoint they may be loaded and unloaded by name, from where the platform
puts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from tidegate.inference.errors import AlreadyLoaded, BadRequest, NotFound, NotReady, VersionNotFound
from tidegate.inference.frontend.http.open_inference import Described, Indexed
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import Responder
from tidegate.inference.frontend.models.model_routes import checked_directory, checked_name, load_model
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.workers.model_health import State
from tidegate.inference.protocol import Form
from tidegate.inference.settings import Settings

VERSION = "1"
_URL = "url"


class LoadedModels:
    """See `open_inference.Models`. `ask` and `find` are the server's own, for a model by its name."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        ask: Callable[[str, Form], Responder],
        find: Callable[[str], ModelPool],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._ask = ask
        self._find = find

    def ask(self, request: Request, name: str, version: str | None) -> Responder:  # noqa: ARG002 - see `Models`
        _demand_version(name, version)
        return self._ask(name, Form.OPEN_INFERENCE)

    def describe(self, name: str, version: str | None) -> Described:
        pool = self._find(name)
        _demand_version(name, version)
        tensors = pool.tensors
        return Described((VERSION,), tuple(tensors.get("inputs", ())), tuple(tensors.get("outputs", ())))

    def demand_ready(self, name: str, version: str | None) -> None:
        pool = self._find(name)
        _demand_version(name, version)
        if not pool.healthy:
            raise NotReady(f"The model '{name}' is not ready.")

    async def index(self) -> AsyncIterator[Indexed]:
        for name, pool in sorted(self._registry.pools.items()):
            yield _indexed(name, pool)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load from the `url` among the parameters, else from where the platform puts the model of this name."""
        self._demand_several()
        checked_name(name)
        if unknown := sorted(parameters.keys() - {_URL}):
            raise BadRequest(f"The parameter '{unknown[0][:80]}' has no meaning here; there is '{_URL}'.")
        place = self._settings.base_dir / "models" / name
        if _URL in parameters:
            directory = checked_directory(parameters[_URL])
        elif name in (".", ".."):
            raise NotFound(f"There is no model '{name}'.")
        else:
            directory = place / "model" if await asyncio.to_thread((place / "model").is_dir) else place
        with suppress(AlreadyLoaded):
            await load_model(self._registry, name, directory)

    async def unload(self, name: str) -> None:
        self._demand_several()
        await self._registry.unload(name)

    def _demand_several(self) -> None:
        if not self._settings.multi_model:
            raise BadRequest("This server has one model, from its start to its end.")


def _demand_version(name: str, version: str | None) -> None:
    if version not in (None, VERSION, "latest"):
        raise VersionNotFound(f"The model '{name}' has the version {VERSION} and no '{str(version)[:80]}'.")


def _indexed(name: str, pool: ModelPool) -> Indexed:
    if pool.state is State.LOADING:
        return Indexed(name, VERSION, ready=False, state="LOADING")
    if pool.healthy:
        return Indexed(name, VERSION, ready=True, state="READY")
    return Indexed(name, VERSION, ready=False, state="UNAVAILABLE", reason="It has no healthy worker.")
