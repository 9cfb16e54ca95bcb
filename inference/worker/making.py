"""Making a model: by the script's `model_fn` or as the server loads it by default, in the form that it is served in.

make ─▶ pre_model_fn ─▶ model_fn, which may ask for a form ─▶ model_warmup_fn ─▶ checked ─▶ made
                           ▲───────── the next form, at last none ◀───────── wrong
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate.inference.errors import DeploymentError, one_line, some_of
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker import defaults, identity, weights
from tidegate.inference.worker.comparing import Tolerance
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.foreign import filling
from tidegate.inference.worker.forms.choosing import FormChoice
from tidegate.inference.worker.handler import ARGUMENTS, Functions
from tidegate.inference.worker.load_errors import naming

log = logging.getLogger("tidegate.worker")

Check = Callable[[Any, Tolerance | None], None]
"""Looks at a model; where that is a form, within how far it may be from the model itself. Raises `DeploymentError`."""


class ModelMaker:
    """Makes the model of one directory. `whereabouts` says where its script may be, where it has none."""

    def __init__(
        self,
        spec: ModelSpec,
        functions: Functions,
        context: Context,
        *,
        root: Path,
        script: Path | None,
        whereabouts: str = "",
    ) -> None:
        self._spec = spec
        self._functions = functions
        self._context = context
        self._root = root
        self._script = script
        self._whereabouts = whereabouts
        self.choice = FormChoice(
            root,
            context.manifest,
            place=defaults.device(),
            make_eager=self._eager_model,
            wanted=spec.form,
            trusted=spec.trust_compiled,
            tell=spec.verify,
        )

    def make(self, check: Check) -> Any:
        """The model, which has passed `check`.

        A form that does not pass it is passed over, and the model is made again without it. Raises `DeploymentError`.
        """
        choice = self.choice
        self._context.lend_forms(choice.serve)
        if self._functions.pre_model_fn is not None:
            with naming("pre_model_fn", self._script, self._root):
                self._functions.pre_model_fn(str(self._root))
        while True:
            try:
                model = self._model()
                check(model, choice.bound)
            except DeploymentError as error:
                if not choice.in_use:
                    raise
                choice.pass_over(one_line(error))
            else:
                choice.settled()
                return model
            model = None
            choice.free()

    def _model(self) -> Any:
        functions = self._functions
        if functions.model_fn is None:
            model = self._default_model()
        else:
            with naming(functions.model_maker, self._script, self._root):
                model = functions.model_fn(str(self._root))
        if functions.model_warmup_fn is not None:
            with naming("model_warmup_fn", self._script, self._root):
                functions.model_warmup_fn(str(self._root), model)
        return model

    def _default_model(self) -> Any:
        if is_the_identity(self._root, self._spec):
            return identity.Identity(self._context)
        if (form := self.choice.serve()) is not None:
            return form
        if self._whereabouts:
            log.warning("the archive is served without its script.%s", self._whereabouts)
        try:
            return self._eager_model()
        except DeploymentError as error:
            said = f"{error}{filling.way_out(self._root, self._spec)}{self._whereabouts}{self._beside_the_script()}"
            raise type(error)(said) from error.__cause__

    def _beside_the_script(self) -> str:
        """A sentence on the script that is there and made no model; empty where it has nothing to do with that."""
        if self._functions.passed_over or self._script is None:
            return self._functions.passed_over
        if weights.builds_with(self._script.stem, self._context.manifest):
            return ""
        found = self._functions.found
        if found:
            what = f"defines {', '.join(found)}, but no model_fn"
        elif not self._script.read_bytes().strip():
            what = "is empty"
        else:
            what = f"defines no function that is called ({', '.join(ARGUMENTS)}){self._classes()}"
        return f" {self._script} is there and {what}."

    def _classes(self) -> str:
        """The classes that the script defines in place of functions, as the end of a sentence."""
        try:
            statements = ast.parse(self._script.read_bytes()).body if self._script is not None else []
        except (SyntaxError, ValueError):
            return ""
        names = [each.name for each in statements if isinstance(each, ast.ClassDef)]
        kinds = "class" if len(names) == 1 else "classes"
        return f", only the {kinds} {some_of(names, limit=3)}, of which no method is called" if names else ""

    def _eager_model(self) -> Any:
        spec = self._spec
        return defaults.model_fn(str(self._root), trust_pickle=spec.trust_pickle, trust_compiled=spec.trust_compiled)


def is_the_identity(root: Path, spec: ModelSpec) -> bool:
    """Whether a directory has no model, and the deployer lets the identity stand for it."""
    return spec.identity_model and weights.is_missing(root)
