"""A wheel of one module, written by hand: what a job or a model brings where there is no network."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write(folder: Path, name: str, version: str, source: str) -> Path:
    """`name`-`version` with the module `name`, in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    described = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{described}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{described}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{described}/RECORD"
    files[record] = "".join(f"{file},,\n" for file in [*files, record])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
    return path
