"""A script whose functions nobody would call is told so; helpers of whatever name are the script's own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import tidegate.handler
from tidegate.inference.worker import near_misses, user_code
from tidegate.inference.worker.handler import ARGUMENTS


def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[ModuleType, list[str]]:
    """The script, and which of the functions it has."""
    path = tmp_path / "toy_script.py"
    path.write_text(script)
    monkeypatch.delitem(sys.modules, "toy_script", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = user_code.import_script(path)
    return module, [name for name in ARGUMENTS if hasattr(module, name)]


def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str | None:
    module, found = imported(tmp_path, monkeypatch, script)
    mistake = near_misses.mistake(module, found)
    return mistake and mistake.replace(f"{module.__file__}: ", "")


def doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str | None:
    module, found = imported(tmp_path, monkeypatch, script)
    doubt = near_misses.doubt(module, found)
    return doubt and doubt.replace(f"{module.__file__} ", "")


MODEL = "def model_fn(model_dir): ...\n"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ouput_fn", "output_fn"),
        ("outputfn", "output_fn"),
        ("output_func", "output_fn"),
        ("output_function", "output_fn"),
        ("ouptut_fn", "output_fn"),
        ("predict_func", "predict_fn"),
        ("predictFn", "predict_fn"),
        ("prediction_fn", "predict_fn"),
        ("predict_f", "predict_fn"),
        ("predict_fm", "predict_fn"),
        ("Predict_fn", "predict_fn"),
        ("inptu_fn", "input_fn"),
        ("inputs_fn", "input_fn"),
        ("transfrom_fn", "transform_fn"),
        ("transform_func", "transform_fn"),
        ("model_warm_up_fn", "model_warmup_fn"),
        ("colate_fn", "collate_fn"),
        ("collate_func", "collate_fn"),
        ("collatefn", "collate_fn"),
        ("Collate_fn", "collate_fn"),
        ("collate_f", "collate_fn"),
        ("split_func", "split_fn"),
        ("spilt_fn", "split_fn"),
        ("splitFn", "split_fn"),
    ],
)
def test_a_misspelt_function_is_named_with_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    sentence = f"nothing calls {name}; did you mean {meant}?"
    assert said(tmp_path, monkeypatch, f"{MODEL}def {name}(*arguments): ...\n") == sentence
    started = f"if __name__ == '__main__':\n    print({name}(1))\n"
    assert said(tmp_path, monkeypatch, f"{MODEL}def {name}(*arguments): ...\n{started}") == sentence
    assert said(tmp_path, monkeypatch, f"def {name}(*arguments): ...\n") == sentence
    (tmp_path / "toy_helper.py").write_text(f"def {name}(*arguments): ...\n")
    monkeypatch.delitem(sys.modules, "toy_helper", raising=False)
    assert said(tmp_path, monkeypatch, f"{MODEL}from toy_helper import {name}") == sentence


@pytest.mark.parametrize(
    "assigned",
    ["model_fn, input_fn, predct_fn, output_fn = made()", "[model_fn, input_fn], (predct_fn, output_fn) = pairs()"],
)
def test_a_name_that_a_function_is_given_by_an_assignment_is_no_use_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assigned: str
) -> None:
    made = (
        "def made():\n    def a(data): ...\n    def b(data): ...\n    def c(data): ...\n    def d(data): ...\n"
        "    return a, b, c, d\ndef pairs():\n    return made()[:2], made()[2:]\n"
    )
    sentence = "nothing calls predct_fn; did you mean predict_fn?"
    assert said(tmp_path, monkeypatch, f"{made}{assigned}\n") == sentence
    assert said(tmp_path, monkeypatch, f"{made}{assigned}\nuse = predct_fn\n") is None


@pytest.mark.parametrize(
    "script",
    [
        "def predict_fn(data, model): ...\ndef predict_func(x): ...",
        "def input_fn(a, b): ...\ndef inputs_fn(x): ...\ndef input_func(x): ...",
        "def _ouput_fn(x): ...",
        "ouput_fn = None\nmodel_func = 3\nclass Predict_fn: ...",
        "def transform(image): ...\ndef predict(x): ...\ndef collate(batch): ...\ndef split(x): ...\ndef model(x): ...",
        "def transform_fn(a, b, c, d): ...\ndef predict_func(x): ...\ndef input_func(x): ...",
        "def predict_fn(a, b): ...\ndef transform_func(image): ...",
        "def init_fn(worker): ...\ndef loss_fn(a, b): ...\ndef norm_fn(x): ...\ndef load_model_fn(d): ...",
        "def preprocess(x): ...\ndef inference(x): ...\ndef postprocess(x): ...\ndef handle(a, b): ...",
        "def collate_func(batch): ...\nmake_loader = lambda data: (data, collate_func)",
        "def collate_func(batch, pad, device): ...\ndef split_func(x): ...",
        "def pad_collate_fn(batch): ...\ndef my_collate_fn(batch): ...\ndef collator(batch): ...\ndef split(x, n): ...",
        "def collate_fn(batch): ...\ndef colate_fn(batch): ...",
        "def input_func(x): ...\ndef predict_fn(data, model): return model(input_func(data))",
        "class Handler:\n    def initialize(self, context): ...\n    def handle(self, data, context): ...",
    ],
)
def test_helpers_beside_the_functions_are_the_scripts_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    assert said(tmp_path, monkeypatch, f"{MODEL}{script}\n") is None


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("def handle(data, context): ...", "handle is TorchServe's"),
        ("def lambda_handler(event, context): ...", "lambda_handler is AWS Lambda's"),
        (
            "def preprocess(x): ...\ndef postprocess(x): ...",
            "preprocess, postprocess are the steps of another server",
        ),
        (
            "class BaseHandler: ...\nclass Mine(BaseHandler): ...",
            "the class BaseHandler is a handler of TorchServe",
        ),
        (
            "class Mine:\n    def initialize(self, c): ...\n    def handle(self, d, c): ...",
            "the class Mine is a handler of TorchServe",
        ),
        ("class Mine:\n    def handle(self, data, context): ...", "the class Mine is a handler of TorchServe"),
        ("class Mine:\n    def handle(self, rows, ctx=None): ...", "the class Mine is a handler of TorchServe"),
        (
            "class Base:\n    def handle(self, d, c): ...\nclass Mine(Base): ...",
            "the class Base is a handler of TorchServe",
        ),
        ("class TritonPythonModel: ...", "the class TritonPythonModel is Triton's"),
        (
            "class Predictor:\n    def setup(self): ...\n    def predict(self, image): ...",
            "the class Predictor is a predictor of Cog",
        ),
        (
            "class BasePredictor: ...\nclass Mine(BasePredictor):\n    def predict(self, image): ...",
            "the class Mine is a predictor of Cog",
        ),
        (
            "class Mine:\n    def model_fn(self, d): ...\n    def predict_fn(self, a, b): ...",
            "model_fn, predict_fn of the class Mine are no functions of the module",
        ),
        (
            "class Mine:\n    def preprocess(self, x): ...\n    def forward(self, x): ...\n"
            "    def postprocess(self, x): ...",
            "preprocess, postprocess of the class Mine are no functions of the module",
        ),
        (
            "class Base:\n    def preprocess(self, x): ...\n    def postprocess(self, x): ...\nclass Mine(Base): ...",
            "preprocess, postprocess of the class Base are no functions of the module",
        ),
    ],
)
def test_a_script_of_another_server_is_told_what_is_called_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, what: str
) -> None:
    mistake = said(tmp_path, monkeypatch, script)
    assert mistake is not None
    sentence, _, by_a_class = mistake.partition(", or have them made of a class with")
    assert sentence.removesuffix(".") == (
        f"{what}, and nothing here calls it; write model_fn, input_fn, predict_fn and output_fn as functions of the "
        "module"
    )
    assert bool(by_a_class) is ("class" in what)
    assert said(tmp_path, monkeypatch, f"{script}\n{MODEL}") is None


@pytest.mark.parametrize(
    "script",
    [
        "class LitAPI: ...\nclass Mine(LitAPI):\n    def setup(self, device): ...\n    def predict(self, x): ...",
        "class Mine:\n    def setup(self, device): ...\n    def decode_request(self, r): ...\n"
        "    def predict(self, x): ...\n    def encode_response(self, o): ...",
    ],
)
def test_a_litapi_is_pointed_to_the_functions_that_its_methods_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    mistake = said(tmp_path, monkeypatch, script)
    assert mistake == (
        "the class Mine is a LitAPI of LitServe, and nothing here calls it; write model_fn, input_fn, predict_fn and "
        "output_fn as functions of the module; docs/migration.md has, under From LitServe, which function each method "
        "becomes."
    )
    assert "\n## From LitServe\n" in (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
    assert said(tmp_path, monkeypatch, f"{script}\n{MODEL}") is None


def test_a_handler_class_is_pointed_to_the_function_that_makes_the_four_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the line to write, which then is no mistake any more; the file need not be there, the server has it."""
    steps = "".join(f"    def {name}(self, x): ...\n" for name in ("preprocess", "forward", "postprocess"))
    script = f"class Mine:\n    def __init__(self, model_dir): ...\n{steps}"
    mistake = said(tmp_path, monkeypatch, script)
    assert mistake is not None
    line = "model_fn, input_fn, predict_fn, output_fn = functions_of(Mine)"
    assert f"{line}, after from tidegate_handler import functions_of." in mistake
    monkeypatch.setitem(sys.modules, "tidegate_handler", tidegate.handler)
    assert said(tmp_path, monkeypatch, f"from tidegate_handler import functions_of\n{script}{line}\n") is None


@pytest.mark.parametrize(
    "script",
    [
        "",
        "import json",
        "from json import loads as handle, dumps as preprocess, load as postprocess",
        "from toy_functions import model_fn, predict_fn",
        "class Net:\n    def forward(self, x): ...\ndef train(): ...\ndef evaluate(net): ...\ndef predict(net, x): ...",
        "def preprocess(x): ...",
        "class Events:\n    def handle(self, event): ...\nclass Command:\n    def handle(self, *words, **options): ...",
        "class Net:\n    def preprocess(self, x): ...\n    def postprocess(self, x): ...\n"
        "    def forward(self, x): return self.postprocess(self.preprocess(x))",
        "class Net:\n    def preprocess(self, x): ...",
        "class Module:\n    def setup(self, stage): ...\n    def predict(self, x): ...",
        "class Predictor:\n    def setup(self): ...\n    def predict(self, x): ...\nanswer = Predictor().predict(1)",
    ],
)
def test_a_script_without_functions_or_with_imported_ones_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    (tmp_path / "toy_functions.py").write_text("def model_fn(d): ...\ndef predict_fn(a, b): ...\ndef handle(a, b): ...")
    assert said(tmp_path, monkeypatch, script) is None


@pytest.mark.parametrize("name", ["createmodel", "create_modle", "creat_model", "create_model_fn", "Create_model"])
def test_a_misspelt_create_model_is_named_where_nothing_else_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sentence = f"nothing calls {name}; did you mean create_model?"
    assert said(tmp_path, monkeypatch, f"def {name}(modeldir): ...\n") == sentence
    assert said(tmp_path, monkeypatch, f"{MODEL}def {name}(modeldir): ...\n") is None
    assert said(tmp_path, monkeypatch, f"def {name}(depth, width): ...\n") is None


def test_a_create_model_that_is_not_served_is_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a library, or of the architecture that the manifest names: nothing else is meant by it."""
    assert said(tmp_path, monkeypatch, "def create_model(name): ...\n") is None


def test_helpers_beside_create_model_are_the_scripts_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper's functions have any names but nearly those of the contract."""
    helpers = (
        "def preprocess(x): ...\ndef predict(x): ...\ndef postprocess(x): ...\nclass Model:\n    def handle(s): ...\n"
    )
    path = tmp_path / "toy_script.py"
    path.write_text(helpers)
    monkeypatch.delitem(sys.modules, "toy_script", raising=False)
    module = user_code.import_script(path)
    assert near_misses.mistake(module, ["create_model"]) is None
    path.write_text("def predct_fn(data, model): ...\n")
    monkeypatch.delitem(sys.modules, "toy_script")
    mistake = near_misses.mistake(user_code.import_script(path), ["create_model"])
    assert mistake == f"{path}: nothing calls predct_fn; did you mean predict_fn?"


def test_a_network_that_the_manifest_names_may_have_steps_of_its_own(tmp_path: Path) -> None:
    """It is served by its `forward`; what else it can do is for those who call it."""
    path = tmp_path / "toy_network.py"
    path.write_text("class Net:\n    def preprocess(self, x): ...\n    def postprocess(self, x): ...\n")
    module = user_code.import_script(path)
    assert near_misses.mistake(module, [], builds=True) is None
    assert near_misses.mistake(module, []) is not None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("predict", "predict_fn"),
        ("predict_batch", "predict_fn"),
        ("forward", "predict_fn"),
        ("preprocess", "input_fn"),
        ("postprocess", "output_fn"),
        ("handle", "transform_fn"),
        ("handler", "transform_fn"),
    ],
)
def test_what_other_servers_call_a_function_is_doubted_where_nothing_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    sentence = f"defines {name}, and nothing calls it; did you mean {meant}?"
    script = f"{MODEL}def {name}(x, model): ...\n"
    assert doubted(tmp_path, monkeypatch, script) == sentence
    started = f"if __name__ == '__main__':\n    print({name}(1, 2))\n"
    assert doubted(tmp_path, monkeypatch, script + started) == sentence
    assert (
        doubted(tmp_path, monkeypatch, f"import torch\n{MODEL}@torch.no_grad()\ndef {name}(x, model): ...\n")
        == sentence
    )
    assert doubted(tmp_path, monkeypatch, f"{script}def {meant}(*arguments): ...\n") is None
    assert doubted(tmp_path, monkeypatch, f"{script}def warm(model): return {name}(1, model)\n") is None
    assert doubted(tmp_path, monkeypatch, f"{script}steps = [{name}]\n") is None
    assert said(tmp_path, monkeypatch, script) is None


def test_a_load_model_for_the_models_that_the_script_asks_for_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "def load_model(path): ...\ndef predict_fn(data, model, context): return context.get_model(data)\n"
    assert doubted(tmp_path, monkeypatch, script) is None
    alone = "def load_model(path): ...\ndef predict_fn(data, model): ...\n"
    assert doubted(tmp_path, monkeypatch, alone) == ("defines load_model, and nothing calls it; did you mean model_fn?")


def test_the_doubt_names_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "def load_model(path): ...\ndef predict(x): ...\ndef forward(x): ...\ndef train(): ...\n"
    assert doubted(tmp_path, monkeypatch, script) == (
        "defines load_model and predict and forward, and nothing calls them; did you mean model_fn and predict_fn?"
    )


@pytest.mark.parametrize(
    "script",
    [
        "def transform_fn(a, b, c, d): ...\ndef predict(x): ...\ndef preprocess(x): ...",
        "def predict_fn(a, b): ...\ndef handle(x): ...",
        "class Net:\n    def forward(self, x): ...\n    def predict(self, x): ...",
        "from json import loads as preprocess, dumps as postprocess",
        "from tensors import predict",
        "predict = None\nhandler = 3",
    ],
)
def test_nothing_else_of_such_a_name_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    elsewhere = tmp_path / "library"
    elsewhere.mkdir()
    (elsewhere / "tensors.py").write_text("def predict(x): ...\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    monkeypatch.delitem(sys.modules, "tensors", raising=False)
    archive = tmp_path / "archive"
    archive.mkdir()
    assert doubted(archive, monkeypatch, f"{MODEL}{script}\n") is None
