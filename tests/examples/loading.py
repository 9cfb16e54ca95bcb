"""The code of an example, loaded as a server loads it."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def loaded(code_dir: Path) -> Iterator[ModuleType]:
    """The folder's inference.py, loaded by path with the folder importable; its helpers are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(code_dir))
    try:
        yield module_of(code_dir / "inference.py")
    finally:
        sys.path.remove(str(code_dir))
        for helper in code_dir.glob("*.py"):
            if helper.stem not in before:
                sys.modules.pop(helper.stem, None)


def module_of(path: Path) -> ModuleType:
    """A file of an example as a module that nobody else sees."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def other_imports(code_dir: Path, allowed: set[str]) -> set[str]:
    """The top-level names that the folder's code imports beside the standard library and `allowed`."""
    found = set()
    for path in code_dir.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found - allowed - sys.stdlib_module_names
