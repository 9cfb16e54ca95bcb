"""`tidegate smoke`: asks an account what AWS's documentation leaves open. It makes stacks and costs money."""

from __future__ import annotations

import argparse
import datetime
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.smoke import report
from tidegate.infra.smoke.account import Account
from tidegate.infra.smoke.plan import TAG, Plan, plan
from tidegate.infra.smoke.questions import QUESTIONS, Question, Verdict
from tidegate.infra.smoke.run import Run, work_in
from tidegate.infra.smoke.templates import synthesised
from tidegate.infra.stage import stage_file

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; carries the exit status that shells expect."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def main(arguments: list[str]) -> int:
    """Run the command: 0 where every question that could be asked was settled and nothing is left, 1 otherwise."""
    options = _parser().parse_args(arguments)
    try:
        with _stoppable():
            return _clean_up(options) if options.clean_up else _smoke(options)
    except (ConfigurationError, ClientError, BotoCoreError) as error:
        sentence = str(error).rstrip(".")
        print(f"tidegate: error: {sentence}{'' if sentence.endswith('?') else '.'}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    except Stopped as stopped:
        return stopped.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate smoke", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--stage", metavar="STAGE", required=True, help="the stage whose image, Region and prefix are used"
    )
    parser.add_argument("--report", metavar="FILE.md", type=Path, help="the report; the same as JSON beside it")
    parser.add_argument("--instance-type", metavar="TYPE", help="default: ml.m5.large, for an image that runs there")
    parser.add_argument(
        "--question",
        choices=[question.name for question in QUESTIONS],
        action="append",
        help="only this question; may be repeated",
    )
    parser.add_argument("--yes", metavar="ACCOUNT", help="the account's number, instead of typing it")
    parser.add_argument("--clean-up", action="store_true", help="only delete what an earlier run has left")
    return parser


def _smoke(options: argparse.Namespace) -> int:
    if options.report is None:
        raise ConfigurationError("--report is missing; name a file for the answers, such as docs/smoke-report.md")
    if options.report.suffix != ".md":
        raise ConfigurationError(
            f"--report={options.report} does not end in .md; the same as JSON is written beside it"
        )
    stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
    questions = tuple(each for each in QUESTIONS if options.question is None or each.name in options.question)
    account = Account(stage.region)
    planned = plan(
        stage,
        run=secrets.token_hex(3),
        account=account.number,
        region=account.region,
        instance_type=options.instance_type,
    )
    for question in questions:
        for move in question.moves:
            # A stage that is refused is refused before anything is made.
            planned.of(question.mode, move)
    _demand_free(account, planned, questions)
    _confirm(options, account, planned.announcement(questions))
    began = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")

    def keep(run: Run) -> None:
        found = report.content(planned, run.answers, began=began, is_local=account.is_local, left=run.left)
        report.write(options.report, found)

    with tempfile.TemporaryDirectory(prefix="tidegate-smoke-") as folder:
        fresh = work_in(Path(folder))
        run = Run(
            account,
            planned,
            questions,
            synthesise=lambda stage, unit: synthesised(stage, unit, outdir=fresh()),
            say=lambda line: print(line, flush=True),  # noqa: T201
            keep=keep,
        )
        keep(run)  # a report that cannot be written is found out before anything is made
        try:
            run.ask()
        finally:
            _hold_signals()
            run.tidy()
            for left in run.left or ():
                print(f"left behind: {left}", file=sys.stderr)  # noqa: T201
    if run.left:
        raise ConfigurationError("not all could be deleted, and it may cost money; run this again with --clean-up")
    print(f"nothing is left; {options.report} has the answers")  # noqa: T201
    return 1 if any(answer.verdict is Verdict.NOT_SETTLED for answer in run.answers.values()) else 0


def _demand_free(account: Account, planned: Plan, questions: Sequence[Question]) -> None:
    """Nothing that is there already is touched, however unlikely its name is."""
    modes = dict.fromkeys(question.mode for question in questions)
    stacks = (planned.storage_stack, *map(planned.endpoint_stack, modes))
    there = [f"stack {name}" for name in stacks if account.stack(name) is not None]
    there += [f"bucket {name}" for name in planned.buckets if account.bucket_is_there(name)]
    there += [
        f"endpoint {planned.names(mode).endpoint}"
        for mode in modes
        if account.standing(planned.names(mode).endpoint, component=False) is not None
    ]
    if there:
        raise ConfigurationError(f"{', '.join(there)}: there already, so nothing was made; run this again")


def _confirm(options: argparse.Namespace, account: Account, what: str) -> None:
    print(what, flush=True)  # noqa: T201
    typed = options.yes
    if typed is None:
        try:
            typed = input(f"Type the account's number, {account.number}, to go on: ").strip()
        except EOFError:
            typed = ""
    if typed != account.number:
        raise ConfigurationError(f"{typed!r} is not the number of this account, {account.number}; nothing was done")


def _clean_up(options: argparse.Namespace) -> int:
    stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
    account = Account(stage.region)
    found = {name: run for name, run in account.stacks_tagged(TAG).items() if _is_ours(stage, name, run)}
    if not found:
        print("no stack of a run is there")  # noqa: T201
        return 0
    _confirm(options, account, f"This deletes {', '.join(found)}, and all that their buckets hold.")
    _hold_signals()
    runs = [
        plan(stage, run=run, account=account.number, region=account.region, instance_type=None)
        for run in dict.fromkeys(found.values())
    ]
    # The archives go after what serves them.
    stacks = sorted(found, key=lambda name: name.endswith("-storage"))
    left = account.delete(stacks, [bucket for each in runs for bucket in each.buckets], [])
    if left:
        raise ConfigurationError(f"not all could be deleted, and it may cost money: {'; '.join(left)}")
    print(f"deleted {', '.join(found)}")  # noqa: T201
    return 0


def _is_ours(stage: Stage, name: str, run: str) -> bool:
    """Whether a run with the prefix of `stage` gave the stack its name; a tag alone could be anybody's."""
    return re.fullmatch(rf"{stage.prefix}-s{re.escape(run)}[rc]-(storage|endpoint)", name) is not None


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM end what runs by `Stopped`, and give the signals back in the end."""
    before = {number: signal.signal(number, _stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    print("\nstopping; what was made is deleted first", file=sys.stderr, flush=True)  # noqa: T201
    _hold_signals()
    raise Stopped(128 + number)


def _hold_signals() -> None:
    """From here on they are taken, and change nothing: all that they could interrupt is the end."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
