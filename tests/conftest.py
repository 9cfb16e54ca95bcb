"""How `make test` shares the tests out among processes: a file stays in one of them."""

from __future__ import annotations

import pytest

TOGETHER = {
    "tests/container/": "docker",
    "tests/local_mode/": "docker",
    "tests/end_to_end/": "end_to_end",
    "tests/infra/": "infra",
    "tests/local_cloud/": "local_cloud",
}
"""Rooms whose files share what takes long to make (an image, a cloud, templates): these stay in one process, too."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of each test for `--dist loadgroup`."""
    for item in items:
        path = item.nodeid.partition("::")[0]
        group = next((name for folder, name in TOGETHER.items() if path.startswith(folder)), path)
        item.add_marker(pytest.mark.xdist_group(group))
