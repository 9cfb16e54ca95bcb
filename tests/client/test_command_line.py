"""Where the command line writes an answer."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.stand_in import answered, refused, running
from tidegate.client.__main__ import main

ANSWER = b'{"label": 7}'


def asking(url: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    question = directory / "question.json"
    question.write_bytes(b"{}")
    words = [sys.executable, "-m", "tidegate.client", "invoke", "digits", str(question)]
    signed = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    return words, {**os.environ, **signed, "NO_PROXY": "127.0.0.1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}


def test_a_multi_model_endpoint_that_misses_its_archive_is_told_by_the_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running() as runtime:
        sentence = "Endpoint digits is a multi-model endpoint: a request needs TargetModel."
        runtime.answers.append(refused("ValidationError", sentence, 400))
        words, environment = asking(runtime.url, tmp_path)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert main(words[3:]) == 1
        assert "Give --target-model NAME.tar.gz, a path below" in capsys.readouterr().err


def test_an_error_of_the_model_names_the_request_id_to_look_for_in_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    message = "predict_fn raised ValueError; the log has its traceback under this request id."
    error = {"code": "handler_failed", "message": message, "request_id": "02114942-69"}
    with running() as runtime:
        said = json.dumps({"error": error})
        runtime.answers.append(refused("ModelError", "…", 424, OriginalStatusCode=500, OriginalMessage=said))
        words, environment = asking(runtime.url, tmp_path)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert main([*words[3:], "--wake-timeout", "0"]) == 1
        assert f": {message} (request id 02114942-69)\n" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [ANSWER, ANSWER + b"\n", b""])
def test_a_pipe_gets_the_bytes_of_the_answer_and_no_other(answer: bytes, tmp_path: Path) -> None:
    with running() as runtime:
        runtime.answers.append(answered(answer))
        words, environment = asking(runtime.url, tmp_path)
        assert subprocess.run(words, env=environment, capture_output=True, check=True).stdout == answer


@pytest.mark.parametrize(
    ("answer", "shown"), [(ANSWER, ANSWER + b"\r\n"), (ANSWER + b"\n", ANSWER + b"\r\n"), (b"", b"")]
)
def test_the_prompt_of_a_terminal_begins_a_line_of_its_own(answer: bytes, shown: bytes, tmp_path: Path) -> None:
    with running() as runtime:
        runtime.answers.append(answered(answer))
        words, environment = asking(runtime.url, tmp_path)
        ours, theirs = pty.openpty()
        try:
            subprocess.run(words, env=environment, stdout=theirs, stderr=subprocess.PIPE, check=True)
            os.write(theirs, b"|")
            seen = b""
            while not seen.endswith(b"|"):
                seen += os.read(ours, 1000)  # what was written at once may come in parts
            assert seen == shown + b"|"
        finally:
            os.close(ours)
            os.close(theirs)
