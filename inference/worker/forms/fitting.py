"""Whether a form may be opened here. Pure: plain data in, a reason out.

A package of AOTInductor for another processor does not fail: it dies of SIGILL, and one for another GPU computes
nothing. So this is decided before a file is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.inference.worker.forms.declaration import DeclaredForm
from tidegate.inference.worker.forms.machine import Machine
from tidegate.inference.worker.forms.signature import shown

TRUST = "TIDEGATE_TRUST_COMPILED_MODEL"
_ALSO_CALLED = {"avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl")}
"""Names that torch's compiler has for features of which the kernel lists the parts."""


def misfit(form: DeclaredForm, machine: Machine, manifest: Mapping[str, Any], *, trusted: bool) -> str | None:
    """Why a form is passed over here; None where it fits."""
    return _untrusted(form, manifest, trusted=trusted) or _stale(form, manifest) or _elsewhere(form, machine)


def _untrusted(form: DeclaredForm, manifest: Mapping[str, Any], *, trusted: bool) -> str | None:
    if form.runs_code and not trusted:
        return f"its file can run code: set {TRUST}=on if you trust the archive"
    if form.file is not None and form.file not in _files(manifest):
        return f"manifest.json lists no SHA-256 for {shown(form.file)}"
    if "example" not in manifest:
        return "the archive carries no example by which it could be checked"
    return None


def _stale(form: DeclaredForm, manifest: Mapping[str, Any]) -> str | None:
    weights, files = manifest.get("weights"), _files(manifest)
    name = weights.get("file") if isinstance(weights, dict) else None
    # A manifest that names no weights, because a script loads them, lists them all the same.
    listed = files.get(name if isinstance(name, str) and name in files else form.weights_file or "")
    now = listed.get("sha256") if isinstance(listed, dict) else None
    if now is None:
        return "manifest.json does not list the weights that it was made of, so they may be others now"
    if form.weights_sha256 != now:
        return "it was made of other weights than those that are here; export it again"
    return None


def _elsewhere(form: DeclaredForm, machine: Machine) -> str | None:
    needs = form.requires
    if needs.device != machine.device:
        names = {"cpu": "the CPU", "cuda": "a GPU"}
        return f"it is for {names[needs.device]}, and this worker computes on {names.get(machine.device, 'another')}"
    if needs.machine is not None and needs.machine.lower() != machine.machine.lower():
        return f"it is for {shown(needs.machine)}, and this machine is {machine.machine}"
    wanted = [flag for name in needs.processor for flag in _ALSO_CALLED.get(name, (name,))]
    if missing := [flag for flag in wanted if flag not in machine.processor]:
        return f"it was built for a processor with {', '.join(missing[:8])}, which this machine does not have"
    if needs.cuda_capability is not None and needs.cuda_capability != machine.cuda_capability:
        return (
            f"it is for a GPU of capability {shown(needs.cuda_capability)}, and this one has {machine.cuda_capability}"
        )
    if needs.torch is not None and _minor(needs.torch) != _minor(machine.torch):
        return f"it was made by torch {shown(needs.torch)}, and torch {machine.torch} is installed"
    for name, release in needs.packages.items():
        if (reason := _package(name, release, machine.package(name))) is not None:
            return reason
    return None


def _package(name: str, wanted: str, installed: str | None) -> str | None:
    if installed is None:
        return f"it needs the package {shown(name)}: name it in code/requirements.txt"
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 - engines bring it
    except ImportError:  # pip has it too
        from pip._vendor.packaging.specifiers import (  # type: ignore[assignment] # noqa: PLC0415
            InvalidSpecifier,
            SpecifierSet,
        )
    try:
        fits = SpecifierSet(wanted).contains(installed, prereleases=True)
    except InvalidSpecifier:
        return f"requires.packages asks for {name} {shown(wanted)}, which is no version specifier"
    return None if fits else f"it needs {name}{wanted}, and {installed} is installed"


def _minor(version: str) -> list[str]:
    return version.partition("+")[0].split(".")[:2]


def _files(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    files = manifest.get("files")
    return files if isinstance(files, dict) else {}
