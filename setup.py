"""What pyproject.toml cannot say: `tidegate.pth` goes into site-packages, of an editable install too."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStart(build_py):
    """Adds the file that site reads at each start of an interpreter; see docs/decisions/0008."""

    def run(self) -> None:
        super().run()
        place = Path(self.build_lib)
        if self.editable_mode:
            # Of an editable wheel, only what lies in its .data is taken along; its scripts are there already.
            place = Path(self.get_finalized_command("build").build_scripts).with_name("purelib")
        self.mkpath(str(place))
        self.copy_file("tidegate/tidegate.pth", str(place))


setup(cmdclass={"build_py": BuildWithStart})
