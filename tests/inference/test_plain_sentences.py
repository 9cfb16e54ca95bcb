"""No sentence, to a client, a deployer or the log, holds what would steer a terminal."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from tests.inference.toy_models import computation, refused, request
from tidegate.inference.errors import BadRequest, DeploymentError, RaisedByHandler, one_line, plain
from tidegate.inference.log_lines import JsonLines
from tidegate.inference.worker import user_code

RED = "\x1b[1;31m"
OFF = "\x1b[0m"


@pytest.mark.parametrize(
    ("said", "plainly"),
    [
        (f"{RED}no{OFF} vocabulary", "no vocabulary"),
        ("\x1b[38;2;255;0;0mred\x1b[39m", "red"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b(Btext\x1bM\x1b=", "text"),
        ("\x9b31mred", "31mred"),
        ("bell\x07 back\x08 delete\x7f null\0", "bell back delete null"),
        ("a\tb\nc\r\n", "a\tb\nc\n"),
        ("naïve 日本 🙂", "naïve 日本 🙂"),
        ("cut off \x1b[3", "cut off 3"),
        ("cut off \x1b", "cut off "),
    ],
)
def test_what_steers_a_terminal_is_taken_out_and_all_else_is_kept(said: str, plainly: str) -> None:
    assert plain(said) == plainly
    assert str(DeploymentError(said)) == plainly
    assert BadRequest(said).message == plainly
    assert RaisedByHandler(said, 422).message == plainly


def test_the_errors_of_a_script_reach_the_client_without_colours() -> None:
    class Refused(Exception):
        status_code = 422
        message = f"{RED}too long{OFF}"

    def refuse(data: object, content_type: str) -> None:
        raise Refused

    def misread(data: object, content_type: str) -> None:
        raise ValueError(f"{RED}no{OFF} table")

    assert refused(computation(input_fn=refuse), request({})).message == "too long"
    assert refused(computation(input_fn=misread), request({})).message == "The body was refused: no table."


def test_a_script_that_cannot_be_imported_is_named_without_colours(tmp_path: Path) -> None:
    (tmp_path / "coloured.py").write_text(f"raise RuntimeError({RED + 'bad' + OFF!r})")
    with pytest.raises(DeploymentError) as caught:
        user_code.import_script(tmp_path / "coloured.py")
    assert str(caught.value) == f"{tmp_path}/coloured.py, line 1: RuntimeError: bad."


def test_what_torch_colours_is_said_plainly(tmp_path: Path) -> None:
    torch.save(torch.nn.Dropout(), tmp_path / "model.pth")
    with pytest.raises(Exception, match="\x1b") as caught:
        torch.load(tmp_path / "model.pth", weights_only=True)
    assert "\x1b" not in str(DeploymentError(one_line(caught.value)))


def test_a_line_of_the_log_has_no_colours_in_any_part() -> None:
    try:
        raise RuntimeError(f"{RED}bad{OFF}")
    except RuntimeError as error:
        record = logging.makeLogRecord(
            {"msg": "%s failed", "args": (RED + "it",), "reason": RED + "why", "exc_info": (type(error), error, None)}
        )
    entry = json.loads(JsonLines().format(record))
    assert (entry["message"], entry["reason"]) == ("it failed", "why")
    assert entry["traceback"].endswith("RuntimeError: bad")
