"""Adapters of a model: registered, asked for by a header, and gone after their last answer, on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.contract.adapters import MODEL, adapter
from tests.contract.asking import metric
from tests.contract.running import Reply, Server, running

HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
SCRIPT = (
    MODEL
    + """
import os, time

def predict_fn(data, model, context):
    x = data.float()
    if x.flatten()[0] == 77:  # a stream of three parts
        def parts():
            for _ in range(3):
                yield f"{float(model(torch.ones(1)))} {context.adapter}\\n"
        return parts()
    if x.flatten()[0] == 88:  # until it is let go
        open(os.environ["TMPDIR"] + "/at-work", "w").close()
        while not os.path.exists(os.environ["TMPDIR"] + "/go"):
            time.sleep(0.01)
    return {"y": model(x).tolist(), "adapter": context.adapter}
"""
)
FILES = {
    "code/inference.py": SCRIPT,
    **adapter("ten", 10.0),
    **adapter("hundred", 100.0),
    **adapter("thousand", 1000.0),
    "adapters/empty/readme": b"",
    "adapters/file": b"",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("scratch")
    with running(FILES, TIDEGATE_WORKERS="2", TIDEGATE_MAX_ADAPTERS="2", TMPDIR=str(scratch)) as server:
        yield server


@pytest.fixture(autouse=True)
def without_adapters(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        for each in server.request("GET", "/adapters").json()["adapters"]:
            server.request("DELETE", f"/adapters/{each['name']}")


def register(server: Server, name: Any, src: Any = None, **more: Any) -> Reply:
    body = {"name": name, "src": f"adapters/{name}" if src is None else src, **more}
    return server.request("POST", "/adapters", json.dumps(body), {"content-type": "application/json"})


def ask(server: Server, name: str | None, x: Any = 3) -> Any:
    headers = {"content-type": "application/json"} | ({} if name is None else {HEADER: name})
    reply = server.request("POST", "/invocations", json.dumps([x]), headers)
    return reply.json() if reply.headers["content-type"] == "application/json" else reply.body.decode()


def states(server: Server) -> dict[str, str]:
    return {each["name"]: each["state"] for each in server.request("GET", "/adapters").json()["adapters"]}


def test_a_request_has_the_adapter_that_its_header_names_and_others_have_the_model_as_it_was(server: Server) -> None:
    reply = register(server, "ten")
    assert (reply.status, reply.body) == (200, b"Adapter ten registered")
    assert register(server, "hundred", src=str(server.model_dir / "adapters/hundred"), preload=True).status == 200
    for _ in range(4):  # whichever worker answers
        assert ask(server, "ten") == {"y": [30.0], "adapter": "ten"}
        assert ask(server, None) == {"y": [3.0], "adapter": None}
        assert ask(server, "hundred") == {"y": [300.0], "adapter": "hundred"}
    entry = server.request("GET", "/adapters/ten").json()
    place = str((server.model_dir / "adapters/ten").resolve())
    assert entry == {"name": "ten", "src": place, "pin": False, "state": "loaded", "requests": 0}


def test_an_unknown_adapter_is_404_and_the_sentence_names_those_that_are_known(server: Server) -> None:
    register(server, "ten")
    for method, path in (("DELETE", "/adapters/french"), ("GET", "/adapters/french"), ("POST", "/invocations")):
        reply = server.request(method, path, b"[1]", {HEADER: "french", "content-type": "application/json"})
        assert (reply.status, reply.error["code"]) == (404, "adapter_not_found")
        assert reply.error["message"].startswith("There is no adapter 'french' here: there are ten;")


def test_what_is_unregistered_is_unknown_and_its_name_is_free_for_another(server: Server) -> None:
    register(server, "ten")
    assert register(server, "ten").error["code"] == "already_loaded"
    reply = server.request("DELETE", "/adapters/ten")
    assert (reply.status, reply.body) == (200, b"Adapter ten unregistered")
    assert ask(server, "ten")["error"]["code"] == "adapter_not_found"
    assert register(server, "ten", src="adapters/hundred").status == 200
    assert ask(server, "ten")["y"] == [300.0]


def test_requests_in_flight_are_answered_before_their_adapter_goes(server: Server, tmp_path: Path) -> None:
    register(server, "ten")
    register(server, "hundred")
    scratch = Path(next(line for line in environment_of(server) if line.startswith("TMPDIR=")).partition("=")[2])
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(ask, server, "ten", 88)
        try:
            server.wait_until((scratch / "at-work").exists, "the request is at work")
            leaving = threads.submit(server.request, "DELETE", "/adapters/ten")
            server.wait_until(lambda: states(server)["ten"] == "leaving", "the adapter is leaving")
            assert ask(server, "ten")["error"]["code"] == "adapter_not_found"
            assert "just being unregistered" in register(server, "ten").error["message"]
            assert ask(server, "hundred")["y"] == [300.0]
            assert not slow.done()
            assert not leaving.done()
        finally:
            (scratch / "go").touch()
        assert slow.result() == {"y": [880.0], "adapter": "ten"}
        assert leaving.result().status == 200
    assert states(server) == {"hundred": "loaded"}


def environment_of(server: Server) -> list[str]:
    return Path(f"/proc/{server.process.pid}/environ").read_text().split("\0")


def test_streams_of_different_adapters_are_interleaved_and_not_mixed(server: Server) -> None:
    register(server, "ten")
    register(server, "hundred")
    with ThreadPoolExecutor(12) as threads:
        names = ["ten", "hundred", None] * 4
        answers = list(threads.map(lambda name: ask(server, name, 77), names))
    factors = {"ten": 10.0, "hundred": 100.0, None: 1.0}
    assert answers == [f"{factors[name]} {name}\n" * 3 for name in names]


def test_one_that_is_not_preloaded_is_loaded_by_its_first_request_and_the_longest_unused_goes_for_it(
    server: Server,
) -> None:
    for name in ("ten", "hundred", "thousand"):
        assert register(server, name, preload=False).status == 200
    assert set(states(server).values()) == {"on demand"}
    for name, factor in (("ten", 10.0), ("hundred", 100.0), ("ten", 10.0), ("thousand", 1000.0)):
        assert ask(server, name, 1)["y"] == [factor]
    assert states(server) == {"ten": "loaded", "hundred": "on demand", "thousand": "loaded"}
    assert ask(server, "hundred", 1)["y"] == [100.0]


def test_what_is_pinned_stays_and_without_a_place_for_another_there_is_507_or_503(server: Server) -> None:
    for name in ("ten", "hundred"):
        assert register(server, name, preload=False, pin=True).status == 200
    reply = register(server, "thousand")
    assert (reply.status, reply.error["code"]) == (507, "out_of_memory")
    assert "TIDEGATE_MAX_ADAPTERS" in reply.error["message"]
    assert register(server, "thousand", preload=False).status == 200
    assert ask(server, "thousand")["error"]["code"] == "overloaded"
    server.request("DELETE", "/adapters/ten")
    assert ask(server, "thousand")["y"] == [3000.0]


def test_a_worker_that_starts_later_has_the_adapters_too(server: Server) -> None:
    register(server, "ten")
    killed = server.workers()
    for worker in killed:
        worker.kill()
    server.wait_until(
        lambda: len(workers := server.workers()) == 2 and not set(workers) & set(killed), "there are workers again"
    )
    assert [ask(server, "ten")["y"] for _ in range(6)] == [[30.0]] * 6


@pytest.mark.parametrize(
    ("src", "said"),
    [
        ("/etc", "There is no adapter at"),
        ("../..", "There is no adapter at"),
        ("adapters/../../..", "There is no adapter at"),
        (".", "There is no adapter at"),
        ("adapters/nowhere", "There is no adapter at"),
        ("adapters/out", "There is no adapter at"),
        ("adapters/file", "is no directory"),
        ("s3://bucket/adapter", "is not fetched"),
        ("a\0b", "src must be"),
        ("x" * 5000, "There is no adapter at"),
        (7, "src must be"),
        ("", "src must be"),
    ],
)
def test_a_place_that_the_deployer_has_not_given_is_400(server: Server, src: Any, said: str) -> None:
    link = server.model_dir / "adapters/out"
    if not link.is_symlink():
        link.symlink_to("/etc")
    reply = register(server, "ten", src=src)
    assert reply.status == 400
    assert said in reply.error["message"]
    assert states(server) == {}


@pytest.mark.parametrize("linked", ["adapter_model.safetensors", "adapter_config.json", "more"])
def test_a_file_of_an_adapter_that_leads_out_by_a_link_is_refused_whenever_it_was_put_there(
    server: Server, tmp_path: Path, linked: str
) -> None:
    files = {Path(name).name: content for name, content in adapter("linked", 10.0).items()} | {"more": b"x"}
    place = server.model_dir / f"adapters/linked-{linked}"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    assert register(server, "linked", src=str(place), preload=False).status == 200
    (tmp_path / linked).write_bytes(files[linked])
    (place / linked).unlink()
    (place / linked).symlink_to(tmp_path / linked)
    assert ask(server, "linked")["error"]["code"] == "adapter_load_failed"
    server.request("DELETE", "/adapters/linked")
    reply = register(server, "linked", src=str(place))
    assert (reply.status, reply.error["code"]) == (500, "adapter_load_failed")
    assert f"has {linked}, which leads out of the model directory" in reply.error["message"]


def test_a_file_of_an_adapter_may_be_a_link_to_another_place_that_is_allowed(server: Server) -> None:
    place = server.model_dir / "adapters/inside"
    place.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (place / name).symlink_to(f"../ten/{name}")
    assert register(server, "inside").status == 200
    assert ask(server, "inside")["y"] == [30.0]


def test_white_space_behind_the_name_is_no_part_of_it(server: Server) -> None:
    register(server, "ten")
    assert ask(server, "ten \t ") == {"y": [30.0], "adapter": "ten"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"name": "a"}',
        b'{"name": "a", "src": "adapters/ten", "pin": 1}',
        b'{"name": "a", "src": "adapters/ten", "preload": "false"}',
        b'{"name": "a/b", "src": "adapters/ten"}',
        b'{"name": "a\\r\\nb", "src": "adapters/ten"}',
        b'{"name": "\\u00e9", "src": "adapters/ten"}',
        b'{"name": "' + b"a" * 257 + b'", "src": "adapters/ten"}',
        b'{"name": "a", "src": "adapters/ten", "x": "' + b"a" * 70000 + b'"}',
        b"[" * 5000,
    ],
)
def test_a_registration_that_is_none_is_400(server: Server, body: bytes) -> None:
    reply = server.request("POST", "/adapters", body, {"content-type": "application/json"})
    assert (reply.status, reply.error["code"]) == (400, "bad_request")
    assert states(server) == {}


def test_what_is_no_adapter_is_refused_and_the_model_answers_as_before(server: Server) -> None:
    big = {"lora_A": torch.tensor([[5.0]]), "base": torch.ones(1)}
    wrong = {
        "empty": ({}, b"", "no adapter_config.json"),
        "half": ({"peft_type": "LORA"}, b"\xff" * 20, "weights that cannot be read"),
        "kind": ({"r": 1}, save({"lora_A": torch.ones(1, 1)}), "no object with a peft_type"),
        "bomb": ({"peft_type": "LORA", "r": 10**9}, save({"lora_A": torch.ones(1, 1)}), "no weights of the rank"),
        "pissa": ({"peft_type": "LORA", "init_lora_weights": "pissa"}, save({"lora_A": torch.ones(1, 1)}), "converted"),
        "base": ({"peft_type": "LORA"}, save(big), "would replace the base's own weight base"),
        "odd": ({"peft_type": "LORA", "modules_to_save": 7}, save({"lora_A": torch.ones(1, 1)}), "is not peft's"),
        "nan": ({"peft_type": "LORA"}, save({"lora_A": torch.tensor([[torch.nan]])}), "NaN or infinity in the weight"),
        "infinite": ({"peft_type": "LORA"}, save({"lora_A": torch.tensor([[-torch.inf]]).bfloat16()}), "NaN or inf"),
        "byte": (
            {"peft_type": "LORA"},
            save({"lora_A": torch.tensor([[torch.nan]]).to(torch.float8_e4m3fn)}),
            "NaN or inf",
        ),
        "whole": ({"peft_type": "LORA"}, save({"lora_A": torch.ones(1, 1).char()}), "weight lora_A of the type int8"),
        "complex": ({"peft_type": "LORA"}, save({"lora_A": torch.ones(1, 1) * 1j}), "lora_A of the type complex64"),
        "alpha": ({"peft_type": "LORA", "lora_alpha": torch.nan}, save({"lora_A": torch.ones(1, 1)}), "number NaN"),
        "beta": ({"peft_type": "LORA", "x": [-torch.inf]}, save({"lora_A": torch.ones(1, 1)}), "number -Infinity"),
        "other": ({"peft_type": "LORA"}, save({"lora_B": torch.ones(1, 1)}), "cannot be put onto the model: KeyError"),
    }
    for name, (config, weights, said) in wrong.items():
        place = server.model_dir / "adapters" / name
        place.mkdir(exist_ok=True)
        if weights:
            (place / "adapter_config.json").write_text(json.dumps(config))
            (place / "adapter_model.safetensors").write_bytes(weights)
        reply = register(server, name)
        assert (reply.status, reply.error["code"]) == (500, "adapter_load_failed"), name
        assert said in reply.error["message"]
        assert "Traceback" not in reply.error["message"]
    assert states(server) == {}
    assert ask(server, None) == {"y": [3.0], "adapter": None}


def test_who_asks_for_a_prediction_is_told_nothing_of_the_disk(server: Server) -> None:
    assert register(server, "empty", preload=False).status == 200
    told = ask(server, "empty")["error"]
    assert told["code"] == "adapter_load_failed"
    assert told["message"] == "The adapter 'empty' could not be loaded; the log says why."
    assert "The adapter 'empty' has no adapter_config.json" in server.log()
    assert ask(server, None)["y"] == [3.0]


def test_a_header_that_comes_twice_is_400(server: Server) -> None:
    register(server, "ten")
    with server.socket() as client:
        head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n{HEADER}: ten\r\n{HEADER}: hundred\r\n"
        client.sendall(f"{head}content-type: application/json\r\nconnection: close\r\n\r\n[1]".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"more than once" in answer


def test_a_client_that_leaves_does_not_keep_its_adapter(server: Server) -> None:
    register(server, "ten")
    body = b"[77]"
    for _ in range(3):
        with server.socket() as client:
            head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{HEADER}: ten\r\n"
            client.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
    server.wait_until(lambda: server.request("GET", "/adapters/ten").json()["requests"] == 0, "nobody uses it")
    assert server.request("DELETE", "/adapters/ten").status == 200


def test_a_deployer_may_have_adapters_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for name, content in adapter("ten", 10.0).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with running({"code/inference.py": MODEL}, TIDEGATE_ADAPTERS_DIR=str(tmp_path)) as server:
        assert register(server, "ten", src=str(tmp_path / "adapters/ten")).status == 200
        assert ask(server, "ten") == [30.0]  # by the default predict_fn
        assert register(server, "up", src=str(tmp_path)).status == 400


@pytest.mark.parametrize("declared", [True, False])
def test_requests_of_one_adapter_share_calls_and_those_of_different_ones_do_not(declared: bool) -> None:
    script = MODEL.replace("return x *", "return 0.001 * len(x) + x *") if declared else MODEL
    script += "def collate_fn(items):\n    return torch.cat(items)\n" if declared else ""
    files = {"code/inference.py": script, **adapter("ten", 10.0), **adapter("hundred", 100.0)}
    with running(files, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_MAX_WAIT_MS="200") as server:
        for name in ("ten", "hundred"):
            assert register(server, name).status == 200
        asked = [(name, x) for x in range(1, 101) for name in ("ten", "hundred", None)]
        factors = {"ten": 10.0, "hundred": 100.0, None: 1.0}

        def some_have_shared_a_call() -> bool:
            answers = threads.map(lambda each: ask(server, each[0], [each[1], 1.0]), asked)
            assert [round(answer[0][0]) for answer in answers] == [factors[name] * x for name, x in asked]
            return metric(server, "tidegate_batch_joins_total", result="joined") > 0

        with ThreadPoolExecutor(12) as threads:
            server.wait_until(some_have_shared_a_call, "some of those who ask have shared a call")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("def model_fn(model_dir):\n    return 1\ndef predict_fn(data, model):\n    return 1\n", "takes no adapters"),
        (MODEL + "async def predict_fn(data, model):\n    yield 'x'\n", "asynchronous streams has no adapters"),
        (MODEL + "async def stream_fn(incoming, context):\n    yield b'x'\n", "stream_fn has no adapters"),
    ],
)
def test_a_model_that_cannot_have_them_says_why(script: str, said: str) -> None:
    with running({"code/inference.py": script, **adapter("ten", 10.0)}) as server:
        reply = register(server, "ten")
        assert (reply.status, reply.error["code"]) == (500, "adapter_load_failed")
        assert said in reply.error["message"]
        assert server.ping() == 200


def test_an_adapter_that_kills_its_workers_is_not_the_end_of_the_server() -> None:
    script = MODEL.replace(
        "    def load_adapter(self, model_id, adapter_name):\n",
        "    def load_adapter(self, model_id, adapter_name):\n        import os\n        os._exit(3)\n",
    )
    with running({"code/inference.py": script, **adapter("ten", 10.0)}) as server:
        reply = register(server, "ten")
        assert (reply.status, reply.error["code"]) == (500, "adapter_load_failed")
        assert "died while it loaded" in reply.error["message"]
        server.wait_until(lambda: server.ping() == 200, "there is a worker again")
        assert register(server, "ten", preload=False).status == 200
        server.wait_until(lambda: "not used any more" in ask(server, "ten")["error"]["message"], "it is given up")
        server.wait_until(lambda: server.ping() == 200, "there is a worker again")
        assert ask(server, None) == [3.0]
