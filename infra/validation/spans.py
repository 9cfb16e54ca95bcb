"""Where the server sends its spans: an address that it can reach."""

from __future__ import annotations

from urllib.parse import urlsplit

from tidegate.inference.settings import Settings
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import Instances
from tidegate.infra.models.container_environment import said
from tidegate.infra.validation.sentences import wrong


def check(stage: Stage, server: Settings) -> None:
    """Refuse a receiver that no span would reach: the server would serve, and its log would say so at each try."""
    receivers = {"otlp_endpoint": server.otlp_endpoint, "otlp_traces_endpoint": server.otlp_traces_endpoint}
    for name, address in receivers.items():
        if address is None:
            continue
        key = said(stage, name)[0]
        if not _is_address(address):
            raise wrong(key, address, "not an address; write one like 'https://collector.example.internal'")
        if server.traced and isinstance(stage.hosting, Instances) and stage.hosting.network_isolation:
            why = "out of reach of a container without a network; remove it, or write network_isolation = false"
            raise wrong(key, address, why)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        return False
