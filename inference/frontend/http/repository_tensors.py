"""The models of a repository, as the open inference protocol asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tidegate.inference.errors import BadRequest, ModelLoading, ModelNotFound, NotReady, RequestError
from tidegate.inference.frontend.http.open_inference import Described, Indexed
from tidegate.inference.frontend.http.repository_paths import RepositoryPaths
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import Responder
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.report import VersionReport
from tidegate.inference.frontend.repository.repository import Answering, Repository
from tidegate.inference.protocol import Form
from tidegate.inference.repository.catalogue import VersionState

AT_ONCE = 25
"""Models of the index that are looked at before others have the loop."""
_COME_BACK_S = 1
_STATES = {"loaded": "READY", "loading": "LOADING"}


class RepositoryTensors:
    """See `open_inference.Models`. What is loaded is ready; a request for inference loads whatever there is."""

    def __init__(self, paths: RepositoryPaths) -> None:
        self._paths = paths
        self._repository: Repository = paths.repository

    def ask(self, request: Request, name: str, version: str | None) -> Responder:  # noqa: ARG002 - they are its path
        return self._paths.ask(request, Form.OPEN_INFERENCE)

    def describe(self, name: str, version: str | None) -> Described:
        model = self._repository.known(Selector(name, version))
        answering = self._repository.look(Selector(name, version))
        tensors = answering.pool.tensors if answering is not None else {}
        return Described(
            tuple(str(each.number) for each in model.versions if each.state is VersionState.AVAILABLE),
            tuple(tensors.get("inputs", ())),
            tuple(tensors.get("outputs", ())),
        )

    def demand_ready(self, name: str, version: str | None) -> None:
        answering = self._repository.look(Selector(name, version))
        if answering is None:
            raise ModelLoading(
                f"The model '{name}' is not loaded: a request for inference loads it, and so does POST "
                f"/v2/repository/models/{name}/load.",
                _COME_BACK_S,
            )
        if not answering.pool.healthy:
            raise NotReady(f"The model '{name}' is not ready.")

    async def index(self) -> AsyncIterator[Indexed]:
        self._repository.demand_listed()
        librarian = self._repository.librarian
        for count, name in enumerate(tuple(librarian.names()), 1):
            try:
                report = librarian.report(name)
            except ModelNotFound:
                continue  # it has gone meanwhile
            for version in report.versions:
                yield _indexed(name, version)
            if not report.versions:
                yield Indexed(name, "", ready=False, state="UNAVAILABLE", reason=report.reason)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load the latest version, and return when it answers."""
        if parameters:
            raise BadRequest(f"The parameter '{min(parameters)[:80]}' has no meaning here: the repository decides.")
        selector, wish = Selector(name), Wish()
        if self._repository.look(selector) is not None:
            return
        try:
            self._repository.want(wish, selector)
            await wish.granted_or_refused
        finally:
            self._repository.leave(wish)

    async def unload(self, name: str) -> None:
        """Have it out of memory. The next request for inference loads it again."""
        self._repository.known(Selector(name))
        await self._repository.unload(name)


class Wish:
    """Waits for a revision as a request does; see `repository.Waiter`."""

    def __init__(self) -> None:
        self.granted_or_refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def granted(self, answering: Answering) -> None:  # noqa: ARG002 - that it is there is all
        if not self.granted_or_refused.done():
            self.granted_or_refused.set_result(None)

    def refused(self, error: RequestError) -> None:
        if not self.granted_or_refused.done():
            self.granted_or_refused.set_exception(error)


def _indexed(name: str, report: VersionReport) -> Indexed:
    state = _STATES.get(report.state, "UNAVAILABLE")
    return Indexed(name, str(report.version), ready=state == "READY", state=state, reason=report.reason)
