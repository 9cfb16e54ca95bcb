"""The page, put together from its sources: one HTML document with its style, its scripts and what it is told inside.

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
_SCRIPTS = (
    "elements.js",
    "bytes.js",
    "pictures.js",
    "answers.js",
    "drawing.js",
    "exchange.js",
    "copies.js",
    "gauges.js",
    "playground.js",
)
"""In the order in which they follow each other; they share one scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The document, and the headers that go with it."""

    body: bytes
    headers: Mapping[str, str]


def page(told: Mapping[str, object]) -> Page:
    """The page. ``told`` is what its script needs to know of who serves it, as JSON:

    ``kind`` is ``server`` or ``cloud``, ``token`` what requests must carry, ``region`` that of the cloud.
    """
    style, script, document = _parts()
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
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


@cache
def _parts() -> tuple[str, str, str]:
    """Style, script and document."""
    style, document = ((_SOURCES / name).read_text(encoding="utf-8") for name in ("page.css", "page.html"))
    script = "\n".join((_SOURCES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return style, script, document


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
