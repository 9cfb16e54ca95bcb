"""docs/guides/async.md: its files, put together from its blocks and run by its own commands, print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.claims import REPOSITORY, page

PAGE = page("guides/async.md")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_endpoint_of_the_guide_answers_falls_asleep_and_wakes(tmp_path: Path) -> None:
    for block in blocks("python"):
        name, _, content = block.removeprefix("# ").partition("\n")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(content)
    (commands,) = blocks("sh")
    done = subprocess.run(
        ["/bin/bash", "-c", f"trap 'tidegate cloud down' EXIT; set -e\n{commands}"],
        cwd=tmp_path,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(blocks("text")), done.stderr
