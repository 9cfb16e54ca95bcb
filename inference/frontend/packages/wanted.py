"""What a model requires: the lines for pip, and where relative names in them lead.

`code/requirements.txt`, as pip reads it. In an archive of MLflow that has none, what MLflow wrote beside `MLmodel`:
`requirements.txt`, else the packages for pip of `conda.yaml`. MLflow notes the torch of the machine that saved the
model, and that one line is left out: the image was built around its own.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.inference.errors import DeploymentError, one_line, some_of
from tidegate.inference.layout import CODE, MLMODEL, REQUIREMENTS
from tidegate.inference.package_layer import PROTECTED, requirements_text

log = logging.getLogger("tidegate.requirements")

CONDA = "conda.yaml"

_MAX_CONDA_BYTES = 1024 * 1024
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_OTHER_FILE = re.compile(r"(?P<option>-[rc]|--requirement|--constraint)(?P<gap>\s*=?\s*)(?P<name>[^-\s].*)")
_NO_PACKAGES = frozenset({"python", "pip"})
"""What every conda.yaml names, and what is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The file that says what is required. `text` is what pip is given instead of it, None for the file as it is."""

    file: Path
    text: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is required."""
        return not (requirements_text(self.file) if self.text is None else self.text).strip()


def wanted_by(root: Path) -> Wanted | None:
    """What the model in `root` requires; None where nothing says. Raises `DeploymentError`."""
    in_code, beside = root / CODE / REQUIREMENTS, root / REQUIREMENTS
    if in_code.is_file():
        return Wanted(file=in_code)
    if not (root / MLMODEL).is_file():
        if beside.is_file():
            log.warning("requirements are installed from code/ alone", extra={"not_installed": str(beside)})
        return None
    if beside.is_file():
        return Wanted(file=beside, text=_without_torch(requirements_text(beside).splitlines(), root))
    conda = root / CONDA
    return Wanted(file=conda, text=_without_torch(_of_conda(conda), root)) if conda.is_file() else None


def _without_torch(lines: list[str], root: Path) -> str:
    kept = []
    for line in lines:
        name = _NAME.match(line)
        if name and name[1].lower() == PROTECTED:
            log.info("the line for torch is left out: the torch that is here stays", extra={"line": line.strip()[:200]})
            continue
        # The text is installed from another folder, and what it names lies beside MLmodel.
        other = _OTHER_FILE.fullmatch(line.strip())
        if other and "://" not in other["name"]:
            line = f"{other['option']} {root / other['name']}"  # noqa: PLW2901
        kept.append(line)
    return "\n".join([*kept, ""])


def _of_conda(file: Path) -> list[str]:
    """The lines for pip of a conda environment; what only conda could install is said in the log."""
    import yaml  # noqa: PLC0415 - few models have such a file, and a server starts faster without it

    try:
        if file.stat().st_size > _MAX_CONDA_BYTES:
            raise DeploymentError(f"{file} has {file.stat().st_size} bytes; a list of packages is shorter.")
        said = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise DeploymentError(f"{file} cannot be read as YAML: {one_line(error)}.") from None
    named: Any = said.get("dependencies") if isinstance(said, dict) else None
    if named is not None and not isinstance(named, list):
        raise DeploymentError(f"{file}: 'dependencies' must be a list.")
    lines: list[str] = []
    others = []
    for each in named or ():
        if isinstance(each, dict) and isinstance(each.get("pip"), list):
            lines += [str(line) for line in each["pip"]]
        elif (name := _NAME.match(str(each))) is None or name[1].lower() not in _NO_PACKAGES:
            others.append(str(each)[:80])
    if others:
        log.warning("packages of conda are not installed: name those of pip", extra={"packages": some_of(others)})
    return [line for line in lines if "\n" not in line]
