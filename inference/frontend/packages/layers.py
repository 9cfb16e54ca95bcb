"""The layers of packages that the models of this server brought, each in a folder of its own."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from tidegate.inference.frontend.packages import requirements
from tidegate.inference.frontend.temporary import new_folder
from tidegate.inference.settings import Settings


class Layers:
    """Installs them, and removes what is left of them at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = count()

    async def install(self, model_dir: Path) -> Path | None:
        """The layer of what the model requires beside what is here; None for nothing. Raises `DeploymentError`."""
        return await requirements.install(
            model_dir, self._new_dir, self._settings.requirements_timeout_s, self._settings.codeartifact_arn
        )

    async def remove(self, layer: Path | None) -> None:
        """Take a layer away."""
        if layer is not None:
            await requirements.remove(layer)

    def close(self) -> None:
        """Take all of them away."""
        if self._home is not None:
            self._home.cleanup()

    def _new_dir(self) -> Path:
        # Made only where a model has requirements: a server without a writable place runs all others.
        if self._home is None:
            self._home = new_folder("The packages of a model", "tidegate-packages-")
        # Numbered: a model's name is the platform's own hash, but nothing says that it is a file name.
        return Path(self._home.name) / f"{next(self._numbers)}"
