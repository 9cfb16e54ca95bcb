"""Who may ask for this cloud's own paths: programs of this machine, and pages that this cloud itself serves.

Any web page that is open in a browser can send requests to a loopback address, and by a name of its own that suddenly
leads there (DNS rebinding) it can read the answers as well. A browser says of each request whose page it is from:
``Origin`` and ``Sec-Fetch-Site`` (https://www.w3.org/TR/fetch-metadata/).
"""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.playground.loopback import names_loopback

_SAME_PAGE = frozenset({"same-origin", "none"})  # none: typed into the browser, and no page's


def refusal(method: str, headers: Mapping[str, str]) -> str | None:
    """Why a request may not have one of our own paths, in one sentence; ``headers`` have names in small letters.

    Programs send neither ``Origin`` nor ``Sec-Fetch-Site``, and need not.
    """
    host = headers.get("host", "")
    if host and not names_loopback(host):
        return (
            f"The local cloud answers for 127.0.0.1 and localhost, and this request is for the host {host}: use the"
            " address in AWS_ENDPOINT_URL_SAGEMAKER."
        )
    if method in ("GET", "HEAD"):
        return None
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if (origin is not None and origin.lower() != f"http://{host}".lower()) or (
        site is not None and site.lower() not in _SAME_PAGE
    ):
        whose = f"of {origin}" if origin not in (None, "null") else "of another site"
        return f"A page {whose} may not change the local cloud; only programs and this cloud's own pages may."
    return None
