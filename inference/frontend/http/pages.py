"""The playground of a server: its page, what it may ask, and who may ask it (`TIDEGATE_PAGES`).

A page that is open in a browser of this machine can make that browser send requests to a port of this machine. So a
server with pages answers nobody who names another host or comes from another page, whatever the path. Only the page
itself may be opened by a link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from tidegate.inference.errors import DeploymentError, Forbidden, ModelNotFound, NotFound
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import CHAT, AtOnce, InTask, Route
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.settings import Settings
from tidegate.playground import loopback
from tidegate.playground.first_request import first_request
from tidegate.playground.page import page

if TYPE_CHECKING:
    from tidegate.inference.frontend.repository.repository import Repository

PATH = "/playground"


def demand_loopback(settings: Settings) -> None:
    """Raise `DeploymentError` where pages are asked for and others than this machine could reach them."""
    if settings.pages and not loopback.is_loopback(settings.host):
        raise DeploymentError(
            f"TIDEGATE_PAGES=on needs a loopback address, and the server was to listen on {settings.host}: "
            "set TIDEGATE_HOST=127.0.0.1, or leave TIDEGATE_PAGES off where others ask the server."
        )


class Pages:
    """Answers below `/playground`."""

    def __init__(self, settings: Settings, registry: Registry, repository: Repository | None) -> None:
        self._settings = settings
        self._registry = registry
        self._repository = repository
        whole, targets, about = AtOnce(self._page), AtOnce(self._targets), InTask(self._about)
        read = ("GET", "HEAD")
        self.routes: Mapping[str, Route] = {
            PATH: Route(read, lambda _: whole),
            f"{PATH}/": Route(read, lambda _: whole),
            f"{PATH}/targets": Route(read, lambda _: targets),
            f"{PATH}/about": Route(read, lambda _: about),
        }

    def demand_own(self, request: Request) -> None:
        """Raise `Forbidden` for what a browser sends for another page, or by a name that is not this machine's."""
        if b"host" not in request.by_name and not request.path.startswith(PATH):
            return  # no browser: every one says it
        opens_a_tab = loopback.opens_a_tab(
            method=request.method,
            mode=request.header(b"sec-fetch-mode"),
            destination=request.header(b"sec-fetch-dest"),
        )
        refused = loopback.refusal(
            host=request.header(b"host"),
            origin=request.header(b"origin"),
            site=request.header(b"sec-fetch-site"),
            is_link=request.path in (PATH, f"{PATH}/") and opens_a_tab,
        )
        if refused is not None:
            raise Forbidden(refused)

    def _page(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        found = page({"kind": "server", "token": ""})
        headers = "".join(
            f"{name.lower()}: {value}\r\n" for name, value in found.headers.items() if name != "Content-Type"
        )
        return Response(200, found.headers["Content-Type"], found.body, headers.encode())

    def _targets(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        if self._repository is not None:
            return json_response({"targets": list(self._of_repository(self._repository))})
        names = [name for name in sorted(self._registry.pools) if self._registry.directory(name) is not None]
        single = not self._settings.multi_model
        return json_response({"targets": [{"name": name, "ways": [_way(name, single=single)]} for name in names]})

    @staticmethod
    def _of_repository(repository: Repository) -> Iterator[dict[str, Any]]:
        repository.demand_listed()
        for name in repository.librarian.names():
            report = repository.librarian.report(name)
            ways = [_way(name, label="as labelled, or the latest")] if report.versions else []
            for version in reversed(report.versions):
                labels = "".join(f", {label}" for label in version.labels)
                label = f"{version.version} ({version.state}{labels})"
                ways.append(_way(name, label=label, version=version.version))
            yield {"name": name, "ways": ways, "reason": report.reason}

    async def _about(self, request: Request) -> Response:
        asked = parse_qs(request.query)
        name, version = asked.get("model", [""])[0], asked.get("version", [""])[0]
        directory = self._registry.directory(name, int(version) if version.isdecimal() else None)
        if directory is not None:
            return json_response(await asyncio.to_thread(first_request, directory))
        if self._repository is None:
            raise NotFound(f"There is no model '{name[:200]}'.")
        if name not in self._repository.librarian.names():
            raise ModelNotFound(f"The repository holds no model '{name[:200]}'.")
        reason = "Its example is known once it is loaded, which the first request does: write one, and choose it again."
        return json_response(
            {"name": name, "example": None, "reason": reason, "labels": [], "colours": {}, "chat": False}
        )


def _way(
    name: str, *, single: bool = False, label: str = "the loaded one", version: int | None = None
) -> dict[str, Any]:
    """How one model, or one version of it, is asked."""
    below = f"/models/{quote(name, safe='')}" + ("" if version is None else f"/versions/{version}")
    about = {"model": name} | ({} if version is None else {"version": str(version)})
    return {
        "label": label,
        "model": name,
        "headers": {},
        "invoke": "/invocations" if single and name == SINGLE_MODEL else f"{below}/invoke",
        "chat": CHAT if single else below + CHAT,
        "about": f"{PATH}/about?{urlencode(about)}",
    }
