"""The state machine that turns an event into one execution of the job machine.

S3 and EventBridge deliver an event at least once, and a rule cannot name the execution that it starts. So the rule
starts this machine, and this one starts the job under a name made of what the event is about: a second event about the
same version of the same object meets a name that is taken, and ends here.
Source: API reference, StartExecution (a name is taken for 90 days after the execution ended).
"""

from __future__ import annotations

import json
import re

from tidegate.infra.stage.names import BATCH_OUTPUT_PREFIX, BATCH_SUBMITTED_PREFIX
from tidegate.infra.workflows.states import (
    ANY_ERROR,
    Definition,
    State,
    call,
    caught,
    choose,
    computed,
    fail,
    machine,
    never_retried,
    retried,
    succeed,
)

# What the schedule sends; EventBridge Scheduler fills in the time that the run was planned for, so that a repeated
# delivery carries the same one.
# Source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
SCHEDULED_EVENT = {"scheduled_time": "<aws.scheduler.scheduled-time>"}

# Where `tidegate batch submit` puts its files; it starts the job itself.
_SUBMITTED = "/^" + BATCH_SUBMITTED_PREFIX.replace("/", r"\/") + "/"
_UPLOADED = "$exists($states.input.detail.object.key)"
_UPLOAD_NAME = """(
    $object := $states.input.detail.object;
    $file := $split($object.key, '/')[-1];
    $version := $lookup($object, 'version-id');
    $identity := $string([$states.input.detail.bucket.name, $object.key, $exists($version) ? $version : '',
        $exists($object.etag) ? $object.etag : '']);
    $substring($replace($file, /[^a-zA-Z0-9]+/, '-'), 0, 12) & '-' & $substring($hash($identity, 'SHA-256'), 0, 16)
)"""
# 2026-11-21T03:00:00Z becomes 20261121T030000Z: names have no colons.
_MOMENT = "$replace($states.input.scheduled_time, /[^0-9TZ]/, '')"
_DAY = "$substring($states.input.scheduled_time, 0, 10)"


def definition(*, scheduled_input: str | None) -> Definition:
    """The machine. It expects `Bucket` and `JobMachine`.

    `scheduled_input`: the prefix that scheduled jobs transform, with `{date}` for the scheduled day in UTC.
    """
    ways = [(f"{_UPLOADED} and $contains($states.input.detail.object.key, {_SUBMITTED})", "NothingToDo")]
    ways += [(_UPLOADED, "StartUploaded")]
    states: dict[str, State] = {}
    if scheduled_input is not None:
        any_day = re.escape(scheduled_input).replace(r"\{date\}", "[0-9]{4}-[0-9]{2}-[0-9]{2}").replace("/", r"\/")
        ways = [
            ("$exists($states.input.scheduled_time)", "StartScheduled"),
            # It waits for the schedule.
            (f"{_UPLOADED} and $contains($states.input.detail.object.key, /^{any_day}/)", "NothingToDo"),
            *ways,
        ]
        states["StartScheduled"] = _start(
            name=f"'scheduled-' & {_MOMENT}",
            request={
                "input": computed(f"'s3://${{Bucket}}/' & $replace({json.dumps(scheduled_input)}, '{{date}}', {_DAY})"),
                # Of its own for each run, so that none overwrites another's.
                "output": computed(f"'s3://${{Bucket}}/{BATCH_OUTPUT_PREFIX}scheduled/' & {_MOMENT} & '/'"),
            },
        )
    states |= {
        "StartUploaded": _start(
            name=_UPLOAD_NAME,
            request={
                "input": computed("'s3://' & $states.input.detail.bucket.name & '/' & $states.input.detail.object.key")
            },
        ),
        "NothingToDo": succeed(),
        "NotForUs": fail("NotForUs", "'neither an upload nor a scheduled time: ' & $string($states.input)"),
    }
    return machine(
        "Starts one transform job for one event, however often it is delivered",
        {"WhatHappened": choose(*ways, otherwise="NotForUs")} | states,
        timeout_s=6 * 3600,
    )


def _start(*, name: str, request: dict[str, str]) -> State:
    return call(
        "states:startExecution",
        {"StateMachineArn": "${JobMachine}", "Name": computed(name), "Input": request},
        then="NothingToDo",
        retry=[never_retried(_NAME_TAKEN), retried(ANY_ERROR, attempts=10, first_s=2, longest_s=300)],
        catch=[caught(_NAME_TAKEN, then="NothingToDo")],
    )


_NAME_TAKEN = "StepFunctions.ExecutionAlreadyExistsException"
