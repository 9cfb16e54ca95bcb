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
def test_texts_are_given_as_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = np.array([["ü".encode(), b"\xff"]], object)
    monkeypatch.setattr(Signature, "__call__", lambda _, **__: {"y": types.SimpleNamespace(numpy=lambda: given)})
    found = defaults.predict_fn(torch.tensor([[1.0, 2.0]]), weights.load(tmp_path, CPU))
    assert found == [["ü", "\\xff"]]
