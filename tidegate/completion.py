"""`tidegate completion bash|zsh|fish`: a script that completes the command's words, made from what each `--help` says.

From the help and not from the parsers: each room has its own, and this reaches into none.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout

_CHOICES = re.compile(r"^usage:.* \{([\w,-]+)\} \.\.\.$", re.MULTILINE)
"""Commands as argparse has them in a usage."""
_LISTED = re.compile(r"^  (?:COMMAND|STEP)\n((?:    .+\n)+)", re.MULTILINE)
"""Commands below a word that stands for them there."""
_NAME = re.compile(r"^    (\w[\w-]*)", re.MULTILINE)
_OPTION = re.compile(r"^ +(?:-\w, )?(--[a-z][a-z-]*)", re.MULTILINE)

_BASH = """\
_tidegate() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" word words=""
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$path/$word" in
      {steps}) path="$path/$word" ;;
    esac
  done
  case "$path" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _tidegate tidegate
"""
_FISH = """\
function __tidegate_words
  set -l path ""
  for word in (commandline --tokenize --cut-at-cursor --current-process)[2..-1]
    switch "$path/$word"
      case {steps}
        set path "$path/$word"
    end
  end
  switch "$path"
{cases}
  end
end
complete --command tidegate --arguments "(__tidegate_words)"
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def main(arguments: Sequence[str]) -> int:
    """Print the script; returns the exit status."""
    from tidegate.__main__ import COMMANDS, run  # noqa: PLC0415 - which imports this when it is asked for

    parser = argparse.ArgumentParser(
        prog="tidegate completion",
        description="Print a script that completes commands and options of tidegate.",
        epilog="for good: tidegate completion bash > ~/.local/share/bash-completion/completions/tidegate;"
        " tidegate completion fish > ~/.config/fish/completions/tidegate.fish; in zsh, a file that ~/.zshrc reads",
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell = parser.parse_args(arguments).shell
    words = words_of(COMMANDS, lambda path: _help(run, path))
    sys.stdout.write(fish_script(words) if shell == "fish" else (_ZSH if shell == "zsh" else "") + script(words))
    return 0


def words_of(commands: Iterable[str], ask: Callable[[str], str]) -> Mapping[str, Sequence[str]]:
    """Commands and options by path, such as `/cloud/up`, from those at the top on; `ask` gives the help of a path."""
    found: dict[str, Sequence[str]] = {"": [*commands, "--help", "--version"]}
    paths = [f"/{name}" for name in found[""] if not name.startswith("-")]
    for path in paths:
        text = ask(path)
        commands = [name for group in _CHOICES.findall(text) for name in group.split(",")]
        commands += [name for block in _LISTED.findall(text) for name in _NAME.findall(block)]
        found[path] = [*commands, *sorted(set(_OPTION.findall(text)))]
        paths += [f"{path}/{name}" for name in commands]
    return found


def script(words: Mapping[str, Sequence[str]]) -> str:
    """For bash; zsh reads it by bashcompinit."""
    cases = "\n".join(f'    "{path}") words="{" ".join(those)}" ;;' for path, those in words.items())
    return _BASH.format(steps="|".join(f'"{path}"' for path in words if path), cases=cases)


def fish_script(words: Mapping[str, Sequence[str]]) -> str:
    """For fish, which completes files beside these."""
    cases = "\n".join(
        f'    case "{path}"\n      string split -- " " "{" ".join(those)}"' for path, those in words.items()
    )
    return _FISH.format(steps=" ".join(f'"{path}"' for path in words if path), cases=cases)


def _help(run: Callable[[], int], path: str) -> str:
    """What the command at `path` says of itself; "" where it cannot, for want of a package."""
    before, said = sys.argv, io.StringIO()
    sys.argv = [before[0], *path.split("/")[1:], "--help"]
    os.environ["COLUMNS"] = "10000"  # no word is broken
    try:
        with redirect_stdout(said), redirect_stderr(io.StringIO()):
            run()
    except SystemExit:
        return said.getvalue()
    finally:
        sys.argv = before
    return ""
