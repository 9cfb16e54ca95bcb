"""The digit classifier trained on two hosts at a time, by the image's entry point and torchrun, without docker."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.digits import train as script
from tests.container.entry_point import start
from tests.container.two_hosts import NAMESPACES, Host, means, two_hosts
from tests.contract.running import wait_until

EPOCHS = 12
LONG_S = 400


def prepare(host: Host) -> None:
    """Write the job that the SDK would: the example's folder as source_dir, torch_distributed enabled."""
    source = Path(script.__file__).parent
    shutil.copytree(source / "code", host.base_dir / "code/code")
    shutil.copy(source / "train.py", host.base_dir / "code")
    given = {
        "sagemaker_program": "train.py",
        "sagemaker_torch_distributed_enabled": True,
        "epochs": EPOCHS,
        "checkpoint-dir": str(host.base_dir / "checkpoints"),
    }
    (host.base_dir / "input/config/hyperparameters.json").write_text(
        json.dumps({name: json.dumps(value) for name, value in given.items()})
    )


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with two_hosts(tmp_path) as both:
        for host in both:
            prepare(host)
        yield both


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SHA-256 of the weights of a job that ran through; it has left one artifact, on the first host."""
    with two_hosts(tmp_path_factory.mktemp("through")) as both:
        for host in both:
            prepare(host)
        run_to_its_end(both)
        first, second = both
        assert list((second.base_dir / "model").iterdir()) == []
        assert list((second.base_dir / "checkpoints").glob("*")) == []
        manifest = json.loads((first.base_dir / "model/manifest.json").read_text())
        assert manifest["metrics"]["epochs"] == EPOCHS
        assert manifest["metrics"]["validation_accuracy"] > 0.95
        return weights(first)


def run_to_its_end(hosts: tuple[Host, Host]) -> None:
    for host in hosts:
        host.begin()
    for host in hosts:
        status, errors = host.end(LONG_S)
        assert status == 0, errors


def begin_and_wait_for_the_second_epoch(hosts: tuple[Host, Host]) -> None:
    for host in hosts:
        host.begin()
    checkpoint = hosts[0].base_dir / "checkpoints/checkpoint-000000000002.pth"
    wait_until(checkpoint.exists, "the second epoch is saved", LONG_S)


def weights(host: Host) -> str:
    return hashlib.sha256((host.base_dir / "model/model.pth").read_bytes()).hexdigest()


def test_a_host_that_dies_ends_the_job_with_its_reason_and_the_next_one_ends_as_if_nothing_had_been(
    hosts: tuple[Host, Host], uninterrupted: str
) -> None:
    first, second = hosts
    begin_and_wait_for_the_second_epoch(hosts)
    second.kill()
    status, _ = first.end(LONG_S)
    assert status == 1
    assert "losed by peer" in first.failure or "reset by peer" in first.failure, first.failure
    if means() == NAMESPACES:  # on loopback gloo does not tell one address from the other
        assert second.address in first.failure
    assert not (first.base_dir / "model/manifest.json").exists()

    run_to_its_end(hosts)
    assert not (first.base_dir / "output/failure").exists()
    assert weights(first) == uninterrupted


def test_hosts_that_are_asked_to_stop_save_together_and_the_next_job_ends_as_if_nothing_had_been(
    hosts: tuple[Host, Host], uninterrupted: str
) -> None:
    """Only one of them is asked: they stop after the same epoch."""
    first, second = hosts
    begin_and_wait_for_the_second_epoch(hosts)
    assert second.process is not None
    second.process.terminate()
    for host in hosts:
        status, errors = host.end(LONG_S)
        assert status == 0, errors
    reached = json.loads((first.base_dir / "model/manifest.json").read_text())["metrics"]["epochs"]
    assert 2 <= reached < EPOCHS

    run_to_its_end(hosts)
    assert weights(first) == uninterrupted


def test_without_torchrun_the_script_trains_alone(tmp_path: Path) -> None:
    """The same source as one process, by the same entry point."""
    alone = Host("localhost", "lo", tmp_path)
    (tmp_path / "input/config").mkdir(parents=True)
    prepare(alone)
    config = tmp_path / "input/config/hyperparameters.json"
    given = {**json.loads(config.read_text()), "sagemaker_torch_distributed_enabled": "false", "epochs": "1"}
    config.write_text(json.dumps(given))
    with start(tmp_path) as process:
        output, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, errors
    assert "device cpu\n" in output
