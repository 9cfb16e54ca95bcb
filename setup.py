"""What pyproject.toml cannot say: the .pth files of site-packages, and what a build must not hold or lack."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStart(build_py):
    """Adds the files that site reads at each start of an interpreter; see docs/decisions/0008 and 0009."""

    def run(self) -> None:
        # What an earlier build left there, such as a top-level `client`, would be in this wheel too.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        place, names = Path(self.build_lib), ["tidegate.pth"]
        if self.editable_mode:
            # Of an editable wheel, only what lies in its .data is taken along; its scripts are there already.
            place = Path(self.get_finalized_command("build").build_scripts).with_name("purelib")
            names.append("tidegate_short_names.pth")
        if not self.editable_mode:
            # The image's `train`, which the local cloud runs as a process; in a checkout it lies where it is written.
            entry = place / "tidegate" / "local_cloud" / "image"
            for source in (Path("container/__init__.py"), *sorted(Path("container/entrypoint").glob("*.py"))):
                self.mkpath(str((entry / source).parent))
                self.copy_file(str(source), str(entry / source))
        self.mkpath(str(place))
        for name in names:
            self.copy_file(f"tidegate/{name}", str(place))


if not Path("tidegate/inference").is_dir():
    raise SystemExit(
        "tidegate/inference is a symbolic link to ../inference, and this checkout has lost it, as a .zip or git with "
        "core.symlinks=false loses links. Clone it on a system with symbolic links, or unpack a .tar.gz."
    )

setup(cmdclass={"build_py": BuildWithStart})
