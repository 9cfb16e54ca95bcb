"""The benchmark of formats: a real round of some of them, and what its table says of made-up figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import formats
from benchmarks.archives import AGAIN, PTH, TORCH_SCRIPT


def figures(factor: float = 1.0) -> formats.Figures:
    return formats.Figures(
        load_s=0.1, p50_ms=2.0 / factor, per_s=100.0 * factor, cpu_ms=1.0, worker_mib=90, all_mib=200, difference=1e-7
    )


def test_a_ratio_is_that_within_a_round() -> None:
    """A machine that is twice as fast in one round changes the figures and not their ratios."""
    rounds = [{PTH: figures(speed), TORCH_SCRIPT: figures(2 * speed)} for speed in (1.0, 1.0, 2.0)]
    pth, script = (line.strip("| ").split(" | ") for line in formats.table(rounds).splitlines()[2:])
    assert [pth[0], script[0]] == [PTH, TORCH_SCRIPT]
    assert (pth[4], pth[5]) == ("100.0", "1.00 (1.00 to 1.00)")
    assert (script[2], script[3]) == ("1.00", "0.50 (0.50 to 0.50)")
    assert (script[4], script[5]) == ("200.0", "2.00 (2.00 to 2.00)")


def test_each_archive_is_loaded_served_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state dict twice and TorchScript, by real servers; their answers are eager torch's."""
    output = tmp_path / "formats.md"
    formats.main(
        ["--models", "MLP", "--formats", TORCH_SCRIPT, "--rounds", "1", "--seconds", "1", "--output", str(output)]
    )
    text = output.read_text()
    assert "`python -m benchmarks.formats --models MLP --formats TorchScript --rounds 1 --seconds 1 --output " in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(("| .pth", "| Torch"))]
    assert [row[0] for row in rows] == [PTH, AGAIN, TORCH_SCRIPT]
    assert all(float(row[-1]) < 1e-4 for row in rows)
    assert all(float(cell) > 0 for row in rows for cell in (row[1], row[2], row[4], row[6], row[8], row[9]))
    assert text in capsys.readouterr().out


def test_what_is_unknown_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        formats.main(["--formats", "Caffe", "--output", str(tmp_path / "formats.md")])
    assert "Caffe: there are .pth, " in capsys.readouterr().err
