"""From the file of a form, or its settings, to the engine that computes it.

What is opened has been checked against the manifest and this machine before. Each engine has as many threads as torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tidegate.inference.errors import one_line
from tidegate.inference.model_files import damage
from tidegate.inference.worker import comparing
from tidegate.inference.worker.comparing import Tolerance
from tidegate.inference.worker.formats import aot_inductor
from tidegate.inference.worker.formats.onnx_model import refusal
from tidegate.inference.worker.forms.arguments import builder, flatten
from tidegate.inference.worker.forms.declaration import DeclaredForm, FormKind
from tidegate.inference.worker.forms.served_form import Run, ServedForm
from tidegate.inference.worker.forms.signature import Signature, TensorSpec
from tidegate.inference.worker.misfit import InputRefused


class NotOpened(Exception):
    """The form cannot be opened; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What there is to open. `make_eager` loads the model as the server does by default."""

    form: DeclaredForm
    path: Path | None
    place: torch.device
    make_eager: Callable[[], Any]

    @property
    def file(self) -> str:
        return str(self.path)


def open_form(opening: Opening) -> ServedForm:
    """The form, ready to be called. Raises `NotOpened`."""
    form = opening.form
    try:
        run = _ENGINES[form.kind](opening)
    except NotOpened:
        raise
    except Exception as error:
        checked = opening.path if form.kind is not FormKind.OPENVINO else None  # whose files begin as any XML does
        if checked is not None and (what := damage.of_a_compiled_model(checked)) is not None:
            raise NotOpened(f"it cannot be opened: {form.file} is {what}") from None
        raise NotOpened(f"it cannot be opened: {type(error).__name__}: {one_line(error)}") from error
    return ServedForm(form.name, form.signature, run, opening.place, tolerance_of(form), finite=form.finite)


def tolerance_of(form: DeclaredForm) -> Tolerance:
    """How far apart two answers of a form may be, when records are computed in other company.

    A form of low precision, such as int8 with a scale for the whole batch, is no closer to itself than to the model.
    """
    exact = form.settings.get("dtype", "float32") == "float32" and "float32_matmul_precision" not in form.settings
    own = comparing.FULL if exact else comparing.HALF
    return Tolerance(rtol=max(own.rtol, form.rtol), atol=max(own.atol, form.atol))


# --- ONNX


_ONNX_TYPES = {
    torch.float64: "tensor(double)",
    torch.float32: "tensor(float)",
    torch.float16: "tensor(float16)",
    torch.int64: "tensor(int64)",
    torch.int32: "tensor(int32)",
    torch.int16: "tensor(int16)",
    torch.int8: "tensor(int8)",
    torch.uint8: "tensor(uint8)",
    torch.bool: "tensor(bool)",
}


def _onnx(opening: Opening) -> Run:
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that spins between two requests takes a core from the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if opening.place.type == "cuda":
        if "CUDAExecutionProvider" not in runtime.get_available_providers():
            raise NotOpened("onnxruntime has no CUDA here: name onnxruntime-gpu in code/requirements.txt")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": opening.place.index or 0}))
    session = runtime.InferenceSession(opening.file, options, providers=providers)
    signature, names = opening.form.signature, [node.name for node in session.get_inputs()]
    _compare(signature.inputs, session.get_inputs(), "input", names)
    outputs = [spec.name for spec in signature.outputs]
    _compare(signature.outputs, session.get_outputs(), "output", outputs)
    run, wanted, place = session.run, [spec.name for spec in signature.inputs], opening.place

    def compute(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        arrays = dict(zip(wanted, [tensor.numpy() for tensor in tensors], strict=True))
        try:
            found = run(outputs, arrays)
        except Exception as error:
            reason = refusal(error)
            if reason is None:
                raise
            raise InputRefused(reason) from error
        return [torch.from_numpy(array) for array in found]

    if place.type == "cpu":
        return compute
    return lambda tensors: [found.to(place) for found in compute([tensor.cpu() for tensor in tensors])]


def _compare(specs: tuple[TensorSpec, ...], nodes: list[Any], what: str, names: list[str]) -> None:
    """Hold the manifest's tensors against those of the file. Raises `NotOpened`."""
    by_name = {node.name: node for node in nodes}
    if {spec.name for spec in specs} != set(by_name if what == "input" else names) or not set(names) <= set(by_name):
        raise NotOpened(f"its file has the {what}s {', '.join(by_name)}, the manifest others")
    for spec in specs:
        node = by_name[spec.name]
        fixed = [length if isinstance(length, int) else None for length in node.shape]
        fits = len(fixed) == len(spec.shape) and all(
            here is None or said is None or here == said or (what == "output" and not isinstance(said, int))
            for here, said in zip(fixed, spec.shape, strict=True)
        )
        typed = _ONNX_TYPES.get(spec.dtype) == node.type or what == "output"
        if not (fits and typed):
            raise NotOpened(
                f"the {what} '{spec.name}' of its file is {list(node.shape)} of {node.type}, which the manifest calls "
                f"{spec.described()}"
            )


# --- torch.export and AOTInductor


def _exported(opening: Opening) -> Run:
    program = torch.export.load(opening.file)
    if opening.place.type == "cuda":
        passes = importlib.import_module("torch.export.passes")
        program = passes.move_to_device_pass(program, opening.place)
    module, lowered = program.module(), _lowered(opening.form)

    def compute(tensors: list[torch.Tensor]) -> Any:
        with torch.no_grad():
            found = module(*(lowered(tensors) if lowered is not None else tensors))
        return found if isinstance(found, list | tuple) else [found]

    return compute


def _compiled(opening: Opening) -> Run:
    run, lowered = aot_inductor.opened(Path(opening.file), opening.place), _lowered(opening.form)
    return run if lowered is None else lambda tensors: run(lowered(tensors))


def _lowered(form: DeclaredForm) -> Callable[[list[torch.Tensor]], list[torch.Tensor]] | None:
    """What casts inputs to the precision that a program was made in; None where that is the model's own."""
    dtype = _dtype(form)
    if dtype is None:
        return None
    return lambda tensors: [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors]


def _dtype(form: DeclaredForm) -> torch.dtype | None:
    """The floating type of `settings.dtype`. Raises `NotOpened` for one that torch computes nothing in."""
    if "dtype" not in form.settings:
        return None
    dtype: torch.dtype = getattr(torch, form.settings["dtype"])
    if not dtype.is_floating_point:
        raise NotOpened(f"settings.dtype {form.settings['dtype']} is not one that a network can be cast to")
    return dtype


# --- OpenVINO


def _openvino(opening: Opening) -> Run:
    openvino = _package("openvino")
    if opening.place.type != "cpu":
        raise NotOpened("OpenVINO computes on the CPU here")
    hints: dict[str, Any] = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    # OpenVINO would choose bfloat16 by itself where the processor has it.
    hints["INFERENCE_PRECISION_HINT"] = "bf16" if opening.form.settings.get("dtype") == "bfloat16" else "f32"
    model = openvino.Core().compile_model(opening.file, "CPU", hints)
    if len(model.inputs) != len(opening.form.signature.inputs):
        raise NotOpened(f"its file has {len(model.inputs)} inputs, the manifest others")
    outputs, turn = list(model.outputs), threading.Lock()

    def compute(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        with turn:  # one call at a time has the engine's memory, from which the answer is copied
            found = model([tensor.numpy() for tensor in tensors])
            return [torch.from_numpy(found[output].copy()) for output in outputs]

    return compute


# --- the model itself


def _eager(opening: Opening) -> Run:
    model = opening.make_eager()
    if not isinstance(model, torch.nn.Module):
        raise NotOpened(f"it is the model with other settings, and that is a {type(model).__name__}")
    settings = opening.form.settings
    dtype = _dtype(opening.form)
    model = model.to(opening.place, dtype)
    last = settings.get("memory_format") == "channels_last"
    if last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compute = _call_of(model, opening.form.signature, dtype, channels_last=last)
    precision = settings.get("float32_matmul_precision")
    return compute if precision is None else _with_precision(compute, precision)


def _call_of(model: torch.nn.Module, signature: Signature, dtype: torch.dtype | None, *, channels_last: bool) -> Run:
    positional = [builder(argument) for argument in signature.arguments]
    named = [(name, builder(value)) for name, value in signature.keywords.items()]
    count, result = len(signature.outputs), signature.result

    def prepared(tensor: torch.Tensor) -> torch.Tensor:
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if channels_last and tensor.dim() == 4 else tensor

    def compute(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        tensors = [prepared(tensor) for tensor in tensors]
        with torch.no_grad():
            found = model(*[build(tensors) for build in positional], **{name: build(tensors) for name, build in named})
        outputs: list[Any] = [None] * count
        flatten(result, found, outputs)
        return [output.contiguous() for output in outputs]

    return compute


def _with_precision(compute: Run, precision: str) -> Run:
    """Another model of this process, and the script, keep the precision that they have."""

    def with_precision(tensors: list[torch.Tensor]) -> Any:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            return compute(tensors)
        finally:
            torch.set_float32_matmul_precision(before)

    return with_precision


def _package(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        raise NotOpened(f"it needs the package {name}: name it in code/requirements.txt")
    return importlib.import_module(name)


_ENGINES: dict[FormKind, Callable[[Opening], Run]] = {
    FormKind.ONNX: _onnx,
    FormKind.PT2: _exported,
    FormKind.AOTI: _compiled,
    FormKind.OPENVINO: _openvino,
    FormKind.EAGER: _eager,
}
