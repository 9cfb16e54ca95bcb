"""The command `tidegate`: one name for every command of the project. `COMMANDS` says where each of them is.

The working directory is not looked in for modules, and PYTHONPATH last: both may hold a user's modules.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass

from tidegate import command_line
from tidegate.region import honour_aws_region


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Where a command is, and what it says of itself."""

    module: str
    """Below tidegate, with `main(arguments) -> int`."""
    extra: str
    """What `pip install 'tidegate[EXTRA]'` must name for it."""
    summary: str
    shared: bool = False
    """Whether `main` has several commands, and gets the name too."""
    needs: tuple[str, ...] = ()
    """Packages that it comes to only later; without them it says so at once."""


_SERVER = ("torch", "numpy", "PIL", "uvloop", "httptools")


def _server(summary: str) -> Command:
    return Command(module="inference.__main__", extra="serve", summary=summary, shared=True, needs=_SERVER)


def _training(summary: str) -> Command:
    return Command(module="training_hooks.__main__", extra="training", summary=summary, shared=True)


def _client(summary: str) -> Command:
    return Command(module="client.__main__", extra="client", summary=summary, shared=True)


def _infra(module: str, summary: str) -> Command:
    return Command(module=f"infra.{module}", extra="infra", summary=summary)


GROUPS = {
    "A model": {
        "init": Command(module="starter.command", extra="serve", summary="make a project: training, script, tests"),
        "check": _server("load a model, run its example, report what it is"),
        "serve": _server("answer /ping and /invocations, as on SageMaker"),
        "pack": _training("write model.tar.gz from a model directory"),
        "export": _training("add faster forms of a model, each compared with it"),
        "lineage": _training("print which job, code and data a model is from"),
    },
    "An endpoint": {
        "invoke": _client("send a file, print the answer"),
        "async": _client("send a file to an asynchronous endpoint, wait for the answer"),
        "batch": _client("submit transform jobs, follow them, fetch their results"),
    },
    "A model repository": {
        "publish": _training("add a version of a model"),
        "list": _training("print models, versions and labels"),
        "label": _training("let a label name a version"),
        "unlabel": _training("remove a label"),
        "retire": _training("remove a version"),
    },
    "AWS on this machine": {
        "cloud": Command(
            module="local_cloud.__main__", extra="local", summary="start the local cloud, look into it, stop it"
        ),
    },
    "Your AWS account": {
        "doctor": _infra("doctor.command", "find what would stop a deployment, and what fixes it"),
        "image": _infra("image_push.command", "build, push and scan the image of a stage"),
        "models": _infra("versions.models_command", "register, approve and promote versions of a model"),
        "served": _infra("versions.served_command", "print which model and image an endpoint serves"),
        "smoke": _infra("smoke.command", "deploy to an account for a test, and report"),
        "prometheus": _infra("observability.prometheus_command", "print a Grafana dashboard, and alert rules"),
        "schema": _infra("stage.stage_schema", "print the JSON Schema of a stage file, for editors"),
    },
    "This command": {
        "completion": Command(module="completion", extra="serve", summary="print a completion script for your shell"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

_EXAMPLES = """\
examples:
  tidegate init my-model                   a project to begin with
  tidegate check model.tar.gz              does it load, and does its example run?
  tidegate serve model.tar.gz              http://127.0.0.1:8080
  eval "$(tidegate cloud up)"              boto3, aws and cdk now talk to this machine
  tidegate doctor --stage dev              what would stop a deployment of stage dev?
  tidegate invoke tidegate-dev row.json    ask its endpoint"""
_EXIT_STATUSES = """\
exit status: 0 done; 1 not done, and standard error says why in one sentence; 2 wrong arguments; 130 after Ctrl-C.
Commands that differ from this say so in their --help."""


def main() -> int:
    """Run the command; returns its exit status."""
    _look_in_pythonpath_last()
    if sys.argv[1:2] == ["serve"]:
        honour_aws_region(os.environ)
        return run()  # its output is a log, for as long as it serves
    return command_line.run(run)


def run() -> int:
    """Run what `sys.argv` names; returns its exit status, or raises argparse's `SystemExit`."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if name == "--version":
        from tidegate.inference.version import own_version  # noqa: PLC0415 - only where it is meant

        print(f"tidegate {own_version()}")
        return 0
    if name not in COMMANDS:
        print(_unknown(name), file=sys.stderr)
        return 2
    return _start(name, arguments)


def _start(name: str, arguments: list[str]) -> int:
    command = COMMANDS[name]
    asked_for_help = "--help" in arguments or "-h" in arguments
    missing = [package for package in command.needs if importlib.util.find_spec(package) is None]
    if missing and not asked_for_help:
        return _lacks(missing[0], command.extra)
    try:
        module = importlib.import_module(f"tidegate.{command.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tidegate"):
            print(f"tidegate: error: The image has no {name}: pip install tidegate.", file=sys.stderr)
            return 1
        return _lacks(error.name, "serve" if error.name in _SERVER else command.extra)
    status: int = module.main([name, *arguments] if command.shared else arguments)
    return status


def help_text() -> str:
    """What `tidegate --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    groups = [
        "\n".join([f"{title}:", *(f"  {name:{width}}{command.summary}" for name, command in group.items())])
        for title, group in GROUPS.items()
    ]
    usage = "usage: tidegate COMMAND [OPTION …]\n\nPyTorch models on AWS SageMaker. Each command says more with --help."
    return "\n\n".join([usage, *groups, _EXAMPLES, _EXIT_STATUSES])


def _unknown(name: str) -> str:
    if not name:
        return "tidegate: error: no command is named; 'tidegate --help' lists them"
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"; did you mean 'tidegate {near[0]}'?" if near else ""
    return f"tidegate: error: there is no command {name!r}{meant or '.'} 'tidegate --help' lists them"


def _lacks(module: str | None, extra: str) -> int:
    print(f"tidegate: error: This command needs {module}: pip install 'tidegate[{extra}]'.", file=sys.stderr)
    return 1


def _look_in_pythonpath_last() -> None:
    # Not dropped: where it is how packages are installed (Nix, Spack), torch comes from there.
    named = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}  # noqa: PTH100
    sys.path.sort(key=lambda place: place in named)


if __name__ == "__main__":
    sys.exit(main())
