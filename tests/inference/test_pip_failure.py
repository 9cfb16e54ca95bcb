"""What pip printed becomes one sentence for the deployer. The outputs are those of pip 23 to 26, shortened."""

from __future__ import annotations

import pytest

from inference.frontend.pip_failure import sentence

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
WAY_OUT = "; name another by PIP_INDEX_URL, or bring the packages in code/wheels/"


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
    assert sentence(output, "2.13.0+cpu") == f"{said}, but torch stays the one that is here, 2.13.0+cpu"


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
