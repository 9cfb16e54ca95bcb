"""The open questions: what is done for each, what the documentation says so far, and what was seen makes of it.

Pure: what was seen comes from outside. Each question finds the endpoint as `START` left it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tidegate.infra.smoke.seen import Seen


class Verdict(StrEnum):
    """What became of a question."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    # Where the documentation said nothing that could hold.
    ANSWERED = "answered"
    NOT_SETTLED = "not settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One deploy of the endpoint's stack, under traffic."""

    what: str
    # A name of `archives.NAMES`.
    archive: str
    # Keys of [hosting] beside those of the start.
    hosting: Mapping[str, Any]
    # How many instances the endpoint is given before it, behind the stack's back, as scaling would.
    instances_before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`mode` is the endpoint's. `documented` is what the page says so far; None where it says that nobody knows."""

    name: str
    mode: str
    asks: str
    documented: str | None
    page: str
    moves: tuple[Move, ...]
    answer: Callable[[Sequence[Seen]], tuple[bool, str]]
    # At one time: an update starts new ones beside those that serve.
    most_instances: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known after the run."""

    question: Question
    verdict: Verdict
    sentence: str
    seen: tuple[Seen, ...] = ()


# 600 s: the alarms take 180 s to go off, and metrics come late.
_ROLLOUT = {"strategy": "all_at_once", "bake_s": 600, "rollback": {"max_5xx_percent": 1}}
_SCALING = {"min_instances": 1, "max_instances": 2}


def judged(question: Question, seen: Sequence[Seen]) -> Answer:
    """The answer that follows from what was seen, once every move of the question was made."""
    refused = next((each for each in seen if each.refused is not None), None)
    holds, sentence = question.answer(seen)
    verdict = Verdict.HOLDS if holds else Verdict.DOES_NOT_HOLD
    if question.documented is None:
        verdict = Verdict.ANSWERED
    if refused is not None:
        sentence = f"CloudFormation refused '{refused.what}': {refused.refused}. {sentence}"
    return Answer(question=question, verdict=verdict, sentence=sentence, seen=tuple(seen))


def unsettled(question: Question, why: str, seen: Sequence[Seen] = ()) -> Answer:
    """No answer, and why there is none."""
    return Answer(question=question, verdict=Verdict.NOT_SETTLED, sentence=why, seen=tuple(seen))


def _of_broken_model(seen: Sequence[Seen]) -> tuple[bool, str]:
    (update,) = seen
    after = update.after
    holds = (
        update.stack == "UPDATE_ROLLBACK_COMPLETE"
        and update.went_back
        and after is not None
        and after.in_service
        and not update.failed_requests
    )
    return holds, f"{_stack_and_endpoint(update)} {_requests(update)} {_cause(update)}"


def _of_alarm(seen: Sequence[Seen]) -> tuple[bool, str]:
    _, update = seen
    kept = "is still there" if update.config_from_before_is_there else "was deleted"
    return update.went_back, (
        f"{_stack_and_endpoint(update)} The configuration from before {kept}. {_requests(update)} {_cause(update)}"
    )


def _of_rollout(seen: Sequence[Seen]) -> tuple[bool, str]:
    added, removed = seen
    holds = all(each.stack == "UPDATE_COMPLETE" and each.after and each.after.in_service for each in seen)
    touched = "changed" if added.before and added.after and added.before.changed != added.after.changed else "unchanged"
    return holds, (
        f"Added: {_stack_and_endpoint(added)} Its time of change is {touched}. {_requests(added)} {_cause(added)} "
        f"Taken away: {_stack_and_endpoint(removed)} {_cause(removed)}"
    )


def _of_scaling(seen: Sequence[Seen]) -> tuple[bool, str]:
    _, removed = seen
    before, after = removed.before, removed.after
    stayed = before is not None and after is not None and after.instances == before.instances
    counts = (
        "" if before is None or after is None else f" Instances: {before.instances} before, {after.instances} after."
    )
    left = "" if after is None else f" Targets that are still scaled: {after.scalable}."
    return stayed, f"{_stack_and_endpoint(removed)}{counts}{left} {_requests(removed)} {_cause(removed)}"


def _of_component(seen: Sequence[Seen]) -> tuple[bool, str]:
    update, broken = seen
    holds = (
        update.stack == "UPDATE_COMPLETE"
        and update.after is not None
        and update.after.component_model == update.wanted_model
        and not update.failed_requests
        and broken.stack == "UPDATE_ROLLBACK_COMPLETE"
        and broken.before is not None
        and broken.after is not None
        and broken.after.component_model == broken.before.component_model
        and broken.after.in_service
    )
    return holds, (
        f"A new model: {_stack_and_component(update)} {_requests(update)} {_cause(update)} "
        f"A model that does not load: {_stack_and_component(broken)} {_requests(broken)} {_cause(broken)}"
    )


def _stack_and_endpoint(seen: Seen) -> str:
    after = seen.after
    if after is None:
        return f"The stack is {seen.stack}, and there is no endpoint."
    if after.config == seen.wanted_config:
        serves = "the configuration that the template names"
    elif seen.went_back:
        serves = "the configuration from before"
    else:
        serves = f"{after.config}, neither what the template names nor what it had"
    return f"The stack is {seen.stack}; the endpoint is {after.status} and serves {serves}."


def _stack_and_component(seen: Seen) -> str:
    after = seen.after
    if after is None or after.component_status is None:
        return f"The stack is {seen.stack}, and there is no component."
    own = "the model that the template names" if after.component_model == seen.wanted_model else "another model"
    if seen.before is not None and after.component_model == seen.before.component_model != seen.wanted_model:
        own = "the model from before"
    return f"The stack is {seen.stack}; the component is {after.component_status} and runs {own}."


def _requests(seen: Seen) -> str:
    total = sum(seen.answers.values())
    if not seen.failed_requests:
        return f"None of {total} requests failed."
    codes = ", ".join(f"{count} x {code}" for code, count in sorted(seen.answers.items()) if code[:1].isupper())
    return f"Of {total} requests {seen.failed_requests} failed ({codes})."


def _cause(seen: Seen) -> str:
    said = [f"'{seen.failures[0]}'"] if seen.failures else []
    if seen.after is not None:
        said += [f"'{why}'" for why in (seen.after.why, seen.after.component_why) if why]
    return f"Reasons given: {'; '.join(said)}." if said else "No reason is given."


QUESTIONS = (
    Question(
        name="broken-model",
        mode="realtime",
        asks="What becomes of an endpoint, and of its stack, that is updated with a model that does not load?",
        documented="The endpoint stays on the old one, without a failed request, and CloudFormation rolls back.",
        page="docs/infrastructure.md#what-an-update-does-and-the-way-back",
        moves=(Move(what="update with a model that does not load", archive="broken", hosting={}),),
        answer=_of_broken_model,
    ),
    Question(
        name="rollout-only",
        mode="realtime",
        asks="Is a deploy that changes nothing but [hosting.rollout] taken?",
        documented="A change of the roll-out itself is one deploy, and the endpoint serves on.",
        page="docs/hosting.md#another-instance-type-for-a-scaled-endpoint",
        moves=(
            Move(what="roll-out added", archive="one", hosting={"rollout": _ROLLOUT}),
            Move(what="roll-out taken away", archive="one", hosting={}),
        ),
        answer=_of_rollout,
    ),
    Question(
        name="scaling-removed",
        mode="realtime",
        asks="What becomes of the instances when [hosting.scaling] is taken away?",
        documented=None,
        page="docs/hosting.md#another-instance-type-for-a-scaled-endpoint",
        moves=(
            Move(what="scaling added", archive="one", hosting={"scaling": _SCALING}),
            Move(what="scaling taken away from two instances", archive="one", hosting={}, instances_before=2),
        ),
        answer=_of_scaling,
        most_instances=4,
    ),
    # The last of its mode: what it leaves may be what no later deploy can change.
    Question(
        name="alarm-rollback",
        mode="realtime",
        asks="Does CloudFormation call an update failed that an alarm of the roll-out sent back?",
        documented=None,
        page="docs/infrastructure.md#what-an-update-does-and-the-way-back",
        moves=(
            Move(what="roll-out with alarms", archive="one", hosting={"rollout": _ROLLOUT}),
            Move(what="update with a model that answers with errors", archive="failing", hosting={"rollout": _ROLLOUT}),
        ),
        answer=_of_alarm,
    ),
    Question(
        name="component-update",
        mode="component",
        asks="Does an inference component change its model without a gap, and go back where that does not load?",
        documented="Copies are replaced batch by batch without a failed request; a model that does not load goes back.",
        page="docs/hosting.md#a-new-version",
        moves=(
            Move(what="a new model", archive="two", hosting={}),
            Move(what="update with a model that does not load", archive="broken", hosting={}),
        ),
        answer=_of_component,
    ),
)
START = Move(what="start", archive="one", hosting={})
