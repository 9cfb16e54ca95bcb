"""What uv is told of the settings of pip, by which `make env` and the tests install."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.installing import install, options, read

LISTED = r"""
:env:.find-links='/wheels /more'
:env:.require-virtualenv='true'
download.no-index='true'
global.cert='/etc/bundle.pem'
global.constraint='/etc/constraints.txt'
global.extra-index-url='\nhttps://b/simple\nhttps://c/simple'
global.find-links='/never'
global.index-url='https://never/simple'
install.index-url='https://a/simple'
install.trusted-host='a'
WARNING: a line of another kind
"""


def test_uv_looks_where_pip_looks_and_the_variable_wins_over_the_file() -> None:
    assert options(read(LISTED)) == [
        *("--index-strategy", "unsafe-best-match", "--index-url", "https://a/simple"),
        *("--extra-index-url", "https://b/simple", "--extra-index-url", "https://c/simple"),
        *("--find-links", "/wheels", "--find-links", "/more", "--allow-insecure-host", "a"),
        *("--constraint", "/etc/constraints.txt", "--cert", "/etc/bundle.pem"),
    ]


def test_an_index_of_the_command_takes_the_place_of_the_settings_and_of_no_other() -> None:
    told = options(read(LISTED), ["--index-url", "https://torch/cpu", "torch"])
    assert "https://a/simple" not in told
    assert {"https://b/simple", "/wheels"} < set(told)


@pytest.mark.parametrize(("value", "there"), [("1", True), ("True", True), ("0", False), ("no", False)])
def test_where_pip_asks_no_index_uv_asks_none(value: str, there: bool) -> None:
    assert ("--no-index" in options(read(f"global.no-index={value!r}"))) is there


def test_a_wheel_of_the_disk_is_installed_by_uv_and_what_nobody_has_is_told_in_pips_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny.py", "")
        file.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny-1.0.dist-info/RECORD", "")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "home")], check=True)
    python = tmp_path / "home" / "bin" / "python"
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    where = ("--no-index", "--find-links", str(tmp_path))
    assert install(python, *where, "tiny==1.0") == "uv"
    subprocess.run([str(python), "-c", "import tiny"], check=True, cwd=tmp_path)
    with pytest.raises(RuntimeError, match=r"No matching distribution found for tiny==2\.0"):
        install(python, *where, "tiny==2.0")
