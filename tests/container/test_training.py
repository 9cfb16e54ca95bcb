"""`docker run IMAGE train`: the script of a job, its variables, its failure, its end."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from tests.container import pure_wheel
from tests.container.conftest import TOY
from tests.container.docker_runs import Docker, Job, job_directory
from tests.contract.running import wait_until


def test_a_script_with_a_helper_beside_it_trains_and_leaves_its_model(trained: Job) -> None:
    assert trained.status == 0, trained.output
    assert {"model.pth", "manifest.json", "code"} <= {path.name for path in (trained.base_dir / "model").iterdir()}
    assert trained.failure is None


def test_the_script_gets_its_hyperparameters_as_arguments_and_the_job_as_variables(trained: Job) -> None:
    facts = trained.facts
    assert facts["argv"] == ["--epochs", "300", "--slope", "3.0"]
    assert facts["SM_HPS"] == '{"epochs":300,"slope":3.0}'
    assert facts["SM_MODEL_DIR"] == "/opt/ml/model"
    assert facts["SM_CHANNEL_TRAINING"] == "/opt/ml/input/data/training"
    assert facts["SM_CURRENT_HOST"] == "algo-1"
    assert json.loads(facts["SM_TRAINING_ENV"])["hyperparameters"] == {"epochs": 300, "slope": 3.0}


def test_a_script_that_fails_tells_why_in_the_failure_file_and_by_its_status(docker: Docker, tmp_path: Path) -> None:
    job = docker.train(job_directory(TOY, tmp_path, sagemaker_program="train.py", behaviour="fail"))
    assert job.status == 1
    assert "about to fail" in job.output
    assert job.failure is not None
    assert job.failure.startswith("train.py ended with exit status 1.\n")
    assert "FileNotFoundError" in job.failure
    assert len(job.failure) <= 1024


def test_sigterm_reaches_the_script_which_saves_what_it_has(docker: Docker, tmp_path: Path) -> None:
    base_dir = job_directory(TOY, tmp_path, sagemaker_program="train.py", behaviour="wait")
    container = docker.start_training(base_dir)
    try:
        wait_until(lambda: "waiting to be stopped" in container.logs(), "the script waits", log=container.logs)
        container.signal("TERM")
        assert container.wait() == 0, container.logs()
    finally:
        container.remove()
    assert (base_dir / "model/manifest.json").is_file()


def test_a_user_without_a_name_trains_read_only_without_a_network_with_packages_of_his_own(
    docker: Docker, tmp_path: Path
) -> None:
    """What the job replaces it replaces for itself, and the image's own package stays."""
    source = tmp_path / "source"
    pure_wheel.write(source / "wheels", "uvloop", "0.0.1", "FACTOR = 2\n")
    (source / "requirements.txt").write_text("uvloop==0.0.1\nnumpy\n")
    (source / "train.py").write_text(
        "import subprocess, numpy, torch, uvloop, training_hooks\n"
        "print('factor', uvloop.FACTOR, flush=True)\n"
        "subprocess.run(['/opt/tidegate/venv/bin/python', '-c', 'import uvloop; print(uvloop.new_event_loop)'])\n"
    )
    base_dir = job_directory(source, tmp_path / "ml")
    for path in [base_dir, *base_dir.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    job = docker.train(
        base_dir, "--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL"
    )
    assert job.status == 0, job.output
    assert "factor 2" in job.output
    assert "<function new_event_loop" in job.output
    assert "brings uvloop 0.0.1 in the place of" in job.output


def test_code_in_a_tar_archive_is_unpacked_where_no_code_lies_yet(docker: Docker, tmp_path: Path) -> None:
    """As the SDK packs it: sourcedir.tar.gz. The script is no Python, and its status is the container's."""
    base_dir = tmp_path / "ml"
    source = tmp_path / "source"
    source.mkdir()
    (source / "run.sh").write_text('echo "as $0 with $*, model in $SM_MODEL_DIR"\nexit 7\n')
    job_directory(source, base_dir, sagemaker_program="run.sh", depth=2, sagemaker_submit_directory="/opt/ml/s.tar.gz")
    with tarfile.open(base_dir / "s.tar.gz", "w:gz") as tar:
        tar.add(base_dir / "code/run.sh", "run.sh")
    (base_dir / "code/run.sh").unlink()
    job = docker.train(base_dir)
    assert "as /opt/ml/code/run.sh with --depth 2, model in /opt/ml/model" in job.output
    assert job.status == 7
    assert job.failure is not None
    assert job.failure.startswith("run.sh ended with exit status 7.")


def test_a_job_without_a_script_says_what_is_missing(docker: Docker, tmp_path: Path) -> None:
    job = docker.train(job_directory(TOY, tmp_path, sagemaker_program="absent.py"))
    assert job.status == 1
    assert job.failure is not None
    assert job.failure.startswith("there is no absent.py in /opt/ml/code, which holds line.py, serving, train.py")
