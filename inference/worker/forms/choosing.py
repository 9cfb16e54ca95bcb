"""Which form of a model is served: the first, in the manifest's order, that fits, opens and answers the example.

    FormChoice.serve ─▶ a form, or None (the model itself) ─▶ asked the example ─▶ wrong: pass_over ─▶ serve …

Each form that is not served has a reason, and its memory goes before the next is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker import artifact, defaults
from tidegate.inference.worker.comparing import Tolerance
from tidegate.inference.worker.forms.declaration import BrokenForm, DeclaredForm, declared
from tidegate.inference.worker.forms.fitting import misfit
from tidegate.inference.worker.forms.machine import Machine, this_machine
from tidegate.inference.worker.forms.opening import NotOpened, Opening, open_form
from tidegate.inference.worker.forms.served_form import ServedForm
from tidegate.inference.worker.going_models import free

log = logging.getLogger("tidegate.worker")

AUTO, EAGER = "auto", "eager"
VARIABLE = "TIDEGATE_FORM"


class FormChoice:
    """The choice for one model, made when it is loaded."""

    def __init__(
        self,
        root: Path,
        manifest: Mapping[str, Any],
        *,
        place: torch.device,
        make_eager: Callable[[], Any],
        wanted: str = AUTO,
        trusted: bool = False,
        tell: bool = True,
        machine: Machine | None = None,
    ) -> None:
        """`wanted` is what TIDEGATE_FORM says; `tell` is off where another worker has said the same already."""
        self._root = root
        self._manifest = manifest
        self._place = place
        self._make_eager = make_eager
        self._wanted = wanted
        self._trusted = trusted
        self._tell = tell
        self._machine = machine
        self._all = declared(manifest)
        self._left = list(self._all) if wanted != EAGER else []
        self._form: DeclaredForm | None = None
        self._served: ServedForm | None = None
        self._asked = False
        self.passed_over: list[tuple[str, str]] = []
        """Each form that is not served, and why."""

    @property
    def in_use(self) -> bool:
        """Whether the model, or a part of it, is a form."""
        return self._served is not None

    @property
    def declares_any(self) -> bool:
        """Whether there is anything to choose from."""
        return bool(self._all)

    @property
    def bound(self) -> Tolerance | None:
        """How far the form in use may be from the model itself, which gave the example's answer."""
        return Tolerance(rtol=self._form.rtol, atol=self._form.atol) if self._form is not None else None

    @property
    def tolerance(self) -> Tolerance | None:
        """How far apart two answers of the form in use may be."""
        return self._served.tolerance if self._served is not None else None

    def serve(self) -> ServedForm | None:
        """The form to call, the same one until it is passed over; None where the model itself is to be called.

        Raises `DeploymentError` where the deployer demands one that cannot be served.
        """
        self._asked = True
        if self._served is not None:
            return self._served
        if self._wanted not in (AUTO, EAGER) and not any(form.name == self._wanted for form in self._all):
            names = ", ".join(form.name for form in self._all) or "none"
            raise DeploymentError(
                f"{VARIABLE} asks for '{self._wanted}', which is no form of this model; its forms are: {names}."
            )
        while self._left:
            form = self._left.pop(0)
            if self._wanted not in (AUTO, form.name):
                self.passed_over.append((form.name, f"{VARIABLE} asks for '{self._wanted}'"))
                continue
            reason = form.why if isinstance(form, BrokenForm) else self._open(form)
            if reason is None:
                return self._served
            self._pass_over(form.name, reason)
            self.free()
        return None

    def pass_over(self, reason: str) -> None:
        """Serve another form than the one in use. Raises `DeploymentError` where the deployer demands this one."""
        assert self._form is not None  # noqa: S101 - the caller has looked at `in_use`
        name, self._form, self._served = self._form.name, None, None
        self._pass_over(name, reason)

    def free(self) -> None:
        """Give back the memory of what was passed over, to which nothing refers any more."""
        defaults.forget_models()
        free()

    def settled(self) -> None:
        """The model is loaded, and no other form is opened from now on.

        Raises `DeploymentError` where the deployer demands a form that nothing asked for.
        """
        self._left = []
        if self._wanted not in (AUTO, EAGER) and not self._asked:
            raise DeploymentError(
                f"{VARIABLE} asks for '{self._wanted}', and the script makes the model without asking for a form "
                "(context.verified_form())."
            )

    def report(self) -> dict[str, Any] | None:
        """What is served and why, as `/models` shows it; None where there was no choice."""
        if not self._all:
            return None
        others = [{"name": name, "why": why} for name, why in self.passed_over]
        return {"name": self._form.name if self._form is not None else EAGER, "why": self._why(), "passed_over": others}

    def _why(self) -> str:
        if self._form is not None:
            found = "it fits this machine and answers the archive's example"
            why = f"{VARIABLE} asks for it, and {found}" if self._wanted == self._form.name else found
            faster = (
                f"; {self._form.ratio:.2f} times as fast as eager where it was measured" if self._form.ratio else ""
            )
            return why + faster
        if self._wanted == EAGER:
            return f"{VARIABLE}=eager"
        if not self._asked:
            return "the script makes the model, and does not ask for a form (context.verified_form())"
        return "no form of the archive can be served here"

    def _open(self, form: DeclaredForm) -> str | None:
        """Open a form; why that is not possible."""
        if self._machine is None:
            self._machine = this_machine(self._place)
        if (reason := misfit(form, self._machine, self._manifest, trusted=self._trusted)) is not None:
            return reason
        try:
            path = artifact.below(self._root, form.file) if form.file is not None else None
            if path is not None and not path.is_file():
                return f"{form.file} is not there"
            opening = Opening(form=form, path=path, place=self._place, make_eager=self._make_eager)
            self._served, self._form = open_form(opening), form
        except (NotOpened, DeploymentError) as error:
            return str(error).rstrip(".")
        return None

    def _pass_over(self, name: str, reason: str) -> None:
        if name == self._wanted:
            raise DeploymentError(f"{VARIABLE} asks for '{name}', which cannot be served: {reason}.")
        self.passed_over.append((name, reason))
        if self._tell:
            log.warning("the form '%s' of the model is not served: %s", name, reason)
