"""Reads a stage file, and says in one sentence what is wrong with it: file, key, value and way out."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.operations import Cost
from tidegate.infra.stage import stage_errors

STAGES = Path(__file__).parents[1] / "stages"
DEFAULT_STAGE = "local"


def find(stage: str, *, option: str = "-c stage=") -> Path:
    """The file that `stage` means: a name in infra/stages/, or else a path that ends in `.toml`.

    `option` is what was typed in front of it, for the error of one that does not exist.
    """
    path = Path(stage) if stage.endswith(".toml") else STAGES / f"{stage}.toml"
    if path.is_file():
        return path
    if stage.endswith(".toml"):
        raise ConfigurationError(f"{option}{stage} does not exist; give a stage's name or the path of its file")
    known = sorted(file.stem for file in STAGES.glob("*.toml"))
    near = stage_errors.nearest(stage, known)
    hint = f"did you mean {near}?" if near else "give one of those, or the path of a file"
    raise ConfigurationError(f"{option}{stage} does not exist; infra/stages/ has {', '.join(known)}: {hint}")


def read(path: Path) -> Stage:
    """The stage of `path`, each value checked by itself; `validation.check` sees whether they fit together."""
    with blaming(path):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"not TOML: {error}") from None
        if {"currency", "confirmed_by"} & table.keys():
            raise ConfigurationError(
                "this is a file of prices and no stage; keep it elsewhere, such as in infra/prices/, and name it in "
                "[cost] of a stage"
            )
        if "name" in table:
            raise ConfigurationError(f"name={table['name']!r} is not a key; a stage is called like its file")
        stage = parse({"name": path.stem, **table})
        if stage.cost is None:
            return stage
        # Prices lie beside the stage, wherever cdk is run.
        cost = Cost(**stage.cost.model_dump() | {"prices": str((path.parent / stage.cost.prices).resolve())})
        return stage.model_copy(update={"cost": cost})


def parse(table: dict[str, Any]) -> Stage:
    """The stage of a table as TOML gives it, with its name."""
    try:
        return Stage.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(stage_errors.sentence(Stage, table, error)) from None


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Put the file's name before the sentence of a `ConfigurationError`."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{path.name}: {error}") from None
