"""The benchmark of loading: every way has a row, and the control is measured against itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import loading


def test_every_way_of_loading_is_measured_for_both_kinds_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loading.main(["--rounds", "1", "--layers", "1", "--width", "4", "--output", str(tmp_path / "loading.md")])
    rows = [line for line in (tmp_path / "loading.md").read_text().splitlines() if line.startswith("| model.")]
    assert [tuple(line.split(" | ")[:2]) for line in rows] == [
        (f"| {name}", way) for name in loading.FILES for way in loading.WAYS
    ]
    assert all(row.split(" | ")[3] == "1.00" for row in rows if row.split(" | ")[1] == loading.BARE)
    assert "# Loading weights" in capsys.readouterr().out
