"""What a model requires: installed before the model loads, into a layer of the model's own.

The server's own packages are not touched: what is missing beside them goes into the layer, which only this model's
workers see. An archive that brings its wheels in `wheels/` beside its list needs no network (network isolation); else
`CA_REPOSITORY_ARN` may name a CodeArtifact repository to ask, as it could in the AWS container.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.packages import package_index, pip_failure, program
from tidegate.inference.frontend.packages.package_index import Index
from tidegate.inference.frontend.packages.wanted import Wanted, wanted_by
from tidegate.inference.layout import WHEELS, model_root
from tidegate.inference.package_layer import PackageLayer, protected_version

log = logging.getLogger("tidegate.requirements")

_LOGGED_CHARACTERS = 4000


async def install(
    model_dir: Path, new_dir: Callable[[], Path], timeout_s: float, codeartifact_arn: str | None = None
) -> Path | None:
    """Install what the model's requirements lack here into a layer in a `new_dir()`.

    Returns the layer's folder, or None where nothing lacks; then, and after a failure, there is no folder either.
    `codeartifact_arn` names the repository to ask in place of pip's usual index. Raises `DeploymentError` with the
    reason of pip's failure.
    """
    try:
        root = model_root(model_dir)
    except OSError:
        return None  # the worker says what is wrong with the directory
    try:
        wanted = await asyncio.to_thread(wanted_by, root)
        if wanted is None or wanted.is_empty:
            return None
    except OSError as error:  # it is closed to this user
        raise DeploymentError(f"{error.filename} cannot be read: {error.strerror}.") from None
    file = wanted.file
    log.info("installing requirements", extra={"file": str(file)})
    layer = PackageLayer(new_dir())
    try:
        async with asyncio.timeout(timeout_s):
            offline = (file.parent / WHEELS).is_dir()
            index = await package_index.codeartifact(codeartifact_arn) if codeartifact_arn and not offline else None
            brought = await _install(layer, wanted, index)
    except BaseException as error:
        await remove(layer.home)
        if isinstance(error, TimeoutError):
            raise DeploymentError(f"{file} was not installed within {timeout_s:g} s.") from None
        if isinstance(error, OSError):  # no room, or a program that cannot be started
            raise DeploymentError(f"{file} cannot be installed: {error}.") from None
        raise
    if not brought:
        log.info("all requirements are here already")
        await remove(layer.home)
        return None
    log.info("requirements are installed", extra={"packages": brought, "folder": str(layer.home)})
    return layer.home


async def remove(folder: Path) -> None:
    """Take a layer away."""
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _install(layer: PackageLayer, wanted: Wanted, index: Index | None) -> list[str]:
    """Fill the layer; returns the names and versions of what it brings."""
    # Threads: the loop answers /ping, and other models' requests.
    await asyncio.to_thread(layer.create)
    words, directory = await asyncio.to_thread(layer.pip_command, wanted.file, wanted.text)
    variables = layer.pip_variables(os.environ)
    if index:
        variables["PIP_INDEX_URL"] = index.url  # not an argument: those are public
    # pip would read every installed package to warn of conflicts, where its output is not shown.
    status, said = await program.run(
        [*words, "--no-warn-conflicts"], directory=directory, variables=variables, errors_too=True
    )
    if status != 0:
        output = said.decode(errors="replace")
        output = pip_failure.redacted(index.redact(output) if index else output)
        log.error("pip failed", extra={"output": output[-_LOGGED_CHARACTERS:]})
        raise DeploymentError(
            f"{wanted.file} cannot be installed: {pip_failure.sentence(output, protected_version() or 'none')}."
        )
    try:
        brought = await asyncio.to_thread(layer.finish)
    except DeploymentError as error:
        raise DeploymentError(f"{wanted.file} cannot be installed: {error}.") from None
    return [f"{found.name}=={found.version}" for found in brought]
