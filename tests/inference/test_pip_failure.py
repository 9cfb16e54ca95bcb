"""What pip printed becomes one sentence for the deployer. The outputs are those of pip 23 to 26, shortened."""

from __future__ import annotations

import pytest

from tidegate.inference.frontend.packages.pip_failure import redacted, sentence

CONFLICT = """Looking in links: /opt/ml/model/code/wheels
Processing /opt/ml/model/code/wheels/old_vision-1.0-py3-none-any.whl
The conflict is caused by:
    {wish}
    The user requested (constraint) torch==2.13.0+cpu
ERROR: Cannot install {what} because these package versions have conflicting dependencies.
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/
"""
UNREACHABLE = """WARNING: Retrying (Retry(total=0)) after connection broken by '{error}': /simple/tokenizers/
ERROR: Could not find a version that satisfies the requirement tokenizers (from versions: none)
ERROR: No matching distribution found for tokenizers
"""
WAY_OUT = "; name another by PIP_INDEX_URL, or put the packages into code/wheels/"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("The user requested torch==1.0", "it wants torch==1.0"),
        ("old_vision 1.0 depends on torch<2", "old_vision 1.0 wants torch<2"),
        ("old_vision 1.0 depends on torch==2.5.0; extra == 'x'", "old_vision 1.0 wants torch==2.5.0; extra == 'x'"),
    ],
)
def test_who_wants_another_torch_is_named_beside_the_torch_that_stays(wish: str, said: str) -> None:
    output = CONFLICT.format(wish=wish, what="old_vision==1.0")
    assert sentence(output, "2.13.0+cpu") == f"{said}, but torch stays at the installed version, 2.13.0+cpu"


def test_a_conflict_about_another_package_is_told_in_pips_words() -> None:
    output = CONFLICT.format(
        wish="a 1.0 depends on torchvision<0.2\n    b 1.0 depends on torch-geometric>3", what="a, b"
    )
    assert sentence(output, "2.13.0") == (
        "Cannot install a, b because these package versions have conflicting dependencies"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=9): Failed to establish a new connection: "
            '[Errno 111] Connection refused")',
            "the package index at 127.0.0.1:9 cannot be reached (Connection refused)",
        ),
        (
            "NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f5e>: Failed to "
            "establish a new connection: [Errno -3] Temporary failure in name resolution')",
            "the package index cannot be reached (Temporary failure in name resolution)",
        ),
        (
            "NameResolutionError(\"HTTPSConnection(host='index.invalid', port=443): Failed to resolve 'index.invalid' "
            '([Errno -2] Name or service not known)")',
            "the package index at index.invalid:443 cannot be reached (Name or service not known)",
        ),
        (
            "ConnectTimeoutError(<HTTPSConnection(host='10.0.0.1', port=443)>, 'Connection to 10.0.0.1 timed out.')",
            "the package index at 10.0.0.1:443 cannot be reached (it does not answer in time)",
        ),
        (
            "SSLError(SSLCertVerificationError(1, 'certificate verify failed'))",
            "the package index cannot be reached (SSLError)",
        ),
    ],
)
def test_an_index_that_cannot_be_reached_is_named_with_the_reason_and_the_way_out(error: str, said: str) -> None:
    assert sentence(UNREACHABLE.format(error=error), "2.13.0") == said + WAY_OUT


@pytest.mark.parametrize(
    ("indexes", "where"),
    [
        ("http://me:secret@127.0.0.1:9/simple", " at 127.0.0.1:9"),
        ("http://127.0.0.1:9/simple, file:///wheels", " at 127.0.0.1:9"),
        ("http://127.0.0.1:9/simple, https://other/simple", ""),
    ],
)
def test_an_old_pip_names_no_host_so_the_only_index_is_the_one(indexes: str, where: str) -> None:
    error = "NewConnectionError('<HTTPConnection object at 0x7f5e>: [Errno 111] Connection refused')"
    output = f"Looking in indexes: {indexes}\n{UNREACHABLE.format(error=error)}"
    assert sentence(output, "2.13.0").startswith(f"the package index{where} cannot be reached (Connection refused); ")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "pip said nothing"),
        ("ERROR: Invalid requirement: 'a b c'.\nHint: none\n", "Invalid requirement: 'a b c'"),
        ("ERROR: Exception:\nTraceback (most recent call last):\n  …\nOSError: disk full\n", "OSError: disk full"),
        ("/usr/bin/python: No module named pip\n", "/usr/bin/python: No module named pip"),
    ],
)
def test_otherwise_it_is_pips_first_error_or_its_last_line(output: str, said: str) -> None:
    assert sentence(output, "2.13.0") == said


STEP = """Processing ./local
  Installing build dependencies: started
  error: subprocess-exited-with-error
  \N{MULTIPLICATION SIGN} {step} did not run successfully.
  │ exit code: 1
  ╰─> [3 lines of output]
      Looking in indexes: https://index.invalid/simple
      {first}
      {last}
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: subprocess-exited-with-error

\N{MULTIPLICATION SIGN} {step} did not run successfully.
│ exit code: 1
╰─> See above for output.

note: This error originates from a subprocess, and is likely not a problem with pip.
"""
GIT = """Collecting git+https://git.invalid/repo@v9 (from -r /code/requirements.txt (line 1))
  Cloning https://git.invalid/repo (to revision v9) to /tmp/pip-req-build
  Running command git clone --filter=blob:none --quiet https://git.invalid/repo /tmp/pip-req-build
  warning: filtering not recognized by server, ignoring
  Running command git checkout -q v9
  {said}
  error: subprocess-exited-with-error

  \N{MULTIPLICATION SIGN} git checkout -q v9 did not run successfully.
  │ exit code: 1
  ╰─> No available output.

  note: This error originates from a subprocess, and is likely not a problem with pip.
ERROR: Failed to build 'git+https://git.invalid/repo@v9' when git checkout -q v9
"""


@pytest.mark.parametrize(
    ("step", "first", "last", "said"),
    [
        (
            "pip subprocess to install build dependencies",
            "ERROR: Ignored the following yanked versions: 51.1.0.post20201221",
            "ERROR: Could not find a version that satisfies the requirement setuptools>=9999 (from versions: none)",
            "./local: pip subprocess to install build dependencies failed: Could not find a version that satisfies the "
            "requirement setuptools>=9999 (from versions: none)",
        ),
        (
            "Getting requirements to build wheel",
            "Traceback (most recent call last):",
            "ModuleNotFoundError: No module named 'torch'",
            "./local: Getting requirements to build wheel failed: ModuleNotFoundError: No module named 'torch'",
        ),
        (
            "Building wheel for other (pyproject.toml)",
            "running build_ext",
            "error: command '/usr/bin/gcc' failed with exit code 1",
            "Building wheel for other (pyproject.toml) failed: error: command '/usr/bin/gcc' failed with exit code 1",
        ),
    ],
)
def test_a_step_that_failed_is_named_with_its_own_reason_and_its_package(
    step: str, first: str, last: str, said: str
) -> None:
    output = STEP.format(step=step, first=first, last=last)
    assert sentence(output, "2.13.0") == said
    # As pip 25 ends: the line that names the package is no reason either.
    assert sentence(f"{output}ERROR: Failed to build 'other' when {step}\n", "2.13.0") == said


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("error: pathspec 'v9' did not match any file(s) known to git", "error: pathspec 'v9' did not match any file"),
        ("Permission denied (publickey).\n  fatal: Could not read from remote", "fatal: Could not read from remote"),
        ("something else", "something else"),
    ],
)
def test_the_reason_of_git_is_what_git_said(said: str, reason: str) -> None:
    assert sentence(GIT.format(said=said), "2.13.0").startswith(f"git checkout -q v9 failed: {reason}")


@pytest.mark.parametrize("program", ["git", "hg", "svn"])
def test_a_program_that_is_missing_is_named_with_the_way_out(program: str) -> None:
    output = (
        f"  ERROR: Error [Errno 2] No such file or directory: '{program}' while executing command {program} version\n"
        f"ERROR: Cannot find command '{program}' - do you have '{program}' installed and in your PATH?\n"
    )
    said = f"it needs {program}, which is not installed; put the package as a wheel into code/wheels/"
    assert sentence(output, "2.13.0") == said


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ("<=2.14.1,==2.13.0+cpu", "it wants torch==1.0, but torch stays at the installed version, 2.13.0+cpu"),
        (
            "<2.10,==2.13.0+cpu",
            "a constraint of pip's own configuration (PIP_CONSTRAINT, pip.conf) wants torch<2.10, "
            "but torch stays at the installed version, 2.13.0+cpu",
        ),
    ],
)
def test_a_constraint_of_the_machine_is_named_only_where_it_excludes_the_torch_that_is_here(
    bounds: str, said: str
) -> None:
    output = CONFLICT.format(wish="The user requested torch==1.0", what="torch==1.0")
    assert sentence(output.replace("==2.13.0+cpu\n", f"{bounds}\n"), "2.13.0+cpu") == said


def test_credentials_of_urls_are_taken_out_and_nothing_else() -> None:
    output = "fatal: unable to access 'https://me:token@git.invalid/repo/': 403, see https://pip.pypa.io/x@y\n"
    assert (
        redacted(output)
        == "fatal: unable to access 'https://****@git.invalid/repo/': 403, see https://pip.pypa.io/x@y\n"
    )


OTHER_HASH = """ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated, update.
    tg_asked==1.0 from http://127.0.0.1:9/tg_asked-1.0-py3-none-any.whl (from -r /code/requirements.txt (line 2)):
        Expected sha256 00aa
        Expected     or 11bb
             Got        22cc

"""
NO_HASH = """ERROR: Hashes are required in --require-hashes mode, but they are missing from some requirements. Here is a
    tg_needed==2.0 --hash=sha256:33dd
"""
UNPINNED = """ERROR: In --require-hashes mode, all requirements must have their versions pinned with ==. These do not:
    tg_loose>1 from http://127.0.0.1:9/tg_loose-1.0.whl (from tg_asked==1.0)
"""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (OTHER_HASH, "tg_asked==1.0 has the hash 22cc, and the requirements want 00aa or 11bb"),
        (
            NO_HASH,
            "tg_needed==2.0: Hashes are required in --require-hashes mode, but they are missing from some requirements",
        ),
        (
            UNPINNED,
            "tg_loose>1: In --require-hashes mode, all requirements must have their versions pinned with ==",
        ),
    ],
)
def test_the_package_whose_hash_is_wrong_or_missing_is_named(output: str, said: str) -> None:
    assert sentence(output, "2.13.0") == said
