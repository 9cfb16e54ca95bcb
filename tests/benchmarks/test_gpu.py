"""The pure parts of the GPU benchmark, and its refusal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu import Bare, Served, best_batch, markdown


def bare(**rates: float) -> list[Bare]:
    return [Bare(variant="half", batch=int(name.removeprefix("b")), per_s=rate) for name, rate in rates.items()]


def test_the_best_batch_is_the_smallest_that_is_about_as_fast_as_the_fastest() -> None:
    assert best_batch(bare(b1=100, b8=700, b64=1000, b32=980)).batch == 32
    assert best_batch(bare(b1=100)).batch == 1


def test_the_report_gives_the_ratio_to_the_bare_model_at_its_best() -> None:
    served = Served(variant="half", batch=8, connections=32, per_s=665.0, p50_ms=1, p99_ms=2, failed=0, cpu_us=100)
    assert "| half | 8 | 0.95 x | 665 | 700 |" in markdown({"GPU": "one"}, bare(b1=100, b8=700), [served])


def test_without_a_gpu_it_refuses_with_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "why_not", lambda: "there is no GPU that torch 2.13.0 can use; this benchmark needs one.")
    assert gpu.run(tmp_path / "gpu", seconds=1) == 2
    assert capsys.readouterr().err.splitlines() == [
        "benchmarks: error: there is no GPU that torch 2.13.0 can use; this benchmark needs one."
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_variants_are_those_of_the_archive() -> None:
    tree = ast.parse((gpu.SOURCES / "variants.py").read_text())
    values = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "VARIANTS"]  # type: ignore[attr-defined]
    assert tuple(ast.literal_eval(values[0])) == gpu.VARIANTS
