"""Properties are tried without a clock: this machine may be busy, and no test here is about speed."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("tidegate", deadline=None, max_examples=80)
hypothesis.settings.load_profile("tidegate")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory whose code/ is on the path, as it is in a worker."""
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    return tmp_path
