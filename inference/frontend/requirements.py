"""`code/requirements.txt`: installed before the model loads, into a folder of the model's own.

The server's own packages are not touched: pip is asked what is missing beside them, and only that goes into the
folder, which is on the path of this model's workers alone. torch is pinned to the one that is here. An archive that
brings its wheels in `code/wheels/` needs no network (network isolation); else `CA_REPOSITORY_ARN` may name a
CodeArtifact repository to ask, as it could in the AWS container.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inference.errors import DeploymentError
from inference.frontend import package_index, pip_failure
from inference.frontend.package_index import Index
from inference.layout import CODE, REQUIREMENTS, WHEELS, model_root

log = logging.getLogger("tidegate.requirements")

PROTECTED = ("torch",)
"""Packages that a model cannot bring: the image was built around them."""

_KEPT_OPTIONS = (
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--no-index",
    "--trusted-host",
    "--pre",
)


async def install(
    model_dir: Path, new_dir: Callable[[], Path], timeout_s: float, codeartifact_arn: str | None = None
) -> Path | None:
    """Install what the model's requirements lack here into a `new_dir()`; returns it, or None where nothing lacks.

    `codeartifact_arn` names the repository to ask in place of pip's usual index. Raises `DeploymentError` with the
    reason of pip's failure.
    """
    try:
        root = model_root(model_dir)
    except OSError:
        return None  # the worker says what is wrong with the directory
    code = root / CODE
    wanted = code / REQUIREMENTS
    if (root / REQUIREMENTS).is_file() and not wanted.is_file():
        log.warning("requirements are installed from code/ alone", extra={"not_installed": str(root / REQUIREMENTS)})
    if not wanted.is_file() or not _text(wanted).strip():
        return None
    try:
        async with asyncio.timeout(timeout_s):
            if (code / WHEELS).is_dir():
                return await _install(wanted, ["--no-index", "--find-links", str(code / WHEELS)], None, new_dir)
            index = await package_index.codeartifact(codeartifact_arn) if codeartifact_arn else None
            return await _install(wanted, [], index, new_dir)
    except TimeoutError:
        raise DeploymentError(f"{wanted} was not installed within {timeout_s:g} s.") from None


async def _install(wanted: Path, offline: list[str], index: Index | None, new_dir: Callable[[], Path]) -> Path | None:
    log.info("installing requirements", extra={"file": str(wanted)})
    with tempfile.TemporaryDirectory(prefix="tidegate-pip-") as work:
        constraint = Path(work) / "constraint.txt"
        constraint.write_text("".join(f"{name}=={_version(name)}\n" for name in PROTECTED))
        report = Path(work) / "report.json"
        # A dry run knows what is installed here already; an installation into a folder would not look.
        plan = ["--dry-run", "--report", str(report), "--requirement", str(wanted), "--constraint", str(constraint)]
        await _pip(wanted, [*plan, *offline], index)
        missing = [_pin(entry) for entry in json.loads(report.read_text())["install"]]
        if not missing:
            log.info("all requirements are here already")
            return None
        pins = Path(work) / "pins.txt"
        pins.write_text("\n".join([*_options(wanted), *missing]) + "\n")
        target = new_dir()
        into = ["--no-deps", "--target", str(target), "--upgrade", "--requirement", str(pins)]
        await _pip(wanted, [*into, *offline], index)
        log.info("requirements are installed", extra={"packages": missing, "folder": str(target)})
        return target


def _pin(entry: dict[str, Any]) -> str:
    metadata = entry["metadata"]
    if entry.get("is_direct"):
        return f"{metadata['name']} @ {entry['download_info']['url']}"
    return f"{metadata['name']}=={metadata['version']}"


def _options(wanted: Path) -> list[str]:
    """The lines of the file that say where packages come from."""
    lines = (line.strip() for line in _text(wanted).splitlines())
    return [line for line in lines if line.split("=")[0].split(" ")[0] in _KEPT_OPTIONS]


def _text(wanted: Path) -> str:
    """The file as pip reads it: UTF-8, or what its byte order mark says (PowerShell writes UTF-16)."""
    content = wanted.read_bytes()
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if is_utf_16 else "UTF-8"
        raise DeploymentError(f"{wanted} is not {kind} text: byte {error.start} cannot be decoded.") from None


async def _pip(wanted: Path, arguments: Sequence[str], index: Index | None) -> None:
    # -P: pip runs where relative names of the file lead, which is where a user's pip.py would be run in its place.
    pip = [sys.executable, "-P", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    process = await asyncio.create_subprocess_exec(
        *pip,
        *arguments,
        env={**os.environ, **({"PIP_INDEX_URL": index.url} if index else {})},  # not an argument: those are public
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=wanted.parent,
    )
    try:
        output, errors = await process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        hide = index.redact if index else str
        said = hide((output + errors).decode(errors="replace"))
        log.error("pip failed", extra={"output": said[-4000:]})
        raise DeploymentError(f"{wanted} cannot be installed: {pip_failure.sentence(said, _version('torch'))}.")


def _version(package: str) -> str:
    from importlib.metadata import version  # noqa: PLC0415 - brings a mail parser, and most models have no requirements

    return version(package)
