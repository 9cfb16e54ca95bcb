"""Our packages by their short names: `python -m inference serve`, `from training_hooks import save_model`.

What is installed is `tidegate`. A short name is answered with the same module object, so that a class is there once.
Where they are answered: docs/decisions/0009-one-installed-name.md; why `python -m inference` is ours in every folder:
docs/decisions/0008-a-name-that-users-have-too.md.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import InspectLoader, Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType


def at_start() -> None:
    """Let `python -m inference serve` and `… check` mean ours, whatever lies in the working directory or PYTHONPATH.

    `tidegate.pth` calls this while the interpreter starts, for exactly these two words after `-m` and the module's
    name: a user's own script is still started by any other.
    """
    if _is_inference(sys.orig_argv[-len(sys.argv)]):
        import tidegate.inference  # noqa: PLC0415 - only where it is meant

        sys.modules["inference"] = tidegate.inference


def find_spec(name: str) -> ModuleSpec | None:
    """`training_hooks` as `tidegate.training_hooks`, and what is below it; None where somebody else's module is meant.

    `tidegate_short_names.pth` asks this before Python looks in `sys.path`, where a checkout as the working directory
    would be found under the short name too, with a second copy of each class.
    """
    first, _, below = name.partition(".")
    if below:
        if sys.modules.get(first) is not sys.modules.get(f"tidegate.{first}"):
            return None
    elif _is_somebody_elses(name):
        return None
    ours = importlib.util.find_spec(f"tidegate.{name}")
    if ours is None or not isinstance(ours.loader, InspectLoader):
        return None
    is_package = ours.submodule_search_locations is not None
    return ModuleSpec(name, _Alias(ours.name, ours.loader), origin=ours.origin, is_package=is_package)


class _Alias(Loader):
    """Loads our module `name` under another name: the same object, imported once."""

    def __init__(self, name: str, loader: InspectLoader) -> None:
        self._name = name
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        """Put ours in the place of the empty `module`: the import system takes what then stands in `sys.modules`."""
        sys.modules[module.__name__] = importlib.import_module(self._name)

    def get_code(self, name: str) -> CodeType | None:  # noqa: ARG002 - one loader, one module
        """What `python -m` runs as `__main__`."""
        return self._loader.get_code(self._name)


def _is_somebody_elses(name: str) -> bool:
    found = next(filter(None, (finder.find_spec(name, None) for finder in sys.meta_path if not _is_us(finder))), None)
    if found is None:
        return False
    here = Path(__file__).parent / name / "__init__.py"
    return found.origin is None or not here.exists() or not here.samefile(found.origin)


def _is_us(finder: object) -> bool:
    return getattr(finder, "__name__", "") == "TidegateShortNames"


def _is_inference(word: str) -> bool:
    # `-m inference`, `-minference`, `-um inference`: Python takes short options in one word.
    return word == "inference" or (word.startswith("-") and word.endswith("minference"))
