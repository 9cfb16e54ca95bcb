"""The run itself: for each question the deploys that it takes, and in the end nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.hosting import log_group_names
from tidegate.infra.smoke import archives
from tidegate.infra.smoke.account import Operation, Traffic
from tidegate.infra.smoke.plan import Plan, tags_of
from tidegate.infra.smoke.questions import START, Answer, Move, Question, judged, unsettled
from tidegate.infra.smoke.seen import Seen, Standing
from tidegate.infra.smoke.templates import name_in

_FAILURES = (ClientError, BotoCoreError, ConfigurationError)
_NOT_REACHED = "The run ended before this question."


class Cloud(Protocol):
    """What the run asks of an account; `account.Account` does it."""

    def deploy(self, name: str, template: Mapping[str, Any], tags: Mapping[str, str]) -> Operation: ...
    def put(self, bucket: str, key: str, body: bytes) -> None: ...
    def standing(self, endpoint: str, *, component: bool) -> Standing | None: ...
    def config_is_there(self, name: str) -> bool: ...
    def scale(self, endpoint: str, count: int) -> None: ...
    def traffic(self, endpoint: str, *, component: bool) -> Traffic: ...
    def delete(self, stacks: Sequence[str], buckets: Sequence[str], log_groups: Sequence[str]) -> list[str]: ...


class Run:
    """`answers` are there from the beginning, so a run that is broken off has a report too."""

    def __init__(
        self,
        cloud: Cloud,
        plan: Plan,
        questions: Sequence[Question],
        *,
        synthesise: Callable[[Stage, str], dict[str, Any]],
        say: Callable[[str], None],
        keep: Callable[[Run], None],
    ) -> None:
        """`keep` is called whenever there is more to report."""
        self.plan = plan
        self.answers = {question.name: unsettled(question, _NOT_REACHED) for question in questions}
        # What could not be deleted; None until it was tried.
        self.left: list[str] | None = None
        self._cloud = cloud
        self._synthesise = synthesise
        self._say = say
        self._keep = keep

    def ask(self) -> None:
        """Make what is needed, and ask every question. Raises what stops the whole run."""
        plan = self.plan
        self._say(f"{plan.storage_stack}: buckets and archives")
        storage = plan.of("realtime", START)
        done = self._cloud.deploy(plan.storage_stack, self._synthesise(storage, "storage"), tags_of(storage))
        if done.status != "CREATE_COMPLETE":
            raise ConfigurationError(f"{plan.storage_stack} is {done.status}: {done.refused or done.failures}")
        for name in archives.NAMES:
            self._cloud.put(plan.bucket, plan.key(name), archives.archive(name))
        for mode in dict.fromkeys(answer.question.mode for answer in self.answers.values()):
            self._ask_all_of(mode)

    def _ask_all_of(self, mode: str) -> None:
        waiting = [answer.question for answer in self.answers.values() if answer.question.mode == mode]
        while waiting:
            try:
                # Each begins where the first one began.
                self._demand_start(self._move(mode, START))
            except _FAILURES as error:
                for question in waiting:
                    self._answer(unsettled(question, f"It could not be asked: {error}"))
                break
            question = waiting.pop(0)
            seen: list[Seen] = []
            try:
                for move in question.moves:
                    seen.append(self._move(mode, move))
                self._answer(judged(question, seen))
            except _FAILURES as error:
                self._answer(unsettled(question, f"It was broken off: {error}", seen))
        # What costs money goes at once; what stays is named in the end.
        self._cloud.delete([self.plan.endpoint_stack(mode)], [], [])

    def _answer(self, answer: Answer) -> None:
        self.answers[answer.question.name] = answer
        self._say(f"{answer.question.name}: {answer.verdict}. {answer.sentence}")
        self._keep(self)

    def _demand_start(self, seen: Seen) -> None:
        after = seen.after
        if after is None or not after.in_service or after.config != seen.wanted_config:
            why = seen.refused or "; ".join(seen.failures) or (after.why if after is not None else "")
            raise ConfigurationError(f"the endpoint did not come to where the question begins ({seen.stack}: {why})")

    def _move(self, mode: str, move: Move) -> Seen:
        plan, component = self.plan, mode == "component"
        stage, endpoint = plan.of(mode, move), plan.names(mode).endpoint
        self._say(f"{plan.endpoint_stack(mode)}: {move.what}")
        template = self._synthesise(stage, "endpoint")
        if move.instances_before is not None:
            self._cloud.scale(endpoint, move.instances_before)
        before = self._cloud.standing(endpoint, component=component)
        begun_s, answers = time.monotonic(), {}
        if before is None:
            done = self._cloud.deploy(plan.endpoint_stack(mode), template, tags_of(stage))
        else:
            with self._cloud.traffic(endpoint, component=component) as traffic:
                done = self._cloud.deploy(plan.endpoint_stack(mode), template, tags_of(stage))
            answers = dict(traffic.answers)
        return Seen(
            what=move.what,
            seconds=round(time.monotonic() - begun_s, 1),
            stack=done.status,
            refused=done.refused,
            failures=done.failures,
            wanted_config=name_in(template, "AWS::SageMaker::EndpointConfig", "EndpointConfigName"),
            wanted_model=name_in(template, "AWS::SageMaker::Model", "ModelName"),
            before=before,
            after=self._cloud.standing(endpoint, component=component),
            config_from_before_is_there=before is not None and self._cloud.config_is_there(before.config),
            answers=answers,
        )

    def tidy(self) -> None:
        """Delete everything that the run made, or may have made."""
        plan = self.plan
        self._say("deleting what was made; please let this end")
        modes = list(dict.fromkeys(answer.question.mode for answer in self.answers.values()))
        groups = {
            group: None
            for mode in modes
            for group in log_group_names.of_stage(plan.of(mode, START), plan.names(mode).endpoint)
            # That of transform jobs is one for the whole account.
            if plan.names(mode).endpoint in group
        }
        stacks = [*map(plan.endpoint_stack, modes), plan.storage_stack]
        self.left = self._cloud.delete(stacks, plan.buckets, list(groups))
        self._keep(self)


def work_in(folder: Path) -> Callable[[], Path]:
    """Fresh folders below `folder`, one after the other."""
    count = 0

    def fresh() -> Path:
        nonlocal count
        count += 1
        return folder / str(count)

    return fresh
