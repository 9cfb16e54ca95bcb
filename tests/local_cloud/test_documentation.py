"""docs/local-cloud.md says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tidegate.local_cloud.client_files import file_variables
from tidegate.local_cloud.environment import client_environment
from tidegate.local_cloud.sagemaker.capabilities import REFUSED_VALUES, SUPPORT, Support
from tidegate.local_cloud.sagemaker.limits import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "local-cloud.md").read_text()


def row(operation: str, support: Support) -> str:
    """The line of the page about an operation. Members of a container or a variant stand once for both places."""
    cells = []
    for paths in (support.honoured, support.stored):
        shown = {path.replace("Containers.", "PrimaryContainer.").removeprefix("Shadow") for path in paths}
        cells.append(", ".join(f"`{path}`" for path in sorted(shown)) or "none")
    return f"| {operation} | {cells[0]} | {cells[1]} |"


@pytest.mark.parametrize("operation", SUPPORT)
def test_the_page_lists_what_each_operation_honours_and_stores(operation: str) -> None:
    assert row(operation, SUPPORT[operation]) in PAGE


@pytest.mark.parametrize("value", sorted({value for _, value in REFUSED_VALUES}))
def test_the_page_names_each_refused_value(value: str) -> None:
    assert f"`{value}`" in PAGE


def test_the_page_names_each_variable() -> None:
    for name in client_environment(moto_url="", sagemaker_url="", region="") | file_variables(Path()):
        assert f"`{name}`" in PAGE, name


def test_the_page_gives_the_limits() -> None:
    assert f"{Limits().body_bytes // 2**20} MiB" in PAGE
    assert f"{Limits().invocation_timeout_s:g} s" in PAGE
    assert f"{Limits().stream_timeout_s / 60:g} minutes" in PAGE


def test_the_page_names_tests_that_there_are() -> None:
    named = set(re.findall(r"`((?:end_to_end/)?test_\w+\.py)`", PAGE))
    assert len(named) > 10
    for name in named:
        assert (ROOT / "tests" / (name if "/" in name else f"local_cloud/{name}")).is_file(), name


def test_the_page_names_every_limit_that_can_be_set() -> None:
    assert [field.name for field in fields(Limits) if f"`{field.name}`" not in PAGE] == []
