"""Building and opening a form of each kind. Each is a callable that takes and gives a flat list of tensors."""

import copy
import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .candidates import EAGER, ONNX, OPENVINO, PT2, Candidate
from .dimensions import Dimensions
from .job import NotExported
from .processor_levels import NATIVE
from .structure import Flat

Opened = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


def build(
    candidate: Candidate,
    network: Flat,
    tensors: list[torch.Tensor],
    dimensions: Dimensions,
    path: Path,
    *,
    processor: str,
) -> dict[str, Any]:
    """Write the file of a form; an eager form has none.

    Args:
        candidate: which form.
        network: the eager one.
        tensors: a batch that the network takes, of at least two rows where their number may change.
        dimensions: which sizes may change.
        path: of the file.
        processor: what compiled code may use.

    Returns:
        What `requires` has to say: `packages`, the versions.

    Raises:
        Exception: whatever the exporter raises.
    """
    if candidate.kind == EAGER:
        return {}
    path.parent.mkdir(parents=True, exist_ok=True)
    if candidate.kind in (ONNX, OPENVINO):
        return _build_onnx(candidate, network, tensors, dimensions, path)
    prepared, given = prepare(candidate, network, tensors)
    program = torch.export.export(prepared, tuple(given), dynamic_shapes=(dimensions.for_torch(),))
    if candidate.kind == PT2:
        # Without the example inputs, which are somebody's data.
        program.example_inputs = None
        torch.export.save(program, path)
        return {}
    _build_aoti(program, path, processor)
    return {}


def open_form(candidate: Candidate, network: Flat | None, path: Path, *, threads: int, copied: bool = True) -> Opened:
    """Open a form from its file alone; an eager one from the network, or a copy. Floating answers are of any dtype."""
    if candidate.kind == EAGER:
        if network is None:
            raise NotExported("an eager form needs the network")
        prepared, _ = prepare(candidate, network, [], copied=copied)
        return _eager(candidate, prepared)
    if candidate.kind == ONNX:
        return _open_onnx(path, threads)
    if candidate.kind == OPENVINO:
        return _open_openvino(path, threads, candidate.settings.get("dtype"))
    if candidate.kind == PT2:
        called = torch.export.load(path).module()
        return lambda tensors: list(called(*_given(candidate, tensors)))
    # Not aoti_load_package: for a warning about the processor it runs the C++ compiler some 270 times (pytorch#191715).
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    return lambda tensors: list(loader.boxed_run(_given(candidate, tensors)))


def prepare(
    candidate: Candidate, network: Flat, tensors: Sequence[torch.Tensor], *, copied: bool = True
) -> tuple[Flat, list[torch.Tensor]]:
    """Return a copy of the network with its weights in the candidate's dtype and layout, and the tensors likewise."""
    prepared = copy.deepcopy(network) if copied else network
    if candidate.settings.get("dtype") == "bfloat16":
        prepared = prepared.to(torch.bfloat16)
    if candidate.settings.get("memory_format") == "channels_last":
        prepared = prepared.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return prepared, _given(candidate, tensors)


def _given(candidate: Candidate, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    half = candidate.settings.get("dtype") == "bfloat16"
    last = candidate.settings.get("memory_format") == "channels_last"
    given = []
    for tensor in tensors:
        changed = tensor.to(torch.bfloat16) if half and tensor.is_floating_point() else tensor
        is_image = last and changed.ndim == 4
        given.append(changed.contiguous(memory_format=torch.channels_last if is_image else torch.contiguous_format))
    return given


def _eager(candidate: Candidate, network: Flat) -> Opened:
    precision = candidate.settings.get("float32_matmul_precision")

    def called(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if precision is None:
            return list(network(*_given(candidate, tensors)))
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            return list(network(*_given(candidate, tensors)))
        finally:
            torch.set_float32_matmul_precision(before)

    return called


def _build_onnx(
    candidate: Candidate, network: Flat, tensors: list[torch.Tensor], dimensions: Dimensions, path: Path
) -> dict[str, Any]:
    layout = network.layout
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    onnx_file = path.with_suffix(".onnx")
    names: dict[str, Any] = {"input_names": list(layout.inputs), "output_names": list(layout.outputs)}
    if isinstance(network.module, torch.jit.ScriptModule):  # which torch.export does not take
        if layout.positional != layout.inputs:
            raise NotExported(
                "a network in TorchScript has an ONNX form where it takes plain tensors by position alone"
            )
        axes = dict(zip(layout.inputs, map(dict, dimensions.axes), strict=True))
        torch.onnx.export(network.module, tuple(tensors), onnx_file, dynamo=False, dynamic_axes=axes, **names)
    else:
        program = torch.export.export(network, tuple(tensors), dynamic_shapes=(dimensions.for_torch(),))
        written = torch.onnx.export(program, (), dynamo=True, verbose=False, **names)
        if written is None:
            raise NotExported("torch.onnx.export gave no program")
        written.save(onnx_file, external_data=False)
    if candidate.kind == OPENVINO:
        openvino = importlib.import_module("openvino")
        openvino.save_model(openvino.convert_model(onnx_file), path, compress_to_fp16=False)
        onnx_file.unlink()
        return {"packages": {"openvino": openvino.__version__.partition("-")[0]}}
    if candidate.settings.get("dtype") == "int8":
        quantization = importlib.import_module("onnxruntime.quantization")
        exact = onnx_file.rename(onnx_file.with_suffix(".float32.onnx"))
        quantization.quantize_dynamic(exact, onnx_file, op_types_to_quantize=["MatMul", "Gemm"])
        exact.unlink()
    return {"packages": {"onnxruntime": importlib.import_module("onnxruntime").__version__}}


def _open_onnx(path: Path, threads: int) -> Opened:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait busily for work take the processor from whoever else has some.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def called(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        given = {name: tensor.contiguous().numpy() for name, tensor in zip(names, tensors, strict=True)}
        return [torch.from_numpy(each) for each in session.run(None, given)]

    return called


def _open_openvino(path: Path, threads: int, dtype: str | None) -> Opened:
    openvino = importlib.import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def called(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        answer = request.infer([tensor.contiguous().numpy() for tensor in tensors])
        return [torch.from_numpy(answer[index].copy()) for index in range(len(answer))]

    return called


def _build_aoti(program: torch.export.ExportedProgram, path: Path, processor: str) -> None:
    configs: dict[str, Any] = {"freezing": True}
    if processor != NATIVE:
        configs |= {"cpp.simdlen": 256, "cpp.march": processor}
    inductor = importlib.import_module("torch._inductor")
    inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)
