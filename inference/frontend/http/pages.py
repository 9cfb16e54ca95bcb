"""The pages of a server and what they ask, and who may ask it (`TIDEGATE_PAGES`): the playground, and the description.

A page that is open in a browser of this machine can make that browser send requests to a port of this machine. So a
server with pages answers nobody who names another host or comes from another page, whatever the path. Only the pages
themselves may be opened by a link.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from tidegate.inference.errors import DeploymentError, Forbidden, ModelNotFound, NotFound, RequestError
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import CHAT, AtOnce, InTask, Route
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.frontend.models.placement import MIN_QUEUE_WAIT_S
from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.frontend.openapi.described_model import LoadedModel
from tidegate.inference.frontend.openapi.document import Facts, Mode, document
from tidegate.inference.frontend.repository.choice import Selector, meant
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.settings import Settings
from tidegate.playground import loopback
from tidegate.playground.first_request import first_request
from tidegate.playground.page import PLAYGROUND, PRIVATE, REFERENCE, Sources, page

if TYPE_CHECKING:
    from tidegate.inference.frontend.repository.repository import Repository

PATH = "/playground"
DOCS, OPENAPI = "/docs", "/openapi.json"
_OPENED = frozenset({PATH, f"{PATH}/", DOCS, f"{DOCS}/", OPENAPI})
"""What a link may open in a tab: it shows something, and changes nothing."""
_AUTHORITY = re.compile(r"[A-Za-z0-9.\[\]:-]{1,255}")


def demand_loopback(settings: Settings) -> None:
    """Raise `DeploymentError` where pages are asked for and others than this machine could reach them."""
    if settings.pages and not loopback.is_loopback(settings.host):
        raise DeploymentError(
            f"TIDEGATE_PAGES=on needs a loopback address, and the server was to listen on {settings.host}: "
            "set TIDEGATE_HOST=127.0.0.1, or leave TIDEGATE_PAGES off where others ask the server."
        )


class Pages:
    """Answers below `/playground`, and at `/docs` and `/openapi.json`."""

    def __init__(
        self, settings: Settings, registry: Registry, repository: Repository | None, *, max_body_bytes: int
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._settings = settings
        self._registry = registry
        self._repository = repository
        whole, targets, about = AtOnce(partial(self._page, PLAYGROUND)), AtOnce(self._targets), InTask(self._about)
        docs, described = AtOnce(partial(self._page, REFERENCE)), InTask(self._described)
        read = ("GET", "HEAD")
        self.routes: Mapping[str, Route] = {
            PATH: Route(read, lambda _: whole),
            f"{PATH}/": Route(read, lambda _: whole),
            f"{PATH}/targets": Route(read, lambda _: targets),
            f"{PATH}/about": Route(read, lambda _: about),
            DOCS: Route(read, lambda _: docs),
            f"{DOCS}/": Route(read, lambda _: docs),
            OPENAPI: Route(read, lambda _: described),
        }

    def demand_own(self, request: Request) -> None:
        """Raise `Forbidden` for what a browser sends for another page, or by a name that is not this machine's."""
        if b"host" not in request.by_name and not request.path.startswith((PATH, DOCS, OPENAPI)):
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
            is_link=request.path in _OPENED and opens_a_tab,
        )
        if refused is not None:
            raise Forbidden(refused)

    def _page(self, sources: Sources, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        found = page({"kind": "server", "token": ""}, sources)
        return Response(200, found.headers["Content-Type"], found.body, _header_lines(found.headers))

    async def _described(self, request: Request) -> Response:
        facts = self._facts(request)
        body = await asyncio.to_thread(document, facts)
        return Response(200, "application/json", body, _header_lines(PRIVATE))

    def _facts(self, request: Request) -> Facts:
        """What the description is made from: what is loaded now, and what the settings say."""
        settings, repository = self._settings, self._repository
        loaded = tuple(map(LoadedModel.of, self._registry.serving))
        mode = Mode.MULTI if settings.multi_model else Mode.SINGLE
        default: tuple[str, int | None] | None = (SINGLE_MODEL, None)
        unversioned: dict[str, int] = {}
        if repository is not None:
            mode = Mode.REPOSITORY
            answering = _who_answers(repository, meant(Selector(), settings.default_model))
            default = None if answering is None else (answering.name, answering.version)
            found = (_who_answers(repository, Selector(name)) for name in {each.name for each in loaded})
            unversioned = {each.name: each.version for each in found if each is not None}
        host = request.header(b"host")
        authority = host if _AUTHORITY.fullmatch(host) else f"{settings.host}:{settings.port}"
        return Facts(
            mode=mode,
            url=f"http://{authority}",
            loaded=loaded,
            default=default,
            unversioned=unversioned,
            sessions=settings.stateful_sessions,
            default_accept=settings.default_accept,
            max_body_bytes=self._max_body_bytes,
            max_response_bytes=settings.max_response_bytes,
            max_queue_wait_s=settings.max_queue_wait_s or max(MIN_QUEUE_WAIT_S, settings.timeout_s),
            queue_size=settings.queue_size,
            timeout_s=settings.timeout_s,
        )

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


def _who_answers(repository: Repository, selector: Selector) -> Revision | None:
    """The loaded revision that would answer now; None where there is none."""
    try:
        answering = repository.look(selector)
    except RequestError:
        return None
    return answering.revision if answering is not None else None


def _header_lines(headers: Mapping[str, str]) -> bytes:
    lines = (f"{name.lower()}: {value}\r\n" for name, value in headers.items() if name != "Content-Type")
    return "".join(lines).encode()
