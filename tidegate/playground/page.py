"""The pages, each put together from its sources: one HTML document with its style, its scripts and what it is told.

Nothing is fetched from anywhere else, and the policy that goes with it lets nothing else run: style and script are
named by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SOURCES = Path(__file__).with_name("page")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a page is made of, by the names of files; scripts follow each other in their order and share one scope."""

    document: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]


_SHARED = ("elements.js", "bytes.js", "pictures.js", "answers.js")
PLAYGROUND = Sources(
    document="page.html",
    styles=("page.css",),
    scripts=(
        *_SHARED,
        "drawing.js",
        "exchange.js",
        "copies.js",
        "gauges.js",
        "playground.js",
    ),
)
REFERENCE = Sources(
    document="reference.html",
    styles=("page.css", "reference.css"),
    scripts=(*_SHARED, "exchange.js", "copies.js", "reference.js"),
)
"""The description of the server (`/openapi.json`), for people."""

PRIVATE = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of what only the page itself may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The document, and the headers that go with it."""

    body: bytes
    headers: Mapping[str, str]


def page(told: Mapping[str, object], sources: Sources = PLAYGROUND) -> Page:
    """The page. ``told`` is what its script needs to know of who serves it, as JSON:

    ``kind`` is ``server`` or ``cloud``, ``token`` what requests must carry, ``region`` that of the cloud.
    """
    style, script, document = _parts(sources)
    # Data and no script: what could end the element is written otherwise.
    facts = json.dumps(told).replace("<", "\\u003c")
    body = document.replace("%style%", style).replace("%facts%", facts).replace("%script%", script)
    return Page(
        body=body.encode(),
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": (
                f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data: blob:;"
                " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **PRIVATE,
        },
    )


@cache
def _parts(sources: Sources) -> tuple[str, str, str]:
    """Style, script and document."""
    style, script = ("\n".join(map(_text, names)) for names in (sources.styles, sources.scripts))
    return style, script, _text(sources.document)


def _text(name: str) -> str:
    return (_SOURCES / name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
