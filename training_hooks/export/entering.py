"""How forms come into an artifact: staged with all that is there, renamed into place, all or nothing."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArtifactError
from ..manifest import dump_manifest, listed_files, read_manifest
from ..staging import staging

FOLDER = "forms/"


def enter(
    target: Path, manifest: Mapping[str, Any], forms: Sequence[Mapping[str, Any]], files: Mapping[str, Path]
) -> None:
    """Make `forms` the forms of the artifact in `target`; a process that is killed on the way leaves it as it was.

    Args:
        target: the model directory.
        manifest: as it was when the forms were made.
        forms: their entries in the manifest.
        files: of the forms, by their names in the artifact; files of forms that are not listed are removed.

    Raises:
        ArtifactError: the artifact has changed meanwhile.
    """
    made = {**manifest, "forms": list(forms)}
    if not forms:
        del made["forms"]
    kept = [name for name in listed_files(manifest, target) if name not in files and not _is_dropped(name, forms)]
    with staging(target, made) as stage:
        if dump_manifest(read_manifest(target)) != dump_manifest(manifest):
            raise ArtifactError(f"{target} was saved again while its forms were made; export once more")
        for name in kept:
            _bring(target / name, stage.path / name)
            stage.take(name)
        for name, path in files.items():
            (stage.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, stage.path / name)
            stage.take(name)


def _is_dropped(name: str, forms: Sequence[Mapping[str, Any]]) -> bool:
    return name.startswith(FOLDER) and not any(name.startswith(f"{FOLDER}{form['name']}/") for form in forms)


def _bring(path: Path, staged: Path) -> None:
    staged.parent.mkdir(parents=True, exist_ok=True)
    # The same file under a second name costs no room; its rename into place changes nothing.
    with contextlib.suppress(OSError):
        staged.hardlink_to(path)
        return
    shutil.copyfile(path, staged)
