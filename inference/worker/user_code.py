"""Find and import the user's script.

TorchServe started its workers in the model directory, with `code/` and the model directory on the path, and so do we:
helper modules beside the script, a script at the root of the archive and relative file names all work as before. What
the SDK's `dependencies=[…]` names is put into `code/lib/`, and is found there, after everything else.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import CODE, LIBRARIES
from tidegate.inference.package_layer import PackageLayer
from tidegate.inference.worker.formats.missing_operators import missing_operator


def find_script(root: Path, program: str) -> Path | None:
    """The user's script below `code/` or at the root, or None. `program` may lack its `.py`, as it may in AWS's.

    An absolute path, which `--wrapper` gives, is that file itself.
    """
    name = program if program.endswith(".py") else f"{program}.py"
    return next((path for path in (root / CODE / name, root / name) if path.is_file()), None)


def is_from_outside(program: str | None) -> bool:
    """Whether the script is none of the model's own: then it may need no model file either."""
    return program is not None and Path(program).is_absolute()


def misplaced_script(root: Path, program: str) -> str:
    """A sentence about a script of this name that lies where it is not looked for, or is none; else empty."""
    name = Path(program if program.endswith(".py") else f"{program}.py").name
    if (root / CODE).exists() and not (root / CODE).is_dir():
        return f" {root / CODE} is a file; it must be the directory that holds {name}."
    for place in (root / CODE / name, root / name):
        if place.is_dir():
            return f" {place} is a directory, and no script."
        if place.is_symlink():
            return f" {place} is a link that leads to no file."
    found = sorted(str(path.relative_to(root)) for path in root.rglob(name) if path.is_file())
    return f" There is {', '.join(found[:3])}, which is not looked for: put it into {CODE}/." if found else ""


def enter(root: Path, packages_dir: str | None = None, script: Path | None = None) -> None:
    """Make the process a worker of this model: working directory and module path, its subprocesses' too.

    A `script` from outside the model has its own folder searched first.
    """
    os.chdir(root)
    places = [str(root / CODE), str(root)]
    if script is not None and not script.is_relative_to(root):
        places.insert(0, str(script.parent))
    sys.path[:0] = [place for place in places if place not in sys.path]
    if packages_dir:
        PackageLayer(Path(packages_dir)).enter()
    inherited = os.environ.get("PYTHONPATH")
    searched = [*places, *([inherited] if inherited else [])]
    libraries = root / CODE / LIBRARIES
    if libraries.is_dir():
        sys.path.append(str(libraries))
        # A subprocess would find it before the standard library, where nothing of its own may be hidden.
        if not {entry.stem for entry in libraries.iterdir()} & sys.stdlib_module_names:
            searched.append(str(libraries))
    os.environ["PYTHONPATH"] = os.pathsep.join(searched)


def import_script(script: Path) -> ModuleType:
    """Import `script` under its own name, whatever else bears that name.

    Raises `DeploymentError` with the file, the line and what went wrong in one sentence.
    """
    name = script.stem
    spec = importlib.util.spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise DeploymentError(f"{script} cannot be imported: it is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        # What is no text at all has no line.
        place = f"{error.filename or script}" + (f", line {error.lineno}" if error.lineno else "")
        raise DeploymentError(f"{place}: {type(error).__name__}: {error.msg.rstrip('.')}.") from error
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: this process has no other master
        reason = missing_operator(error) or one_line(error)
        raise DeploymentError(f"{where(error, script)}: {type(error).__name__}: {reason}.") from error
    return module


def where(error: BaseException, script: Path) -> str:
    """File and line of the last frame of `error` that is in user code."""
    found = where_below(error, script.parent)
    return str(script) if found == str(script.parent) else found


def where_below(error: BaseException, folder: Path) -> str:
    """File and line of the last frame of `error` that is in `folder`; the folder itself where none is."""
    found, trace = str(folder), error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if Path(name).is_relative_to(folder):
            found = f"{name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found
