"""`docker run IMAGE serve`, as SageMaker starts it and as it does not: other users, no network, little memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from container.engine import DockerFailed
from tests.container import pure_wheel
from tests.container.docker_runs import Docker, Job
from tests.contract.running import wait_until

MIB = 1024 * 1024


def model_of(trained: Job, target: Path) -> Path:
    """A copy of the trained model without its manifest, so that a test may change its files."""
    shutil.copytree(trained.base_dir / "model", target)
    (target / "manifest.json").unlink()
    return target


def test_what_train_wrote_is_served_and_a_request_in_flight_is_answered_after_sigterm(
    docker: Docker, trained: Job
) -> None:
    with docker.serving(trained.base_dir / "model") as container:
        container.wait_until_ready()
        assert container.request("POST", "/invocations", b"[1.0, -2.0]").json() == [3.0, -6.0]

        slow: list[object] = []
        client = threading.Thread(
            target=lambda: slow.append(container.request("POST", "/invocations", b"[4.0]", "text/plain").json())
        )
        client.start()
        wait_until(
            lambda: container.execute("sh", "-c", "ls /tmp").count("slow-request-began"), "the slow request runs"
        )
        container.signal("TERM")
        client.join()
        assert slow == [[12.0]]
        assert container.wait() == 0


def test_a_user_without_a_name_serves_read_only_without_a_network_from_wheels_in_the_archive(
    docker: Docker, trained: Job, tmp_path: Path
) -> None:
    """Also: what is on PYTHONPATH and in the working directory replaces neither our code nor the server's packages.

    And the model has its own `client`, `container` and `infra` beside what it imports of ours.
    """
    model = model_of(trained, tmp_path / "model")
    pure_wheel.write(model / "code/wheels", "doubling", "1.0", "FACTOR = 2\n")
    (model / "code/uvloop.py").write_text("raise SystemExit('this is not the loop of the server')\n")
    (model / "code/requirements.txt").write_text("doubling==1.0\nnumpy>=2\n")
    script = model / "code/inference.py"
    names = ("client", "container", "infra", "training_hooks")
    for name in names:
        (model / f"code/{name}.py").write_text("MINE = 1\n")
    script.write_text(
        f"import doubling, tidegate.inference.errors, {', '.join(names)}\n"
        + script.read_text().replace("net(numbers)", f"net(numbers) * doubling.FACTOR * {'.MINE * '.join(names)}.MINE")
    )
    for path in [model, *model.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)

    options = ["--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL"]
    options += ["--security-opt", "no-new-privileges", "--workdir", "/opt/ml/model/code"]
    with docker.serving(model, *options, environment={"PYTHONPATH": "/opt/ml/model/code"}) as container:
        container.wait_until_ready_inside()
        assert container.ask_inside("POST", "/invocations", "[1.0]") == (200, "[6.0]")
        assert container.execute("id", "-u").strip() == "12345"


def test_the_container_is_healthy_only_when_the_model_is_there(docker: Docker, trained: Job, tmp_path: Path) -> None:
    model = model_of(trained, tmp_path / "model")
    script = model / "code/inference.py"
    waiting = "    while not Path('/tmp/go').exists():\n        time.sleep(0.01)\n    net = nn.Linear"
    script.write_text(script.read_text().replace("    net = nn.Linear", waiting, 1))
    with docker.serving(model, "--health-interval", "1s", "--health-start-period", "1s") as container:
        wait_until(lambda: container.entries("listening"), "the server listens", log=container.logs)
        with pytest.raises(DockerFailed, match="status 1"):
            container.execute("/opt/tidegate/bin/start", "--health")
        container.execute("touch", "/tmp/go")
        wait_until(lambda: container.state()["Health"]["Status"] == "healthy", "docker says so", log=container.logs)


def test_sigterm_ends_the_container_also_while_the_entry_point_is_being_read(docker: Docker, tmp_path: Path) -> None:
    """Process 1 ignores what it does not handle, and a signal may come before there is a server."""
    (tmp_path / "__init__.py").write_text(
        "import pathlib, time\npathlib.Path('/tmp/reading').touch()\ntime.sleep(60)\n"
    )
    with docker.running("serve", options=["--volume", f"{tmp_path}:/opt/tidegate/bin/container:ro"]) as container:
        wait_until(lambda: "reading" in container.execute("ls", "/tmp"), "the entry point is read", log=container.logs)
        container.signal("TERM")
        assert container.wait() == 128 + signal.SIGTERM


def test_a_model_that_cannot_be_loaded_ends_the_container_with_one_line(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text("def model_fn(model_dir):\n    raise ValueError('no weights')\n")
    with docker.serving(tmp_path) as container:
        assert container.wait() == 1
        assert "ValueError: no weights" in container.logs().splitlines()[-1]


def test_the_number_of_workers_follows_the_limits_of_the_container(
    docker: Docker, trained: Job, tmp_path: Path
) -> None:
    """One per core, as many as the quota gives, and no more copies than the memory holds."""
    cores = len(os.sched_getaffinity(0))
    large = model_of(trained, tmp_path / "large")
    with (large / "weights-of-another-framework.bin").open("wb") as file:
        file.truncate(500 * MIB)
    runs = [
        (trained.base_dir / "model", [], cores),
        (trained.base_dir / "model", ["--cpus", "1"], 1),
        (large, ["--memory", "900m"], 1),
    ]
    with contextlib.ExitStack() as stack:
        containers = [stack.enter_context(docker.serving(model, *options)) for model, options, _ in runs]
        for container, (_, options, workers) in zip(containers, runs, strict=True):
            container.wait_until_ready()
            assert [entry["workers"] for entry in container.entries("ready")] == [workers], options


def test_models_come_and_go_on_a_multi_model_endpoint(docker: Docker, trained: Job) -> None:
    model = trained.base_dir / "model"
    options = ["--volume", f"{model}:/opt/ml/models/one/model:ro", "--volume", f"{model}:/opt/ml/models/two/model:ro"]
    options += ["--publish", "127.0.0.1::8080", "--env", "SAGEMAKER_MULTI_MODEL=true"]
    with docker.running("serve", options=options) as container:
        container.wait_until_ready()
        for name in ("one", "two"):
            load = json.dumps({"model_name": name, "url": f"/opt/ml/models/{name}/model"})
            assert container.request("POST", "/models", load).status == 200
        assert [entry["modelName"] for entry in container.request("GET", "/models").json()["models"]] == ["one", "two"]
        assert container.request("POST", "/models/two/invoke", b"[2.0]").json() == [6.0]
        assert container.request("DELETE", "/models/one").status == 200
        assert container.request("POST", "/models/one/invoke", b"[2.0]").status == 404
        assert container.request("GET", "/ping").status == 200


def test_two_containers_of_a_pipeline_share_a_network_on_the_ports_they_are_told(docker: Docker, trained: Job) -> None:
    model = trained.base_dir / "model"
    with (
        docker.serving(model, "--network", "none", environment={"SAGEMAKER_BIND_TO_PORT": "9001"}) as first,
        docker.serving(
            model, "--network", f"container:{first.id}", environment={"SAGEMAKER_BIND_TO_PORT": "9002"}
        ) as second,
    ):
        first.wait_until_ready_inside(port=9001)
        second.wait_until_ready_inside(port=9002)
        status, answer = first.ask_inside("POST", "/invocations", "[1.0]", port=9001)
        assert (status, answer) == (200, "[3.0]")
        assert first.ask_inside("POST", "/invocations", answer, port=9002) == (200, "[9.0]")
        assert second.execute("/opt/tidegate/bin/start", "--health") == ""


def test_any_other_argument_is_run_as_a_command(docker: Docker, trained: Job) -> None:
    mounted = ["--volume", f"{trained.base_dir / 'model'}:/opt/ml/model:ro"]
    in_code = [*mounted, "--workdir", "/opt/ml/model/code", "--env", "PYTHONPATH=/opt/ml/model/code"]
    for command in (["tidegate"], ["python", "-m", "inference"]):
        assert "this model may take traffic" in docker.run(*command, "check", "/opt/ml/model", options=in_code)
    with pytest.raises(DockerFailed, match=r"status 127.*cannot run 'no-such-command'"):
        docker.run("no-such-command")
