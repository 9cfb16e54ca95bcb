"""A name by which one function of a script tells another something is found by a look at their source."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tidegate.inference.worker.context import Context
from tidegate.inference.worker.handler import bind
from tidegate.inference.worker.shared_state import shared_name

HEAD = """
import json, torch
STATE = {}
LIST = []
K = 1.0
class Box: pass
BOX = Box()
"""


def look(tmp_path: Path, script: str) -> str | None:
    path = tmp_path / "inference.py"
    path.write_text(HEAD + script)
    spec = importlib.util.spec_from_file_location("script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = bind(module, Context(model_name="model", manifest={}, system_properties={}))
    return shared_name({"input_fn": found.input_fn, "predict_fn": found.predict_fn, "output_fn": found.output_fn})


@pytest.mark.parametrize(
    "change",
    [
        "global K; K = json.loads(b)['k']",
        "global K; del K",
        "STATE['k'] = 1",
        "STATE['a']['b'] = 1",
        "STATE.update(k=1)",
        "STATE |= {'k': 1}",
        "LIST.append(b)",
        "LIST[:] = [b]",
        "BOX.k = 1",
        "setattr(BOX, 'k', 1)",
        "keep(b)",
        "(lambda: STATE.clear())()",
        "[keep(x) for x in b]",
    ],
)
@pytest.mark.parametrize("context", ["", ", context"])
def test_what_input_fn_changes_and_output_fn_uses_is_shared(tmp_path: Path, change: str, context: str) -> None:
    stated = "global STATE; " if "|=" in change else ""
    script = (
        f"def input_fn(b, ct{context}):\n    {stated}{change}\n    return b\n"
        "def keep(b):\n    STATE['k'] = b\n"
        "def used(p):\n    return [p, STATE, LIST, BOX, K]\n"
        "@torch.no_grad()\ndef predict_fn(x, m): return x\n"
        "def output_fn(p, a): return used(p)\n"
    )
    told = look(tmp_path, script)
    assert told is not None
    assert told.startswith("input_fn sets ")
    assert told.endswith("which output_fn uses too")


@pytest.mark.parametrize(
    "body",
    [
        "STATE = {}; STATE['k'] = 1; return STATE",
        "return [LIST, STATE, K, BOX, b]",
        "b.append(1); return b",
        "b['x'] = 1; return b",
        "return torch.sort(b)",
        "global K; return K",
        "x = [STATE for STATE in b]; return x",
        "torch.backends.cudnn.benchmark = True; return b",
    ],
)
def test_what_is_only_used_or_is_a_functions_own_is_not(tmp_path: Path, body: str) -> None:
    script = (
        f"def input_fn(b, ct):\n    {body}\n"
        "def predict_fn(x, m): return torch.tensor(x), STATE, LIST, K, BOX\n"
        "def model_fn(d):\n    global K\n    K = 2.0\n    STATE['labels'] = 3\n"
    )
    assert look(tmp_path, script) is None


def test_a_count_that_only_its_own_function_uses_is_not_shared(tmp_path: Path) -> None:
    script = "def input_fn(b, ct):\n    global K\n    K += 1\n    return b\ndef predict_fn(x, m): return x\n"
    assert look(tmp_path, script) is None


def test_functions_without_source_are_left_alone() -> None:
    assert shared_name({"input_fn": len, "predict_fn": None, "output_fn": eval("lambda p, a: p")}) is None  # noqa: S307
