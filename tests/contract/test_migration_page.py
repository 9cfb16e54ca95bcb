"""docs/migration.md: the scripts that replace what other servers had answer as the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.claims import page
from tests.contract.running import Server, running

SCRIPTS = dict(re.findall(r"^```python\n# (\w+)/code/inference.py\n(.*?)^```$", page("migration.md"), re.M | re.S))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All of them, as models of one server."""
    root: Path = tmp_path_factory.mktemp("models")
    with running({}, SAGEMAKER_MULTI_MODEL="true") as started:
        for name, script in SCRIPTS.items():
            (root / name / "code").mkdir(parents=True)
            (root / name / "code" / "inference.py").write_text(script, encoding="utf-8")
            loaded = started.request("POST", "/models", f'{{"model_name": "{name}", "url": "{root / name}"}}')
            assert loaded.status == 200, loaded.body
        yield started


def ask(server: Server, model: str, body: str) -> tuple[int, object]:
    answer = server.request("POST", f"/models/{model}/invoke", body, {"content-type": "application/json"})
    return answer.status, answer.json()


def test_the_script_that_was_an_api_of_litserve_answers_as_that_did(server: Server) -> None:
    assert ask(server, "squares", '{"input": 7}') == (200, {"output": 49})


def test_the_script_that_was_a_route_of_fastapi_reads_its_model_and_refuses_what_does_not_fit(server: Server) -> None:
    assert ask(server, "greetings", '{"name": "Ada", "times": 2}') == (200, {"greetings": ["hello Ada", "hello Ada"]})
    status, body = ask(server, "greetings", '{"name": "Ada", "times": "often"}')
    assert status == 400
    assert "times" in str(body)


def test_every_script_of_the_page_is_asked() -> None:
    assert SCRIPTS.keys() == {"squares", "greetings"}
