"""Another model of the repository in the process of a script: loaded by whoever knows how to.

1. `load_model(model_path)`, where the script that asks defines it: the name that Cortex gave it.
2. The script of the model itself, as in a worker of its own: its `model_fn`, or the default loading. It is given a
   context that is about its model.
3. Without a script, the default loading.

The model's own code is imported apart from the script's: both may have a module `net`. Its working directory and its
packages are the script's.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import CODE, model_root
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.worker import artifact, user_code
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.load_errors import naming

LOAD_MODEL = "load_model"

Bind = Callable[[ModuleType, Context], Functions]
"""What finds the functions of a script."""
MakeModel = Callable[[Path, Path | None, Functions, Context], Any]
"""What makes a model of a root, its script, the functions of that and their context, as at the start of a worker."""


class BesideLoader:
    """Loads models beside that of `context`, whose root, script and module these are."""

    def __init__(
        self,
        context: Context,
        *,
        root: Path,
        script: Path | None,
        module: ModuleType | None,
        program: str,
        bind: Bind,
        make_model: MakeModel,
    ) -> None:
        self._context = context
        self._roots = [root]
        """Where modules come from that are one model's own."""
        self._script = script
        self._module = module
        self._program = program
        self._bind = bind
        self._make_model = make_model
        self._load_model = getattr(module, LOAD_MODEL, None)

    def load(self, revision: Revision, directory: Path) -> Any:
        """The model of a revision in `directory`. Raises `DeploymentError`."""
        root = model_root(directory)
        if self._load_model is not None:
            function = self._bound(self._load_model)
            with naming(LOAD_MODEL, self._script, root):
                return function(str(root))
        manifest = artifact.read_manifest(root)
        context = self._context.of_model(revision.name, revision.version, str(root), manifest)
        script = user_code.find_script(root, self._program)
        with self._alone(root):
            if script is None:
                functions = Functions()
            elif self._module is not None and self._is_the_same(script):
                functions = self._bind(self._module, context)
            else:
                functions = self._bind(user_code.import_script(script), context)
            return self._make_model(root, script, functions, context)

    def _bound(self, function: Any) -> Callable[[str], Any]:
        try:
            inspect.signature(function).bind("")
            fits = not inspect.iscoroutinefunction(function)
        except TypeError:
            fits = False
        except ValueError:  # a C function without a signature
            fits = True
        if not fits:
            raise DeploymentError(
                f"{self._script}: {LOAD_MODEL}, which context.get_model calls, must take (model_path) and nothing "
                "else; give another function another name."
            )
        return function  # type: ignore[no-any-return]

    def _is_the_same(self, script: Path) -> bool:
        """Whether a model's script is that which asks: the code that all models of the repository share."""
        return self._script is not None and script.read_bytes() == self._script.read_bytes()

    @contextmanager
    def _alone(self, root: Path) -> Iterator[None]:
        """Have imports find what is in `root`, and nothing of the same name that another model has brought."""
        places = [str(root / CODE), str(root)]
        own = {entry.stem for place in places if Path(place).is_dir() for entry in Path(place).iterdir()}
        hidden = {name: module for name, module in sys.modules.items() if _top(name) in own and self._is_ours(module)}
        for name in hidden:
            del sys.modules[name]
        sys.path[:0] = places
        self._roots.append(root)
        try:
            yield
        finally:
            self._roots.remove(root)
            for place in places:
                sys.path.remove(place)
            for name in [name for name, module in sys.modules.items() if _is_below(module, [root])]:
                del sys.modules[name]
            sys.modules.update(hidden)

    def _is_ours(self, module: ModuleType) -> bool:
        return _is_below(module, self._roots)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_below(module: ModuleType, roots: list[Path]) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and any(Path(file).is_relative_to(root) for root in roots)
