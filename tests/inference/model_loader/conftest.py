"""What keeps these tests from this machine's configuration, and from each other's modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODEL_CONFIG_PATH", "MODEL_CODE_PATH", "TIDEGATE_WEIGHT_CACHE_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEGATE_WEIGHT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def modules_of_their_own() -> Iterator[None]:
    """Each test's folder has a module of the same name."""
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.endswith("_of_tests"):
            del sys.modules[name]
