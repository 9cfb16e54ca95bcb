"""A module of ours runs in a process of its own, and brings nothing but `tidegate` there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tidegate.local_cloud import own_module

ROOT = Path(__file__).parents[2]
SHOWN = """
import json, sys
import tidegate
print(json.dumps([__name__, sys.argv[1:], sys.path, tidegate.__file__]))
"""


def test_a_module_of_ours_is_run_from_here_whatever_lies_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "work" / "tidegate").mkdir(parents=True)
    (tmp_path / "work" / "tidegate" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "shown.py").write_text(SHOWN)
    done = subprocess.run(
        own_module.command("shown", "one", "two"),
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "path")},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    name, arguments, path, package = json.loads(done.stdout)
    assert (name, arguments) == ("__main__", ["one", "two"])
    assert str(ROOT) not in path
    assert path[0] == str(tmp_path / "path")
    assert Path(package).samefile(ROOT / "tidegate" / "__init__.py")
