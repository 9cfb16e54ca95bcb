"""Which functions an archive of another tool has, and what is said where its tool is not here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tidegate.inference.errors import BadRequest, DeploymentError
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker import defaults
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.foreign import filling, pretrained
from tidegate.inference.worker.handler import Functions

READING = Reading(max_decoded_bytes=1024)
CONFIG = '{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'


def spec(root: Path, **changed: Any) -> ModelSpec:
    given: dict[str, Any] = {
        "name": "model", "model_dir": str(root), "program": None, "threads": 1, "verify": True,
        "max_batch_size": 4, "default_accept": "application/json", "max_decoded_bytes": 1024,
        "max_response_bytes": 1024, "max_image_pixels": 1024, "log_level": 20, **changed,
    }  # fmt: skip
    return ModelSpec(**given)


def filled(root: Path, functions: Functions | None = None, **changed: Any) -> Functions:
    return filling.fill(functions or Functions(), root, spec(root, **changed), READING)


def test_an_archive_of_no_other_tool_is_left_alone(tmp_path: Path) -> None:
    assert filled(tmp_path) == Functions()
    assert filling.way_out(tmp_path, spec(tmp_path)) == ""


def test_a_task_without_a_model_of_transformers_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").write_text('{"learning_rate": 1}')
    assert filled(tmp_path, hf_task="fill-mask") == Functions()
    assert "HF_TASK=fill-mask has no effect" in caplog.text


def test_a_model_of_transformers_without_a_task_is_told_of_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    assert filled(tmp_path) == Functions()
    assert "HF_TASK" in filling.way_out(tmp_path, spec(tmp_path))
    assert filling.way_out(tmp_path, spec(tmp_path, hf_task="fill-mask")) == ""


def test_a_scripts_functions_win_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    own = Functions(model_fn=len, predict_fn=max)
    both = filled(tmp_path, own, hf_task="fill-mask")
    assert (both.model_fn, both.predict_fn, both.model_maker) == (len, max, "model_fn")
    assert both.input_fn is not None
    assert both.media_types is not None
    whole = filled(tmp_path, Functions(transform_fn=max), hf_task="fill-mask")
    assert (whole.input_fn, whole.predict_fn, whole.output_fn) == (None, None, None)
    assert whole.model_maker == "transformers.pipeline for fill-mask"


def test_a_script_with_a_model_fn_has_no_use_for_mlflow(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("no YAML: {")
    own = Functions(model_fn=len)
    assert filled(tmp_path, own) == own
    with pytest.raises(DeploymentError, match="cannot be read as YAML"):
        filled(tmp_path)


@pytest.mark.parametrize("tool", ["transformers", "mlflow"])
def test_a_tool_that_is_not_here_is_one_sentence_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setitem(sys.modules, tool, None)
    (tmp_path / "config.json").write_text(CONFIG)
    if tool == "mlflow":
        (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.onnx}}")
    functions = filled(tmp_path, hf_task="fill-mask")
    assert functions.model_fn is not None
    with pytest.raises(DeploymentError, match=rf"{tool}.* is not here: name it in .*requirements\.txt"):
        functions.model_fn(str(tmp_path))


@pytest.mark.parametrize(
    ("gpu_ids", "where"), [([], {"device": torch.device("cpu")}), ([0, 1], {"device_map": "auto"})]
)
def test_a_model_of_a_worker_with_several_gpus_is_spread_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu_ids: list[int], where: dict[str, Any]
) -> None:
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")
    pipelines = SimpleNamespace(pipeline=lambda **given: given)
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipelines=pipelines))
    monkeypatch.setitem(sys.modules, "transformers.pipelines", pipelines)
    monkeypatch.setattr(defaults, "device", lambda: torch.device("cpu"))
    (tmp_path / "config.json").write_text(CONFIG)
    model_fn = filled(tmp_path, hf_task="fill-mask", gpu_ids=gpu_ids).model_fn
    assert model_fn is not None
    given = model_fn(str(tmp_path))
    assert given == {"task": "fill-mask", "model": str(tmp_path), "trust_remote_code": False} | where


class Classifier:
    """A pipeline that notes how it is called."""

    tokenizer = None

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        self.calls.append((inputs, parameters))
        self._sanitize_parameters(**parameters)
        return inputs

    def _sanitize_parameters(self, *, top_k: int = 1, batch_size: int = 1) -> None:
        if top_k < batch_size - batch_size:
            raise ValueError("top_k is negative")


def test_a_list_is_computed_together_as_far_as_the_deployer_allows(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    predict = filled(tmp_path, hf_task="fill-mask").predict_fn
    assert predict is not None
    model = Classifier()
    predict({"inputs": ["a"] * 9}, model)
    predict({"inputs": ["a"] * 2, "parameters": {"batch_size": 1}}, model)
    predict({"inputs": "a", "parameters": {"top_k": 2}}, model)
    predict({"question": "a", "context": "b"}, model)
    assert model.calls == [
        (["a"] * 9, {"batch_size": 4}),
        (["a"] * 2, {"batch_size": 1}),
        ("a", {"top_k": 2}),
        ({"question": "a", "context": "b"}, {}),
    ]


@pytest.mark.parametrize(("parameters", "said"), [({"top_k": -1}, "top_k is negative"), ({"top_q": 1}, "top_q")])
def test_a_parameter_that_the_pipeline_refuses_is_the_clients_mistake(
    tmp_path: Path, parameters: dict[str, Any], said: str
) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    predict = filled(tmp_path, hf_task="fill-mask").predict_fn
    assert predict is not None
    with pytest.raises(BadRequest, match=said):
        predict({"inputs": "a", "parameters": parameters}, Classifier())


def test_an_error_of_the_model_is_not_the_clients(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    predict = filled(tmp_path, hf_task="fill-mask").predict_fn
    assert predict is not None

    def broken(_: Any) -> Any:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        predict({"inputs": "a"}, broken)


def test_a_directory_without_a_config_is_no_pretrained_model(tmp_path: Path) -> None:
    assert not pretrained.is_there(tmp_path)
    for text in ("[", "[]", "{}"):
        (tmp_path / "config.json").write_text(text)
        assert not pretrained.is_there(tmp_path)
    (tmp_path / "config.json").write_text(CONFIG)
    assert pretrained.is_there(tmp_path)
