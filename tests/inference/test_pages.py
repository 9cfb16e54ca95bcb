"""Whether a server may have pages: by its settings alone."""

from __future__ import annotations

import pytest

from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.http.pages import demand_loopback
from tidegate.inference.settings import Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my-machine", ""])
def test_a_server_that_others_could_reach_does_not_start_with_pages(host: str) -> None:
    """One sentence names the setting, the address and the way out."""
    with pytest.raises(DeploymentError, match=r"TIDEGATE_PAGES=on needs a loopback address.*TIDEGATE_HOST=127.0.0.1"):
        demand_loopback(Settings(pages=True, host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_a_server_of_this_machine_may_have_pages(host: str) -> None:
    """Every loopback address will do, and without pages any address."""
    demand_loopback(Settings(pages=True, host=host))
    demand_loopback(Settings(pages=False, host="0.0.0.0"))
