"""A SavedModel of TensorFlow, with tensorflow's place taken by a stand-in: the real one is no dependency."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.test_weights import CPU, message
from tidegate.inference.errors import BadRequest
from tidegate.inference.worker import defaults, weights


class Shape(tuple[int | None, ...]):
    """Of tensorflow's TensorShape, what is used."""

    def is_compatible_with(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self) and all(mine in (None, its) for mine, its in zip(self, shape, strict=True))


class Refused(Exception):
    """Of tensorflow's InvalidArgumentError, what is used."""

    @property
    def message(self) -> str:
        return str(self)


class Signature:
    """Doubles its input `x`."""

    def __init__(self) -> None:
        spec = types.SimpleNamespace(
            dtype=types.SimpleNamespace(as_numpy_dtype=np.int64, name="int64"), shape=Shape((None, 2))
        )
        self.structured_input_signature: tuple[Any, Mapping[str, Any]] = ((), {"x": spec})

    def __call__(self, x: Any) -> dict[str, Any]:
        return {"y": types.SimpleNamespace(numpy=lambda: x * 2)}


@pytest.fixture
def signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Signature]:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    found = {"serving_default": Signature()}
    module = types.ModuleType("tensorflow")
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    module.saved_model = types.SimpleNamespace(load=lambda _: types.SimpleNamespace(signatures=found))  # type: ignore[attr-defined]
    module.constant = lambda array: array  # type: ignore[attr-defined]
    module.errors = types.SimpleNamespace(InvalidArgumentError=Refused)  # type: ignore[attr-defined]
    threading = types.SimpleNamespace(set_intra_op_parallelism_threads=lambda _: None)
    module.config = types.SimpleNamespace(threading=threading)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    return found


@pytest.mark.usefixtures("signatures")
def test_its_serving_signature_is_called_with_what_it_declares(tmp_path: Path) -> None:
    model = weights.load(tmp_path, CPU)
    assert defaults.predict_fn(torch.tensor([[1.0, 2.0]]), model).tolist() == [[2, 4]]
    assert defaults.predict_fn({"x": torch.tensor([[1, 2]])}, model).tolist() == [[2, 4]]


@pytest.mark.usefixtures("signatures")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.ones(1, 3), "the input 'x' has the shape (1, 3)"),
        (torch.full((1, 2), 0.5), "the input 'x' is of int64, to which these numbers of float32 cannot be cast"),
        ({"x": torch.ones(1, 2), "z": torch.ones(1)}, "the model has the inputs x, not x, z"),
        ([["a", "b"]], "the input 'x' takes numbers, which were not given"),
    ],
)
def test_what_does_not_fit_is_the_clients_mistake(tmp_path: Path, data: Any, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, weights.load(tmp_path, CPU))
    assert said in str(caught.value)


def test_names_have_one_order_in_every_worker(
    tmp_path: Path, signatures: dict[str, Signature], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensorflow gives them in another one in each process."""
    _, inputs = signatures["serving_default"].structured_input_signature
    signatures["serving_default"].structured_input_signature = ((), {"z": inputs["x"], **inputs})
    answer = types.SimpleNamespace(numpy=lambda: np.ones(1))
    monkeypatch.setattr(Signature, "__call__", lambda _, **__: {"w": answer, "v": answer})
    model, row = weights.load(tmp_path, CPU), torch.ones(1, 2)
    assert list(defaults.predict_fn({"z": row, "x": row}, model)) == ["v", "w"]
    with pytest.raises(BadRequest, match="the model has the inputs x, z, not z"):
        defaults.predict_fn({"z": row}, model)


def test_one_without_a_serving_signature_is_named(tmp_path: Path, signatures: dict[str, Signature]) -> None:
    signatures["train"] = signatures.pop("serving_default")
    assert message(tmp_path) == ("{dir} has the signatures train, and not serving_default, which is what is served.")


def test_without_tensorflow_the_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\x08\x01")
    assert message(tmp_path) == "{dir}/1 needs the package tensorflow: name it in code/requirements.txt."


def test_what_its_kernels_refuse_is_the_clients_mistake_in_one_line(
    tmp_path: Path, signatures: dict[str, Signature], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason stands between names of tensorflow's own, which are left out."""
    said = (
        "Graph execution error:\n\nDetected at node Gather defined at (most recent call last):\n"
        "<stack traces unavailable>\nindices[0,0] = 50 is not in [0, 50)\n\t [[{{node Gather}}]] [Op:__inference_60]"
    )

    def refuse(self: Signature, x: Any) -> dict[str, Any]:
        raise Refused(said)

    monkeypatch.setattr(Signature, "__call__", refuse)
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(torch.tensor([[1.0, 2.0]]), weights.load(tmp_path, CPU))
    assert "indices[0,0] = 50 is not in [0, 50)" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("Graph", "Gather", "Op:", "\n"))


@pytest.mark.usefixtures("signatures")
@pytest.mark.parametrize(
    "said",
    [
        "No OpKernel was registered to support Op 'NcclAllReduce' used by {{node NcclAllReduce}} with these attrs: []\n"
        "Registered devices: [CPU]\nRegistered kernels:\n  <no registered kernels>\n\n\t [[NcclAllReduce]]",
        "Cannot assign a device for operation mul: {{node mul}} was explicitly assigned to /job:worker/device:CPU:0 "
        "but available devices are [ /job:localhost/device:CPU:0 ].\n\t [[mul]] [Op:__inference_324]",
        "Graph execution error:\n\nDetected unsupported operations when trying to compile graph f on XLA_CPU_JIT: "
        "AsString (No registered 'AsString' OpKernel for XLA_CPU_JIT devices)\n\t [[f]]",
        "Graph execution error:\n\nTrying to access resource t located in device CPU:0 from device GPU:0\n\t [[f]]",
        "Graph execution error:\n\nThe Conv2D op currently only supports the NHWC tensor format on the CPU.\n\t [[f]]",
        "Graph execution error:\n\nYou must feed a value for placeholder tensor 'p' with dtype float\n\t [[p]]",
        "Graph execution error:\n\nValueError: mine\nTraceback (most recent call last):\n\nValueError: mine\n\t [[f]]",
    ],
)
def test_what_is_of_the_model_or_the_machine_is_no_mistake_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Tensorflow has one class for both; what is raised as it is becomes a 500 and a traceback in the log."""

    def fail(self: Signature, x: Any) -> dict[str, Any]:
        raise Refused(said)

    monkeypatch.setattr(Signature, "__call__", fail)
    with pytest.raises(Refused):
        defaults.predict_fn(torch.tensor([[1.0, 2.0]]), weights.load(tmp_path, CPU))


@pytest.mark.usefixtures("signatures")
def test_a_refusal_that_quotes_bytes_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensorflow cannot decode its own sentence then."""

    def refuse(self: Signature, x: Any) -> dict[str, Any]:
        b"{{function_node f}} Could not parse example input, value: '\xff'\n\t [[{{node P}}]] [Op:f]".decode()
        raise AssertionError

    monkeypatch.setattr(Signature, "__call__", refuse)
    with pytest.raises(BadRequest, match=r"Could not parse example input, value: '\\xff'\.$"):
        defaults.predict_fn(torch.tensor([[1.0, 2.0]]), weights.load(tmp_path, CPU))


PNG = b"\x89PNG\r\n\x1a\n\x00"


@pytest.mark.usefixtures("signatures")
@pytest.mark.parametrize(
    ("given", "answered"),
    [
        (np.array([["ü".encode(), b"\\xff"]], object), [["ü", "\\xff"]]),
        (np.array([PNG, b"\xff"], object), [PNG, b"\xff"]),
        (np.array([b"a", PNG], object), ["a", PNG]),
        (np.empty((0, 2), object), []),
        (PNG, PNG),
        (b"a", "a"),
    ],
)
def test_strings_are_given_as_texts_and_what_is_none_as_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, answered: Any
) -> None:
    """So nothing that is answered can be taken for something else; and each string is told by itself."""
    monkeypatch.setattr(Signature, "__call__", lambda _, **__: {"y": types.SimpleNamespace(numpy=lambda: given)})
    assert defaults.predict_fn(torch.tensor([[1.0, 2.0]]), weights.load(tmp_path, CPU)) == answered


@pytest.fixture
def of_strings(signatures: dict[str, Signature], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model takes one row of strings, and answers what it was given."""
    dtype = types.SimpleNamespace(as_numpy_dtype=np.object_, name="string")
    spec = types.SimpleNamespace(dtype=dtype, shape=Shape((None,)))
    signatures["serving_default"].structured_input_signature = ((), {"x": spec})
    monkeypatch.setattr(Signature, "__call__", lambda _, x: {"y": types.SimpleNamespace(numpy=lambda: x)})


@pytest.mark.usefixtures("of_strings")
def test_strings_are_taken_as_the_bytes_that_they_are(tmp_path: Path) -> None:
    """An image in a file, too, which is no text."""
    model = weights.load(tmp_path, CPU)
    assert defaults.predict_fn([PNG, "ü".encode(), "ü"], model) == [PNG, "ü", "ü"]
    assert defaults.predict_fn({"x": [PNG]}, model) == [PNG]
    assert defaults.predict_fn([], model) == []


@pytest.mark.usefixtures("of_strings")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.ones(2), "the input 'x' takes strings, and numbers were given"),
        ([b"a", 1], "the input 'x' takes strings, which were not given"),
        ([[b"a"], [b"a", b"b"]], "the input 'x' takes strings, which were not given"),
        (["\ud800"], "the input 'x' takes strings, and one was given that is not Unicode text"),
        ([[b"a"]], "the input 'x' has the shape (1, 1)"),
        (b"a", "the input 'x' has the shape ()"),
    ],
)
def test_what_are_no_strings_is_the_clients_mistake(tmp_path: Path, data: Any, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, weights.load(tmp_path, CPU))
    assert said in str(caught.value)
