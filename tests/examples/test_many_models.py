"""examples/many_models: its demo from the training to the new version, and what its training publishes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.examples.demonstrating import demonstrated
from tests.examples.loading import other_imports
from tidegate.training_hooks import list_models

EXAMPLE = Path(__file__).parents[2] / "examples" / "many_models"


def run(script: str, *arguments: str, directory: Path) -> str:
    """Run a script of the example somewhere else, and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / script), *arguments],
        cwd=directory,
        env=os.environ | {"TMPDIR": str(directory), "SM_OUTPUT_DIR": str(directory / "output")},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_sees_a_new_version_take_over(tmp_path: Path) -> None:
    """By the header, by the path, by a label; the old version answers until the new one does, and nothing is left."""
    printed = demonstrated("many_models", temporary=tmp_path)
    trained = r"^ +(?:antwerp|bergen|faro): version 1, relative_error=0\.0"
    assert len(re.findall(trained, printed, re.MULTILINE)) == 3
    assert "faro: version 2, relative_error=0.0" in printed
    for line in (
        r"antwerp by the header: [\d, ]+ \(model=antwerp;version=1\)",
        r"faro by the path: [\d, ]+ \(model=faro;version=1\)",
        r"in memory: \w+, faro; the others",
        r"version 1 answered \d+ more times, then version 2 took over",
        r"faro, the latest: [\d, ]+ \(model=faro;version=2\)",
        r"faro, the stable one: [\d, ]+ \(model=faro;version=1\)",
    ):
        assert re.search(f"^ +{line}", printed, re.MULTILINE), printed


def test_the_training_publishes_what_serves_without_a_script(tmp_path: Path) -> None:
    """A network by its name, an example with its answer, and a label; the forecast is off by a few per cent."""
    run("train.py", "repository", "--shops", "cadiz", "--label", "canary", directory=tmp_path)
    (model,) = list_models(tmp_path / "repository")
    assert (model.name, model.labels) == ("cadiz", {"canary": 1})
    manifest = json.loads((tmp_path / "repository" / "cadiz" / "1" / "manifest.json").read_text())
    assert manifest["weights"]["architecture"] == "shop_net:ShopNet"
    assert manifest["metrics"]["relative_error"] < 0.1
    assert {"code/shop_net.py", "example/request.json", "example/response.json"} < manifest["files"].keys()


def test_the_code_of_the_archive_stands_alone() -> None:
    """It imports nothing but torch."""
    assert other_imports(EXAMPLE / "code", {"torch"}) == set()
