"""Where the archive's script lies, what it is called, and what it says that is only true where it was written."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path, PurePosixPath

from tidegate.inference.errors import some_of
from tidegate.inference.frontend.check.listing import Listed, Listing
from tidegate.inference.layout import CODE, LIBRARIES
from tidegate.inference.load_report import Caution

FUNCTIONS = frozenset({"model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn"})
"""The functions by which a script of SageMaker is known."""
USUAL = "inference.py"
_LIBRARIES = frozenset({"torch", "numpy", "PIL", "torchvision", "transformers", "onnxruntime"})
# The folder of scripts has the name of a module of Python, and may be a package.
_HIDDEN = frozenset(sys.stdlib_module_names) - {CODE} | _LIBRARIES
_OF_A_MACHINE = re.compile(r"(?:/home/|/Users/|/content/|/kaggle/|/mnt/c/|/workspace/|[A-Za-z]:\\)[^\n]{1,300}")
_EXTENSION = re.compile(r"\.(?:cpython-\d+\w*|cp\d+|pypy\d+)-[\w-]+\.(?:so|pyd)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Which script is looked for, and which is there. Both are names below the root; `found` is None for none."""

    wanted: str
    found: PurePosixPath | None


def find_script(listing: Listing, program: str | None) -> Script:
    """The script that a worker imports. One from outside the archive is none of its own."""
    wanted = program or USUAL
    if Path(wanted).is_absolute():
        return Script(wanted=wanted, found=None)
    wanted = wanted if wanted.endswith(".py") else f"{wanted}.py"
    places = (f"{CODE}/{wanted}", wanted)
    found = next((PurePosixPath(place) for place in places if listing.has(place)), None)
    return Script(wanted=wanted, found=found)


def cautions(listing: Listing, script: Script) -> Iterator[Caution]:
    """What is wrong with the script and what lies beside it."""
    if Path(script.wanted).is_absolute():
        return
    if script.found is None:
        yield from _not_found(listing, script)
    else:
        yield from _twice(listing, script)
    yield from _hiding(listing)
    yield from _for_another_python(listing)
    yield from _of_this_machine(listing)


def _not_found(listing: Listing, script: Script) -> Iterator[Caution]:
    elsewhere = [each.name for each in _python(listing) if each.name.name == Path(script.wanted).name]
    if elsewhere:
        yield Caution(
            code="script_in_the_wrong_place",
            message=f"{some_of(map(str, elsewhere), limit=3)} is not looked for, so its functions are not called",
            way_out=f"move it to {CODE}/{script.wanted}",
        )
        return
    named = [each.name for each in _python(listing) if each.folders in ((), (CODE,))]
    others = [name for name in named if FUNCTIONS & _defined(listing, name)]
    if others:
        yield Caution(
            code="script_of_another_name",
            message=f"{some_of(map(str, others), limit=3)} has functions of the contract, and only {script.wanted} is "
            "imported",
            way_out=f"rename it to {USUAL}, or set SAGEMAKER_PROGRAM={others[0].name}",
        )


def _twice(listing: Listing, script: Script) -> Iterator[Caution]:
    name = Path(script.wanted).name
    others = [place for place in (name, f"{CODE}/{CODE}/{name}") if place != str(script.found) and listing.has(place)]
    if others:
        yield Caution(
            code="two_scripts",
            message=f"{script.found} is imported, and {' and '.join(others)} is not",
            way_out="remove the one that you do not need",
        )


def _hiding(listing: Listing) -> Iterator[Caution]:
    """Modules of the archive that bear the name of one that everybody imports: both folders come first on the path."""
    found = [
        each.name
        for each in listing.files
        if (each.folders in ((), (CODE,)) and each.name.suffix == ".py" and each.name.stem in _HIDDEN)
        or (each.name.name == "__init__.py" and each.folders in {(n,) for n in _HIDDEN} | {(CODE, n) for n in _HIDDEN})
    ]
    if found:
        yield Caution(
            code="hides_a_module",
            message=f"{some_of(map(str, found), limit=3)} has the name of a module that others import, and comes first",
            way_out="call it something else",
        )


def _for_another_python(listing: Listing) -> Iterator[Caution]:
    compiled = [(each.name, found[0]) for each in listing.files if (found := _EXTENSION.search(each.name.name))]
    stems = {str(name).removesuffix(kind) for name, kind in compiled if kind in EXTENSION_SUFFIXES}
    # Some bring a file for each Python: one of them is enough.
    others = [name for name, kind in compiled if str(name).removesuffix(kind) not in stems]
    if others:
        yield Caution(
            code="compiled_for_another_python",
            message=f"{some_of(map(str, others), limit=3)} cannot be imported by Python "
            f"{sys.version_info.major}.{sys.version_info.minor} on {sys.platform}",
            way_out=f"name the package in {CODE}/requirements.txt in place of copying it",
        )


def _of_this_machine(listing: Listing) -> Iterator[Caution]:
    for each in _python(listing):
        if each.folders and each.folders[:1] != (CODE,):
            continue
        if each.folders[:2] == (CODE, LIBRARIES):
            continue
        for line, path in _paths(listing.text(each.name)):
            yield Caution(
                code="path_of_one_machine",
                message=f"{each.name}, line {line}, names {path}, which is not there where the model is served",
                way_out="put the file into the archive, and make its path from the model_dir that model_fn is given",
            )
            break


def _paths(source: str) -> Iterator[tuple[int, str]]:
    tree = _parsed(source)
    for statement in tree.body if tree is not None else ():
        # What runs only where the file is started as a program is no matter of the server's.
        if isinstance(statement, ast.If) and any(_names_main(each) for each in ast.walk(statement.test)):
            continue
        said = {id(each.value) for each in ast.walk(statement) if isinstance(each, ast.Expr)}
        for node in ast.walk(statement):
            if not isinstance(node, ast.Constant) or id(node) in said:
                continue
            if isinstance(node.value, str) and _OF_A_MACHINE.fullmatch(node.value):
                yield node.lineno, node.value


def _names_main(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "__name__"


def _defined(listing: Listing, name: PurePosixPath) -> set[str]:
    tree = _parsed(listing.text(name))
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef)} if tree is not None else set()


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # the worker says where


def _python(listing: Listing) -> list[Listed]:
    # A virtual environment in the archive has thousands, none of which is meant.
    return [each for each in listing.files if each.name.suffix == ".py" and "site-packages" not in each.folders]
