"""What the product reads and writes is UTF-8, whatever the locale of the machine.

A file that is written under one locale is read under another, and a program's output holds what it likes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_arrows import PRODUCT, modules

POSITION_OF_ENCODING = {"read_text": 0, "write_text": 1}


def left_to_the_locale(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each call that reads or writes text without saying in which encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        keywords = {keyword.arg for keyword in node.keywords}
        if "encoding" in keywords:
            continue
        is_file = name in POSITION_OF_ENCODING and len(node.args) <= POSITION_OF_ENCODING[name]
        is_program = name in {"run", "Popen", "check_output"} and keywords & {"text", "universal_newlines"}
        if is_file or is_program:
            yield node.lineno, name


@pytest.mark.parametrize("package", PRODUCT)
def test_no_text_is_read_or_written_in_the_encoding_of_the_locale(package: str) -> None:
    wrong = [
        f"{path}:{line} {name}"
        for _, path in modules(package)
        for line, name in left_to_the_locale(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_calls_sees_every_form() -> None:
    source = (
        "a.read_text()\nPath(b).write_text(c)\nsubprocess.run(d, text=True)\nPopen(e, universal_newlines=True)\n"
        "a.read_text('utf-8')\na.write_text(c, encoding='utf-8')\nrun(d, text=True, encoding='utf-8')\nrun(d)\n"
    )
    assert [line for line, _ in left_to_the_locale(source)] == [1, 2, 3, 4]
