"""What keeps these tests from this machine's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODEL_CONFIG_PATH", "MODEL_CODE_PATH", "TIDEGATE_WEIGHT_CACHE_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEGATE_WEIGHT_CACHE_DIR", str(tmp_path / "cache"))
