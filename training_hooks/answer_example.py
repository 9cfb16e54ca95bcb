"""Answer one request with the archive's own code, as the server would. Run as a script, in its own process.

    python -P answer_example.py MODEL_DIR REQUEST_FILE CONTENT_TYPE ACCEPT MANIFEST_FILE ANSWER_FILE OUTCOME_FILE

It follows the contract that the PyTorch containers set: `code/` and the model directory are importable, the working
directory is the model directory, `input_data` is text for JSON and CSV and bytes otherwise (a file where the script
annotates it as `typing.BinaryIO`), and the answer is a body or a pair of body and content type. What `inference.py`
does not define is done by `default_functions.py`, and where it is declared by `image_functions.py`,
`table_functions.py` and `class_functions.py`; MANIFEST_FILE holds what the manifest says of `weights`, which may name
the network, and the declarations. Standard library only where the user's code defines all: torch is imported by that
code, or by the defaults.
"""

import asyncio
import functools
import importlib.util
import inspect
import io
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import IO, Any, BinaryIO, NamedTuple

JSON_LINES = "application/jsonlines"
_TEXT_TYPES = ("application/json", "text/csv")
_ARGUMENTS = {
    **{"pre_model_fn": 1, "model_fn": 1, "model_warmup_fn": 2},
    **{"input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4},
}
_CHAIN = ("input_fn", "predict_fn", "output_fn", "transform_fn")
_OTHERS = ("pre_model_fn", "model_fn", "model_warmup_fn", "collate_fn", "split_fn", "chat_fn", "stream_fn")


class HandlerProblem(Exception):
    """The archive cannot answer; the text is one sentence."""


def answer(
    model_dir: Path, data: bytes, content_type: str, accept: str, manifest: dict[str, Any], *, context: object = None
) -> tuple[bytes, str]:
    """Run the functions of the model directory's `inference.py` on one request; return the body and its type.

    `context`, where one is given, goes to those functions that take one more argument than they must.
    """
    sys.path[:0] = [str(model_dir / "code"), str(model_dir)]
    scripts = [path for path in (model_dir / "code/inference.py", model_dir / "inference.py") if path.is_file()]
    module = _load(scripts[0], "inference") if scripts else ModuleType("inference")
    if context is not None:
        _give_context(module, context)
    header = Message()
    header["Content-Type"] = content_type
    body: str | bytes | io.BytesIO = data
    if header.get_content_type() in _TEXT_TYPES:
        # The functions get text, so the charset is used up and they see the bare type.
        body = data.decode(header.get_content_charset("utf-8"))
        content_type = header.get_content_type()
    if _is_wrapper(module, model_dir, manifest.get("weights", {})):
        model = _call(module, "create_model", str(model_dir))
        answered = _predicted(model, _default("dictionary", body, content_type))
        return _as_bytes(_default("output_fn", answered, accept)), accept
    if _takes_a_file(module):
        body = io.BytesIO(data)
    model = _load_model(module, model_dir, manifest.get("weights", {}))
    if hasattr(module, "transform_fn"):
        result = _call(module, "transform_fn", model, body, content_type, accept)
    else:
        image = manifest.get("image", {})
        taken = _taken(module, body, content_type, manifest)
        prediction = _prediction(module, taken.data, model)
        if isinstance(prediction, Iterator | AsyncIterator) and not hasattr(module, "output_fn"):
            return _default("lines", _read(prediction, "predict_fn"), accept), JSON_LINES
        if not hasattr(module, "output_fn") and "output" in image:
            prediction = one_of_several(prediction, image["output"].get("from"), "image.output.from")
            result = _declared("image_functions", "output_fn", prediction, accept, _painted(image), taken.size)
        elif not hasattr(module, "output_fn") and "classes" in manifest:
            labels = json.loads((model_dir / manifest["labels"]).read_bytes()) if "labels" in manifest else ()
            said, how = manifest["classes"], {"records": taken.records, "alone": taken.alone}
            prediction = one_of_several(prediction, said.get("from"), "classes.from")
            result = _declared("class_functions", "output_fn", prediction, accept, said, labels, **how)
        else:
            result = _call(module, "output_fn", prediction, accept)
    answered, answered_type = result if isinstance(result, tuple) and len(result) == 2 else (result, accept)
    if isinstance(answered, Iterator | AsyncIterator):
        name = "transform_fn" if hasattr(module, "transform_fn") else "output_fn"
        return b"".join(map(_piece, _read(answered, name))), str(answered_type)
    return _as_bytes(answered), str(answered_type)


def _prediction(module: ModuleType, data: Any, model: Any) -> Any:
    """What output_fn is given: collate_fn and split_fn run for a request that is alone, too."""
    if hasattr(module, "collate_fn"):
        data = _call(module, "collate_fn", [data])
    prediction = _call(module, "predict_fn", data, model)
    if not hasattr(module, "split_fn") or isinstance(prediction, Iterator | AsyncIterator):
        return prediction
    parts = list(_call(module, "split_fn", prediction, 1))
    if len(parts) != 1:
        raise HandlerProblem(f"code/inference.py: split_fn made {len(parts)} parts of the one example")
    return parts[0]


class _Taken(NamedTuple):
    """What predict_fn is given, and what is known of it."""

    data: Any
    size: tuple[int, int] | None = None
    """The height and width of the picture that it was."""
    records: int = 0
    """How many there are; 0 where nobody counts them."""
    alone: bool = False
    """Whether it is one record by itself, and not a list."""


def _taken(module: ModuleType, body: Any, content_type: str, manifest: dict[str, Any]) -> _Taken:
    if hasattr(module, "input_fn"):
        return _Taken(_call(module, "input_fn", body, content_type))
    if "input" in manifest.get("image", {}):
        declared = manifest["image"]["input"]
        request, size = _declared("image_functions", "input_fn", body, content_type, declared)
        return _Taken(request, size, records=1, alone=True)
    if "table" in manifest:
        return _Taken(*_declared("table_functions", "table", body, content_type, manifest["table"]))
    if "tensors" in manifest:
        return _Taken(*_declared("table_functions", "tensors", body, content_type, manifest["tensors"]))
    request = _default("input_fn", body, content_type)
    # As the server counts: a flat array, or one row, is one record.
    one = hasattr(request, "shape") and (len(request.shape) < 2 or request.shape[0] == 1)
    return _Taken(request, records=int(one), alone=one)


def _load_model(module: ModuleType, model_dir: Path, weights: dict[str, Any]) -> Any:
    if hasattr(module, "pre_model_fn"):
        _call(module, "pre_model_fn", str(model_dir))
    if not hasattr(module, "model_fn") and {"file", "architecture"} <= weights.keys():
        model = _build(model_dir, weights)
    else:
        model = _call(module, "model_fn", str(model_dir))
    if hasattr(module, "model_warmup_fn"):
        _call(module, "model_warmup_fn", str(model_dir), model)
    return model


def _give_context(module: ModuleType, context: object) -> None:
    for name, count in _ARGUMENTS.items():
        function: Any = getattr(module, name, None)
        with suppress(TypeError, ValueError):  # no function, or one without a signature
            parameters = [
                each
                for each in inspect.signature(function).parameters.values()
                if each.kind is each.POSITIONAL_OR_KEYWORD
            ]
            if len(parameters) == count + 1:
                setattr(module, name, functools.partial(function, **{parameters[-1].name: context}))


def _is_wrapper(module: ModuleType, model_dir: Path, weights: dict[str, Any]) -> bool:
    """Whether the script is one of Studio.ML: of the functions that a server calls, `create_model` is the only one."""
    function = getattr(module, "create_model", None)
    if not callable(function) or any(hasattr(module, name) for name in (*_CHAIN, *_OTHERS)):
        return False
    home = getattr(sys.modules.get(str(getattr(function, "__module__", None))), "__file__", None)
    is_own = home is None or Path(home).is_relative_to(model_dir)
    return is_own and not str(weights.get("architecture")).startswith("inference:")


def _predicted(model: Any, data: Any) -> Any:
    if not callable(model):
        raise HandlerProblem(f"code/inference.py: create_model returned a {type(model).__name__}, not a function")
    try:
        return model(data)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise HandlerProblem(
            "code/inference.py: the function that create_model returned failed on the example: "
            f"{type(error).__name__}: {error}"
        ) from error


def _takes_a_file(module: ModuleType) -> bool:
    """Whether the function that takes the body annotates it as `typing.BinaryIO`."""
    for name, place in (("input_fn", 0), ("transform_fn", 1)):
        for evaluated in (True, False):  # annotations may be text, which need not all have a meaning at run time
            with suppress(Exception):
                parameters = inspect.signature(getattr(module, name), eval_str=evaluated).parameters.values()
                if [*parameters][place].annotation in (BinaryIO, IO[bytes], "BinaryIO", "typing.BinaryIO"):
                    return True
    return False


def _read(stream: Iterator[object] | AsyncIterator[object], name: str) -> list[object]:
    """All that a generator yields: what a client gets piece by piece is compared as a whole."""
    try:
        return asyncio.run(_awaited(stream)) if isinstance(stream, AsyncIterator) else list(stream)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise HandlerProblem(
            f"code/inference.py: the generator of {name} failed on the example: {type(error).__name__}: {error}"
        ) from error


async def _awaited(stream: AsyncIterator[object]) -> list[object]:
    return [item async for item in stream]


def _piece(item: object) -> bytes:
    return _as_bytes(item) if isinstance(item, str | bytes | bytearray | memoryview) else json.dumps(item).encode()


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HandlerProblem(f"{path.name} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the user's helpers may import inference by this name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise HandlerProblem(f"{_place(path)} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _place(path: Path) -> str:
    return f"code/{path.name}" if path.parent.name == "code" else path.name


def _ours(name: str) -> ModuleType:
    return _load(Path(__file__).with_name(f"{name}.py"), f"_training_hooks_{name}")


def _build(model_dir: Path, weights: dict[str, Any]) -> Any:
    builder = _ours("build_network")
    try:
        return builder.build(model_dir, weights)
    except builder.NotBuilt as error:
        raise HandlerProblem(str(error)) from error


def _painted(image: dict[str, Any]) -> dict[str, Any]:
    """The declared output, with the palette that it shares with the input."""
    shared = {"palette": image["input"]["palette"]} if image["output"].get("palette") == "input" else {}
    return {**image["output"], **shared}


def _call(module: ModuleType, name: str, *arguments: object) -> Any:
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None:
        return _default(name, *arguments)
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError:
        raise HandlerProblem(
            f"code/inference.py: {name}{signature} cannot take its {len(arguments)} arguments alone (the server's "
            "context does not exist here); give the expected response yourself"
        ) from None
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise HandlerProblem(
            f"code/inference.py: {name} failed on the example: {type(error).__name__}: {error}"
        ) from error


def _default(name: str, *arguments: object) -> Any:
    return _stand_in(_ours("default_functions"), "NoDefault", name, *arguments)


def _declared(functions: str, name: str, *arguments: object, **more: object) -> Any:
    return _stand_in(_ours(functions), "NotDone", name, *arguments, **more)


def one_of_several(prediction: Any, member: str | int | None, place: str) -> Any:
    """Return the member of a prediction that is declared, as the server has it; `place` is where to declare it."""
    if isinstance(prediction, Mapping):
        found = list(prediction) if member is None else [member]
        if len(found) == 1 and found[0] in prediction:
            return prediction[found[0]]
        names = ", ".join(map(repr, list(prediction)[:9]))
        raise HandlerProblem(f"the example cannot be answered here: the prediction has {names}; {place} must name one")
    if isinstance(prediction, tuple | list):
        at = 0 if member is None and len(prediction) == 1 else member
        if isinstance(at, int) and at < len(prediction):
            return prediction[at]
        count = len(prediction)
        raise HandlerProblem(
            f"the example cannot be answered here: the prediction has {count} members; {place} must number one"
        )
    return prediction


def _stand_in(functions: ModuleType, refusal: str, name: str, *arguments: object, **more: object) -> Any:
    try:
        return getattr(functions, name)(*arguments, **more)
    except getattr(functions, refusal) as error:
        raise HandlerProblem(f"the example cannot be answered here: {error}") from None
    except Exception as error:
        traceback.print_exc()
        raise HandlerProblem(
            f"the default {name}, which stands in for the one that code/inference.py does not define, failed on the "
            f"example: {type(error).__name__}: {error}"
        ) from error


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    try:
        return json.dumps(body, indent=2).encode()  # what the containers do with plain values
    except (TypeError, ValueError):
        raise HandlerProblem(
            f"code/inference.py answered the example with a {type(body).__name__}, which is not text, bytes or JSON"
        ) from None


def main(arguments: list[str]) -> None:
    """Read the request, write the answer and, last, the outcome that says how it went."""
    model_dir, request_file, content_type, accept, manifest_file, answer_file, outcome_file = arguments
    os.chdir(model_dir)
    data = Path(request_file).read_bytes()
    try:
        body, answered_type = answer(
            Path(model_dir), data, content_type, accept, json.loads(Path(manifest_file).read_bytes())
        )
        Path(answer_file).write_bytes(body)
        outcome = {"content_type": answered_type}
    except HandlerProblem as problem:
        outcome = {"error": " ".join(str(problem).split())}
    Path(outcome_file).write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
