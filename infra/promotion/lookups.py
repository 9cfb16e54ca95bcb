"""What the roll-out asks before it decides: about a package, the endpoint's stack, and the endpoint itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.infra.workflows.states import ANY_ERROR, State, call, choose, computed, retried

# Of the endpoint's stack.
PARAMETER = "ModelPackageArn"
# Outputs of it: what it made last. `EndpointStack` calls them so.
CONFIG_OUTPUT = "EndpointConfigName"
MODEL_OUTPUT = "ModelName"
PATIENTLY = [retried(ANY_ERROR, attempts=6, first_s=2, longest_s=60)]


def look_at_package(arn: str, *, into: str, then: str, catch: list[State]) -> State:
    """Whether a package is approved, and when that changed last."""
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
        retry=PATIENTLY,
        catch=catch,
    )


def look_at_stack(*, then: str, catch: list[State], assign: Mapping[str, Any] | None = None) -> State:
    """The state of the endpoint's stack, the package that it names, and what it says that the endpoint should serve."""
    found = f"""(
        $seen := $states.result.Stacks[0];
        $value := $seen.Parameters[ParameterKey = '{PARAMETER}'].ParameterValue;
        $config := $seen.Outputs[OutputKey = '{CONFIG_OUTPUT}'].OutputValue;
        $model := $seen.Outputs[OutputKey = '{MODEL_OUTPUT}'].OutputValue;
        {{
            'status': $seen.StackStatus,
            'why': $exists($seen.StackStatusReason) ? $substring($seen.StackStatusReason, 0, 2000) : '',
            'package': $exists($value) ? $value : '',
            'has_parameter': '{PARAMETER}' in $seen.Parameters.ParameterKey,
            'other_parameters': [$seen.Parameters[ParameterKey != '{PARAMETER}']
                .{{'ParameterKey': ParameterKey, 'UsePreviousValue': true}}],
            'config': $exists($config) ? $config : '',
            'model': $exists($model) ? $model : ''
        }}
    )"""
    return call(
        "aws-sdk:cloudformation:describeStacks",
        {"StackName": "${Stack}"},
        then=then,
        assign={"stack": computed(found), **(assign or {})},
        retry=PATIENTLY,
        catch=catch,
    )


def look_at_endpoint(*, component: bool, catch: list[State]) -> dict[str, State]:
    """Whether what is served is what the stack names; the names of a configuration and of a model mean one content."""

    def look(action: str, name: str, *, status: str, found: str, wanted: str, then: str) -> State:
        return call(
            f"aws-sdk:sagemaker:{action}",
            {name: "${Endpoint}"},
            then=then,
            assign={
                "served": computed(
                    f"""{{
                        'status': $states.result.{status},
                        'found': $states.result.{found},
                        'wanted': {wanted},
                        'why': $exists($states.result.FailureReason)
                            ? $substring($states.result.FailureReason, 0, 1000) : ''
                    }}"""
                )
            },
            retry=PATIENTLY,
            catch=catch,
        )

    def judge(*, otherwise: str) -> State:
        return choose(
            ("$not($served.status in ['InService', 'Failed'])", "WaitForEndpoint"),
            ("$served.status = 'Failed' or $served.found != $served.wanted", "ServesAnother"),
            otherwise=otherwise,
        )

    states = {
        "LookAtEndpoint": look(
            "describeEndpoint",
            "EndpointName",
            status="EndpointStatus",
            found="EndpointConfigName",
            wanted="$stack.config",
            then="WhatDoesItServe",
        ),
        "WhatDoesItServe": judge(otherwise="LookAtComponent" if component else "WhatIsNew"),
    }
    if component:
        states |= {
            "LookAtComponent": look(
                "describeInferenceComponent",
                "InferenceComponentName",
                status="InferenceComponentStatus",
                found="Specification.ModelName",
                wanted="$stack.model",
                then="WhatDoesTheComponentServe",
            ),
            "WhatDoesTheComponentServe": judge(otherwise="WhatIsNew"),
        }
    return states
