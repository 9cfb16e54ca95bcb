"""Which requests are those of this machine's own page: by the names that a browser writes into their headers.

A page of somebody else's can make a browser send requests here. Its Origin is not ours then; and where the attacker's
own name leads to 127.0.0.1 (DNS rebinding), the Host header still has that name.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether an address, or a name without its port, is this machine's own and needs no name server."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def names_loopback(host: str) -> bool:
    """The same of a Host header, which may have a port."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def opens_a_tab(*, method: str, mode: str, destination: str) -> bool:
    """Whether a browser asks for a document that becomes a tab's own, as it does for a link on any page.

    ``mode`` and ``destination`` are the headers Sec-Fetch-Mode and Sec-Fetch-Dest; no script can write them. A document
    in a frame has another destination. Source: https://www.w3.org/TR/fetch-metadata/
    """
    return method == "GET" and mode == "navigate" and destination == "document"


def refusal(*, host: str, origin: str = "", site: str = "", is_link: bool = False) -> str | None:
    """Why a request is none of the page's own, as a sentence; None where it may be.

    ``host``, ``origin`` and ``site`` are the headers Host, Origin and Sec-Fetch-Site, empty where there is none.
    ``is_link`` says that the page itself is to be opened in a tab: any site may have a link to it, because opening it
    changes nothing, and no other page can read a tab of another origin or put it into a frame.
    """
    if not names_loopback(host):
        return f"This page answers at a loopback address only, and not as {host[:200] or 'nothing'}."
    if origin and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        return f"This page answers its own page only, and not one of {origin[:200]}."
    if site not in ("", "same-origin", "none") and not is_link:
        return "This page answers its own page only."
    return None
