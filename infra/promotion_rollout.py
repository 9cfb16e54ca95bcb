"""The state machine that rolls an approved model package out.

    approved ─▶ look at package and stack ─▶ update the stack ─▶ watch ─▶ rolled out, or rolled back ─▶ notify
                  ▲         └─ wait while another update runs ─┘

It changes one parameter of the endpoint's stack and nothing else, so CloudFormation stays the only owner: the next
`cdk deploy` finds the value as the stack's own and keeps it. Canary and alarms are in the template; if they refuse the
package, CloudFormation puts the stack back as it was.
"""

from __future__ import annotations

from tidegate.infra.states import (
    ANY_ERROR,
    Definition,
    State,
    call,
    caught,
    choose,
    compute,
    computed,
    fail,
    machine,
    never_retried,
    retried,
    succeed,
    wait,
)

# Of the endpoint's stack.
PARAMETER = "ModelPackageArn"
# An execution has at most 25,000 events and a round of waiting is about 17, so twelve hours at a minute are safe.
# Source: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
_TIMEOUT_S = 12 * 3600
_POLL_S = 60


def definition() -> Definition:
    """The machine. It expects `Stack`, the endpoint stack's name, and `Topic`; it is started with SageMaker's event."""
    gave_up = [caught(ANY_ERROR, then="GiveUp", assign={"error": computed("$states.errorOutput")})]
    return machine(
        "Rolls an approved model package out by changing one parameter of the endpoint's stack",
        {
            "ReadEvent": compute(
                {
                    "rollout": {
                        "package": computed("$states.input.detail.ModelPackageArn"),
                        "previous": "",
                        "outcome": "NotRolledOut",
                        "reason": "",
                    },
                    "tries": 0,
                    "token": computed("$replace($states.context.Execution.Name, /[^a-zA-Z0-9]+/, '-')"),
                },
                then="LookAtPackage",
            ),
            "LookAtPackage": _look_at_package("$rollout.package", into="package", then="IsItApproved", catch=gave_up),
            # Whoever takes an approval back before the roll-out began is heard.
            "IsItApproved": choose(("$package.approved", "LookAtStack"), otherwise="NoLongerApproved"),
            "NoLongerApproved": succeed(),
            "LookAtStack": _look_at_stack(then="WhatToDo", catch=gave_up),
            "WhatToDo": choose(
                ("$stack.has_parameter = false", "NotOfThisKind"),
                ("$contains($stack.status, /_IN_PROGRESS$/)", "WaitForOthers"),
                ("$rollout.previous = $rollout.package", "AlreadyThere"),
                ("$not($stack.status in ['CREATE_COMPLETE', 'UPDATE_COMPLETE', 'UPDATE_ROLLBACK_COMPLETE'])", "Stuck"),
                ("$rollout.previous = ''", "UpdateStack"),
                otherwise="LookAtPrevious",
            ),
            "WaitForOthers": wait(str(_POLL_S), then="LookAtPackage"),
            "AlreadyThere": succeed(),
            "NotOfThisKind": _say_why(
                f"'the stack ${{Stack}} has no parameter {PARAMETER}; its stage has no [model] group'"
            ),
            "Stuck": _say_why("'the stack ${Stack} is in state ' & $stack.status & ' and cannot be updated'"),
            # Of two approvals that waited for one another, the later one counts, whichever comes first here.
            "LookAtPrevious": _look_at_package(
                "$rollout.previous",
                into="current",
                then="IsItTheLatest",
                # A package that was deleted cannot be newer.
                catch=[caught(ANY_ERROR, then="UpdateStack")],
            ),
            "IsItTheLatest": choose(
                ("$current.approved and $current.changed_ms > $package.changed_ms", "Superseded"),
                otherwise="UpdateStack",
            ),
            "Superseded": succeed(),
            "UpdateStack": call(
                "aws-sdk:cloudformation:updateStack",
                {
                    "StackName": "${Stack}",
                    "UsePreviousTemplate": True,
                    "Parameters": computed(
                        f"$append([{{'ParameterKey': '{PARAMETER}', 'ParameterValue': $rollout.package}}],"
                        " $stack.other_parameters)"
                    ),
                    "Capabilities": ["CAPABILITY_NAMED_IAM"],
                    # Marks the events of this update.
                    "ClientRequestToken": computed("$token & '-' & $string($tries)"),
                },
                then="Pause",
                # CloudFormation gives one name to all its refusals; their words tell them apart.
                retry=[never_retried(_REFUSED), *_PATIENTLY],
                catch=[caught(ANY_ERROR, then="WhyNot", assign={"error": computed("$states.errorOutput")})],
            ),
            "WhyNot": choose(
                ("$contains($error.Cause, 'No updates are to be performed')", "AlreadyThere"),
                ("$contains($error.Cause, /_IN_PROGRESS state|Rate exceeded/) and $tries < 30", "TryAgain"),
                otherwise="GiveUp",
            ),
            "TryAgain": compute({"tries": computed("$tries + 1")}, then="WaitForOthers"),
            "Pause": wait(str(_POLL_S), then="Watch"),
            "Watch": call(
                "aws-sdk:cloudformation:describeStacks",
                {"StackName": "${Stack}"},
                then="HasItEnded",
                assign={"status": computed("$states.result.Stacks[0].StackStatus")},
                retry=_PATIENTLY,
                catch=gave_up,
            ),
            "HasItEnded": choose(("$contains($status, /_IN_PROGRESS$/)", "Pause"), otherwise="ReadEvents"),
            # By the events, not by the stack's state, which may already be that of somebody's next update.
            "ReadEvents": call(
                "aws-sdk:cloudformation:describeStackEvents",
                {"StackName": "${Stack}"},
                then="HowDidItEnd",
                assign={"ended": computed(_END), "rollout": computed(f"$merge([$rollout, {{'reason': {_REASON}}}])")},
                retry=_PATIENTLY,
                # More events than fit into a state: the stack's own state has to do.
                catch=[caught(ANY_ERROR, then="HowDidItEnd", assign={"ended": {"status": computed("$status")}})],
            ),
            "HowDidItEnd": choose(("$ended.status = 'UPDATE_COMPLETE'", "RolledOut"), otherwise="RolledBack"),
            "RolledOut": _outcome("RolledOut", then="Notify"),
            "RolledBack": _outcome("RolledBack", then="Notify"),
            "GiveUp": _say_why("$error.Error & ': ' & $error.Cause"),
            "Notify": call(
                "sns:publish",
                {
                    "TopicArn": "${Topic}",
                    "Subject": computed(
                        "$rollout.outcome & ': ' & $substringAfter($rollout.package, ':model-package/')"
                    ),
                    "Message": computed(f"$string({_MESSAGE}, true)"),
                },
                then="WasItRolledOut",
                retry=_PATIENTLY,
                catch=[caught(ANY_ERROR, then="WasItRolledOut")],
            ),
            "WasItRolledOut": choose(("$rollout.outcome = 'RolledOut'", "Done"), otherwise="Failed"),
            "Done": succeed(),
            "Failed": fail("NotRolledOut", "$rollout.outcome & ': ' & $rollout.reason"),
        },
        timeout_s=_TIMEOUT_S,
    )


_PATIENTLY = [retried(ANY_ERROR, attempts=6, first_s=2, longest_s=60)]
_REFUSED = "CloudFormation.CloudFormationException"

_OURS = "$states.result.StackEvents[ClientRequestToken = $token & '-' & $string($tries)]"
# Events come newest first. The stack's own last one says how the update ended.
_END = f"""(
    $last := {_OURS}[ResourceType = 'AWS::CloudFormation::Stack' and PhysicalResourceId = StackId][0];
    {{'status': $exists($last) ? $last.ResourceStatus : $status}}
)"""
# The oldest failure is the cause, the others follow from it.
_REASON = f"""(
    $failures := {_OURS}[$contains(ResourceStatus, /_FAILED$/) and ResourceStatusReason];
    $exists($failures) ? $failures[-1].LogicalResourceId & ': ' & $failures[-1].ResourceStatusReason : ''
)"""
_MESSAGE = """{
    'package': $rollout.package,
    'outcome': $rollout.outcome,
    'reason': $rollout.reason = '' ? null : $rollout.reason,
    'previous_package': $rollout.previous = '' ? null : $rollout.previous,
    'stack': '${Stack}',
    'execution': $states.context.Execution.Id
}"""


def _look_at_package(arn: str, *, into: str, then: str, catch: list[State]) -> State:
    found = """(
        $changed := $exists($states.result.LastModifiedTime)
            ? $states.result.LastModifiedTime : $states.result.CreationTime;
        {
            'approved': $states.result.ModelApprovalStatus = 'Approved',
            'changed_ms': $toMillis($changed)
        }
    )"""
    return call(
        "aws-sdk:sagemaker:describeModelPackage",
        {"ModelPackageName": computed(arn)},
        then=then,
        assign={into: computed(found)},
        retry=_PATIENTLY,
        catch=catch,
    )


def _look_at_stack(*, then: str, catch: list[State]) -> State:
    values = f"$states.result.Stacks[0].Parameters[ParameterKey = '{PARAMETER}'].ParameterValue"
    return call(
        "aws-sdk:cloudformation:describeStacks",
        {"StackName": "${Stack}"},
        then=then,
        assign={
            "stack": computed(f"""{{
                'status': $states.result.Stacks[0].StackStatus,
                'other_parameters': [$states.result.Stacks[0].Parameters[ParameterKey != '{PARAMETER}']
                    .{{'ParameterKey': ParameterKey, 'UsePreviousValue': true}}],
                'has_parameter': '{PARAMETER}' in $states.result.Stacks[0].Parameters.ParameterKey
            }}"""),
            "rollout": computed(
                f"$merge([$rollout, {{'previous': $exists({values}) ? {values} : ''}}])",
            ),
        },
        retry=_PATIENTLY,
        catch=catch,
    )


def _say_why(reason: str) -> State:
    return compute({"rollout": computed(f"$merge([$rollout, {{'reason': {reason}}}])")}, then="Notify")


def _outcome(outcome: str, *, then: str) -> State:
    return compute({"rollout": computed(f"$merge([$rollout, {{'outcome': '{outcome}'}}])")}, then=then)
