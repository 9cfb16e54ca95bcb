"""The stage files that the pages print whole can be deployed as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.infra.conftest import ROOT
from tidegate.infra.configuration import Stage
from tidegate.infra.stage import context

_FILE = re.compile(r"^ *```toml\n *# infra/stages/(\w+)\.toml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def documented(page: str, name: str, folder: Path) -> Stage:
    """The stage `name` of a page, written into `folder` and read as `cdk -c stage=PATH` does."""
    found = dict(_FILE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))
    path = folder / f"{name}.toml"
    path.write_text(found[name], encoding="utf-8")
    return context.choose({"stage": str(path)})


@pytest.mark.parametrize(
    ("page", "name", "mode"), [("migration.md", "defects", "realtime"), ("hosting.md", "lines", "multi_model")]
)
def test_a_stage_file_that_a_page_prints_whole_is_valid(page: str, name: str, mode: str, tmp_path: Path) -> None:
    stage = documented(page, name, tmp_path)

    assert (stage.hosting.mode, stage.hosting.instance_type) == (mode, "ml.m7i.xlarge")  # type: ignore[union-attr]
