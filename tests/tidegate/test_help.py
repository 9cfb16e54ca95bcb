"""What `tidegate` says of itself: every command with what it does, and what is near a word that is none."""

from __future__ import annotations

import re
import shlex

import pytest

from tidegate import __main__ as tidegate


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["tidegate", *words])
    try:
        return tidegate.run()
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_help_lists_every_command_with_what_it_does(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    listed = dict(re.findall(r"^  ([a-z]+) {2,}(\S.*)$", said, re.MULTILINE))
    assert {name: listed[name] for name in tidegate.COMMANDS} == {
        name: command.summary for name, command in tidegate.COMMANDS.items()
    }
    assert max(map(len, said.splitlines())) <= 120


def test_the_examples_name_commands_that_there_are() -> None:
    examples = re.findall(r"tidegate ([a-z]+)", tidegate.help_text().partition("examples:")[2].partition("exit")[0])
    assert len(examples) == 6
    assert set(examples) <= set(tidegate.COMMANDS)


@pytest.mark.parametrize("name", tidegate.COMMANDS)
def test_each_command_calls_itself_by_what_was_typed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, name, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: tidegate {name} ")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "no command is named; 'tidegate --help' lists them"),
        ("srve m", "there is no command 'srve'; did you mean 'tidegate serve'? 'tidegate --help' lists them"),
        ("x" * 9, "there is no command 'xxxxxxxxx'. 'tidegate --help' lists them"),
        ("'' serve", "no command is named; 'tidegate --help' lists them"),
    ],
)
def test_a_word_that_is_no_command_is_a_sentence_and_2(
    line: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *shlex.split(line)) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"tidegate: error: {sentence}\n")
