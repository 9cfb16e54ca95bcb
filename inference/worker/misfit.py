"""Whose mistake it is that a model raised: the client's, where its layers say that the input does not fit them.

Behind the default `predict_fn` it is the client who chose the input. Three things tell that it does not fit:

  1. A layer of torch itself refused what it was given: the innermost `forward` that was running is one of
     torch.nn's, and it raised what its checks raise. For TorchScript and for compiled models the traceback in the
     error's text says where; a frozen script names the function of torch.nn.functional instead of the layer.
  2. A guard of torch.export, or the check of an ONNX model's inputs, refused it.
  3. An operation that the model's own code called said one of the sentences of `_REFUSALS`: those are about the shape,
     type or indices of its input.

All else that the model's own code raises, by itself or by calling torch with wrong arguments, is its own mistake. So
are errors of devices, drivers and memory, wherever they show.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

import torch

from tidegate.inference.errors import text_of

KINDS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, torch.jit.Error)
"""What a model raises for an input that does not fit; `InputRefused` is one of these, too."""

_REFUSALS = re.compile(
    "|".join(
        (
            r"shapes cannot be multiplied",
            r"size mismatch, got",
            r"mat1 and mat2 must have the same",
            r"Input type \(.*\) and (bias|weight) type \(",
            r"expected scalar type",
            r"to have one of the following scalar types",
            r"not implemented for '(Byte|Char|Short|Int|Long|Bool|UInt16|UInt32|UInt64)'",
            r"[Ee]xpected \d\w* .*input",
            r"Expected \d-dimensional input",
            r"to have \d+ channels, but got",
            r"Given normalized_shape=",
            r"running_mean should contain",
            r"input\.size\(-1\) must be equal to input_size",
            r"Kernel size can't be greater than actual input size",
            r"Output size is too small",
            r"The size of tensor a .* must match the size of tensor b",
            r"shape '.*' is invalid for input of size",
            r"input has inconsistent input_size",
            r"need to be at least \dD",
            r"index out of range in self",
            r"Dimension out of range",
            r"Expected a value of type 'Dict.*' for argument '.*' but instead found type 'Tensor",
            r"^(AssertionError: )?Guard failed: ",
            r"^Expected input at \*args",
            r"^Trying to flatten user inputs with exported input tree spec",
        )
    )
)

_WANTS_A_TENSOR = re.compile(
    r"instead found type 'dict'|must be Tensor, not dict|'dict' object has no attribute|unsupported operand .*'dict'"
    r"|^Trying to flatten user inputs with exported input tree spec"
)
"""What a model that takes a tensor says of the dict that an npz body has become."""

_WANTS_NUMBERS = re.compile(
    r"must be Tensor, not (list|bytes)|instead found type '([Ll]ist|bytes)|'(list|bytes)' object has no attribute"
    r"|unsupported operand .*'(list|bytes)'|can only concatenate list|can't concat .* bytes|(list|byte) indices must be"
)
"""What a model that takes tensors says of the lists that BYTES of the open inference protocol are."""

_WANTS_NAMES = re.compile(
    r"Expected a value of type 'Dict.*' for argument '.*' but instead found type 'Tensor"
    r"|'Tensor' object has no attribute '(items|keys|values|get)'"
    r"|argument after \*\* must be a mapping, not Tensor"
    r"|^values expected sparse tensor layout"  # a tensor has .values(), too
    r"|^new\(\): invalid data type 'str'"
    r"|^the model takes its inputs by name "
)
"""What a model that takes a dict says of a tensor."""

_NOT_OF_THE_INPUT = re.compile(
    r"CUDA|CUDNN|cuDNN|CUBLAS|NCCL|same device|DefaultCPUAllocator|out of memory|Could not run '|not implemented for '"
)
"""What a layer says of devices, drivers, memory and missing kernels."""

_CHECKS_RAISE = (RuntimeError, ValueError, IndexError, AssertionError)
_LAYERS = re.compile(r"torch/(ao/)?nn/(\w+/)*modules/(?!container\b)")
"""Files of torch's layers. Containers are none: what they raise is about what the model's code asked them for."""
_FUNCTIONS = re.compile(r"torch/nn/functional\b")
_FRAME_IN_TEXT = re.compile(r'^ +File "([^"]+)", line \d+, in (\w+)', re.MULTILINE)
_SCRIPTS_ORIGINAL = "Traceback of TorchScript, original code"
_SCRIPTS_PREFIX = re.compile(r"^(builtins\.)?[A-Z]\w*Error: ")
_COMPILED_CODE = "from user code:\n"
_COMPILED_SAID = re.compile(r": got \w+\((['\"])(.*)\1\)$", re.MULTILINE)
_SCRIPTS_KEY_ERROR = re.compile(r"^RuntimeError: KeyError: (.*)$", re.MULTILINE)


class InputRefused(ValueError):
    """A model of the server's own kinds does not take an input; the text says why."""


def reason(error: Exception, data: Any) -> str | None:
    """What says that the input does not fit, in one line; None where `error` is no such thing."""
    if isinstance(error, InputRefused):
        return _short(text_of(error))
    if isinstance(data, dict) and (missing := _missing_key(error)) is not None and missing not in data:
        return f"it asks for '{missing}'"
    lines = _said(error)
    says_so = [_REFUSALS]
    if isinstance(data, dict):
        says_so.append(_WANTS_A_TENSOR)
    if any(isinstance(value, list | bytes) for value in (data.values() if isinstance(data, dict) else (data,))):
        says_so.append(_WANTS_NUMBERS)
    found = next((line for line in lines if any(pattern.search(line) for pattern in says_so)), None)
    if found is None and lines and not _NOT_OF_THE_INPUT.search(lines[0]) and _is_of_a_layer(error):
        found = lines[0]
    return _short(_SCRIPTS_PREFIX.sub("", found)) if found else None


def _said(error: Exception) -> list[str]:
    """The lines of what was raised, without the tracebacks that TorchScript and the compiler put around it."""
    text = text_of(error)
    if _COMPILED_CODE in text and (quoted := _COMPILED_SAID.search(text)):
        return [quoted[2]]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if _is_of_torch_script(error):
        last = max((at for at, line in enumerate(lines) if _SCRIPTS_PREFIX.match(line)), default=len(lines) - 1)
        return lines[last:]
    return lines


def wants_a_tensor(said: str) -> bool:
    """Whether a reason is that the model takes a tensor, and no dict."""
    return _WANTS_A_TENSOR.search(said) is not None


def wants_names(error: BaseException) -> bool:
    """Whether an error says that the model takes a dict, and no tensor."""
    return isinstance(error, KINDS) and any(_WANTS_NAMES.search(line) for line in _said(error))


def describe(data: Any) -> str:
    """Shape and type of an input, for a sentence."""
    if isinstance(data, torch.Tensor):
        return f"the shape {tuple(data.shape)} and the type {str(data.dtype).removeprefix('torch.')}"
    if isinstance(data, dict):
        return ", ".join(f"'{key}': {describe(value)}" for key, value in data.items())[:500]
    return f"the type {type(data).__name__}"


def _is_of_a_layer(error: Exception) -> bool:
    text = text_of(error)
    if _is_of_torch_script(error):
        # The first traceback is of the code as it was saved, whose files are named after the classes.
        saved, _, original = text.partition(_SCRIPTS_ORIGINAL)
        named = _FRAME_IN_TEXT.findall(original)
        return _ends_in_a_layer(_FRAME_IN_TEXT.findall(saved)) or bool(named and _FUNCTIONS.search(named[-1][0]))
    if not isinstance(error, _CHECKS_RAISE):
        return False
    if _COMPILED_CODE in text:
        return _ends_in_a_layer(_FRAME_IN_TEXT.findall(text.partition(_COMPILED_CODE)[2]))
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return _ends_in_a_layer([(code.co_filename, code.co_name) for code in codes])


def _ends_in_a_layer(frames: list[tuple[str, str]]) -> bool:
    """Whether the innermost `forward` among these pairs of file and function is one of torch's own."""
    files = [file for file, function in frames if function == "forward"]
    return bool(files) and _LAYERS.search(files[-1]) is not None


def _is_of_torch_script(error: Exception) -> bool:
    return isinstance(error, torch.jit.Error) or "Traceback of TorchScript" in text_of(error)


def _missing_key(error: Exception) -> str | None:
    if isinstance(error, KeyError):
        return str(error.args[0]) if error.args else None
    found = _SCRIPTS_KEY_ERROR.search(text_of(error))
    return found[1] if found else None


def _short(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:300]
