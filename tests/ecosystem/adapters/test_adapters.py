"""A network that the real peft has adapted is saved with its adapter, and served by the archive's own peft."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.contract.running import start, wait_until
from tests.ecosystem.environments import python_of
from tests.training_hooks.artifacts import manifest_of, mismatches

HERE = Path(__file__).parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

WITHOUT_NO_GRAD = """
def predict_fn(data, model):
    found = model(data.long())
    return getattr(found, "logits", found).numpy()
"""


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has peft and transformers, and all that is ours."""
    return str(python_of("peft", sees_ours=True))


@pytest.mark.parametrize(("which", "index"), [("bert", "model.safetensors"), ("toy", "pytorch_model.bin")])
def test_base_and_adapter_are_one_artifact_that_is_served_without_a_model_fn(
    tmp_path: Path, python: str, which: str, index: str
) -> None:
    model_dir = tmp_path / "model"
    said = json.loads(run(python, str(HERE / "train.py"), which, str(model_dir), str(HERE / "code")).splitlines()[-1])
    assert said["answer"] != said["without"]
    manifest = manifest_of(model_dir)
    assert manifest["weights"]["adapter"] == {"directory": "adapter", "name": "default", "type": "LORA"}
    assert manifest["weights"]["file"] == f"{index}.index.json"
    assert mismatches(model_dir) == []
    config = json.loads((model_dir / "adapter/adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] is None, "a folder of the machine that trained"
    assert all(".default" not in name for name in load_file(model_dir / "adapter/adapter_model.safetensors"))
    names = json.loads((model_dir / f"{index}.index.json").read_bytes())["weight_map"]
    assert not [name for name in names if "lora" in name or "base_layer" in name or "modules_to_save" in name]
    recorded = json.loads((model_dir / "example/response.json").read_bytes())
    torch.testing.assert_close(torch.tensor(recorded), torch.tensor(said["answer"]))
    server = start(tmp_path, OFFLINE, python=python)
    try:
        wait_until(lambda: server.process.poll() is not None or server.ping() == 200, "it is ready", 120, server.log)
        request = (model_dir / "example/request.json").read_bytes()
        torch.testing.assert_close(torch.tensor(server.post(request).json()), torch.tensor(said["answer"]))
        assert "the archive's example is answered as expected" in server.log()
    finally:
        assert server.terminate() == 0


def test_what_would_not_come_back_as_it_is_is_refused_by_name(tmp_path: Path, python: str) -> None:
    """Several adapters, weights that are not finite, an adapter that would count twice; merged, it is a plain model."""
    lines = run(python, str(HERE / "train.py"), "refused", str(tmp_path / "m"), str(HERE / "code")).splitlines()
    assert lines[0].startswith("the PeftModel has the adapters 'default', 'other'; keep the one that is to be served")
    assert "'base_model.model.hidden.lora_A.weight' holds" in lines[1]
    assert lines[2].startswith("the adapter is merged into 'hidden', and would count twice; call unmerge_adapter()")
    assert "hidden.weight" in json.loads(lines[3])
    assert len(lines) == 4


def test_an_adapter_that_does_not_fit_is_refused_before_it_takes_traffic(tmp_path: Path, python: str) -> None:
    """peft would only warn of numbers that are missing, and answer with random ones."""
    model_dir = tmp_path / "model"
    run(python, str(HERE / "train.py"), "toy", str(model_dir), str(HERE / "code"))
    config = json.loads((model_dir / "adapter/adapter_config.json").read_bytes())
    config["target_modules"] = ["hidden", "output"]
    (model_dir / "adapter/adapter_config.json").write_text(json.dumps(config))
    manifest = manifest_of(model_dir)
    del manifest["files"]["adapter/adapter_config.json"], manifest["example"]
    (model_dir / "manifest.json").write_text(json.dumps(manifest))
    assert "cannot be put onto the network: UserWarning: Found missing adapter keys" in checked(python, model_dir)
    (model_dir / "adapter/adapter_config.json").unlink()
    assert "has no adapter_config.json, although the manifest names it" in checked(python, model_dir)


def checked(python: str, model_dir: Path) -> str:
    """What `check` says of a model that is refused."""
    words = [python, "-m", "inference", "check", str(model_dir)]
    done = subprocess.run(words, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def run(*words: str) -> str:
    """Run a command of the user's; returns what it printed."""
    done = subprocess.run(
        words, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("which", ["bert", "toy"])
def test_adapters_are_registered_while_the_server_runs(tmp_path: Path, python: str, which: str) -> None:
    """Each request has the answer of peft with its adapter; what is dropped, or does not fit, changes nothing."""
    model_dir = tmp_path / "model"
    run(python, str(HERE / "train.py"), which, str(model_dir), str(HERE / "code"))
    words = (str(HERE / "others.py"), which, str(model_dir), str(HERE / "code"))
    expected = json.loads(run(python, *words).splitlines()[-1])
    (model_dir / "code/without.py").write_text((model_dir / "code/inference.py").read_text() + WITHOUT_NO_GRAD)
    request = (model_dir / "example/request.json").read_bytes()
    server = start(
        tmp_path, {**OFFLINE, "TIDEGATE_MAX_ADAPTERS": "1", "SAGEMAKER_PROGRAM": "without.py"}, python=python
    )

    def register(name: str) -> tuple[int, str]:
        body = json.dumps({"name": name, "src": f"adapters/{name}", "preload": False})
        assert server.request("POST", "/adapters", body).status == 200
        reply = server.post(request, X_Amzn_SageMaker_Adapter_Identifier=name)
        return reply.status, reply.body.decode()

    try:
        wait_until(lambda: server.process.poll() is not None or server.ping() == 200, "it is ready", 120, server.log)
        for name in ("red", "blue"):
            assert register(name)[0] == 200
        for name in ("red", "blue", None, "red", None):  # each takes the place of the other
            headers = {} if name is None else {"X_Amzn_SageMaker_Adapter_Identifier": name}
            answer = torch.tensor(server.post(request, **headers).json())
            torch.testing.assert_close(answer, torch.tensor(expected[str(name)]))
        for name in ("red", "blue"):
            assert server.request("DELETE", f"/adapters/{name}").status == 200
        for name, said in (("less", "missing keys"), ("wide", "size mismatch"), ("pissa", "changes the base")):
            body = json.dumps({"name": name, "src": f"adapters/{name}"})
            reply = server.request("POST", "/adapters", body)
            assert (reply.status, reply.error["code"]) == (500, "adapter_load_failed"), name
            assert said in reply.error["message"]
        torch.testing.assert_close(torch.tensor(server.post(request).json()), torch.tensor(expected["None"]))
    finally:
        assert server.terminate() == 0
