"""The contract of the four functions as a table, which test_handler_clauses.py tries on a real server.

Each row is one clause: what scripts in the AWS PyTorch container could rely on, the smallest archive that relies on
it, one request and the answer.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"

CHAIN = {
    "model_fn": "def model_fn(model_dir):\n    return 'model'\n",
    "input_fn": "def input_fn(data, content_type):\n    return data\n",
    "predict_fn": "def predict_fn(data, model):\n    return data\n",
    "output_fn": "def output_fn(prediction, accept):\n    return prediction\n",
}


def script(head: str = "", **functions: str) -> str:
    """A script with four functions that pass the body on, save those given otherwise; an empty one is left out."""
    return head + "\n" + "\n".join({**CHAIN, **functions}.values())


def transforming(source: str) -> str:
    """A script with a model_fn and this transform_fn."""
    return f"{CHAIN['model_fn']}\n{source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """What scripts rely on, an archive that does, a request, and the answer: None where it is not looked at."""

    says: str
    files: dict[str, str | bytes]
    body: bytes = b"hello"
    content_type: str | None = CSV
    accept: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    answer: Any = None
    answer_type: str | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)


def clause(says: str, source: str | dict[str, str | bytes], **rest: Any) -> Clause:
    return Clause(says=says, files={"code/inference.py": source} if isinstance(source, str) else source, **rest)


def torch_script(module: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


FLATTEN = torch_script(torch.nn.Flatten())
WORKER = "import json, os, threading\ndef here():\n    return [os.getpid(), threading.get_ident()]\n"

WHERE_CODE_IS = [
    clause(
        "code/inference.py is the script",
        script(),
        answer=b"hello",
    ),
    clause(
        "an inference.py at the archive's root is the script where there is none in code/",
        {"inference.py": script()},
        answer=b"hello",
    ),
    clause(
        "helpers beside the script, and at the root, are importable",
        {
            "code/inference.py": script(
                "import beside, below.deep, at_root\n",
                output_fn="def output_fn(p, accept):\n    return beside.A + below.deep.B + at_root.C\n",
            ),
            "code/beside.py": "A = 'a'",
            "code/below/__init__.py": "",
            "code/below/deep.py": "B = 'b'",
            "at_root.py": "C = 'c'",
        },
        answer=b"abc",
    ),
    clause(
        "to a helper, `inference` is the archive's own script, though the server's package is called so too",
        {
            "code/inference.py": script(
                "NET = 'mine'\nimport helper\n", predict_fn="def predict_fn(data, model):\n    return helper.net()\n"
            ),
            "code/helper.py": "def net():\n"
            "    from inference import NET\n"
            "    import inference\n"
            "    return NET + inference.__name__\n",
        },
        answer=b"mineinference",
    ),
    clause(
        "the working directory is the model's, so relative paths are the archive's",
        {
            "code/inference.py": script(
                "WORDS = open('words.txt').read()\n", output_fn="def output_fn(p, accept):\n    return WORDS\n"
            ),
            "words.txt": "seen",
        },
        answer=b"seen",
    ),
    clause(
        "child processes find code/ and the root by PYTHONPATH",
        {
            "code/inference.py": script(
                "import subprocess, sys\n",
                output_fn="def output_fn(p, accept):\n"
                "    command = [sys.executable, '-c', 'import beside; print(beside.A)']\n"
                "    return subprocess.run(command, capture_output=True).stdout\n",
            ),
            "code/beside.py": "A = 'a'",
        },
        answer=b"a\n",
    ),
    clause(
        "an archive with one directory in it is looked for inside that directory",
        {"folder/code/inference.py": script(), "folder/model.bin": b""},
        answer=b"hello",
    ),
    clause(
        "model_fn is given the directory as str",
        script(
            model_fn="def model_fn(model_dir):\n    assert isinstance(model_dir, str)\n    return model_dir\n",
            predict_fn="import os\ndef predict_fn(data, model):\n    return os.path.samefile(model, os.getcwd())\n",
        ),
        answer=b"true",
    ),
    clause(
        "the toolkits' modules are importable",
        script(
            "from sagemaker_inference import content_types, decoder, encoder, errors, utils\n"
            "from sagemaker_pytorch_serving_container import default_pytorch_inference_handler\n",
            predict_fn="def predict_fn(data, model):\n"
            "    return encoder.encode(decoder.decode(data, content_types.CSV), content_types.JSON)\n",
        ),
        body=b"1,2\n3,4\n",
        answer=[[1, 2], [3, 4]],
    ),
]

SIGNATURES = [
    *(
        clause(f"{name} may take the context as one argument more", source, answer=b"the model's name: c")
        for name, source in {
            "input_fn": script(
                input_fn="def input_fn(data, content_type, context):\n"
                '    return "the model\'s name: " + context.model_name[0]\n'
            ),
            "predict_fn": script(
                predict_fn='def predict_fn(data, model, ctx):\n    return "the model\'s name: " + ctx.model_name[0]\n'
            ),
            "output_fn": script(
                output_fn='def output_fn(prediction, accept, c):\n    return "the model\'s name: " + c.model_name[0]\n'
            ),
            "model_fn": script(
                model_fn="def model_fn(model_dir, context):\n"
                '    return "the model\'s name: " + context.model_name[0]\n',
                predict_fn="def predict_fn(data, model):\n    return model\n",
            ),
            "transform_fn": transforming(
                "def transform_fn(model, data, content_type, accept, context):\n"
                '    return "the model\'s name: " + context.model_name[0]\n'
            ),
        }.items()
    ),
    clause(
        "a keyword with a default counts, and is given the context",
        script(predict_fn="def predict_fn(data, model, extra=None):\n    return type(extra).__name__\n"),
        answer=b"Context",
    ),
    clause(
        "any callable will do",
        script(
            input_fn="class Reader:\n"
            "    def __call__(self, data, content_type):\n"
            "        return data + '!'\n"
            "input_fn = Reader()\n",
            predict_fn="predict_fn = lambda data, model: data\n",
            output_fn="import functools\n"
            "def write(end, prediction, accept):\n"
            "    return prediction + end\n"
            "output_fn = functools.partial(write, '?')\n",
        ),
        answer=b"hello!?",
    ),
    clause(
        "a function that collects its arguments is given those of the contract",
        script(predict_fn="def predict_fn(*arguments):\n    return str(len(arguments))\n"),
        answer=b"2",
    ),
    clause(
        "pre_model_fn runs before model_fn, model_warmup_fn after it with the model",
        script(
            "steps = []\n",
            model_fn="def pre_model_fn(model_dir):\n    steps.append('pre')\n"
            "def model_fn(model_dir):\n    steps.append('load')\n    return 'm'\n"
            "def model_warmup_fn(model_dir, model):\n    steps.append('warm ' + model)\n",
            output_fn="def output_fn(p, accept):\n    return steps\n",
        ),
        answer=["pre", "load", "warm m"],
    ),
    clause(
        "the functions of a request run in one process and thread, the one that ran model_fn",
        script(
            WORKER,
            model_fn="def model_fn(model_dir):\n    return [here()]\n",
            input_fn="def input_fn(data, content_type):\n    return [here()]\n",
            predict_fn="def predict_fn(data, model):\n    return data + model + [here()]\n",
            output_fn="def output_fn(p, accept):\n"
            "    seen = p + [here()]\n"
            "    return json.dumps([len(seen), len({str(s) for s in seen})])\n",
        ),
        answer=[4, 1],
    ),
    clause(
        "transform_fn replaces the three",
        transforming(
            "def transform_fn(model, data, content_type, accept):\n"
            "    return '|'.join([model, data, content_type, accept]), 'text/x'\n"
        ),
        accept=CSV,
        answer=b"model|hello|text/csv|text/csv",
        answer_type="text/x",
    ),
]

BODIES = [
    *(
        clause(
            f"input_data of {content_type} is {kind}",
            script(
                input_fn="def input_fn(data, content_type):\n    return type(data).__name__ + ' ' + str(content_type)\n"
            ),
            content_type=content_type,
            answer=f"{kind} {seen}".encode(),
        )
        for content_type, kind, seen in (
            (JSON, "str", JSON),
            (CSV, "str", CSV),
            ("application/json; charset=utf-8", "str", JSON),
            (NPY, "bytearray", NPY),
            ("image/jpeg", "bytearray", "image/jpeg"),
            ("application/octet-stream", "bytearray", "application/octet-stream"),
            (None, "bytearray", None),
        )
    ),
    *(
        clause(
            f"a body may be {kind}",
            script(output_fn=f"import torch\ndef output_fn(prediction, accept):\n    return {expression}\n"),
            answer=answer,
            answer_type=answer_type,
        )
        for kind, expression, answer, answer_type in (
            ("bytes", r"b'\x00\xff'", b"\x00\xff", JSON),
            ("a bytearray", "bytearray(b'abc')", b"abc", JSON),
            ("a str, sent as UTF-8", r"'gr\u00fcn'", "grün".encode(), JSON),
            ("a dict, sent as JSON", "{'a': [1, None]}", {"a": [1, None]}, JSON),
            ("a number, sent as JSON", "7", 7, JSON),
            ("a tensor, sent as torch.save writes it", "torch.tensor([1.5])", saved(torch.tensor([1.5])), JSON),
            ("a pair of body and type", "('a,b', 'text/csv; header=absent')", b"a,b", "text/csv; header=absent"),
        )
    ),
    *(
        clause(
            f"output_fn is given {given} for {'no Accept' if accept is None else accept}",
            script(output_fn="def output_fn(prediction, accept):\n    return accept\n"),
            accept=accept,
            answer=given.encode(),
            answer_type=given,
        )
        for accept, given in (
            (None, JSON),
            ("*/*", JSON),
            (CSV, CSV),
            ("application/x-image", "application/x-image"),
            ("text/csv, application/json", CSV),
            ("text/csv;q=0.1, application/json;q=0.9", JSON),
        )
    ),
    clause(
        "a form of several parts is a bytearray as it came",
        script(
            input_fn="def input_fn(data, content_type):\n    return [type(data).__name__, len(data), content_type]\n"
        ),
        body=b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        content_type="multipart/form-data; boundary=x",
        answer=["bytearray", 59, "multipart/form-data; boundary=x"],
    ),
]

CONTEXT = [
    clause(
        "the context reads request headers by name in any case",
        script(
            output_fn="def output_fn(p, accept, c):\n"
            "    return [c.get_request_header(0, 'X-Amzn-SageMaker-Custom-Attributes'),"
            " c.request_processor[0].get_request_property('x-amzn-sagemaker-custom-attributes'),"
            " c.get_all_request_header(0)['content-type']]\n"
        ),
        headers={"X-Amzn-SageMaker-Custom-Attributes": "trace=7"},
        answer=["trace=7", "trace=7", CSV],
    ),
    clause(
        "the context sets status, headers and type",
        script(
            output_fn="def output_fn(p, accept, c):\n    c.set_response_status(202, 'Accepted', 0)\n"
            "    c.set_response_header(0, 'X-Amzn-SageMaker-Custom-Attributes', 'a=1')\n"
            "    c.set_response_content_type(0, 'text/plain')\n    return 'x'\n"
        ),
        status=202,
        answer=b"x",
        answer_type="text/plain",
        answer_headers={"x-amzn-sagemaker-custom-attributes": "a=1"},
    ),
    clause(
        "the context knows the worker's surroundings; gpu_id is None without a GPU",
        script(
            model_fn="def model_fn(model_dir, context):\n    p = context.system_properties\n"
            "    return [p['gpu_id'], p['batch_size'], p['model_dir'] == model_dir, p['limit_max_image_pixels'],"
            " context.manifest, sorted(p)]\n",
            predict_fn="def predict_fn(data, model):\n    return model\n",
        ),
        answer=[
            None,
            1,
            True,
            True,
            {},
            ["batch_size", "gpu_id", "limit_max_image_pixels", "model_dir", "server_name", "server_version"],
        ],
    ),
    clause(
        "the request's id in the context is the one that the client is told",
        script(output_fn="def output_fn(p, accept, c):\n    return [c.get_request_id(0), c.request_ids[0]]\n"),
        headers={"X-Amzn-SageMaker-Inference-Id": "order-66"},
        answer=["order-66", "order-66"],
    ),
    clause(
        "the context counts and measures by TorchServe's names",
        script(
            output_fn="def output_fn(p, accept, c):\n"
            "    c.metrics.add_counter('Tokens', 3)\n"
            "    c.metrics.add_time('Decode', 1.5, 0, 'ms')\n"
            "    c.metrics.add_size('Body', 1)\n"
            "    c.metrics.add_percent('Share', 50)\n"
            "    c.metrics.add_metric('Own', 1, 'pages')\n"
            "    return 'counted'\n"
        ),
        answer=b"counted",
    ),
]

DEFAULTS = [
    clause(
        "TorchScript in model.pt is served without code",
        {"model.pt": FLATTEN},
        body=b"[[1, 2]]",
        content_type=JSON,
        answer=[[1.0, 2.0]],
    ),
    clause(
        "so is the only .pt or .pth file of any name",
        {"resnet.pth": FLATTEN},
        body=b"1,2\n3,4\n",
        answer=[[1.0, 2.0], [3.0, 4.0]],
    ),
    clause(
        "the default predict_fn puts the model into evaluation mode",
        "import torch\ndef model_fn(model_dir):\n    return torch.nn.Dropout(0.5).train()\n",
        body=json.dumps([[1.0] * 64]).encode(),
        content_type=JSON,
        answer=[[1.0] * 64],
    ),
    clause(
        "what the default predict_fn answers may be changed in place, and is in no graph of gradients",
        "import torch\ndef model_fn(model_dir):\n    return torch.nn.Linear(1, 1)\n"
        "def output_fn(prediction, accept):\n    prediction.mul_(0).add_(3)\n"
        "    return [prediction.requires_grad, prediction.numpy().tolist()]\n",
        body=b"[[1]]",
        content_type=JSON,
        answer=[False, [[3.0]]],
    ),
    clause(
        "what macOS puts beside a file is not a second model",
        {"net.pth": FLATTEN, "._net.pth": b"junk", ".DS_Store": b"junk"},
        body=b"[[1, 2]]",
        content_type=JSON,
        answer=[[1.0, 2.0]],
    ),
    clause(
        "of several files, model.pt is the model",
        {"model.pt": FLATTEN, "optimizer.pt": b"junk"},
        body=b"[[1, 2]]",
        content_type=JSON,
        answer=[[1.0, 2.0]],
    ),
    clause(
        "a script may leave every function but model_fn to the server",
        "import torch\ndef model_fn(model_dir):\n    return torch.nn.Softmax(dim=-1)\n",
        body=b"[[1, 1]]",
        content_type=JSON,
        accept=CSV,
        answer=b"0.5,0.5\n",
        answer_type=CSV,
    ),
    clause(
        "a state dict is served by the class that the manifest names",
        {
            "model.pth": saved({"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}),
            "code/nets.py": "import torch\n"
            "class Line(torch.nn.Linear):\n"
            "    def __init__(self, size):\n"
            "        super().__init__(size, 1)\n",
            "manifest.json": json.dumps(
                {
                    "format_version": 1,
                    "files": {},
                    "weights": {"file": "model.pth", "architecture": "nets:Line", "arguments": {"size": 1}},
                }
            ),
        },
        body=b"[[3]]",
        content_type=JSON,
        answer=[[7.0]],
    ),
    clause(
        "a manifest that the archive has of another tool is left alone",
        {"model.pt": FLATTEN, "manifest.json": '{"model": {"modelName": "mine"}}'},
        body=b"[[1]]",
        content_type=JSON,
        answer=[[1.0]],
    ),
    clause(
        "one CSV column is one dimension in the script's own predict_fn, as one CSV row is",
        "def model_fn(model_dir):\n    return None\ndef predict_fn(data, model):\n    return data\n",
        body=b"1\n2\n3\n",
        answer=[1.0, 2.0, 3.0],
    ),
    clause(
        "the default predict_fn is given a row for each record, and answers one for each",
        "import torch\ndef model_fn(model_dir):\n    return torch.nn.Identity()\n",
        body=b"1\n2\n\n3\n",
        answer=[[1.0], [2.0], [3.0]],
    ),
    clause(
        "bfloat16 is written as JSON",
        "import torch\ndef model_fn(model_dir):\n    return lambda data: data.to(torch.bfloat16)\n",
        body=b"[[1.5]]",
        content_type=JSON,
        answer=[[1.5]],
    ),
    clause(
        "tensors inside dicts and lists are written as JSON",
        "import torch\ndef model_fn(model_dir):\n    return lambda data: {'a': data, 'b': [data.sum(), 'text']}\n",
        body=b"[1, 2]",
        content_type=JSON,
        answer={"a": [1.0, 2.0], "b": [3.0, "text"]},
    ),
]

TOOLKIT = "from sagemaker_inference import errors\n"
ERRORS = [
    clause(
        "a toolkit error keeps its status and its message",
        script(
            TOOLKIT,
            input_fn="def input_fn(data, content_type):\n"
            "    raise errors.GenericInferenceToolkitError(422, 'Two are wanted.', 'phrase')\n",
        ),
        status=422,
        answer={"code": "handler_refused", "message": "Two are wanted."},
    ),
    clause(
        "so does any exception with a status_code",
        script(
            "class Missing(Exception):\n    status_code = 404\n",
            predict_fn="def predict_fn(data, model):\n    raise Missing('no such user')\n",
        ),
        status=404,
        answer={"code": "handler_refused", "message": "no such user"},
    ),
    clause(
        "UnsupportedFormatError is 415 in input_fn",
        script(
            TOOLKIT,
            input_fn="def input_fn(data, content_type):\n    raise errors.UnsupportedFormatError(content_type)\n",
        ),
        status=415,
        answer={
            "code": "unsupported_media_type",
            "message": "The Content-Type was refused: The type 'text/csv' is not supported.",
        },
    ),
    clause(
        "UnsupportedFormatError is 406 in output_fn",
        script(
            TOOLKIT, output_fn="def output_fn(prediction, accept):\n    raise errors.UnsupportedFormatError(accept)\n"
        ),
        accept="text/x",
        status=406,
        answer={
            "code": "not_acceptable",
            "message": "The Accept header was refused: The type 'text/x' is not supported.",
        },
    ),
    clause(
        "a ValueError of input_fn is 400 with its text",
        script(input_fn="def input_fn(data, content_type):\n    raise ValueError('three are wanted')\n"),
        status=400,
        answer={"code": "bad_request", "message": "The body was refused: three are wanted."},
    ),
    clause(
        "a picture that Pillow cannot read in input_fn is 400, without an address in memory",
        script(
            "import io\nfrom PIL import Image\n",
            input_fn="def input_fn(data, content_type):\n    return Image.open(io.BytesIO(data))\n",
        ),
        content_type="image/png",
        status=400,
        answer={
            "code": "bad_request",
            "message": "The body was refused: it is not an image of a kind that can be read.",
        },
    ),
    clause(
        "any other exception is 500, without its inside",
        script(predict_fn="def predict_fn(data, model):\n    return {}['inner secret']\n"),
        status=500,
        answer={
            "code": "handler_failed",
            "message": "predict_fn raised KeyError; the log has its traceback under this request id.",
        },
    ),
    clause(
        "memory that runs out is 507",
        script(predict_fn="def predict_fn(data, model):\n    raise MemoryError\n"),
        status=507,
        answer={"code": "out_of_memory", "message": "This request alone does not fit into the memory that is there."},
    ),
    clause(
        "what cannot be sent is 500",
        script(output_fn="def output_fn(prediction, accept):\n    return object()\n"),
        status=500,
        answer={
            "code": "handler_failed",
            "message": "output_fn returned a object; it must return bytes, str, a tensor or what JSON can hold "
            "(Object of type object is not JSON serializable).",
        },
    ),
]

CLAUSES = [*WHERE_CODE_IS, *SIGNATURES, *BODIES, *CONTEXT, *DEFAULTS, *ERRORS]

REFUSED_AT_LOAD: dict[str, tuple[dict[str, str | bytes], str]] = {
    "a function of other arguments, with its signature": (
        {"code/inference.py": script(input_fn="def input_fn(data):\n    return data\n")},
        "input_fn(data) cannot be called; it must take (input_data, content_type) "
        "or (input_data, content_type, context).",
    ),
    "a name of the contract that is no function": (
        {"code/inference.py": script(predict_fn="predict_fn = 7\n")},
        "predict_fn",
    ),
    "an async function": (
        {"code/inference.py": script(predict_fn="async def predict_fn(data, model):\n    return data\n")},
        "predict_fn is async; define it with plain 'def'.",
    ),
    "transform_fn together with what it replaces": (
        {"code/inference.py": script() + "\ndef transform_fn(model, data, content_type, accept):\n    return data\n"},
        "defines transform_fn and also input_fn, predict_fn, output_fn; it replaces them: keep one way.",
    ),
    "a script that cannot be imported, with its line": (
        {"code/inference.py": "import json\nimport no_such_module\n"},
        "code/inference.py, line 2: ModuleNotFoundError: No module named 'no_such_module'.",
    ),
    "a script that is no Python, with its line": (
        {"code/inference.py": "def model_fn(:\n"},
        "code/inference.py, line 1: SyntaxError: invalid syntax.",
    ),
    "a model_fn that raises, with its line": (
        {"code/inference.py": "def model_fn(model_dir):\n    raise OSError('no weights')\n"},
        "code/inference.py, line 2: model_fn raised OSError: no weights.",
    ),
    "an archive that holds nothing to serve": (
        {"readme.txt": "hello"},
        "holds neither code/inference.py with a model_fn nor a model that can be served without one",
    ),
    "several models and no model.pt": ({"a.pt": FLATTEN, "b.pt": FLATTEN}, "holds several models (a.pt, b.pt)"),
    "a script where nobody looks for it, beside weights that need it": (
        {"src/inference.py": script(), "model.pth": saved({})},
        "There is src/inference.py, which is not looked for: put it into code/.",
    ),
    "a pickled module": ({"model.pth": saved({})}, "which cannot be served without code"),
}
"""What was a silent default, or a failure of the first request: the archive, and words of the sentence at load."""
