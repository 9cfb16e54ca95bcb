"""The scripts of docs/guides/batching.md: joined, they answer each client as alone."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tidegate.inference.protocol import Answer, Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.handler import bind

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "batching.md"
SCRIPTS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def text(source: random.Random) -> bytes:
    return json.dumps([source.randrange(1000) for _ in range(source.randint(1, 12))]).encode()


def image(source: random.Random) -> bytes:
    file = io.BytesIO()
    shape = (3, source.randint(4, 9), source.randint(4, 9))
    pixels = np.random.default_rng(source.randrange(100)).choice([0.1, 0.95, 1.0], shape)
    np.save(file, pixels.astype(np.float32))
    return file.getvalue()


def served(script: str) -> Computation:
    module = ModuleType("inference_of_the_guide")
    module.__file__ = str(GUIDE)
    exec(compile(script, str(GUIDE), "exec"), module.__dict__)  # noqa: S102 - the page is ours
    functions = bind(module, Context(model_name="guide", manifest={}, system_properties={}))
    assert functions.model_fn is not None
    return Computation(
        model=functions.model_fn("."),
        functions=functions,
        context=Context(model_name="guide", manifest={}, system_properties={}),
        default_accept="application/json",
        reading=Reading(max_decoded_bytes=1 << 20),
        max_response_bytes=1 << 20,
    )


@pytest.mark.parametrize(("script", "make"), list(zip(SCRIPTS, [text, image], strict=True)), ids=["padding", "boxes"])
def test_a_script_of_the_guide_answers_eight_clients_with_one_call_as_it_answers_each_alone(script, make):
    toy, source = served(script), random.Random(1)  # noqa: S311 - it is to be repeatable
    items = [Request(number, "application/x-npy", "", b"", make(source)) for number in range(8)]
    together, done = ask(toy, items)
    assert (done.joined, done.sizes) == (1, (8,))
    for item, answer in zip(items, together, strict=True):
        ((alone,), _) = ask(toy, [item])
        assert isinstance(answer, Answer)
        assert isinstance(alone, Answer)
        assert flat(json.loads(answer.body)) == pytest.approx(flat(json.loads(alone.body)), rel=1e-5)
    assert len({item.body for item in items}) == len({answer.body for answer in together if isinstance(answer, Answer)})


def flat(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flat(value[key])]
    return [number for each in value for number in flat(each)] if isinstance(value, list) else [value]  # type: ignore[list-item]
