"""What the real tensorflow saves is served, and answered as tensorflow answers; what does not fit is 400."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.running import Reply, Server, start, wait_until
from tests.ecosystem.environments import python_of
from tests.ecosystem.serving import START_S, checked, served

HERE = Path(__file__).parent
REQUIREMENTS = HERE.parent / "requirements-tensorflow.txt"
NPY, NPZ = "application/x-npy", "application/x-npz"

pytestmark = pytest.mark.timeout(1200)  # the environment is made first

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has tensorflow, and all that is ours."""
    return str(python_of("tensorflow", sees_ours=True))


@pytest.fixture(scope="module")
def models(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models, and with what tensorflow answered for them."""
    folder = tmp_path_factory.mktemp("tensorflow")
    done = subprocess.run(
        [python, str(HERE / "save_models.py"), str(folder)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def archive(models: Path, name: str, folder: Path, *, below: str = "") -> Path:
    """A model directory as docs/handlers.md says: the SavedModel, and code/ that names tensorflow."""
    model_dir = folder / "archive"
    shutil.copytree(models / name, model_dir / below)
    (model_dir / "code").mkdir()
    (pin,) = (line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("tensorflow-cpu=="))
    (model_dir / "code" / "requirements.txt").write_text(f"{pin}\n")
    return model_dir


def recorded(models: Path, name: str, side: str) -> Arrays:
    """What tensorflow was given (`in`), or gave (`out`)."""
    with np.load(models / f"{name}.npz") as file:
        return {key.partition(".")[2]: file[key] for key in file.files if key.startswith(f"{side}.")}


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def array(reply: Reply) -> np.ndarray[Any, Any]:
    assert reply.status == 200, reply.body
    found: np.ndarray[Any, Any] = np.load(io.BytesIO(reply.body))
    return found


def refused(reply: Reply) -> str:
    assert reply.status == 400, reply.body
    assert reply.error["code"] == "bad_request"
    return reply.error["message"]


@pytest.fixture(scope="module")
def keras(models: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The network of Keras, whose SavedModel is the archive itself."""
    folder = tmp_path_factory.mktemp("keras")
    with served(archive(models, "keras", folder), folder / "base", python, TIDEGATE_MAX_BATCH_SIZE="8") as server:
        yield server


@pytest.fixture(scope="module")
def sums(models: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The module with two inputs, in a folder of its own, as TensorFlow Serving has it."""
    folder = tmp_path_factory.mktemp("sums")
    with served(archive(models, "sums", folder, below="1"), folder / "base", python) as server:
        yield server


def test_a_network_of_keras_answers_as_tensorflow_does(keras: Server, models: Path) -> None:
    (given,), (wanted,) = recorded(models, "keras", "in").values(), recorded(models, "keras", "out").values()
    np.testing.assert_allclose(array(keras.post(npy(given), NPY, Accept=NPY)), wanted, atol=1e-6)
    np.testing.assert_allclose(keras.post(json.dumps(given.tolist())).json(), wanted, atol=1e-6)
    named = keras.post(npz(measurements=given.astype(np.float64)), NPZ, Accept=NPY)
    np.testing.assert_allclose(array(named), wanted, atol=1e-6)
    rows = "".join(f"{','.join(map(str, row))}\n" for row in given.tolist())
    np.testing.assert_allclose(array(keras.post(rows, "text/csv", Accept=NPY)), wanted, atol=1e-6)
    assert "all requirements are here already" in keras.log()


def test_requests_at_once_get_their_own_answers(keras: Server, models: Path) -> None:
    (given,), (wanted,) = recorded(models, "keras", "in").values(), recorded(models, "keras", "out").values()
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda row: array(keras.post(npy(row[None]), NPY, Accept=NPY)), [*given] * 8))
    np.testing.assert_allclose(np.concatenate(found), np.concatenate([wanted] * 8), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((1, 5), np.float32), "the input 'measurements' has the shape (1, 5)"),
        (np.zeros((4,), np.float32), "the input 'measurements' has the shape (4,)"),
        (np.zeros((1, 4, 1), np.float32), "the input 'measurements' has the shape (1, 4, 1)"),
        (np.full((1, 4), 1e300), "the input 'measurements' is of float32"),
        (np.zeros((1, 4), np.complex64), "complex"),
    ],
)
def test_what_does_not_fit_a_network_is_refused_by_name(keras: Server, given: Any, said: str) -> None:
    assert said in refused(keras.post(npy(given), NPY))


def test_another_name_is_refused_with_those_that_there_are(keras: Server) -> None:
    several = refused(keras.post(npz(measurements=np.zeros((1, 4)), colour=np.zeros(1)), NPZ))
    assert "the model has the inputs measurements, not measurements, colour" in several
    assert refused(keras.post('{"measurements": [["a", "b", "c", "d"]]}'))
    assert keras.post(npy(np.zeros((2, 4), np.float32)), NPY).status == 200


def test_inputs_and_outputs_by_name_are_tensorflows_own(sums: Server, models: Path) -> None:
    given, wanted = recorded(models, "sums", "in"), recorded(models, "sums", "out")
    replies = [
        sums.post(npz(**given), NPZ, Accept=NPZ),
        sums.post(json.dumps({name: value.tolist() for name, value in given.items()}), Accept=NPZ),
    ]
    for reply in replies:
        assert reply.status == 200, reply.body
        with np.load(io.BytesIO(reply.body)) as found:
            assert set(found.files) == {"sums", "counts"}
            np.testing.assert_allclose(found["sums"], wanted["sums"], atol=1e-6)
            assert found["counts"].tolist() == wanted["counts"].tolist()


IDS, WEIGHTS = np.zeros((1, 2), np.int64), np.ones((1, 2), np.float32)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ids": IDS}, "the model has the inputs ids, weights, not ids"),
        ({"ids": IDS, "weight": WEIGHTS}, "the model has the inputs ids, weights, not ids, weight"),
        ({"ids": IDS + 0.5, "weights": WEIGHTS}, "the input 'ids' is of int64"),
        ({"ids": np.full((1, 2), 2**63, np.uint64), "weights": WEIGHTS}, "the input 'ids' is of int64"),
        ({"ids": IDS[0], "weights": WEIGHTS}, "the input 'ids' has the shape (2,)"),
        ({"ids": np.array([["a", "b"]]), "weights": WEIGHTS}, ""),
        ({"ids": IDS + 50, "weights": WEIGHTS}, "indices[0,0] = 50 is not in [0, 50)"),
        ({"ids": IDS - 1, "weights": WEIGHTS}, "indices[0,0] = -1 is not in [0, 50)"),
        ({"ids": IDS, "weights": np.ones((1, 3), np.float32)}, "ncompatible shapes"),
    ],
)
def test_what_does_not_fit_named_inputs_is_refused(sums: Server, given: Arrays, said: str) -> None:
    """By the check in front of tensorflow, and by its own kernels; the server goes on."""
    message = refused(sums.post(npz(**given), NPZ))
    assert said in message
    assert "\n" not in message
    assert "/job:localhost" not in message
    assert sums.post(npz(ids=IDS, weights=WEIGHTS), NPZ).status == 200


def test_a_tensor_alone_is_not_enough_for_two_inputs(sums: Server) -> None:
    assert "the model has the inputs ids, weights" in refused(sums.post(npy(IDS), NPY))


def test_numbers_that_numpy_has_not_are_given_as_floats(models: Path, python: str, tmp_path: Path) -> None:
    """bfloat16, of which tensorflow makes a type of its own."""
    (given,), (wanted,) = recorded(models, "half", "in").values(), recorded(models, "half", "out").values()
    with served(archive(models, "half", tmp_path), tmp_path / "base", python) as server:
        assert array(server.post(npy(given), NPY, Accept=NPY)).tolist() == wanted.tolist()
        assert server.post(json.dumps(given.tolist())).json() == wanted.tolist()


def test_texts_are_taken_and_given_by_the_open_inference_protocol(models: Path, python: str, tmp_path: Path) -> None:
    (given,), wanted = recorded(models, "lengths", "in").values(), recorded(models, "lengths", "out")
    with served(archive(models, "lengths", tmp_path), tmp_path / "base", python) as server:
        texts = {"name": "texts", "datatype": "BYTES", "shape": [len(given)], "data": given.tolist()}
        reply = server.request("POST", "/v2/models/model/infer", json.dumps({"inputs": [texts]}))
        assert reply.status == 200, reply.body
        outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
        assert outputs == {name: value.tolist() for name, value in wanted.items()}
        assert "takes strings" in refused(server.post("[1, 2]"))


def asked_for_bytes(server: Server, name: str, *elements: bytes, binary: bool = True) -> Reply:
    """The reply to one row of BYTES by the open inference protocol, whose binary extension carries any bytes."""
    data = b"".join(struct.pack("<I", len(each)) + each for each in elements)
    size = {"binary_data_size": len(data)}
    entry = {"name": name, "datatype": "BYTES", "shape": [len(elements)], "parameters": size}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": binary}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return server.request("POST", "/v2/models/model/infer", head + data, headers)


def refused_here(reply: Reply) -> str:
    assert reply.status == 400, reply.body
    said: str = reply.json()["error"]
    return said


def binary_outputs(reply: Reply) -> dict[str, tuple[dict[str, Any], bytes]]:
    """What each output says of itself, and its bytes."""
    assert reply.status == 200, reply.body
    at = int(reply.headers["inference-header-content-length"])
    found = {}
    for entry in json.loads(reply.body[:at])["outputs"]:
        end = at + entry["parameters"]["binary_data_size"]
        found[entry["name"]] = entry, reply.body[at:end]
        at = end
    return found


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (colour, 0, 255)).save(file, "PNG")
    return file.getvalue()


def test_images_in_files_are_taken_and_given_as_their_bytes(models: Path, python: str, tmp_path: Path) -> None:
    """JSON, which cannot hold them, says so."""
    files = [png(colour) for colour in (0, 200)]
    with served(archive(models, "pictures", tmp_path), tmp_path / "base", python) as server:
        outputs = binary_outputs(asked_for_bytes(server, "image_bytes", *files))
        entry, data = outputs["pixels"]
        assert (entry["datatype"], entry["shape"]) == ("UINT8", [2, 2, 3, 3])
        assert [data[0], data[18]] == [0, 200]
        entry, data = outputs["files"]
        assert (entry["datatype"], entry["shape"]) == ("BYTES", [2])
        (length,) = struct.unpack_from("<I", data)
        first = Image.open(io.BytesIO(data[4 : 4 + length]))
        assert (first.format, first.size, first.getpixel((0, 0))) == ("PNG", (3, 2), (0, 0, 255))

        assert "Unknown image file format" in refused_here(asked_for_bytes(server, "image_bytes", b"\xff\xfe"))
        as_json = asked_for_bytes(server, "image_bytes", *files, binary=False)
        assert "'files' holds bytes that are not UTF-8, which JSON cannot hold" in refused_here(as_json)


def test_an_example_that_cannot_be_parsed_is_the_clients_mistake(models: Path, python: str, tmp_path: Path) -> None:
    """Tensorflow quotes the bytes, which are no text, so that it fails to say what it wants to."""
    with served(archive(models, "examples", tmp_path), tmp_path / "base", python) as server:
        message = refused_here(asked_for_bytes(server, "examples", b"\xff"))
        assert "Could not parse example input, value: '\\xff'" in message
        assert "is required but could not be found" in refused_here(asked_for_bytes(server, "examples", b""))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("elsewhere", "Cannot assign a device for operation"),
        ("without_kernel", "No OpKernel was registered to support Op 'NcclAllReduce'"),
    ],
)
def test_what_is_missing_on_the_machine_is_500_and_in_the_log(
    models: Path, python: str, tmp_path: Path, name: str, said: str
) -> None:
    with served(archive(models, name, tmp_path), tmp_path / "base", python) as server:
        reply = server.post(npy(np.ones(3, np.float32)), NPY)
        assert reply.status == 500, reply.body
        assert said not in reply.body.decode()
        wait_until(
            lambda: said in (log := server.log()) and "Traceback" in log, "the reason is in the log", log=server.log
        )


def test_a_repository_as_tensorflow_serving_has_it_is_served(models: Path, python: str, tmp_path: Path) -> None:
    """NAME/VERSION/ as it is, and one code/requirements.txt for all models."""
    shutil.copytree(models / "keras", tmp_path / "repository" / "iris" / "1")
    code = tmp_path / "repository" / "code"
    code.mkdir()
    (code / "requirements.txt").write_text("tensorflow-cpu\n")
    (tmp_path / "base").mkdir()
    settings = {"TIDEGATE_MODEL_REPOSITORY": str(tmp_path / "repository"), "TIDEGATE_RELOAD_INTERVAL_S": "1"}
    server = start(tmp_path / "base", {"PIP_NO_INDEX": "1", **settings}, python=python)
    (given,), (wanted,) = recorded(models, "keras", "in").values(), recorded(models, "keras", "out").values()
    headers = {"X_Amzn_SageMaker_Custom_Attributes": "model=iris", "Accept": NPY}
    try:
        wait_until(lambda: server.post(npy(given), NPY, **headers).status == 200, "iris is there", START_S, server.log)
        np.testing.assert_allclose(array(server.post(npy(given), NPY, **headers)), wanted, atol=1e-6)
    finally:
        assert server.terminate() == 0


def test_check_says_what_is_served(models: Path, python: str, tmp_path: Path) -> None:
    done = checked(archive(models, "keras", tmp_path), python)
    assert done.returncode == 0, done.stderr
    assert "TensorFlow SavedModel" in done.stdout
    assert "this model may take traffic" in done.stdout


def test_where_tensorflow_is_not_there_one_sentence_names_it(models: Path, tmp_path: Path) -> None:
    """By an interpreter that has all that is ours and no tensorflow."""
    model_dir = archive(models, "keras", tmp_path)
    (model_dir / "code" / "requirements.txt").unlink()
    done = checked(model_dir, sys.executable)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("needs the package tensorflow: name it in code/requirements.txt.")


@pytest.mark.parametrize("damage", ["cut", "no variables"])
def test_a_damaged_model_is_one_sentence(models: Path, python: str, tmp_path: Path, damage: str) -> None:
    model_dir = archive(models, "keras", tmp_path)
    if damage == "cut":
        graph = model_dir / "saved_model.pb"
        graph.write_bytes(graph.read_bytes()[:1000])
    else:
        shutil.rmtree(model_dir / "variables")
    done = checked(model_dir, python)
    assert done.returncode == 1
    assert "cannot be loaded as a SavedModel: " in done.stderr.splitlines()[-1]
