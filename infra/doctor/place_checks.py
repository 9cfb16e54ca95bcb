"""Who asks, where, and whether the place is prepared: credentials, Region, bootstrap, stacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.subject import Subject

# What the templates ask of the bootstrap stack in their rule CheckBootstrapVersion.
BOOTSTRAP_VERSION = 6
# Source: CloudFormation guide, stack status codes.
_DEAD = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")


def credentials(account: str | Unanswered, wanted: str | None) -> Finding:
    """`wanted` is the account of the stage file."""
    check, asked = "credentials", "sts:GetCallerIdentity"
    if isinstance(account, Unanswered):
        # botocore's NoCredentialsError: to ask again would repeat it.
        none = "Unable to locate credentials" in account.reason
        return unknown(check, asked, account, "aws configure" if none else "aws sts get-caller-identity")
    if wanted is not None and account != wanted:
        return Finding(
            check=check,
            asked=asked,
            severity=Severity.ERROR,
            sentence=f"The credentials are those of account {account}, and the stage belongs to {wanted}.",
            command="aws configure list-profiles",
        )
    return ok(check, asked, f"The credentials are those of account {account}.")


def region(found: str | None, known: Collection[str]) -> Finding:
    """`found` is that of the stage file or of the environment; `known` are those where SageMaker is, by botocore."""
    check, asked = "region", "the stage file, AWS_DEFAULT_REGION, AWS_REGION, the profile"
    if found is None:
        return Finding(
            check=check,
            asked=asked,
            severity=Severity.ERROR,
            sentence="No Region is set, neither in the stage file nor in the environment.",
            command="export AWS_DEFAULT_REGION=eu-central-1",
        )
    if found not in known:
        return Finding(
            check=check,
            asked=asked,
            severity=Severity.WARNING,
            sentence=f"The installed SDK does not know that SageMaker is in {found}; it may be new or misspelled.",
            command="python -m pip install --upgrade boto3",
        )
    return ok(check, asked, f"The Region is {found}.")


def bootstrap(subject: Subject, version: str | Unanswered | None) -> Finding:
    """`version` is what Parameter Store has; None where it has nothing."""
    check = "bootstrap"
    if not subject.stage.bootstrapped:
        return ok(check, "the stage file", "The stage is deployed with its caller's rights and needs no bootstrap.")
    asked = f"ssm:GetParameter /cdk-bootstrap/{subject.qualifier}/version"
    own = "" if subject.qualifier == "hnb659fds" else f" --qualifier {subject.qualifier}"
    command = f"cdk bootstrap {subject.environment}{own}"
    if isinstance(version, Unanswered):
        return unknown(check, asked, version, command)
    if version is None:
        sentence = f"{subject.environment} has no bootstrap stack with the qualifier {subject.qualifier}."
    elif not (version.isascii() and version.isdecimal()) or int(version) < BOOTSTRAP_VERSION:
        sentence = f"The bootstrap stack has version {version}, and the stacks need {BOOTSTRAP_VERSION}."
    else:
        return ok(check, asked, f"The bootstrap stack has version {version}.")
    return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)


def stacks(subject: Subject, statuses: Mapping[str, str] | Unanswered) -> list[Finding]:
    """`statuses` of the stacks that are there, by unit. A finding for each that stands in the way, else one."""
    check, asked = "stacks", "cloudformation:DescribeStacks"
    if isinstance(statuses, Unanswered):
        return [unknown(check, asked, statuses, subject.aws("cloudformation describe-stacks"))]
    found = [finding for unit, status in statuses.items() if (finding := _stack(subject, unit, status)) is not None]
    if found:
        return found
    there = ", ".join(statuses) or "none"
    return [ok(check, asked, f"No stack of the stage stands in the way; there are: {there}.")]


def _stack(subject: Subject, unit: str, status: str) -> Finding | None:
    name = subject.names.stack(unit)
    severity = Severity.ERROR
    if status in _DEAD:
        sentence = f"Stack {name} is in {status}, and no deploy can change it; delete it, and deploy again."
        command = subject.aws(f"cloudformation delete-stack --stack-name {name}")
    elif status == "UPDATE_ROLLBACK_FAILED":
        sentence = f"The roll-back of stack {name} failed, and no deploy can change it; let it go on."
        command = subject.aws(f"cloudformation continue-update-rollback --stack-name {name}")
    elif status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        severity = Severity.WARNING
        sentence = f"Stack {name} is in {status}; wait until it is done."
        command = subject.aws(f"cloudformation describe-stack-events --stack-name {name}")
    else:
        return None
    return Finding(
        check="stacks", asked="cloudformation:DescribeStacks", severity=severity, sentence=sentence, command=command
    )


def is_standing(status: str | None) -> bool:
    """Whether a stack of this status holds what it made."""
    return status is not None and status not in _DEAD and status != "REVIEW_IN_PROGRESS"
