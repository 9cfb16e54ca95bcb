"""The forms that a model can be given, and what each needs."""

import importlib.util
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .processor_levels import MIXED

ONNX, PT2, AOTI, OPENVINO, EAGER = "onnx", "pt2", "aoti", "openvino", "eager"
FILE_NAMES = {ONNX: "model.onnx", PT2: "model.pt2", AOTI: "model.pt2", OPENVINO: "model.xml"}

_X86_64_V3 = ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")  # as /proc/cpuinfo spells them
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One form that can be built.

    Attributes:
        name: of the form, and of its folder.
        kind: what opens it.
        settings: how the eager network is changed before, or how its numbers are held.
        packages: what must be importable, here and in the server.
        builders: what must be importable here alone.
        own_bound: the difference that it may have as a part of the largest number of the answer, instead of the
            example's tolerance.
    """

    name: str
    kind: str
    settings: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()
    own_bound: float | None = None

    @property
    def needs_bfloat16(self) -> bool:
        """Whether it gains by the processor's bfloat16 units, and only loses accuracy without them."""
        return "bfloat16" in self.settings.values() or "float32_matmul_precision" in self.settings


_CHANNELS_LAST = {"memory_format": "channels_last"}
_BFLOAT16 = {"dtype": "bfloat16"}
_MEDIUM = {"float32_matmul_precision": "medium"}
_ALL = (
    Candidate(name="onnx", kind=ONNX, packages=("onnxruntime",), builders=("onnx", "onnxscript")),
    Candidate(name="openvino", kind=OPENVINO, packages=("openvino",), builders=("onnx", "onnxscript")),
    Candidate(name="channels_last", kind=EAGER, settings=_CHANNELS_LAST),
    Candidate(name="bfloat16", kind=EAGER, settings=_BFLOAT16),
    Candidate(name="bfloat16-channels_last", kind=EAGER, settings={**_BFLOAT16, **_CHANNELS_LAST}),
    Candidate(name="float32_matmul_precision", kind=EAGER, settings=_MEDIUM),
    Candidate(
        name="openvino-bfloat16",
        kind=OPENVINO,
        settings=_BFLOAT16,
        packages=("openvino",),
        builders=("onnx", "onnxscript"),
    ),
    Candidate(
        name="onnx-int8",
        kind=ONNX,
        settings={"dtype": "int8"},
        packages=("onnxruntime",),
        builders=("onnx", "onnxscript"),
        own_bound=0.01,
    ),
    Candidate(name="pt2", kind=PT2),
    Candidate(name="aoti", kind=AOTI),
    Candidate(name="aoti-bfloat16", kind=AOTI, settings=_BFLOAT16),
)
CANDIDATES = {each.name: each for each in _ALL}
AUTOMATIC = tuple(each.name for each in _ALL if each.kind != PT2)  # a .pt2 runs the eager kernels: never faster


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides which candidates can be built here, and what their forms need elsewhere.

    Attributes:
        architecture: such as x86_64.
        processor: its name.
        flags: of its instruction sets.
        packages: of those that candidates name, the ones that can be imported.
        compiler: a C++ compiler is on the path.
        torch: the version.
    """

    architecture: str
    processor: str
    flags: frozenset[str]
    packages: frozenset[str]
    compiler: bool
    torch: str


def this_machine() -> Machine:
    """Look at what is here."""
    import torch  # noqa: PLC0415

    facts: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    named = {package for each in _ALL for package in (*each.packages, *each.builders)}
    return Machine(
        architecture=platform.machine(),
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        flags=frozenset((facts.get("flags") or facts.get("Features") or "").split()),
        packages=frozenset(name for name in named if importlib.util.find_spec(name)),
        compiler=any(map(shutil.which, ("g++", "c++", "clang++"))),
        torch=str(torch.__version__),
    )


def why_not(candidate: Candidate, machine: Machine) -> str | None:
    """Say why a candidate cannot be built on this machine, or None."""
    missing = [name for name in (*candidate.packages, *candidate.builders) if name not in machine.packages]
    if missing:
        return f"pip install {' '.join(missing)} for it"
    if candidate.kind == AOTI and not machine.compiler:
        return "it needs a C++ compiler, and there is no g++ here: build it in the training job or the pipeline"
    if candidate.needs_bfloat16 and machine.flags.isdisjoint(BFLOAT16_FLAGS):
        return "the processor computes no bfloat16 (it has neither avx512_bf16 nor amx_bf16)"
    return None


def _is_of_vectors(flag: str) -> bool:
    # A compiler that is told "native" may use any of these, and a processor without it ends the process by SIGILL.
    return flag.startswith(("avx", "amx")) or flag in _X86_64_V3


def requirements(candidate: Candidate, machine: Machine, built: Mapping[str, Any], *, processor: str) -> dict[str, Any]:
    """Return the manifest's `requires` of a form: what a server must have for it.

    Args:
        candidate: whose form it is.
        machine: where it was built.
        built: what the build said: `packages`, the versions.
        processor: what compiled code was allowed to use.
    """
    requires: dict[str, Any] = {"device": "cpu"}
    flags = []
    if candidate.kind == AOTI:
        requires["machine"] = machine.architecture
        flags = sorted(_X86_64_V3 if processor == MIXED else filter(_is_of_vectors, machine.flags))
    if candidate.needs_bfloat16:
        flags += [flag for flag in BFLOAT16_FLAGS if flag in machine.flags][:1]
    if flags:
        requires["machine"] = machine.architecture
        requires["processor"] = sorted(set(flags))
    if candidate.kind in (PT2, AOTI):
        requires["torch"] = ".".join(machine.torch.split(".")[:2])
    if candidate.packages:
        requires["packages"] = {name: f">={built['packages'][name]}" for name in candidate.packages}
    return requires
