"""Pages of the list of models."""

from __future__ import annotations

import pytest

from tidegate.inference.frontend.models.model_list import page


@pytest.mark.parametrize("parameter", ["next_page_token", "nextPageToken"])
def test_following_the_token_reads_every_name_once(parameter: str) -> None:
    """By TorchServe's name for it, and by the name that the answer gives it."""
    names, read, query = [f"m{number}" for number in range(7)], [], "limit=3"
    for _ in range(3):
        found = page(names, query, lambda name: {"modelName": name})
        read += [entry["modelName"] for entry in found["models"]]  # type: ignore[attr-defined]
        query = f"limit=3&{parameter}={found.get('nextPageToken')}"
    assert read == names
    assert "nextPageToken" not in found
