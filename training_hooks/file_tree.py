"""Which files of a directory belong to an artifact: regular files under sane names, without editor junk."""

import fnmatch
import os
import re
import stat
from pathlib import Path, PurePosixPath

from .errors import ArtifactError

STAGING_PREFIX = ".save-"

_JUNK = (
    "__pycache__",
    "*.py[co]",
    ".DS_Store",
    "._*",  # AppleDouble companions, which macOS tar adds
    "Thumbs.db",
    "desktop.ini",
    ".git",
    ".hg",
    ".svn",
    ".idea",
    ".vscode",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "*~",
    "*.sw[op]",
    "#*#",
    ".#*",  # Emacs locks, which are dangling links
    ".nfs*",
    STAGING_PREFIX + "*",  # what an interrupted save_model left
)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


def is_junk(name: str) -> bool:
    """Say whether a file or directory of this name is left out of artifacts."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _JUNK)


def check_relative_name(name: str) -> None:
    """Raise `ArtifactError` unless `name` is a plain relative path with `/` between its parts.

    The rules are those that SageMaker states for model data (no empty part, `.` or `..`, at most 255 bytes each),
    and no control characters or backslashes, which tools disagree about.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or PurePosixPath(name).is_absolute():
        raise ArtifactError(f"the file name {name!r} is not a plain relative path")
    if _CONTROL_CHARACTERS.search(name) or "\\" in name:
        raise ArtifactError(f"the file name {name!r} holds a control character or a backslash")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        raise ArtifactError(f"the file name {name!r} is not valid UTF-8") from None
    if longest > 255:
        raise ArtifactError(f"the file name {name!r} has a part of more than 255 bytes")


def list_files(root: Path) -> dict[str, Path]:
    """Map the relative name of every file below `root`, sorted by name, to its path; junk is left out.

    Links, devices, pipes and sockets raise `ArtifactError`: an archive that holds them means something else on
    another machine, and SageMaker wants none.
    """
    if not root.is_dir():
        raise ArtifactError(f"{root} is not a directory")
    found: dict[str, Path] = {}
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                path = Path(entry.path)
                name = path.relative_to(root).as_posix()
                check_relative_name(name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.is_file(follow_symlinks=False):
                    found[name] = path
                else:
                    raise ArtifactError(f"{path} is a {_kind(path)}; only regular files can be part of a model")
    return dict(sorted(found.items()))


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"symbolic link to {path.readlink()} (cp -L copies what is behind it)"
    if stat.S_ISFIFO(mode):
        return "named pipe"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "device"
