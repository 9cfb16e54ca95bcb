"""The `forms` of a manifest: which there are, what each requires, and what was proved of it when it was made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tidegate.inference.worker.forms import signature as signatures
from tidegate.inference.worker.forms.signature import Mistake, Signature, mapping, shown

MAX_FORMS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_RESERVED = frozenset({"auto", "eager"})
_REQUIREMENTS = ("device", "machine", "processor", "cuda_capability", "torch", "packages")
_X86 = ("x86_64", "amd64")
_SETTINGS = {
    "dtype": ("float32", "bfloat16", "float16", "int8"),
    "memory_format": ("channels_last",),
    "float32_matmul_precision": ("highest", "high", "medium"),
}


class FormKind(StrEnum):
    """Which engine computes a form."""

    ONNX = "onnx"
    PT2 = "pt2"
    AOTI = "aoti"
    OPENVINO = "openvino"
    EAGER = "eager"
    """The model itself, with other settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a machine must have. `torch` is a minor version such as 2.13; `packages` are specifiers such as >=1.20."""

    device: str = "cpu"
    machine: str | None = None
    processor: tuple[str, ...] = ()
    cuda_capability: str | None = None
    torch: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredForm:
    """One form. `rtol` and `atol` bound how far its numbers may be from those of the model itself."""

    name: str
    kind: FormKind
    file: str | None
    settings: Mapping[str, str]
    requires: Requirements
    signature: Signature
    weights_file: str | None
    weights_sha256: str | None
    """Of what it was made, as that was then."""
    rtol: float
    atol: float
    ratio: float | None
    """Of times per batch, eager to this form, at the largest batch that was measured."""
    finite: bool
    """Whether it takes finite numbers alone, because it answers NaN or infinity otherwise than the model does."""

    @property
    def runs_code(self) -> bool:
        """Whether its file is a program, or read by what can be made to run one."""
        return self.kind in (FormKind.PT2, FormKind.AOTI)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenForm:
    """One that is not understood, and why."""

    name: str
    why: str


def declared(manifest: Mapping[str, Any]) -> list[DeclaredForm | BrokenForm]:
    """The forms of a manifest, the preferred one first."""
    value = manifest.get("forms")
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_FORMS:
        return [BrokenForm(name="forms", why=f"it is {shown(value)} in manifest.json, not a list of up to {MAX_FORMS}")]
    found: list[DeclaredForm | BrokenForm] = []
    for number, each in enumerate(value):
        name = each.get("name") if isinstance(each, dict) else None
        name = name if isinstance(name, str) and _NAME.fullmatch(name) else f"forms[{number}]"
        try:
            form: DeclaredForm | BrokenForm = _form(each, f"forms[{number}]")
            if any(other.name == form.name for other in found):
                form = BrokenForm(name=name, why="another form before it has the same name")
        except Mistake as mistake:
            form = BrokenForm(name=name, why=f"{mistake} (manifest.json)")
        found.append(form)
    return found


def _form(value: Any, at: str) -> DeclaredForm:
    fields = mapping(value, at)
    name, kind, file = fields.get("name"), fields.get("kind"), fields.get("file")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise Mistake(f"{at}.name is {shown(name)}; it must be a plain name other than auto and eager")
    if not isinstance(kind, str) or kind not in tuple(FormKind):
        raise Mistake(f"{at}.kind is {shown(kind)}; it must be one of {', '.join(FormKind)}")
    if (kind == FormKind.EAGER) != (file is None) or not isinstance(file, str | None):
        raise Mistake(f"{at}.file is {shown(file)}; every kind but eager has a file")
    requires = _requirements(fields.get("requires") or {}, f"{at}.requires")
    if kind == FormKind.AOTI:
        _demand_a_machine(requires, f"{at}.requires")
    parity, made_from = mapping(fields.get("parity"), f"{at}.parity"), fields.get("made_from") or {}
    made_from = mapping(made_from, f"{at}.made_from")
    return DeclaredForm(
        name=name,
        kind=FormKind(kind),
        file=file,
        settings=_settings(fields.get("settings") or {}, f"{at}.settings"),
        requires=requires,
        signature=signatures.read(fields.get("signature"), f"{at}.signature"),
        weights_file=_text(made_from, "file", f"{at}.made_from"),
        weights_sha256=_text(made_from, "sha256", f"{at}.made_from"),
        rtol=_bound(parity, "rtol", f"{at}.parity"),
        atol=_bound(parity, "atol", f"{at}.parity"),
        ratio=_ratio(fields.get("measured")),
        # Kernels of compiled code turn NaN into 0 in a ReLU, and forms of before say nothing of it.
        finite=parity.get("non_finite", "differs" if kind == FormKind.AOTI else "as eager") != "as eager",
    )


def _bound(parity: Mapping[str, Any], key: str, at: str) -> float:
    value: Any = parity.get(key)
    if not _is_number(value) or not value >= 0:
        raise Mistake(f"{at}.{key} is {shown(value)}; it must be a number that is not negative")
    return float(value)


def _settings(value: Any, at: str) -> dict[str, str]:
    found = mapping(value, at)
    for key, each in found.items():
        if key not in _SETTINGS or each not in _SETTINGS[key]:
            known = "; ".join(f"{name}: {', '.join(values)}" for name, values in _SETTINGS.items())
            raise Mistake(f"{at}.{key} is {shown(each)}; known are {known}")
    return dict(found)


def _requirements(value: Any, at: str) -> Requirements:
    fields = mapping(value, at)
    if unknown := [key for key in fields if key not in _REQUIREMENTS]:
        raise Mistake(
            f"{at} asks for {shown(unknown[0])}, which nothing here can look at; known are {', '.join(_REQUIREMENTS)}"
        )
    device, processor = fields.get("device", "cpu"), fields.get("processor") or []
    packages = mapping(fields.get("packages") or {}, f"{at}.packages")
    if device not in ("cpu", "cuda"):
        raise Mistake(f"{at}.device is {shown(device)}; it must be cpu or cuda")
    if not _are_texts(processor):
        raise Mistake(f"{at}.processor is {shown(processor)}; it must be a list of the names of its features")
    if not _are_texts(list(packages.values())):
        raise Mistake(f"{at}.packages is {shown(packages)}; it must be an object of version specifiers")
    return Requirements(
        device=device,
        machine=_text(fields, "machine", at),
        processor=tuple(processor),
        cuda_capability=_text(fields, "cuda_capability", at),
        torch=_text(fields, "torch", at),
        packages=dict(packages),
    )


def _demand_a_machine(requires: Requirements, at: str) -> None:
    """Refuse machine code of which nothing says where it can run: elsewhere it ends the process by SIGILL."""
    needed = {"torch": requires.torch}
    if requires.device == "cuda":
        needed["cuda_capability"] = requires.cuda_capability
    else:
        needed["machine"] = requires.machine
        if requires.machine is not None and requires.machine.lower() in _X86:
            needed["processor"] = ", ".join(requires.processor) or None
    if missing := [key for key, value in needed.items() if value is None]:
        raise Mistake(f"{at} says nothing of {' and '.join(missing)}, without which compiled code is not opened")


def _text(fields: Mapping[str, Any], key: str, at: str) -> str | None:
    value = fields.get(key)
    if not isinstance(value, str | None):
        raise Mistake(f"{at}.{key} is {shown(value)}; it must be a text")
    return value or None


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


def _ratio(measured: Any) -> float | None:
    """Only told, never decided by: what cannot be read is not there."""
    batches = measured.get("batches") if isinstance(measured, dict) else None
    if not isinstance(batches, dict):
        return None
    sizes: Sequence[str] = sorted((size for size in batches if size.isdecimal() and len(size) < 9), key=int)
    last = batches[sizes[-1]] if sizes else None
    ratio: Any = last.get("ratio") if isinstance(last, dict) else None
    return float(ratio) if _is_number(ratio) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
