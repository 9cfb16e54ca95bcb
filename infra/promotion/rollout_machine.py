"""The state machine that rolls an approved model package out.

    approved ─▶ look at package and stack ─▶ update the stack ─▶ watch ─▶ look at the endpoint ─▶ rolled out ─▶ notify
                  ▲         └─ wait while another update runs ─┘  └──────────▶ rolled back ◀┘

It changes one parameter of the endpoint's stack and nothing else, so CloudFormation stays the only owner: the next
`cdk deploy` finds the value as the stack's own and keeps it. Canary and alarms are in the template; if they refuse the
package, CloudFormation puts the stack back as it was.

Only what the endpoint serves in the end counts as rolled out. AWS does not say whether CloudFormation takes an endpoint
that went back by itself, and is InService with its old configuration, for a failed update; here it is one.

No state can exceed the 256 KiB that a state may hold, which ends an execution without a word, because `States.ALL` does
not catch `States.DataLimitExceeded`, and the answer of a call counts before anything is picked from it. So nothing
reads the stack's events, each of which carries all properties of its resource, and the rule hands on the package's ARN
alone.
Source: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
"""

from __future__ import annotations

from tidegate.infra.promotion.lookups import PARAMETER, PATIENTLY, look_at_endpoint, look_at_package, look_at_stack
from tidegate.infra.workflows.states import (
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
    succeed,
    wait,
)

# What the rule hands on instead of SageMaker's event, which may be larger than a state's input.
FROM_EVENT = {"package": "$.detail.ModelPackageArn"}
# An execution has at most 25,000 events. A round of waiting is about 18 and one of watching about 9, so twelve hours of
# either are safe.
# Source: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
_TIMEOUT_S = 12 * 3600
_POLL_S = 60
# Shorter, because what failed is only to be seen while the stack goes back: the first wait, by how much each is longer,
# the longest.
_WATCH_FIRST_S, _WATCH_STEP_S, _WATCH_LONGEST_S = 5, 5, 30


def definition(*, component: bool) -> Definition:
    """The machine. It expects `Stack`, the endpoint stack's name, `Endpoint` and `Topic`.

    With `component` the model is on an inference component that is called like the endpoint. It is started with
    `{"package": ARN}`, or with SageMaker's event.
    """
    gave_up = [caught(ANY_ERROR, then="GiveUp", assign={"error": computed("$states.errorOutput")})]
    return machine(
        "Rolls an approved model package out by changing one parameter of the endpoint's stack",
        {
            "ReadEvent": compute(
                {
                    "rollout": {
                        "package": computed(
                            "$exists($states.input.package) ? $states.input.package"
                            " : $states.input.detail.ModelPackageArn"
                        ),
                        "previous": "",
                        "outcome": "NotRolledOut",
                        "reason": "",
                    },
                    "tries": 0,
                    "updated": False,
                    "pause": _WATCH_FIRST_S,
                    "token": computed("$replace($states.context.Execution.Name, /[^a-zA-Z0-9]+/, '-')"),
                },
                then="LookAtPackage",
            ),
            "LookAtPackage": look_at_package("$rollout.package", into="package", then="IsItApproved", catch=gave_up),
            # Whoever takes an approval back before the roll-out began is heard.
            "IsItApproved": choose(("$package.approved", "LookAtStack"), otherwise="NoLongerApproved"),
            "NoLongerApproved": succeed(),
            "LookAtStack": look_at_stack(then="RememberPrevious", catch=gave_up),
            "RememberPrevious": compute(
                {"rollout": computed("$merge([$rollout, {'previous': $stack.package}])")}, then="WhatToDo"
            ),
            "WhatToDo": choose(
                ("$stack.has_parameter = false", "NotOfThisKind"),
                ("$contains($stack.status, /_IN_PROGRESS$/)", "WaitForOthers"),
                ("$stack.package = $rollout.package", "LookAtEndpoint"),
                ("$not($stack.status in ['CREATE_COMPLETE', 'UPDATE_COMPLETE', 'UPDATE_ROLLBACK_COMPLETE'])", "Stuck"),
                ("$rollout.previous = ''", "UpdateStack"),
                otherwise="LookAtPrevious",
            ),
            "WaitForOthers": wait(str(_POLL_S), then="LookAtPackage"),
            "NotOfThisKind": _say_why(
                f"'the stack ${{Stack}} has no parameter {PARAMETER}; its stage has no [model] group'"
            ),
            "Stuck": _say_why("'the stack ${Stack} is in state ' & $stack.status & ' and cannot be updated'"),
            # Of two approvals that waited for one another, the later one counts, whichever comes first here.
            "LookAtPrevious": look_at_package(
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
                assign={"updated": True},
                # CloudFormation gives one name to all its refusals; their words tell them apart.
                retry=[never_retried(_REFUSED), *PATIENTLY],
                catch=[caught(ANY_ERROR, then="WhyNot", assign={"error": computed("$states.errorOutput")})],
            ),
            "WhyNot": choose(
                # Another delivery of the same event was faster, and tells how it ended.
                ("$contains($error.Cause, 'No updates are to be performed')", "AlreadyThere"),
                ("$contains($error.Cause, /_IN_PROGRESS state|Rate exceeded/) and $tries < 30", "TryAgain"),
                otherwise="GiveUp",
            ),
            "AlreadyThere": succeed(),
            "TryAgain": compute({"tries": computed("$tries + 1")}, then="WaitForOthers"),
            "Pause": wait("$pause", then="Watch"),
            "Watch": look_at_stack(
                then="HasItEnded",
                catch=gave_up,
                assign={"pause": computed(f"$min([$pause + {_WATCH_STEP_S}, {_WATCH_LONGEST_S}])")},
            ),
            "HasItEnded": choose(
                ("$contains($stack.status, /ROLLBACK.*_IN_PROGRESS$/) and $rollout.reason = ''", "LookForTheCause"),
                ("$contains($stack.status, /_IN_PROGRESS$/)", "Pause"),
                # Both, because somebody's next update may have ended by now.
                ("$stack.status = 'UPDATE_COMPLETE' and $stack.package = $rollout.package", "LookAtEndpoint"),
                ("$not($stack.package in [$rollout.package, $rollout.previous])", "Overtaken"),
                otherwise="WentBack",
            ),
            "LookForTheCause": call(
                "aws-sdk:cloudformation:describeStackResources",
                {"StackName": "${Stack}"},
                then="Pause",
                assign={"rollout": computed(f"$merge([$rollout, {{'reason': {_CAUSE}}}])")},
                retry=PATIENTLY,
                catch=[caught(ANY_ERROR, then="Pause")],
            ),
            "WentBack": _say_why(
                "$rollout.reason != '' ? $rollout.reason : 'the stack was back before its cause was seen, which its"
                " events tell: aws cloudformation describe-stack-events --stack-name ${Stack}'",
                then="RolledBack",
            ),
            "Overtaken": _say_why(
                "'another update of the stack followed before the end of this one was seen, and names '"
                " & ($stack.package = '' ? 'no package' : $stack.package)"
            ),
            **look_at_endpoint(component=component, catch=gave_up),
            # It may be scaled, or somebody may be updating the stack again.
            "WaitForEndpoint": wait(str(_POLL_S), then="LookAgain"),
            "LookAgain": choose(("$updated", "Watch"), otherwise="LookAtStack"),
            "WhatIsNew": choose(("$updated", "RolledOut"), otherwise="AlreadyThere"),
            "ServesAnother": _say_why(_SERVES_ANOTHER, then="RolledBack"),
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
                retry=PATIENTLY,
                catch=[caught(ANY_ERROR, then="WasItRolledOut")],
            ),
            "WasItRolledOut": choose(("$rollout.outcome = 'RolledOut'", "Done"), otherwise="Failed"),
            "Done": succeed(),
            "Failed": fail("NotRolledOut", "$rollout.outcome & ': ' & $rollout.reason"),
        },
        timeout_s=_TIMEOUT_S,
    )


_REFUSED = "CloudFormation.CloudFormationException"

# The oldest failure is the cause; the others follow from it, or were cancelled for it.
_CAUSE = """(
    $failures := $states.result.StackResources[
        $contains(ResourceStatus, /_FAILED$/) and $exists(ResourceStatusReason)
        and $not($contains(ResourceStatusReason, /cancelled/))
    ];
    $first := ($failures^(Timestamp))[0];
    $exists($first) ? $substring($first.LogicalResourceId & ': ' & $first.ResourceStatusReason, 0, 2000) : $stack.why
)"""
# The way out: CloudFormation believes that all is done, and would find nothing to update.
_SERVES_ANOTHER = """
    'the stack ${Stack} names ' & $served.wanted & ', and ${Endpoint} serves ' & $served.found
    & ($served.why = '' ? '' : ' (' & $served.why & ')')
    & '; approve another version, and then this one again'
"""
_MESSAGE = """{
    'package': $rollout.package,
    'outcome': $rollout.outcome,
    'reason': $rollout.reason = '' ? null : $rollout.reason,
    'previous_package': $rollout.previous = '' ? null : $rollout.previous,
    'stack': '${Stack}',
    'execution': $states.context.Execution.Id
}"""


def _say_why(reason: str, *, then: str = "Notify") -> State:
    return compute({"rollout": computed(f"$merge([$rollout, {{'reason': {reason}}}])")}, then=then)


def _outcome(outcome: str, *, then: str) -> State:
    return compute({"rollout": computed(f"$merge([$rollout, {{'outcome': '{outcome}'}}])")}, then=then)
