"""What `check` warns of by looking at files, and what it does not: each rule with what it is for and its neighbours."""

from __future__ import annotations

import json
import pickle
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.contract.running import write_files
from tidegate.inference.frontend.check import report
from tidegate.inference.frontend.check.requirement_rules import lines
from tidegate.inference.settings import read

SCRIPT = "def model_fn(model_dir):\n    return 1\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PLAIN = {"code/inference.py": SCRIPT}
KEY = "AKIA" + "Q3EGTRPVJ7WKMXNZ"


def codes(root: Path, files: dict[str, str | bytes], **environment: str) -> list[str]:
    write_files(root, files)
    _, found = report.look(root, read(environment))
    for caution in found:
        assert caution.message
        assert caution.way_out, caution
        assert "\n" not in caution.message + caution.way_out
    return [caution.code for caution in found]


def saved_module(name: str) -> bytes:
    """The pickle of an instance of a class called `name`, as torch.save puts it into its zip."""
    module, _, kind = name.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{kind}\n".encode() + b")\x81."


def torch_zip(path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")


WARNED: dict[str, tuple[dict[str, str | bytes], list[str]]] = {
    "a script in a folder of another name": ({"src/inference.py": SCRIPT, "m.txt": ""}, ["script_in_the_wrong_place"]),
    "code packed into code": ({"code/code/inference.py": SCRIPT, "m.txt": ""}, ["script_in_the_wrong_place"]),
    "Code with a capital": ({"Code/inference.py": SCRIPT, "m.txt": ""}, ["script_in_the_wrong_place"]),
    "a script of another name": ({"code/predictor.py": SCRIPT}, ["script_of_another_name"]),
    "one at the root": ({"serve.py": SCRIPT, "m.txt": ""}, ["script_of_another_name"]),
    "two scripts": (PLAIN | {"inference.py": SCRIPT}, ["two_scripts"]),
    "code doubled": (PLAIN | {"code/code/inference.py": SCRIPT}, ["two_scripts"]),
    "a module that hides Python's": (PLAIN | {"code/random.py": "x = 1"}, ["hides_a_module"]),
    "a package that hides torch": (PLAIN | {"code/torch/__init__.py": ""}, ["hides_a_module"]),
    "a module of another Python": (PLAIN | {"code/fast.cpython-36m-darwin.so": b"x"}, ["compiled_for_another_python"]),
    "a path of a home": (PLAIN | {"code/a.py": "W = open('/home/me/w.pth')\n"}, ["path_of_one_machine"]),
    "a path of Windows": (PLAIN | {"code/a.py": "W = r'C:\\models\\w.pth'\n"}, ["path_of_one_machine"]),
    "requirements at the root": (PLAIN | {"requirements.txt": "six"}, ["requirements_in_the_wrong_place"]),
    "requirements misspelt": (PLAIN | {"code/requirement.txt": "six"}, ["requirements_in_the_wrong_place"]),
    "requirements of conda": (PLAIN | {"environment.yml": "name: x"}, ["requirements_in_the_wrong_place"]),
    "another torch": (PLAIN | {"code/requirements.txt": "six\ntorch==1.13.1 # old"}, ["would_replace_torch"]),
    "torch with an extra": (PLAIN | {"code/requirements.txt": "torch[opt]<2"}, ["would_replace_torch"]),
    "what conda froze": (
        PLAIN | {"code/requirements.txt": "numpy @ file:///croot/numpy/work"},
        ["requirement_of_one_machine"],
    ),
    "a project of a home": (PLAIN | {"code/requirements.txt": "-e /home/me/lib"}, ["requirement_of_one_machine"]),
    "git": (PLAIN | {"code/requirements.txt": "x @ git+https://h.test/x"}, ["requirement_needs_git"]),
    "credentials": (
        PLAIN | {"code/requirements.txt": "--index-url https://me:hunter2@h.test/\nsix"},
        ["credentials_in_requirements"],
    ),
    "files of macOS": (PLAIN | {"._model.pth": b"x"}, ["files_of_macos"]),
    "a folder of macOS": (PLAIN | {"__MACOSX/code/x": b"x"}, ["files_of_macos"]),
    "a name of Windows": (PLAIN | {"data\\x.txt": "x"}, ["backslash_in_a_name"]),
    "a pointer": (PLAIN | {"model.safetensors": LFS}, ["git_lfs_pointer"]),
    "an empty model": (PLAIN | {"weights.bin": b""}, ["empty_model_file"]),
    "a trainer's state": (PLAIN | {"checkpoint-500/optimizer.pt": b"x" * 9}, ["left_over"]),
    "a repository": (PLAIN | {".git/objects/x": b"x"}, ["left_over"]),
    "an archive in it": (PLAIN | {"model.tar.gz": b"x"}, ["archive_in_the_archive"]),
    "a key in a script": (PLAIN | {"code/keys.py": f"KEY = '{KEY}'"}, ["secret_in_the_archive"]),
    "a file of secrets": (PLAIN | {".env": "A=1"}, ["secret_in_the_archive"]),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_has_bitten_others_is_warned_of(tmp_path: Path, case: str) -> None:
    """Each archive has one fault, and gets one warning, with its way out."""
    files, expected = WARNED[case]
    assert codes(tmp_path, files) == expected


QUIET: dict[str, dict[str, str | bytes]] = {
    "a plain one": PLAIN,
    "a script at the root": {"inference.py": SCRIPT, "m.txt": ""},
    "no script": {"model.onnx": b"x"},
    "packed with its folder": {"model/code/inference.py": SCRIPT},
    "helpers of many names": PLAIN | {"code/utils.py": "x=1", "code/lib/random.py": "x=1", "code/data.py": "x=1"},
    "a helper with a function of the contract": PLAIN | {"code/functions.py": SCRIPT},
    "a path of the container": PLAIN | {"code/a.py": "P = '/opt/ml/model/x'\nU = 'https://h.test/home/me'\n"},
    "a path in words": PLAIN | {"code/a.py": '"""/home/me is where it was."""\nX = "see /home/me"\n'},
    "a path of a test run": PLAIN | {"code/a.py": "if __name__ == '__main__':\n    open('/home/me/x')\n"},
    "no Python": PLAIN | {"code/broken.py": "def f(:\n"},
    "torch in bounds": PLAIN | {"code/requirements.txt": "torch\ntorch>=2\ntorchmetrics==1.0\ntorch-geometric<3"},
    "another torch elsewhere": PLAIN | {"code/requirements.txt": "torch==1.13; sys_platform == 'win32'"},
    "requirements and their neighbours": PLAIN
    | {"code/requirements.txt": "six", "requirements.txt": "x", "code/notes.txt": "x", "environment.yml": "x"},
    "an archive of MLflow": {"MLmodel": "x", "conda.yaml": "x", "requirements.txt": "x", "data/model.pth": b"x"},
    "a wheel beside": PLAIN
    | {"code/requirements.txt": "./wheels/x-1-py3-none-any.whl", "code/wheels/x-1-py3-none-any.whl": b""},
    "names in scope": PLAIN | {"code/requirements.txt": "@scope\n-r more.txt\n--find-links wheels"},
    "a module for this Python among others": PLAIN
    | {f"code/x{EXTENSION_SUFFIXES[0]}": b"", "code/x.cpython-36m-x86_64-linux-gnu.so": b""},
    "code that is a package": PLAIN | {"code/__init__.py": "", "code/nets/__init__.py": ""},
    "labels and notes": PLAIN | {"labels.json": "[]", "README.md": "hi", "code/token.json": "{}"},
    "a key of a handbook": PLAIN | {"code/a.py": "# AKIAIOSFODNN7EXAMPLE"},
    "several models of a script": PLAIN | {"encoder.pth": b"x", "decoder.pth": b"y", "model.onnx": b"z"},
}


@pytest.mark.parametrize("case", QUIET)
def test_what_is_as_it_should_be_is_not_warned_of(tmp_path: Path, case: str) -> None:
    """The neighbours of each fault are quiet: a warning that is often wrong is not read."""
    assert codes(tmp_path, QUIET[case]) == []


def test_a_script_named_by_the_environment_is_the_one_that_is_looked_for(tmp_path: Path) -> None:
    assert codes(tmp_path, {"code/predictor.py": SCRIPT}, SAGEMAKER_PROGRAM="predictor.py") == []
    assert codes(tmp_path, {}, SAGEMAKER_PROGRAM="serve") == ["script_of_another_name"]


def test_the_value_of_a_secret_is_never_told(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        PLAIN | {"code/keys.py": f"x = 1\nKEY = '{KEY}'", "code/requirements.txt": "-i https://me:hunter2@h.test/"},
    )
    archive, found = report.look(tmp_path, read({}))
    told = json.dumps([str(each) for each in found])
    assert "code/keys.py, line 2" in told
    assert archive is not None
    assert KEY not in told + str(archive)
    assert "hunter2" not in told + str(archive)


def test_the_server_says_which_of_two_models_it_reads_and_which_not(tmp_path: Path) -> None:
    torch_zip(tmp_path / "model.pt", saved_module("collections.OrderedDict"))
    torch_zip(tmp_path / "model.pth", saved_module("collections.OrderedDict"))
    archive, found = report.look(tmp_path, read({}))
    assert archive is not None
    assert (archive.chosen, archive.chosen_because) == ("model.pt", "its name is model.pt")
    assert [(each.file, each.kind) for each in archive.model_files] == [
        ("model.pt", "state dict"),
        ("model.pth", "state dict"),
    ]
    assert [each.code for each in found] == ["two_model_files"]
    # With a script, only it knows; two of one name are not both meant all the same.
    assert codes(tmp_path, PLAIN) == ["two_model_files"]
    # What save_model and export have put into the manifest is there on purpose.
    manifest = {"format_version": 1, "files": {"model.pt": {}, "model.pth": {}}}
    assert codes(tmp_path, {"manifest.json": json.dumps(manifest)}) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("__main__.Net", ["pickled_class_of_main"]), ("nets.Net", []), ("torch.nn.Linear", [])]
)
def test_a_class_of_the_program_that_saved_it_is_warned_of(tmp_path: Path, name: str, expected: list[str]) -> None:
    torch_zip(tmp_path / "model.pth", saved_module(name))
    assert codes(tmp_path, PLAIN) == expected


def test_requirements_are_read_as_pip_reads_them() -> None:
    """Continuations are one line, and comments and hashes are none."""
    text = "# all\nsix==1 \\\n    --hash=sha256:ab\n\n  torch ; python_version < '3'  # old\nx#y\n"
    assert [(each.number, each.text, each.marked) for each in lines(text)] == [
        (2, "six==1", False),
        (5, "torch", True),
        (6, "x#y", False),
    ]


def test_a_pickle_is_only_read_as_data(tmp_path: Path) -> None:
    """A gadget in a model file is found out by its name, and does nothing."""

    class Gadget:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(tmp_path / "marker"), "w"))

    torch_zip(tmp_path / "model.pth", pickle.dumps(Gadget()))
    codes(tmp_path, PLAIN)
    assert not (tmp_path / "marker").exists()
