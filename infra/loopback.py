"""Whether an address is one of this machine, as those of the local cloud and of a registry on it are."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host`, perhaps with a port, is this machine. Docker then needs no TLS (reference of dockerd)."""
    name = host.rpartition(":")[0] if ":" in host else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
