"""A few words of the Amazon States Language, so that a state machine reads as what happens.

All our machines are written in JSONata: a value in `{% … %}` is computed when the state runs. What only CloudFormation
knows (a bucket, a topic) stands as `${Name}` and is put in by `state_machine.StateMachine`.
Source: https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

State = dict[str, Any]
Definition = dict[str, Any]

# An error of the AWS SDK is called by the service and the class of the Java SDK, with "Exception" at its end; one
# without a class of its own is the service's own name twice.
# Source: https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
ANY_ERROR = "States.ALL"


def computed(expression: str) -> str:
    """A JSONata expression in the place of a value."""
    return f"{{% {' '.join(expression.split())} %}}"


def call(
    action: str,
    arguments: Mapping[str, Any],
    *,
    then: str,
    assign: Mapping[str, Any] | None = None,
    retry: Sequence[State] = (),
    catch: Sequence[State] = (),
) -> State:
    """One call of AWS: `aws-sdk:s3:putObject`, or an integration that Step Functions has of its own (`sns:publish`).

    What is needed of its answer goes into variables by `assign`; the answer itself is not handed on.
    """
    resource = f"arn:${{AWS::Partition}}:states:::{action}"
    state: State = {"Type": "Task", "Resource": resource, "Arguments": arguments, "Output": {}}
    if assign:
        state["Assign"] = assign
    if retry:
        state["Retry"] = list(retry)
    if catch:
        state["Catch"] = list(catch)
    return state | {"Next": then}


def retried(*errors: str, attempts: int, first_s: int, longest_s: int, backoff: float = 2.0) -> State:
    """Try again after waits that grow; the real wait is any time up to that, so that many do not come back at once."""
    return {
        "ErrorEquals": list(errors),
        "IntervalSeconds": first_s,
        "BackoffRate": backoff,
        "MaxDelaySeconds": longest_s,
        "MaxAttempts": attempts,
        "JitterStrategy": "FULL",
    }


def never_retried(*errors: str) -> State:
    """Leave `errors` out of what the retriers after this one would take."""
    return {"ErrorEquals": list(errors), "MaxAttempts": 0}


def caught(*errors: str, then: str, assign: Mapping[str, Any] | None = None) -> State:
    """Go on at `then` after one of `errors`; within `assign` the error is `$states.errorOutput`."""
    return {"ErrorEquals": list(errors), "Next": then} | ({"Assign": assign} if assign else {})


def compute(assign: Mapping[str, Any], *, then: str) -> State:
    """Set variables."""
    return {"Type": "Pass", "Assign": assign, "Next": then}


def choose(*ways: tuple[str, str], otherwise: str) -> State:
    """The first way whose condition holds, as (condition, next state)."""
    choices = [{"Condition": computed(condition), "Next": then} for condition, then in ways]
    return {"Type": "Choice", "Choices": choices, "Default": otherwise}


def wait(seconds: str, *, then: str) -> State:
    """Wait for as many seconds as the expression says."""
    return {"Type": "Wait", "Seconds": computed(seconds), "Next": then}


def succeed() -> State:
    """The execution ends well."""
    return {"Type": "Succeed"}


def fail(error: str, cause: str) -> State:
    """The execution ends as failed, which its metric counts. `cause` is an expression."""
    return {"Type": "Fail", "Error": error, "Cause": computed(cause)}


def machine(comment: str, states: Mapping[str, State], *, timeout_s: int) -> Definition:
    """A definition that starts at the first of `states`."""
    return {
        "Comment": comment,
        "QueryLanguage": "JSONata",
        "StartAt": next(iter(states)),
        "TimeoutSeconds": timeout_s,
        "States": dict(states),
    }
