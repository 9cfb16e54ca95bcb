"""An archive for what a worker does with it, and what keeps the tests from each other's modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def what_user_code_imports_is_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """It takes names such as `inference`. What libraries import stays: many cannot be loaded a second time."""
    before, path, root = dict(sys.modules), list(sys.path), str(tmp_path_factory.getbasetemp())
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if module is not before.get(name) and root in str(getattr(module, "__spec__", None)):
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory whose code/ is on the path, as it is in a worker."""
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    return tmp_path
