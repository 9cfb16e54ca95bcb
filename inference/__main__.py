"""`serve [MODEL]` and `check MODEL`, of the command `tidegate` and of `python -m inference`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate import command_line
from tidegate.inference import legacy_variables, log_lines
from tidegate.inference.early_signals import Stopped
from tidegate.inference.errors import DeploymentError
from tidegate.inference.settings import Settings, read, unknown
from tidegate.region import honour_aws_region

if TYPE_CHECKING:
    from tidegate.inference.frontend.check.output import Output

log = logging.getLogger("tidegate.settings")

LOOPBACK = "127.0.0.1"
_MODEL = "a directory, an archive (model.tar.gz), s3://BUCKET/KEY.tar.gz or s3://BUCKET/PREFIX/"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a deployer's mistake is one line on standard error and exit status 1."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "serve":
        return _run(chosen, lambda settings: _serve(settings, chosen.model))
    from tidegate.inference.frontend.check.output import output  # noqa: PLC0415

    with output(as_json=chosen.json, model=chosen.model) as out:
        return _run(chosen, lambda settings: _check(settings, chosen.model, out), failed=out.failed)


def _run(
    arguments: argparse.Namespace,
    command: Callable[[Settings], int],
    failed: Callable[[str], None] = lambda _reason: None,
) -> int:
    """Read the environment and do what is asked; `failed` is told why it came to nothing."""
    try:
        settings = read(os.environ)
        log_lines.configure(settings.log_level)
        if idle := legacy_variables.without_effect(os.environ):
            log.info("some variables are without effect here", extra={"variables": idle})
        if strangers := unknown(os.environ):
            log.warning("some variables are unknown and without effect", extra={"variables": strangers})
        return command(_as_said(settings, arguments))
    except Stopped as stopped:
        failed(f"It was stopped by {signal.Signals(stopped.number).name}.")
        return 0 if arguments.command == "serve" else 128 + stopped.number
    except DeploymentError as error:
        failed(str(error))
        print(f"tidegate: error: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1


# Each command imports what it needs, and neither of them torch: that is for the workers.


def _serve(settings: Settings, model: str | None) -> int:
    from tidegate.inference.frontend.workers.launching import launch  # noqa: PLC0415

    with launch(settings.log_level) as launched:
        from tidegate.inference.frontend import server  # noqa: PLC0415 - while torch is imported there

        if model is not None:
            server.demand_port(settings)
        with _model_dir(settings, model) as model_dir:
            return server.run(settings, model_dir, launched)


def _check(settings: Settings, model: str, out: Output) -> int:
    from tidegate.inference.frontend.check import command  # noqa: PLC0415

    with _model_dir(settings, model) as model_dir:
        return command.run(out, model_dir, settings, model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate", description="Serve a PyTorch archive as SageMaker does.")
    parser.add_argument("--version", action=_SayVersion, nargs=0, help="say which Tidegate this is, and end")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="answer /ping and /invocations",
        description="Answer /ping and /invocations. What is not said here comes from the environment.",
    )
    serve.add_argument("model", metavar="MODEL", nargs="?", help=f"{_MODEL}; default: model/ in SAGEMAKER_BASE_DIR")
    _take_wrapper(serve)
    serve.add_argument(
        "--host",
        help=f"address to listen on; default: TIDEGATE_HOST, else {LOOPBACK} with MODEL and all without it",
    )
    serve.add_argument(
        "--port",
        type=_port,
        help="port to listen on, 0 for a free one that the log names; default: SAGEMAKER_BIND_TO_PORT, else 8080",
    )
    serve.add_argument(
        "--kill-after",
        metavar="SECONDS",
        type=_idle_exit,
        help="end, with exit status 0, after so long without requests, pings not counted; default: "
        "TIDEGATE_IDLE_EXIT_S, else never",
    )
    check = commands.add_parser("check", help="load a model, ask its example and report what it is, without a socket")
    check.add_argument("model", metavar="MODEL", help=_MODEL)
    check.add_argument("--json", action="store_true", help="print one JSON object in place of the text")
    _take_wrapper(check)
    return parser


def _take_wrapper(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wrapper",
        metavar="FILE",
        type=_script,
        help="a Python file with the four functions, or with create_model, that is used in place of the model's own; "
        "what lies beside it can be imported",
    )


class _SayVersion(argparse.Action):
    """As argparse's own, but for when the version is found: nobody else waits for that."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from tidegate.inference.version import own_version  # noqa: PLC0415

        print(f"tidegate {own_version()}")  # noqa: T201
        parser.exit()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not valid: it must be a whole number from 1 to 65535, or 0 for a free port"
        )
    return int(text)


def _idle_exit(text: str) -> float:
    try:
        found = read({"TIDEGATE_IDLE_EXIT_S": text}).idle_exit_s
    except DeploymentError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("TIDEGATE_IDLE_EXIT_S=").rstrip(".")) from None
    if found is None:
        raise argparse.ArgumentTypeError("it is empty")
    return found


def _script(text: str) -> str:
    path = os.path.abspath(text)  # noqa: PTH100 - workers change their directory
    if not os.path.isfile(path):  # noqa: PTH113
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    if not path.endswith(".py"):
        raise argparse.ArgumentTypeError(f"{text} is no Python file: its name must end in .py")
    return path


def _as_said(settings: Settings, arguments: argparse.Namespace) -> Settings:
    """`settings` with what the command line says."""
    if arguments.wrapper is not None:
        if settings.many_models:
            raise DeploymentError("--wrapper is the script of one model, and the environment asks for many.")
        settings = replace(settings, program=arguments.wrapper)
    if arguments.command != "serve":
        return settings
    if arguments.model is not None:
        if settings.multi_model:
            raise DeploymentError(
                "SAGEMAKER_MULTI_MODEL loads models on request, so serve takes no MODEL; to serve a folder of "
                "archives, set TIDEGATE_MODEL_REPOSITORY to it instead."
            )
        if settings.model_repository is not None:
            raise DeploymentError(
                "TIDEGATE_MODEL_REPOSITORY names the models that are served, and MODEL names one; leave one of them "
                "out."
            )
        if not os.environ.get("TIDEGATE_HOST", "").strip():
            # Somebody's own machine: the network is let in when they say so.
            settings = replace(settings, host=LOOPBACK)
    return replace(
        settings,
        host=arguments.host or settings.host,
        port=settings.port if arguments.port is None else arguments.port,
        idle_exit_s=arguments.kill_after or settings.idle_exit_s,
    )


def _model_dir(settings: Settings, argument: str | None) -> AbstractContextManager[Path]:
    """The directory that is meant, for as long as it is needed. Raises `DeploymentError`."""
    if argument is None:
        return nullcontext(_model_dir_of_the_container(settings))
    # Only where it is meant: a container starts sooner without.
    from tidegate.inference.given_model import directory_of  # noqa: PLC0415

    return directory_of(argument, max_bytes=settings.max_disk_bytes)


def _model_dir_of_the_container(settings: Settings) -> Path:
    no_model_yet = settings.multi_model or settings.model_repository is not None
    named = os.environ.get("SAGEMAKER_BASE_DIR", "").strip() or no_model_yet
    if not named and not settings.model_dir.exists():
        raise DeploymentError(
            f"The model directory {settings.model_dir} does not exist; name another as the argument of serve, or the "
            "directory that holds model/ by SAGEMAKER_BASE_DIR."
        )
    return settings.model_dir


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        honour_aws_region(os.environ)
        sys.exit(main())
    sys.exit(command_line.run(main))
