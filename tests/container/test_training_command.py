"""How the script of a job is started: by its first line, wherever it lies; the real entry point in a process."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.container.entry_point import job, start, train
from tests.contract.running import wait_until

BASH_ONLY = """\
words=("one two" three)
[[ ${#words[@]} -eq 2 && $1 == --depth ]] || exit 9
sleep 0.2 &> late.txt
echo "${words[0]}, $2, $0" > "$SM_MODEL_DIR/said"
exit 3
"""
SAY_PYTHON = "import os, sys\nopen(os.environ['SM_MODEL_DIR'] + '/said', 'w').write(sys.executable)"


def said(base_dir: Path) -> str:
    """What the script wrote into the model directory."""
    return (base_dir / "model/said").read_text()


def failure(base_dir: Path) -> str:
    return (base_dir / "output/failure").read_text()


@pytest.mark.parametrize(
    "first_line", ["#!/bin/bash", "#! /usr/bin/env bash", "#!/bin/bash -e", "#!/usr/bin/env -S bash -e"]
)
def test_a_bash_script_is_run_by_bash_to_its_end(tmp_path: Path, first_line: str) -> None:
    """sh takes arrays for errors, `[[` for false and `&>` for the end of the script."""
    base_dir = job(tmp_path, f"{first_line}\n{BASH_ONLY}", program="run.sh", depth=2)
    done = train(base_dir)
    assert done.returncode == 3, done.stderr
    assert said(base_dir) == f"one two, 2, {base_dir}/code/run.sh\n"


@pytest.mark.parametrize(
    ("first_line", "source"),
    [
        ("#!/usr/bin/env python3", SAY_PYTHON),
        (f"#!{sys.executable} -B", SAY_PYTHON),
        ("#!/usr/bin/perl -w", 'open(my $f, ">", "$ENV{SM_MODEL_DIR}/said"); print $f $^X;'),
        ("#!/usr/bin/awk -f", 'BEGIN { printf "awk" > (ENVIRON["SM_MODEL_DIR"] "/said") }'),
    ],
)
def test_the_first_line_chooses_any_interpreter(tmp_path: Path, first_line: str, source: str) -> None:
    program = first_line[2:].split(maxsplit=1)[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    base_dir = job(tmp_path, f"{first_line}\n{source}\n", program="tool")
    done = train(base_dir)
    assert done.returncode == 0, done.stderr
    assert Path(program).name in said(base_dir) or "python" in said(base_dir)


def test_a_script_without_a_first_line_is_run_by_sh(tmp_path: Path) -> None:
    """As AWS's toolkit did; a comment is not such a line."""
    base_dir = job(tmp_path, '# trains\necho "$0 $1" > "$SM_MODEL_DIR/said"\nexit 7\n', program="run.sh", depth=2)
    assert train(base_dir).returncode == 7
    assert said(base_dir) == f"{base_dir}/code/run.sh --depth\n"


def test_a_python_file_is_run_by_python_whatever_its_first_line_says(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "#!/opt/conda/bin/python\nraise SystemExit(5)\n")
    assert train(base_dir).returncode == 5


def test_code_that_is_neither_writable_nor_executable_runs(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "#!/bin/bash\nfour=(1 2 3 4)\nexit ${#four[@]}\n", program="run.sh")
    (base_dir / "code/run.sh").chmod(0o444)
    (base_dir / "code").chmod(0o555)
    try:
        assert train(base_dir).returncode == 4
        assert stat.S_IMODE((base_dir / "code/run.sh").stat().st_mode) == 0o444
    finally:
        (base_dir / "code").chmod(0o755)


def test_a_binary_program_is_started_although_its_archive_lost_the_bit(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "", program="tool")
    shutil.copyfile("/bin/false", base_dir / "code/tool")
    (base_dir / "code/tool").chmod(0o644)
    assert train(base_dir).returncode == 1
    assert failure(base_dir).startswith("tool ended with exit status 1.")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("#!/opt/conda/bin/bash\necho\n", "run.sh asks in its first line for /opt/conda/bin/bash, which is no program"),
        ("#!/etc/passwd\necho\n", "run.sh asks in its first line for /etc/passwd, which is no program"),
        ("#!/etc\necho\n", "run.sh asks in its first line for /etc, which is no program"),
        ("#!/bin/bash\r\necho\r\n", "run.sh has the line ends of Windows (CRLF); save it with those of Linux (LF)."),
        ("echo\r\nexit 0\r\n", "run.sh has the line ends of Windows (CRLF); save it with those of Linux (LF)."),
        ("\ufeff#!/bin/bash\necho\n", "run.sh begins with a byte order mark; save it as UTF-8 without one."),
        ("#!/usr/bin/env no-such-program\necho\n", "run.sh ended with exit status 127.\n"),
    ],
)
def test_a_script_that_cannot_be_run_as_it_says_is_a_failure_with_its_reason(
    tmp_path: Path, script: str, sentence: str
) -> None:
    base_dir = job(tmp_path, script, program="run.sh")
    assert train(base_dir).returncode != 0
    assert failure(base_dir).startswith(sentence)


def test_sigterm_reaches_what_a_bash_script_has_put_in_its_place(tmp_path: Path) -> None:
    """`exec` as its last command, as the page says."""
    ready = tmp_path / "ready"
    waiting = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(6)); "
        f"pathlib.Path('{ready}').touch(); [time.sleep(0.01) for _ in iter(int, 1)]"
    )
    script = f'#!/bin/bash\nwords=(-c "{waiting}")\nexec {sys.executable} "${{words[@]}}"\n'
    with start(job(tmp_path, script, program="run.sh")) as process:
        wait_until(ready.exists, "the script waits")
        process.terminate()
        process.communicate(timeout=300)
    assert process.returncode == 6


def test_a_setup_py_that_is_not_installed_is_said(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "print('trained')\n")
    assert "setup.py" not in train(base_dir).stderr
    (base_dir / "code/setup.py").write_text("")
    assert "code/setup.py is not installed; " in train(base_dir).stderr
