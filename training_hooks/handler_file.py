"""tidegate_handler.py goes with the code that imports it, so that an archive needs nothing of ours where it runs."""

import ast
from collections.abc import Mapping
from pathlib import Path

from tidegate import handler

NAME = "tidegate_handler"


def missing_handler_file(files: Mapping[str, Path]) -> dict[str, Path]:
    """The file that `files` lack, by the name that it gets among them: `code/tidegate_handler.py`, or at the root.

    Nothing where no script imports it, or where the archive has a copy of its own, which stays as it is.

    Args:
        files: those of an artifact, by their names in it.
    """
    importing = [name for name, path in files.items() if name.endswith(".py") and _imports_it(path)]
    if not importing:
        return {}
    place = "code/" if any(name.startswith("code/") for name in importing) else ""
    if any(name.startswith((f"{place}{NAME}.py", f"{place}{NAME}/")) for name in files):
        return {}
    return {f"{place}{NAME}.py": Path(handler.__file__)}


def _imports_it(path: Path) -> bool:
    source = path.read_bytes()
    if NAME.encode() not in source:
        return False
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):  # the server says where, in its own words
        return False
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return NAME in imported | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
