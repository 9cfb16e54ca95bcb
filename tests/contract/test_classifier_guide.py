"""docs/guides/models_without_code.md is executable: its script saves, its commands check, serve and ask."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.running import running
from tests.contract.test_check import check
from tests.contract.test_models_without_code import files_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guides/models_without_code.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks by curl, which this machine lacks")
def test_the_script_and_the_commands_of_the_page_end_in_its_answer(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(block("python"))
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, timeout=300)
    checked, served, asked = block("bash").splitlines()
    assert (checked, served) == ("tidegate check model", "tidegate serve model &")
    done = check(tmp_path / "model")
    assert done.returncode == 0, done.stdout + done.stderr
    with running(files_of(tmp_path / "model")) as server:
        command = shlex.split(asked.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"))
        answer = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=300)
    wanted, found = json.loads(block("json")), json.loads(answer.stdout)
    assert [each["label"] for each in found] == [each["label"] for each in wanted]
    assert [each["score"] for each in found] == pytest.approx([each["score"] for each in wanted], abs=1e-4)
