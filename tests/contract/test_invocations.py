"""A request's way through the four functions: types in, types out, and the errors between."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.contract.models import ECHO
from tests.contract.running import Server, running


@pytest.fixture(scope="module")
def echo():
    with running({"code/inference.py": ECHO}) as server:
        yield server


@pytest.fixture(scope="module")
def scripted():
    """A TorchScript archive without code: everything but the model is the server's own."""
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(torch.nn.Flatten()), file)
    with running({"model.pt": file.getvalue()}) as server:
        yield server


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content_type", "python_type", "seen"),
    [
        ("application/json", "str", "application/json"),
        ("application/json; charset=utf-8", "str", "application/json"),
        ("Text/CSV", "str", "text/csv"),
        ("application/x-npy", "bytearray", "application/x-npy"),
        ("application/jsonlines", "bytearray", "application/jsonlines"),
        ("image/png", "bytearray", "image/png"),
        ("application/vnd.mine+bin; v=2", "bytearray", "application/vnd.mine+bin; v=2"),
        (None, "bytearray", None),
    ],
)
def test_input_fn_gets_text_for_json_and_csv_and_bytes_otherwise(echo: Server, content_type, python_type, seen):
    reply = echo.post(b"abc", content_type)
    assert reply.status == 200
    assert reply.json() == {"type": python_type, "content_type": seen, "body": "abc", "accept": "application/json"}


@pytest.mark.parametrize(
    ("accept", "one_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("text/csv, application/json", "text/csv"),
        ("text/csv;q=0.2, application/x-npy", "application/x-npy"),
        ("text/html;q=0.1, */*", "application/json"),
    ],
)
def test_output_fn_gets_the_one_type_that_accept_prefers_and_it_becomes_the_content_type(
    echo: Server, accept, one_type
):
    reply = echo.post(b"{}", **({"accept": accept} if accept else {}))
    assert reply.json()["accept"] == one_type
    assert reply.headers["content-type"] == one_type


def test_a_body_that_is_not_in_its_charset_is_a_clear_400(echo: Server):
    reply = echo.post(b"\xff\xfe", "application/json")
    assert reply.status == 400
    assert reply.error["code"] == "bad_request"
    assert "not valid utf-8" in reply.error["message"]


def test_an_error_names_the_request_by_the_inference_id_that_the_caller_gave(echo: Server):
    reply = echo.post(b"\xff", "application/json", **{"x-amzn-sagemaker-inference-id": "order-66"})
    assert reply.error["request_id"] == "order-66"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"[[1, 2], [3, 4]]"),
        ("text/csv", b"1,2\n3,4\n"),
        ("application/jsonlines", b"[1, 2]\n[3, 4]\n"),
        ("application/x-npy", npy(np.array([[1, 2], [3, 4]], dtype=np.float32))),
    ],
)
def test_the_defaults_read_json_csv_json_lines_and_npy(scripted: Server, content_type, body):
    reply = scripted.post(body, content_type)
    assert (reply.status, reply.json()) == (200, [[1.0, 2.0], [3.0, 4.0]])


ROWS = np.ones((2, 2), np.float32)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_an_npz_of_one_array_is_that_array_to_a_torchscript_model(scripted: Server):
    reply = scripted.post(npz(anything=ROWS), "application/x-npz")
    assert (reply.status, reply.json()) == (200, [[1.0, 1.0], [1.0, 1.0]])


def test_a_client_that_accepts_nothing_gets_406_from_a_script_too(echo: Server):
    assert echo.post(b"x", accept="application/json;q=0, */*;q=0").status == 406
    assert echo.post(b"x", accept="*/*, application/json;q=0").json()["accept"] == "application/jsonlines"


def test_the_defaults_read_images(scripted: Server):
    file = io.BytesIO()
    Image.new("RGB", (2, 1), (255, 0, 0)).save(file, "PNG")
    assert scripted.post(file.getvalue(), "image/png").json() == [[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]


def test_the_defaults_write_json_csv_json_lines_and_npy(scripted: Server):
    body = b"[[1, 2], [3, 4]]"
    assert scripted.post(body, accept="text/csv").body == b"1.0,2.0\n3.0,4.0\n"
    assert scripted.post(body, accept="application/jsonlines").body == b"[1.0, 2.0]\n[3.0, 4.0]\n"
    array = np.load(io.BytesIO(scripted.post(body, accept="application/x-npy").body))
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "code", "words"),
    [
        (b"[1, 2", "application/json", None, 400, "bad_request", "not valid JSON"),
        (b"[[1], [2, 3]]", "application/json", None, 400, "bad_request", "same length"),
        (b'{"a": "b"}', "application/json", None, 400, "bad_request", "'a' of the JSON object"),
        (b"1,x\n", "text/csv", None, 400, "bad_request", "'x', which is not a number"),
        (b"\x93NUMPY", "application/x-npy", None, 400, "bad_request", "its header is damaged, cut off or too long"),
        (
            npz(a=ROWS, b=ROWS),
            "application/x-npz",
            None,
            400,
            "bad_request",
            "does not take an input of 'a': the shape",
        ),
        (b"GIF89a", "image/gif", None, 400, "bad_request", "image"),
        (b"x", "application/pdf", None, 415, "unsupported_media_type", "'application/pdf' cannot be read"),
        (b"x", None, None, 415, "unsupported_media_type", "Content-Type header is missing"),
        (b"[[1]]", "application/json", "text/html", 406, "not_acceptable", "'text/html' cannot be answered"),
        (b"[[1]]", "application/json", "*/*;q=0", 406, "not_acceptable", "rules types out by q=0"),
    ],
)
def test_what_the_defaults_cannot_read_or_write_is_a_4xx_with_one_clear_sentence(
    scripted: Server, body, content_type, accept, status, code, words
):
    reply = scripted.post(body, content_type, **({"accept": accept} if accept else {}))
    assert reply.status == status
    assert reply.error["code"] == code
    assert words in reply.error["message"]
    assert "\n" not in reply.error["message"]
    assert reply.headers["content-type"] == "application/json"


def test_pickled_numpy_objects_are_never_unpickled(scripted: Server):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit(3)",))

    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    reply = scripted.post(file.getvalue(), "application/x-npy")
    assert reply.status == 400
    assert "never unpickled" in reply.error["message"]
    assert scripted.ping() == 200


def test_paths_and_verbs_that_do_not_exist_are_404_and_405(echo: Server):
    assert echo.request("GET", "/nothing").status == 404
    reply = echo.request("GET", "/invocations")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert echo.request("DELETE", "/ping").status == 405


def test_ping_has_an_empty_body_and_answers_get_post_and_head(echo: Server):
    for verb in ("GET", "POST", "HEAD"):
        reply = echo.request(verb, "/ping")
        assert (reply.status, reply.body) == (200, b"")


def test_the_torchserve_path_of_the_one_model_answers_too(echo: Server):
    reply = echo.request("POST", "/models/model/invoke", b"x", {"content-type": "application/json"})
    assert reply.json()["body"] == "x"


def test_execution_parameters_are_those_that_a_transform_job_may_ask_for(echo: Server):
    reply = echo.request("GET", "/execution-parameters")
    assert reply.json() == {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}


def test_execution_parameters_follow_the_job_that_the_platform_describes():
    given = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "4",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
    }
    with running({"code/inference.py": ECHO}, **given) as server:
        reply = server.request("GET", "/execution-parameters")
        assert reply.json() == {"MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}
        assert server.post(b"x" * (2 * 1024 * 1024)).status == 200
        assert server.post(b"x" * (2 * 1024 * 1024 + 1)).status == 413


REFUSING = """
class Teapot(Exception):
    status_code = 422
    message = "A pot is wanted."

def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    if data == "teapot":
        raise Teapot
    if data == "value":
        raise ValueError("want three numbers")
    if data == "key":
        {}["inner secret"]
    return data

def predict_fn(data, model):
    if data == "predict":
        raise ValueError("inner secret")
    return data

def output_fn(data, accept, context):
    if data == "object":
        return object()
    if data == "context":
        context.set_response_status(202, "Accepted", 0)
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "a=1\\r\\nx-evil: 1")
        context.set_response_content_type(0, "text/plain")
        return context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    return data, "text/x-mine"
"""


@pytest.fixture(scope="module")
def refusing():
    with running({"code/inference.py": REFUSING}) as server:
        yield server


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b"teapot", 422, "handler_refused", "A pot is wanted."),
        (b"value", 400, "bad_request", "The body was refused: want three numbers."),
        (b"key", 500, "handler_failed", "input_fn raised KeyError; the log has its traceback under this request id."),
        (
            b"predict",
            500,
            "handler_failed",
            "predict_fn raised ValueError; the log has its traceback under this request id.",
        ),
        (
            b"object",
            500,
            "handler_failed",
            "output_fn returned a object; it must return bytes, str, a tensor or what JSON can hold "
            "(Object of type object is not JSON serializable).",
        ),
    ],
)
def test_what_user_code_raises_becomes_a_status_and_a_sentence_without_its_inside(
    refusing: Server, body, status, code, message
):
    reply = refusing.post(body, "application/json")
    assert reply.status == status
    assert reply.error["code"] == code
    assert reply.error["message"] == message
    assert "inner secret" not in reply.body.decode()


def test_the_traceback_of_a_500_is_in_the_log_under_the_id_that_the_client_got(refusing: Server):
    request_id = refusing.post(b"predict", "application/json").error["request_id"]
    lines = refusing.entries()
    (entry,) = [line for line in lines if line.get("request_id") == request_id]
    assert "inner secret" in entry["traceback"]


def test_a_tuple_sets_the_content_type(refusing: Server):
    reply = refusing.post(b"fine", "application/json")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "text/x-mine", b"fine")


def test_the_context_reads_request_headers_and_sets_status_type_and_headers_but_no_second_header(refusing: Server):
    reply = refusing.post(b"context", "application/json", **{"X-Amzn-SageMaker-Custom-Attributes": "trace=7"})
    assert (reply.status, reply.body) == (202, b"trace=7")
    assert reply.headers["content-type"] == "text/plain"
    assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "a=1 x-evil: 1"
    assert "x-evil" not in reply.headers
