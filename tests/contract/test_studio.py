"""Studio.ML's way to serve, by a real server: create_model, dictionaries of arrays, old clients' pickles, identity."""

from __future__ import annotations

import base64
import io
import json
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.contract.repositories import serving
from tests.contract.running import Server, running, start, wait_until, write_files
from tests.contract.test_check import check, last_line, stop
from tests.contract.test_multi_model import invoke, load, place
from tests.training_hooks.artifacts import unpacked
from tidegate.inference.worker import dictionaries
from tidegate.inference.worker.content import Reading
from tidegate.training_hooks import ArtifactError, Example, default_functions, pack, save_model

INCREMENT = """
import six

def create_model(modeldir):
    def model(data):
        retval = {}
        for k, v in six.iteritems(data):
            retval[k] = v + 1
        return retval

    return model
"""
"""The snippet of Studio.ML's documentation, to the letter."""

SIX = "def iteritems(mapping):\n    return iter(mapping.items())\n"
WRAPPER = {"code/inference.py": INCREMENT, "code/six.py": SIX}

NETWORK = """
import os

import torch

def create_model(modeldir):
    net = torch.nn.Linear(3, 2)
    net.load_state_dict(torch.load(os.path.join(modeldir, "model.pth"), weights_only=True))
    net.eval()

    def model(data):
        with torch.no_grad():
            scores = net(torch.as_tensor(data["x"], dtype=torch.float32))
        return {"scores": scores, "label": scores.argmax(-1)}

    return model
"""
NPZ = "application/x-npz"


def pickled(value: Any, protocol: int = 2) -> str:
    return pickle.dumps(value, protocol).decode("latin-1")


def unpickled(text: str) -> Any:
    return pickle.loads(text.encode("latin-1"))


@pytest.fixture(scope="module")
def legacy():
    with running(WRAPPER, TIDEGATE_LEGACY_PICKLE="on") as server:
        yield server


def test_the_documented_wrapper_runs_unchanged(legacy):
    """Numbers, lists and npz; JSON and npz out."""
    assert legacy.post(json.dumps({"a": 1, "b": [[1, 2.5]]})).json() == {"a": 2, "b": [[2.0, 3.5]]}
    file = io.BytesIO()
    np.savez(file, a=np.arange(3))
    reply = legacy.post(file.getvalue(), NPZ, accept=NPZ)
    assert np.load(io.BytesIO(reply.body))["a"].tolist() == [1, 2, 3]
    assert "create_model of " in legacy.log()


def test_a_client_of_studio_needs_no_change(legacy):
    """It pickles what it sends and unpickles what it gets."""
    sent = {"a": np.arange(6.0).reshape(2, 3), "b": np.int64(4)}
    for protocol in range(6):
        reply = legacy.post(json.dumps({key: pickled(value, protocol) for key, value in sent.items()}))
        assert reply.status == 200
        found = {key: unpickled(value) for key, value in reply.json().items()}
        assert found["a"].tolist() == [[1, 2, 3], [4, 5, 6]]
        assert found["b"] == 5


def test_a_gadget_is_400_and_runs_nothing(legacy, tmp_path):
    """And the server goes on."""

    class Gadget:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "made",)

    for protocol in range(6):
        reply = legacy.post(json.dumps({"a": pickled(Gadget(), protocol)}))
        assert (reply.status, reply.error["code"]) == (400, "bad_request")
        assert reply.error["message"].startswith("'a' of the JSON object is a pickle that is not read: it ")
    assert not (tmp_path / "made").exists()
    assert legacy.post('{"a": 1}').json() == {"a": 2}


def test_other_bodies_and_other_answers_are_one_sentence_each(legacy):
    """What is no dictionary is the client's mistake, what the function raises is the script's."""
    assert [legacy.post(body).status for body in ("[1]", "{", '"a"')] == [400, 400, 400]
    assert legacy.post("1,2", "text/csv").status == 415
    assert legacy.post('{"a": 1}', accept="application/x-npy").status == 406
    failed = legacy.post('{"a": "text"}')
    assert (failed.status, failed.error["code"]) == (500, "handler_failed")
    assert "The function that create_model returned raised TypeError" in failed.error["message"]


def test_the_open_inference_protocol_names_the_arrays(legacy):
    """One tensor has its name, too, and so has the answer."""
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    asked = json.dumps({"inputs": [tensor]})
    reply = legacy.request("POST", "/v2/models/model/infer", asked, {"content-type": "application/json"})
    assert reply.json()["outputs"] == [{**tensor, "data": [2.0, 3.0]}]


def test_pickles_are_texts_where_the_deployer_said_nothing():
    """Off by default: the text comes back."""
    source = (
        "def create_model(modeldir):\n    return lambda data: {key: [type(v).__name__, v] for key, v in data.items()}"
    )
    with running({"code/inference.py": source}) as server:
        text = pickled(np.zeros(2))
        assert server.post(json.dumps({"a": text})).json() == {"a": ["str", text]}


def refused(server: Server) -> str:
    wait_until(lambda: server.process.poll() is not None, "the refusal", log=server.log)
    assert server.process.returncode == 1
    return last_line(server.log())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def create_model(modeldir): ...", "create_model returned None; it must return a function that takes"),
        ("def create_model(modeldir):\n    return dict", "create_model returned the class dict and no instance of it"),
        ("def create_model(): ...", "create_model() cannot be called; it must take (modeldir)"),
        ("def create_model(modeldir):\n    raise OSError('no weights')", "create_model raised OSError: no weights."),
        ("def create_modle(modeldir): ...", "nothing calls create_modle; did you mean create_model?"),
    ],
)
def test_a_wrapper_that_cannot_be_served_is_one_line_to_check_and_to_serve(tmp_path, source, said):
    """The same sentence, and exit status 1."""
    write_files(tmp_path / "model", {"code/inference.py": source})
    checked = check(tmp_path / "model")
    assert checked.returncode == 1
    assert said in last_line(checked.stderr)
    server = start(tmp_path, {})
    try:
        assert refused(server) == last_line(checked.stderr)
    finally:
        stop(server)


def test_a_helper_called_create_model_stays_a_helper():
    """Beside the four functions, whatever it takes."""
    source = """
import json

def create_model(depth, width):
    return [[0] * width] * depth

def model_fn(model_dir):
    return create_model(2, 3)

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(data, model):
    return {"data": data, "model": model}
"""
    with running({"code/inference.py": source}) as server:
        assert server.post("[1]").json() == {"data": [1], "model": [[0, 0, 0], [0, 0, 0]]}


def test_the_wrapper_may_be_named_by_its_variable():
    """As every script may, with a module beside it; the other file is not looked at."""
    files = {"code/model_increment.py": INCREMENT, "code/six.py": SIX, "code/inference.py": "raise OSError"}
    with running(files, SAGEMAKER_PROGRAM="model_increment") as server:
        assert server.post('{"a": [1]}').json() == {"a": [2]}


def test_requests_share_a_call_only_by_declaration():
    """With a batch size alone each is called by itself; declared, the answers are the same and the calls fewer."""
    source = """
import threading

def create_model(modeldir):
    sizes = []
    def model(data):
        sizes.append(len(data["x"]))
        return {"x": data["x"] * 2, "most": [max(sizes)] * len(data["x"])}
    return model
"""
    for manifest, may_share in ((None, False), ({"format_version": 1, "files": {}, "batching": True}, True)):
        files = {"code/inference.py": source} | ({"manifest.json": json.dumps(manifest)} if manifest else {})
        settings = {"TIDEGATE_MAX_BATCH_SIZE": "8", "TIDEGATE_MAX_WAIT_MS": "50", "TIDEGATE_WORKERS": "1"}
        with running(files, **settings) as server, ThreadPoolExecutor(8) as pool:

            def most(server: Server = server, pool: ThreadPoolExecutor = pool) -> int:
                replies = list(pool.map(lambda number: server.post(json.dumps({"x": [[number]]})), range(8)))
                assert [reply.json()["x"] for reply in replies] == [[[2 * number]] for number in range(8)]
                return max(reply.json()["most"][0] for reply in replies)

            if may_share:
                server.wait_until(lambda most=most: most() > 1, "some of those who ask have shared a call")
            else:
                assert {most() for _ in range(20)} == {1}


def test_models_of_a_multi_model_endpoint_may_be_wrappers(tmp_path):
    """Each with a module six of its own, and pickles for all of them."""
    with running({}, SAGEMAKER_MULTI_MODEL="true", TIDEGATE_LEGACY_PICKLE="on") as server:
        for name, by in (("one", 1), ("ten", 10)):
            files = {"code/inference.py": INCREMENT.replace("v + 1", f"v + {by}"), "code/six.py": SIX}
            assert load(server, name, place(server, name, files)).status == 200
        sent = {"content-type": "application/json"}
        assert invoke(server, "one", '{"a": [1]}', **sent).json() == {"a": [2]}
        found = invoke(server, "ten", json.dumps({"a": pickled(np.ones(2))}), **sent).json()
        assert unpickled(found["a"]).tolist() == [11, 11]


def test_a_wrapper_goes_with_its_weights_through_save_model_and_pack(tmp_path):
    """The example is answered by the wrapper where it is saved, and as expected where it is served."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text(NETWORK)
    net = torch.nn.Linear(3, 2)
    request = json.dumps({"x": [[1, 2, 3], [4, 5, 6]]})
    save_model(
        net,
        model_dir=tmp_path / "saved",
        code_dir=tmp_path / "code",
        example=Example(request=request.encode(), content_type="application/json"),
    )
    packed = pack(tmp_path / "saved", tmp_path / "model.tar.gz")
    assert packed.warnings == ()
    with tarfile.open(packed.path) as archive:
        assert "code/inference.py" in archive.getnames()
    root = unpacked(packed.path, tmp_path / "there" / "model")
    assert "the archive's example is answered as expected" in check(root).stdout
    server = start(tmp_path / "there", {})
    try:
        wait_until(lambda: server.ping() == 200, "the model", log=server.log)
        found = server.post(request).json()
    finally:
        stop(server)
    expected = net(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    assert np.allclose(found["scores"], expected.detach().numpy(), atol=1e-5)
    assert found["label"] == expected.argmax(1).tolist()


VALUES = st.recursive(
    st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.booleans() | st.none() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=1),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=2), VALUES, max_size=3))
def test_the_example_is_given_to_the_wrapper_as_the_server_gives_it(value):
    """What is saved with the model was answered by the same arrays."""
    body = json.dumps(value)
    ours = dictionaries.read(body, "application/json", reading=Reading(max_decoded_bytes=1 << 20))
    theirs = default_functions.dictionary(body, "application/json")
    assert isinstance(ours, dict)
    assert ours.keys() == theirs.keys()
    for one, other in zip(ours.values(), theirs.values(), strict=True):
        assert type(one) is type(other)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert np.array_equal(one, other)
        else:
            assert one == other


def test_a_wrapper_that_fails_on_its_example_says_so_where_it_is_saved(tmp_path):
    """In a sentence that names the function."""
    (tmp_path / "code").mkdir()
    for returned, said in (
        ("lambda data: data['y']", "the function that create_model returned failed on the example: KeyError: 'y'"),
        ("None", "create_model returned a NoneType, not a function"),
    ):
        (tmp_path / "code/inference.py").write_text(f"def create_model(modeldir):\n    return {returned}\n")
        with pytest.raises(ArtifactError) as refusal:
            save_model(
                torch.nn.Linear(1, 1),
                model_dir=tmp_path / "saved",
                code_dir=tmp_path / "code",
                example=Example(request=b'{"x": 1}', content_type="application/json"),
            )
        assert said in str(refusal.value)


def test_a_script_may_ask_for_a_model_of_create_model(tmp_path):
    """`context.get_model` gives what create_model has returned."""
    asks = """
import json

def model_fn(model_dir, context):
    return context

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(data, context):
    return context.get_model("increment")(data)
"""
    with serving(tmp_path) as here:
        here.folder.publish("increment", 1, code=INCREMENT, six=SIX)
        here.folder.publish("asks", 1, code=asks)
        here.until_known("increment")
        here.until_known("asks")
        assert here.ask("asks", body={"a": 1}).json() == {"a": 2}


PIPE = """
import glob
import os
from io import BytesIO
from urllib.request import urlopen

import numpy as np
import torch
from PIL import Image
from studio import model_util

def create_model(modeldir):
    checkpoints = [(p, os.path.getmtime(p)) for p in glob.glob(modeldir + '/*.pth')]
    net = torch.nn.Linear(12, 2)
    net.load_state_dict(torch.load(max(checkpoints, key=lambda t: t[1])[0], weights_only=True))

    def model(batch):
        with torch.no_grad():
            return net(torch.as_tensor(batch)).numpy()

    pipe = model_util.ModelPipe()
    pipe.add(lambda url: urlopen(url).read(), num_workers=4, timeout=5)
    pipe.add(lambda img: Image.open(BytesIO(img)))
    pipe.add(lambda img: np.asarray(img, dtype=np.float32).reshape(1, -1) / 255)
    pipe.add(model, num_workers=1, batch_size=32, batcher=np.vstack)
    return pipe
"""
"""The second wrapper of the documentation, with a network of torch; urlopen reads data URIs, too."""


def png(*colour: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_wrapper_with_a_pipe_fetches_decodes_and_predicts_in_batches():
    """By the names of the dictionary; one address that cannot be read is null, and the others have their results."""
    net = torch.nn.Linear(12, 2)
    weights = io.BytesIO()
    torch.save(net.state_dict(), weights)
    with running({"code/inference.py": PIPE, "model.pth": weights.getvalue()}) as server:
        urls = {f"picture {n}": png(n, 2 * n, 3 * n) for n in range(40)}
        found = server.post(json.dumps({**urls, "nowhere": "file:///nowhere.png"})).json()
        assert found.pop("nowhere") is None
        assert found.keys() == urls.keys()
        for n in range(40):
            pixels = torch.tensor([[n, 2 * n, 3 * n] * 4], dtype=torch.float32) / 255
            assert np.allclose(found[f"picture {n}"], net(pixels).detach()[0].numpy(), atol=1e-4)
        assert "has no result: URLError" in server.log()
        assert server.post(json.dumps({"again": png(1, 1, 1)})).status == 200


# --- the identity


def test_an_empty_directory_is_the_identity_where_that_is_asked_for():
    """Ready, and each answer says what it is."""
    with running({}, TIDEGATE_IDENTITY_MODEL="on") as server:
        reply = server.post('{"a":"b"}')
        assert reply.body == b'{"a":"b"}'
        assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "model=identity"
        csv = server.post("1,2\n3,4\n", "text/csv")
        assert (csv.body, csv.headers["content-type"]) == (b"1,2\n3,4\n", "text/csv")
        tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]}
        sent = {"content-type": "application/json", "accept": "application/json"}
        found = server.request("POST", "/v2/models/model/infer", json.dumps({"inputs": [tensor]}), sent).json()
        assert found["outputs"] == [tensor]
        assert "is the identity" in server.log()


@pytest.mark.parametrize("files", [{}, {"README.md": "soon"}])
def test_a_missing_model_is_an_error_unless_the_identity_is_asked_for(tmp_path, files):
    """By `check` too, which says that it is the identity."""
    (tmp_path / "model").mkdir()
    write_files(tmp_path / "model", files)
    assert check(tmp_path / "model").returncode == 1
    asked = check(tmp_path / "model", TIDEGATE_IDENTITY_MODEL="on")
    assert asked.returncode == 0
    assert "is the identity, because there is none in" in asked.stdout


def test_the_identity_takes_the_place_of_no_model_that_is_there(tmp_path):
    """One that cannot be read, or is of a kind that nobody knows, is the error that it was; so is a directory."""
    for name in ("model.pt", "model.bin"):
        write_files(tmp_path / name, {name: "damaged"})
        assert check(tmp_path / name, TIDEGATE_IDENTITY_MODEL="on").returncode == 1
    assert "does not exist" in check(tmp_path / "nowhere", TIDEGATE_IDENTITY_MODEL="on").stderr


def test_a_script_without_a_model_is_given_the_identity():
    """Its own functions run; the answer says what the model is."""
    source = "def output_fn(prediction, accept):\n    return {'got': prediction.tolist()}\n"
    with running({"code/inference.py": source}, TIDEGATE_IDENTITY_MODEL="on") as server:
        reply = server.post("[[1, 2]]")
        assert reply.json() == {"got": [[1.0, 2.0]]}
        assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "model=identity"


def test_a_model_of_a_multi_model_endpoint_may_be_the_identity():
    """An empty directory is loaded by name."""
    with running({}, SAGEMAKER_MULTI_MODEL="true", TIDEGATE_IDENTITY_MODEL="on") as server:
        url = place(server, "none", {})
        Path(url).mkdir(parents=True, exist_ok=True)
        assert load(server, "none", url).status == 200
        reply = invoke(server, "none", "1,2")
        assert (reply.body, reply.headers["x-amzn-sagemaker-custom-attributes"]) == (b"1,2", "model=identity")
