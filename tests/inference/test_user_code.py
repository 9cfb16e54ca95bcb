"""The user's script is found where the AWS container found it, and a broken one is named with file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import model_root
from tidegate.inference.worker.user_code import find_script, import_script, where


def put(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_archive_with_one_folder_around_it_is_entered(tmp_path: Path) -> None:
    put(tmp_path, "digits/model.pth")
    put(tmp_path, "._digits")
    assert model_root(tmp_path) == tmp_path / "digits"


@pytest.mark.parametrize("names", [["model.pth"], ["digits/model.pth", "labels.json"], ["a/x", "b/x"], ["code/x.py"]])
def test_any_other_archive_is_its_own_root(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        put(tmp_path, name)
    assert model_root(tmp_path) == tmp_path


def test_the_script_in_code_goes_before_the_one_at_the_root(tmp_path: Path) -> None:
    assert find_script(tmp_path, "inference.py") is None
    at_root = put(tmp_path, "inference.py")
    assert find_script(tmp_path, "inference.py") == at_root
    in_code = put(tmp_path, "code/inference.py")
    assert find_script(tmp_path, "inference.py") == in_code


@pytest.mark.parametrize("program", ["serve.py", "serve"])
def test_a_program_may_lack_its_suffix(tmp_path: Path, program: str) -> None:
    assert find_script(tmp_path, program) is None
    assert find_script(put(tmp_path, "code/serve.py").parents[1], program) == tmp_path / "code/serve.py"


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "code" / "inference.py").mkdir(parents=True)
    assert find_script(tmp_path, "inference.py") is None


def test_the_script_is_imported_under_its_own_name_in_place_of_ours(tmp_path: Path) -> None:
    script = put(tmp_path, "inference.py", "import sys\nmyself = sys.modules[__name__]\nanswer = 42\n")
    module = import_script(script)
    assert (module.__name__, module.__file__, module.answer) == ("inference", str(script), 42)
    assert sys.modules["inference"] is module is module.myself


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nfrom nowhere import y\n", "{script}, line 2: ModuleNotFoundError: No module named 'nowhere'."),
        ("def f():\n    1 / 0\nf()\n", "{script}, line 2: ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit('no licence')\n", "{script}, line 2: SystemExit: no licence."),
        ("raise KeyboardInterrupt('by hand')\n", "{script}, line 1: KeyboardInterrupt: by hand."),
        ("x = = 1\n", "{script}, line 1: SyntaxError: invalid syntax."),
        ("def f():\nreturn 1\n", "{script}, line 2: IndentationError: expected an indented block after function"),
        ("raise ValueError('two\\n  lines')\n", "{script}, line 1: ValueError: two lines."),
        ("raise ValueError\n", "{script}, line 1: ValueError: no message."),
        ("import json\njson.loads('{')\n", "{script}, line 2: JSONDecodeError: "),
    ],
)
def test_a_script_that_cannot_be_imported_is_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    script = put(tmp_path, "inference.py", text)
    with pytest.raises(DeploymentError) as caught:
        import_script(script)
    assert str(caught.value).startswith(message.format(script=script))
    assert caught.value.__cause__ is not None, "the log needs the traceback"


@pytest.mark.parametrize("source", [b"x = '\xff'\n", b"x = 1\0\n"])
def test_a_script_that_is_no_text_is_named(tmp_path: Path, source: bytes) -> None:
    script = tmp_path / "inference.py"
    script.write_bytes(source)
    with pytest.raises(DeploymentError) as caught:
        import_script(script)
    assert str(caught.value).startswith(str(script))
    assert "None" not in str(caught.value)


def test_an_error_in_a_helper_is_named_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = put(tmp_path, "helper_of_a_test.py", "\n\nraise RuntimeError('no GPU')\n")
    script = put(tmp_path, "inference.py", "import helper_of_a_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeploymentError) as caught:
        import_script(script)
    assert str(caught.value) == f"{helper}, line 3: RuntimeError: no GPU."


def test_an_error_without_a_frame_in_user_code_is_laid_to_the_script(tmp_path: Path) -> None:
    assert where(ValueError("x"), tmp_path / "inference.py") == str(tmp_path / "inference.py")


def test_the_text_of_an_error_is_one_line_of_bounded_length() -> None:
    assert one_line(ValueError("a\n\tb.")) == "a b"
    assert one_line(ValueError("x" * 1000)) == "x" * 499 + "…"
    assert one_line(ValueError()) == "no message"
