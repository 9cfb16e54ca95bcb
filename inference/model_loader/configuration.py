"""What is known of a run: its network, its weights, its colours and its size, in YAML by run id.

    "62":
      architecture: painter:Generator          # module:Class of the code that lies beside, or in MODEL_CODE_PATH
      arguments: {classes: 4, width: 32}
      weights: s3://models/runs/62/{epoch}_net_G.pth
      sha256: {10: 5f2c…, 20: 9a41…}
      palette:
        colours: {sky: "#87ceeb", sea: [0, 105, 148]}
        unknown: nearest
      size: {height: 256, width: 256}

One file holds runs by their ids, or a folder holds a file RUN_ID.yaml for each. Everything is checked before anything
is used, and every mistake of every file is in the one error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_loader.placed_yaml import MAX_BYTES, Mistake, Source, Unreadable
from tidegate.inference.model_loader.run_configuration import RunConfiguration
from tidegate.inference.model_loader.run_reading import KNOWN, NEEDED, run_of

_SUFFIXES = (".yaml", ".yml")
_MAX_SHOWN = 20
"""Mistakes of a file: a log takes no thousands of lines for one that was generated wrongly."""


class ConfigurationInvalid(DeploymentError):
    """The configuration has mistakes; the text names all of them, a line each."""


def load_configurations(path: str | os.PathLike[str]) -> Mapping[str, RunConfiguration]:
    """The runs of a file, or of a folder of `RUN_ID.yaml`, by their ids.

    Raises `ConfigurationInvalid`, with every mistake of every file at its line and column.
    """
    place = Path(path).absolute()
    runs: dict[str, RunConfiguration] = {}
    mistakes: dict[Path, list[Mistake]] = {}
    alone = not place.is_dir()
    for file in [place] if alone else _files(place):
        try:
            source = Source(file, _content(file))
            found = _runs(source) if alone else _run_of_folder(source)
        except Unreadable as error:
            mistakes[file] = [error.mistake]
            continue
        if source.mistakes:
            mistakes[file] = source.mistakes
        runs.update((run.run_id, run) for run in found)
    if mistakes:
        raise ConfigurationInvalid("\n".join(_report(file, found) for file, found in mistakes.items()))
    return runs


def _report(file: Path, mistakes: list[Mistake]) -> str:
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    lines = [f"{file} has {count}:", *(f"  {mistake}" for mistake in mistakes[:_MAX_SHOWN])]
    more = len(mistakes) - _MAX_SHOWN
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationInvalid(f"{file} is not there: it must be a file of runs or a folder of them.") from None
    except OSError as error:
        raise ConfigurationInvalid(f"{file} cannot be read: {error.strerror}.") from None


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name[0] != ".")
    except OSError as error:
        raise ConfigurationInvalid(f"{folder} cannot be read: {error.strerror}.") from None
    if not found:
        raise ConfigurationInvalid(f"{folder} holds no configuration: a run's is a file there, RUN_ID.yaml.")
    for path in found:
        if path.suffix == ".yml" and path.with_suffix(".yaml") in found:
            raise ConfigurationInvalid(f"{folder} holds {path.stem}.yaml and {path.name}: one run has one file.")
    return found


def _runs(source: Source) -> Iterable[RunConfiguration]:
    """The runs of a file that has them by their ids."""
    root = source.root
    if root is None or (isinstance(root, yaml.MappingNode) and not root.value):
        raise ConfigurationInvalid(f"{source.path} holds nothing: it must have runs by their ids.")
    pairs = source.pairs(root, "the file")
    misplaced = [pair.key for name, pair in pairs.items() if name in KNOWN and not _is_run(pair.value)]
    if misplaced:
        key = misplaced[0]
        source.fault(
            key,
            f"{key.value!r} is a key of one run, and this file has runs by their ids: put it below one, or call the "
            "file RUN_ID.yaml and name its folder",
        )
        return ()
    return [run for name, pair in pairs.items() if (run := run_of(source, pair.value, name)) is not None]


def _run_of_folder(source: Source) -> Iterable[RunConfiguration]:
    """The run of a file that is called by its id."""
    root = source.root
    if root is None:
        raise ConfigurationInvalid(f"{source.path} holds nothing: it must have {', '.join(NEEDED)} of its run.")
    keys = {key.value: value for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    if keys and not keys.keys() & set(KNOWN) and any(_is_run(value) for value in keys.values()):
        source.fault(
            root,
            "this file has runs by their ids, and in a folder each file is one run, called RUN_ID.yaml: name the file "
            "itself in place of its folder, or divide it",
        )
        return ()
    run = run_of(source, root, source.path.stem)
    return () if run is None else (run,)


def _is_run(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and bool({key.value for key, _ in node.value} & {*KNOWN, "<<"})
