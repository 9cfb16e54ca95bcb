"""Where a model comes from is recorded and read back, and what could tell strangers more stays out."""

import getpass
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tidegate.training_hooks import ArtifactError, lineage_of, pack, save_directory, save_model
from tidegate.training_hooks.__main__ import main
from tidegate.training_hooks.git_revision import revision_of
from tidegate.training_hooks.lineage import checked_lineage

from .artifacts import manifest_of

SCRIPT = """
import sys
import numpy
import torch
from tidegate.training_hooks import save_model
save_model({"weight": torch.ones(1)}, model_dir=sys.argv[1])
"""


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs the tests may have such variables."""
    for name in list(os.environ):
        if name.startswith(("SM_", "GIT_")) or name in ("TRAINING_JOB_NAME", "SAGEMAKER_JOB_NAME"):
            monkeypatch.delenv(name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit that holds a training script in a folder."""
    folder = tmp_path / "checkout"
    (folder / "runs").mkdir(parents=True)
    (folder / "runs/train_07.py").write_text(SCRIPT)
    (folder / ".gitignore").write_text("build\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", *who, *words]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_script_records_its_job_its_revision_and_what_it_imported(tmp_path: Path, checkout: Path) -> None:
    job = {
        "TRAINING_JOB_NAME": "digits-7",
        "SM_CHANNELS": '["train", "test"]',
        "SM_CHANNEL_TRAIN": "/data/somebody/train",
        "SM_HPS": '{"api_key": "a-secret"}',
        "AWS_SECRET_ACCESS_KEY": "a-secret",
    }
    git(checkout, "remote", "add", "origin", "https://me:a-secret@example.com/repository.git")
    words = [sys.executable, str(checkout / "runs/train_07.py"), str(tmp_path / "m")]
    subprocess.run(words, check=True, env={**os.environ, **job})
    lineage = manifest_of(tmp_path / "m")["lineage"]
    assert lineage["training_job"] == "digits-7"
    assert lineage["channels"] == ["test", "train"]
    assert lineage["git"] == {
        "revision": git(checkout, "rev-parse", "HEAD"),
        "dirty": False,
        "script": "runs/train_07.py",
    }
    assert lineage["packages"]["numpy"]
    assert lineage["packages"]["torch"] == torch.__version__
    assert not {"pytest", "hypothesis", "boto3"} & lineage["packages"].keys()
    text = (tmp_path / "m/manifest.json").read_text()
    for kept_out in ("a-secret", str(tmp_path), "/data/somebody", getpass.getuser() + "@", "example.com"):
        assert kept_out not in text


def test_changes_that_are_not_committed_are_told(checkout: Path) -> None:
    script = checkout / "runs/train_07.py"
    (checkout / "checkpoint.pth").touch()  # what a training writes is no change of its code
    assert revision_of(script) == {
        "revision": git(checkout, "rev-parse", "HEAD"),
        "dirty": False,
        "script": "runs/train_07.py",
    }
    script.write_text("changed")
    assert (revision_of(script) or {})["dirty"] is True
    git(checkout, "checkout", "--quiet", ".")
    (checkout / "runs/new.py").touch()
    assert (revision_of(checkout / "runs/new.py") or {})["dirty"] is True
    assert "script" not in (revision_of(checkout / "runs") or {})


def test_what_lies_in_a_checkout_by_accident_has_no_revision_of_it(checkout: Path) -> None:
    """A script of an environment, or of a build, says nothing about the code around it."""
    (checkout / "build").mkdir()
    (checkout / "build/train.py").touch()
    assert revision_of(checkout / "build/train.py") is None


def test_no_git_no_commit_and_no_time_are_no_failure(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = checkout / "runs/train_07.py"
    assert revision_of(script, timeout_s=0) is None
    git(tmp_path, "init", "--quiet", "empty")
    assert revision_of(tmp_path / "empty") is None
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\ncase "$*" in *status*) exec sleep 60;; esac\nPATH=/usr/bin:/bin exec git "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    found = revision_of(script, timeout_s=5.0)
    assert found is not None
    assert "dirty" not in found
    monkeypatch.setenv("PATH", str(tmp_path / "nothing here"))
    assert revision_of(script) is None


@pytest.mark.parametrize(
    ("variables", "known"),
    [
        ({"SM_TRAINING_ENV": '{"job_name": "job-1"}'}, {"training_job": "job-1"}),
        ({"SM_TRAINING_ENV": '{"job_name": null}'}, {}),
        ({"SM_TRAINING_ENV": "[", "SM_CHANNELS": "{"}, {}),
        ({"TRAINING_JOB_NAME": "not a name"}, {}),
        ({"SM_CHANNEL_TRAIN": "/x", "SM_CHANNEL_EVAL": "/y"}, {"channels": ["eval", "train"]}),
    ],
)
def test_what_the_platform_says_is_taken_where_it_makes_sense(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], known: dict[str, Any]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert checked_lineage({"git": None, "packages": None}) == known


def test_a_working_directory_that_is_gone_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, where no script says where its checkout is."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    (tmp_path / "gone").rmdir()
    assert "git" not in checked_lineage(None)


def test_what_is_given_goes_before_what_is_known_and_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "training_job": "by-hand",
        "git": "0123456789abcdef",
        "data": {"train": "s3://bucket/digits/train"},
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/train:1",
        "packages": {"numpy": "2.4.0"},
        "seed": torch.tensor(3),
    }
    save_model({"weight": torch.ones(1)}, model_dir=tmp_path / "m", name="digits", lineage=given)
    found = lineage_of(tmp_path / "m")
    assert (found.training_job, found.revision, found.dirty) == ("by-hand", "0123456789abcdef", None)
    assert (found.data, found.packages) == (given["data"], given["packages"])
    assert found.others == {"seed": 3}
    pack(tmp_path / "m", tmp_path / "model.tar.gz")
    assert lineage_of(tmp_path / "model.tar.gz") == found
    assert main(["lineage", str(tmp_path / "model.tar.gz")]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "training job" not in line)
    assert lines["model"] == "digits"
    assert lines["code"] == "at 0123456789abcdef (perhaps changed)"
    assert lines["data"] == "train: s3://bucket/digits/train"
    assert lines["seed"] == "3"


def test_a_folder_that_something_else_wrote_has_a_lineage_too_and_none_where_nobody_wants_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/model.bin").touch()
    save_directory(tmp_path / "folder", model_dir=tmp_path / "m", lineage={"data": "s3://bucket/train"})
    assert manifest_of(tmp_path / "m")["lineage"]["data"] == "s3://bucket/train"
    save_directory(tmp_path / "folder", model_dir=tmp_path / "m", lineage=False)
    assert "lineage" not in manifest_of(tmp_path / "m")
    assert lineage_of(tmp_path / "m").packages == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("s3://bucket", "lineage is 's3://bucket'; give a mapping such as"),
        (True, "lineage is True; give a mapping such as"),
        ({1: "a"}, "lineage has the key 1; JSON keys must be text"),
        ({"": "a"}, "lineage has an empty key"),
        ({"training_job": 3}, r"lineage\['training_job'\] is 3; give its name as text"),
        ({"image": ""}, r"lineage\['image'\] is ''; give its name as text"),
        ({"git": "main"}, r"lineage\['git'\]'s revision is 'main'; it is 7 to 64 hexadecimal digits"),
        ({"git": {"revision": "0" * 40, "dirty": 1}}, r"lineage\['git'\]'s dirty is an int; it must be True or False"),
        ({"git": {"branch": "main"}}, r"lineage\['git'\] is a dict; give a revision"),
        ({"data": {"train": 3}}, r"lineage\['data'\] is a dict; give its location as text"),
        ({"data": []}, r"lineage\['data'\] is a list; give its location as text"),
        ({"packages": ["numpy"]}, r"lineage\['packages'\] is a list; give a mapping of names to versions"),
        ({"channels": "train"}, r"lineage\['channels'\] is 'train'; give a list of names"),
        ({"seed": object()}, r"lineage\['seed'\] is an object, which JSON cannot hold"),
        ({"data": "https://me:word@host/x"}, r"lineage\['data'\] is a URL with a password or a signature"),
        ({"data": {"a": "https://b.s3.amazonaws.com/k?X-Amz-Signature=0"}}, r"lineage\['data'\]\['a'\] is a URL with"),
        (
            {"https://me:word@host/": "x"},
            "^a key of lineage is a URL with a password or a signature in it; give the URL",
        ),
        ({"data": {"https://me:word@host/": "x"}}, r"^a key of lineage\['data'\] is a URL with a password"),
        ({"mine": "see s3://me:word@host/x, it is there"}, r"lineage\['mine'\] is a URL with a password"),
        ({"mine": "(https://a.b/,https://me:word@host)"}, r"lineage\['mine'\] is a URL with a password"),
        ({"mine": "https://a.b/?to=https://host/&X-Amz-Signature=0"}, r"lineage\['mine'\] is a URL with a password"),
        ({"mine": [{"x": "https://host/?sig=1"}]}, r"lineage\['mine'\]\[0\]\['x'\] is a URL with a password"),
    ],
)
def test_what_makes_no_sense_or_opens_a_door_is_refused_in_one_sentence(
    tmp_path: Path, given: Any, sentence: str
) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        save_model({"weight": torch.ones(1)}, model_dir=tmp_path / "m", lineage=given)
    assert not (tmp_path / "m").exists()


def test_what_has_no_manifest_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.tar.gz").write_bytes(b"no archive")
    with tarfile.open(tmp_path / "bare.tar.gz", "w:gz") as tar:
        tar.add(__file__, "code.py")
    with tarfile.open(tmp_path / "list.tar.gz", "w:gz") as tar:
        (tmp_path / "manifest.json").write_text(json.dumps([1]))
        tar.add(tmp_path / "manifest.json", "./manifest.json")
    assert lineage_of(tmp_path / "list.tar.gz").name == ""
    for name, sentence in {
        "odd.tar.gz": "cannot be read as an archive",
        "bare.tar.gz": "has no manifest.json",
        "none": "is not there; give a model directory or a model.tar.gz",
        "": 'has the format version|no "format_version"|cannot be read|is a list',
    }.items():
        with pytest.raises(ArtifactError, match=sentence):
            lineage_of(tmp_path / name)
    assert main(["lineage", str(tmp_path / "none")]) == 1
    assert main(["lineage", str(tmp_path / "odd.tar.gz")]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_a_reader_of_lineage_may_have_seen_enough(tmp_path: Path) -> None:
    save_model({"weight": torch.ones(1)}, model_dir=tmp_path / "m")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-P", "-m", "tidegate", "lineage", str(tmp_path / "m")]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=300)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_addresses_that_open_nothing_are_recorded(tmp_path: Path) -> None:
    said = {"mine": "from https://host/a?b=c and git@host:me/x, ssh://git@host/x: at 10:30 me@host", "://": "://"}
    save_model({"weight": torch.ones(1)}, model_dir=tmp_path / "m", lineage=said)
    assert {key: lineage_of(tmp_path / "m").others[key] for key in said} == said
