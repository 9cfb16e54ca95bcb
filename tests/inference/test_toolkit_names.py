"""What old scripts import by the AWS toolkits' names, and what comes of the errors that they raise."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from tests.inference import lending
from tests.inference.toy_models import computation, refused, request
from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker import compat
from tidegate.inference.worker.compat.sagemaker_inference import (
    content_types,
    decoder,
    encoder,
    environment,
    errors,
    utils,
)
from tidegate.inference.worker.compat.sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
    DefaultPytorchInferenceHandler,
)
from tidegate.inference.worker.content import Reading

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def lent() -> Iterator[list[str]]:
    with lending.lent() as names:
        yield names


def test_every_old_name_is_importable_in_every_way(lent: list[str]) -> None:
    assert lent == ["sagemaker_inference", "sagemaker_pytorch_serving_container", "studio", "tidegate_handler"]
    names: dict[str, Any] = {}
    exec(  # noqa: S102 - a script, with its own globals
        "from sagemaker_inference import content_types, decoder, encoder, environment, errors, logging, utils\n"
        "import sagemaker_inference.parameters\n"
        "from sagemaker_inference.errors import BaseInferenceToolkitError, GenericInferenceToolkitError\n"
        "from sagemaker_inference.default_inference_handler import DefaultInferenceHandler\n"
        "from sagemaker_pytorch_serving_container import default_pytorch_inference_handler\n"
        "from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import ModelLoadError\n",
        names,
    )
    assert names["content_types"].UTF8_TYPES == ["application/json", "text/csv"]
    assert names["sagemaker_inference"].parameters.USER_PROGRAM_ENV == "SAGEMAKER_PROGRAM"
    assert names["logging"].get_logger().name == "sagemaker-inference"
    assert names["errors"].BaseInferenceToolkitError is names["BaseInferenceToolkitError"]
    assert issubclass(
        names["default_pytorch_inference_handler"].DefaultPytorchInferenceHandler, names["DefaultInferenceHandler"]
    )


def test_lending_twice_lends_once(lent: list[str]) -> None:
    assert lent
    assert compat.lend_names(Reading(max_decoded_bytes=2**20)) == []


def test_a_toolkit_that_the_model_brings_is_preferred(tmp_path: Path) -> None:
    package = tmp_path / "sagemaker_inference"
    package.mkdir()
    (package / "__init__.py").write_text("real = True\n")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tidegate.inference.worker import compat; "
        "print(compat.lend_names(compat.Reading(max_decoded_bytes=1)));"
        " import sagemaker_inference; print(sagemaker_inference.real)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split("\n")[:2] == [
        "['sagemaker_pytorch_serving_container', 'studio', 'tidegate_handler']",
        "True",
    ]


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("[1, 2]", "application/json", np.array([1, 2])),
        (bytearray(b"[[1.5]]"), "application/json", np.array([[1.5]])),
        ('["a"]', "application/json", np.array(["a"])),
        ("1,2\n3,4\n", "text/csv", np.array([[1, 2], [3, 4]])),
        ("1\n2\n", "text/csv", np.array([1, 2])),
        ("1,2\n", "text/csv", np.array([1, 2])),
        ("5", "text/csv", np.array(5)),
        (npy(np.array([[1.5]], dtype=np.float32)), "application/x-npy", np.array([[1.5]], dtype=np.float32)),
    ],
)
def test_the_decoder_gives_the_arrays_that_scripts_are_used_to(body: Any, content_type: str, expected: Any) -> None:
    found = decoder.decode(body, content_type)
    assert found.dtype.kind == expected.dtype.kind
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6, dtype=">f4").reshape(2, 3), np.array(3, ">i2")],
)
def test_the_decoder_gives_arrays_that_torch_takes_and_views(array: Any) -> None:
    """AWS's decoder gave the order of the file: `view` of Fortran's fails, and torch knows no big-endian numbers."""
    found = decoder.decode(npy(array), content_types.NPY)
    assert torch.from_numpy(found).view(-1).tolist() == array.flatten().tolist()
    assert found.shape == array.shape


def test_the_decoder_gives_columns_of_different_kinds_as_a_structured_array() -> None:
    found = decoder.decode("1,2.5\n3,4.0\n", content_types.CSV)
    assert found.dtype.names == ("f0", "f1")
    assert found.tolist() == [(1, 2.5), (3, 4.0)]


def test_the_decoder_reads_sparse_matrices() -> None:
    file = io.BytesIO()
    scipy.sparse.save_npz(file, scipy.sparse.csr_matrix(np.eye(2)))
    assert decoder.decode(file.getvalue(), content_types.NPZ).toarray().tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_decoder_never_unpickles() -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        decoder.decode(npy(np.array([{}], dtype=object)), content_types.NPY)


def test_scripts_may_add_types_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decoder._decoder_map, "text/mine", str.upper)
    assert decoder.decode("a", "text/mine") == "A"


@pytest.mark.parametrize(
    ("value", "content_type", "expected"),
    [
        ([1.5, 2], "application/json", "[1.5, 2]"),
        (np.array([[1, 2]]), "application/json", "[[1, 2]]"),
        ({"scores": torch.ones(2)}, "application/json", '{"scores": [1.0, 1.0]}'),
        ([[1.5, 2.0], [3.0, 4.0]], "text/csv", "1.5,2.0\n3.0,4.0\n"),
        ([1, 2], "text/csv", "1\n2\n"),
        ([1.0], "application/x-npy", npy([1.0])),
    ],
)
def test_the_encoder_writes_what_clients_are_used_to(value: Any, content_type: str, expected: Any) -> None:
    assert encoder.encode(value, content_type) == expected


@pytest.mark.parametrize("codec", [decoder.decode, encoder.encode])
def test_a_type_without_a_codec_is_an_unsupported_format(codec: Any) -> None:
    with pytest.raises(errors.UnsupportedFormatError, match="'application/octet-stream' is not supported"):
        codec([1], content_types.OCTET_STREAM)


def test_what_json_cannot_hold_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="function cannot be written as JSON"):
        encoder.encode(lambda: None, content_types.JSON)


def test_headers_and_files_are_read_as_before(tmp_path: Path) -> None:
    utils.write_file(tmp_path / "text", "abc")
    assert utils.read_file(tmp_path / "text") == "abc"
    assert utils.parse_accept("text/csv , application/json") == ["text/csv", "application/json"]
    assert utils.remove_crlf("a\r\nb") == "a  b"
    assert utils.retrieve_content_type_header({"ContentType": "text/csv"}) == "text/csv"
    assert utils.retrieve_content_type_header({"Accept": "text/csv"}) is None


def test_the_environment_tells_scripts_what_the_deployer_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "serve_me.py")
    monkeypatch.setenv("SAGEMAKER_MAX_PAYLOAD_IN_MB", "10")
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    found = importlib.reload(environment)
    assert (found.model_dir, found.code_dir) == ("/opt/ml/model", "/opt/ml/model/code")
    variables = found.Environment()
    assert (variables.module_name, variables.max_request_size) == ("serve_me", 10 * 2**20)
    assert (variables.inference_http_port, variables.model_server_timeout) == ("8080", 60)
    assert variables.default_accept == "application/json"
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "")
    assert found.Environment().module_name == "inference"


def raising(error: BaseException) -> Any:
    def function(*_: Any) -> Any:
        raise error

    return function


def test_a_toolkit_error_keeps_its_status_and_its_message_in_every_function() -> None:
    for function in ("input_fn", "predict_fn", "output_fn", "transform_fn"):
        error = errors.GenericInferenceToolkitError(422, "Two sentences are wanted.", "Unprocessable")
        kept = {} if function == "transform_fn" else {"input_fn": lambda *_: 1, "predict_fn": lambda *_: 1}
        outcome = refused(computation(**kept | {function: raising(error)}), request([1]))
        assert (outcome.status, outcome.message) == (422, "Two sentences are wanted.")


def test_a_toolkit_error_without_a_message_has_the_toolkits_own() -> None:
    error = errors.GenericInferenceToolkitError(400)
    assert (error.message, error.phrase) == ("Invalid Request", "Invalid Request")
    assert issubclass(errors.GenericInferenceToolkitError, errors.BaseInferenceToolkitError)


@pytest.mark.parametrize(
    ("function", "status", "code"),
    [
        ("input_fn", 415, "unsupported_media_type"),
        ("transform_fn", 415, "unsupported_media_type"),
        ("output_fn", 406, "not_acceptable"),
        ("predict_fn", 500, "handler_failed"),
    ],
)
def test_an_unsupported_format_is_told_by_where_it_comes_from(function: str, status: int, code: str) -> None:
    outcome = refused(
        computation(**{function: raising(errors.UnsupportedFormatError("text/x"))}, model=lambda x: x), request([1])
    )
    assert (outcome.status, outcome.code) == (status, code)
    if status < 500:
        header = "The Accept header" if status == 406 else "The Content-Type"
        assert outcome.message == f"{header} was refused: The type 'text/x' is not supported."


def test_in_transform_fn_an_unsupported_format_is_told_by_the_header_that_it_names() -> None:
    toy = computation(transform_fn=raising(errors.UnsupportedFormatError("text/x")))
    assert refused(toy, request([1], accept="text/x")).status == 406
    assert refused(toy, request(b"", content_type="text/x", accept="text/csv")).status == 415
    assert refused(toy, request(b"", content_type="text/x", accept="text/x")).status == 415


def test_the_default_handler_does_what_the_server_does() -> None:
    handler = DefaultPytorchInferenceHandler()
    data = handler.default_input_fn("[[1, 2]]", "application/json")
    assert data.tolist() == [[1.0, 2.0]]
    prediction = handler.default_predict_fn(data, torch.nn.Flatten())
    assert handler.default_output_fn(prediction, "text/html, text/csv") == b"1.0,2.0\n"
    assert handler.default_output_fn(prediction, "application/json") == "[[1.0, 2.0]]"
    with pytest.raises(ValueError, match=r"whose rows all have the same length$"):
        handler.default_input_fn("1,2\n3\n", "text/csv")
    with pytest.raises(errors.UnsupportedFormatError, match="'text/x'"):
        handler.default_input_fn("", "text/x")
    with pytest.raises(errors.UnsupportedFormatError, match="'text/x'"):
        handler.default_output_fn(prediction, "text/x")


def test_the_default_handler_loads_as_the_server_does(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="holds neither"):
        DefaultPytorchInferenceHandler().default_model_fn(str(tmp_path))
