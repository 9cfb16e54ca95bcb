"""docs/guides/model_loader.md shows configurations that are read and programs that run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.inference.model_loader.runs import CODE, SEA, SKY, drawn, pixels_of, uri_of, weights
from tidegate.model_loader import load_configurations

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guides" / "model_loader.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page's first configuration speaks of."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "painter.py").write_text(CODE)
    (tmp_path / "net.pth").write_bytes(weights())
    (tmp_path / "runs.yaml").write_text(blocks("yaml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "painter", raising=False)
    return tmp_path


def test_the_configurations_are_without_mistakes(tmp_path: Path) -> None:
    for block in blocks("yaml"):
        (tmp_path / "runs.yaml").write_text(block)
        assert "62" in load_configurations(tmp_path / "runs.yaml")


def test_the_programs_run(folder: Path) -> None:
    """One after the other, as a reader types them."""
    names: dict[str, object] = {"drawing": uri_of([SKY, SEA]), "png": drawn([SKY, SEA])}
    for block in blocks("python"):
        exec(compile(block, "the guide", "exec"), names)  # noqa: S102 - the page's own programs
    picture = names["picture"]
    assert isinstance(picture, str)
    assert len(pixels_of(picture)) == 64
    model_fn = names["model_fn"]
    assert callable(model_fn)
    assert model_fn(str(folder)).configuration.run_id == "62"
    sys.modules.pop("painter")


def test_every_variable_on_the_page_is_a_setting() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    variables = set(re.findall(r"\b(?:TIDEGATE|MODEL)_[A-Z_]+\b", PAGE))
    assert len(variables) > 4
    assert [name for name in variables if f"`{name}`" not in settings] == []
