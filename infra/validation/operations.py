"""Tags, keys, batch jobs, promotion and budgets: what must agree with the rest of the stage."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tidegate.infra.batch.content_types import IN_LINES
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.batch import Batch
from tidegate.infra.configuration.model import ApprovedModel
from tidegate.infra.configuration.operations import Budget
from tidegate.infra.validation.sentences import wrong

# Source: AWS Budgets, quotas: notifications of one budget.
MOST_NOTIFICATIONS = 5
# Source: IAM guide, quotas: managed policies attached to a role, unless the quota was raised, which goes to 20.
MOST_POLICIES = 20
# Source: SageMaker API reference, Tag.
_TAGGABLE = re.compile(r"[\w\s.:/=+\-@]*")


def check_tags(tags: Mapping[str, str]) -> None:
    """What AWS takes as a tag. Source: API reference, Tag."""
    for tag, value in tags.items():
        if not tag or len(tag) > 128 or tag.lower().startswith("aws:") or len(value) > 256:
            raise ConfigurationError(
                f"tags.{tag} is refused by AWS; keys have 1 to 128 characters and no 'aws:' prefix, values at most 256"
            )
        for text in (tag, value):
            if not _TAGGABLE.fullmatch(text):
                raise wrong(
                    f"tags.{tag}",
                    value,
                    "refused by SageMaker; keys and values have letters, digits, spaces and _ . : / = + - @",
                )
        if tag in {"project", "stage"}:
            raise ConfigurationError(f"tags.{tag} is set by every stage, from prefix and file name; choose another key")


def check(stage: Stage) -> None:
    """Everything beside the endpoint."""
    _check_role(stage)
    _check_key(stage)
    _check_batch(stage)
    _check_promotion(stage)
    _check_alarm_topic(stage)
    if stage.budget is not None:
        _check_budget(stage.budget)


def _check_role(stage: Stage) -> None:
    role = stage.role
    if role.arn is not None:
        for key, given in (("statements", role.statements), ("managed_policies", role.managed_policies)):
            if given:
                raise ConfigurationError(
                    f"role.{key} is for a role that the stage makes, and role.arn names one that is there; give it "
                    "that right where it is looked after, or remove role.arn"
                )
        # Source: API reference, CreateModel.ExecutionRoleArn, and IAM guide, passing a role: of the same account.
        if stage.account is not None and role.arn.split(":")[4] != stage.account:
            raise wrong("role.arn", role.arn, f"in another account than the stage's {stage.account}; name one there")
    if len(role.managed_policies) > MOST_POLICIES:
        raise ConfigurationError(
            f"role.managed_policies has {len(role.managed_policies)} policies, and a role takes {MOST_POLICIES}; say "
            "the rest in [[role.statements]]"
        )
    policies = [("managed_policies", arn) for arn in role.managed_policies]
    for key, arn in (("permissions_boundary", role.permissions_boundary), *policies):
        if arn is not None and stage.account is not None and arn.split(":")[4] not in (stage.account, "aws"):
            raise wrong(f"role.{key}", arn, f"in another account than the stage's {stage.account}; name one there")


def _check_key(stage: Stage) -> None:
    key = stage.encryption.key
    if key.startswith("arn:") and stage.region is not None and key.split(":")[3] != stage.region:
        raise wrong(
            "encryption.key", key, f"in another Region than the stage's {stage.region}; use a key or a replica there"
        )


def _check_batch(stage: Stage) -> None:
    batch = stage.batch
    if batch is None:
        return
    if stage.hosting.mode == "multi_model":
        raise ConfigurationError(
            "[batch] does not go with hosting.mode='multi_model': a transform job runs one model; give that model a "
            "stage of its own"
        )
    if batch.schedule is not None and batch.schedule_input is None:
        raise ConfigurationError(
            "batch.schedule_input is missing, so a scheduled job has nothing to transform; write one like "
            "'batch/input/{date}/', or remove batch.schedule"
        )
    if batch.schedule is None and batch.schedule_input is not None:
        raise wrong(
            "batch.schedule_input",
            batch.schedule_input,
            "for scheduled jobs, and there is no batch.schedule; write one like 'rate(1 day)', or remove it",
        )
    # Source: API reference, CreateTransformJob.MaxPayloadInMB.
    if batch.max_concurrent is not None and batch.max_concurrent * (batch.max_payload_mib or 0) > 100:
        raise wrong(
            "batch.max_concurrent",
            batch.max_concurrent,
            f"too many for max_payload_mib = {batch.max_payload_mib}, as SageMaker takes a product of 100; lower one",
        )
    _check_records(batch)


def _check_records(batch: Batch) -> None:
    """Source: "Associate Prediction Results with Input Records"; SageMaker refuses such a job when it is created."""
    if (batch.join_source, batch.input_filter, batch.output_filter) == ("None", "$", "$"):
        return
    types = {"batch.default_content_type": batch.default_content_type} | {
        f"batch.content_types.{ending}": kind for ending, kind in batch.content_types.items()
    }
    for key, kind in types.items():
        if kind.partition(";")[0].strip().lower() not in (*IN_LINES, "application/json"):
            raise wrong(
                key,
                kind,
                "nothing that SageMaker filters or joins; write a type of CSV, JSON or JSON Lines, or remove "
                "join_source, input_filter and output_filter",
            )


def _check_promotion(stage: Stage) -> None:
    registry = stage.model_registry
    if registry is None or not registry.promotion:
        return
    if not isinstance(stage.model, ApprovedModel):
        raise ConfigurationError(
            "model_registry.promotion=true changes the endpoint's model, and [model] names a fixed one; write "
            "model.group, or promotion = false"
        )
    if stage.model.group != (registry.group or f"{stage.prefix}-{stage.name}"):
        raise wrong(
            "model.group",
            stage.model.group,
            f"not the group of [model_registry], {registry.group or f'{stage.prefix}-{stage.name}'}, whose approvals "
            "are rolled out; name the same group in both",
        )
    if not stage.bootstrapped:
        raise ConfigurationError(
            "model_registry.promotion=true updates the stack with the role that 'cdk bootstrap' makes; write "
            "bootstrapped = true, or promotion = false"
        )


def _check_alarm_topic(stage: Stage) -> None:
    watched = stage.observability
    if watched is None or watched.topic_arn is None:
        return
    # Source: CloudWatch guide, alarms: an action is in the Region of its alarm.
    if stage.region is not None and watched.topic_arn.split(":")[3] != stage.region:
        raise wrong(
            "observability.topic_arn",
            watched.topic_arn,
            f"in another Region than the stage's {stage.region}, and alarms reach topics of their own only; name one "
            "there",
        )
    if watched.email is not None:
        raise wrong(
            "observability.email",
            watched.email,
            "for a topic of the stage's own, and observability.topic_arn names another; subscribe it there, or remove "
            "one of the two",
        )


def _check_budget(budget: Budget) -> None:
    warnings = len(budget.actual_percent) + len(budget.forecast_percent)
    if not 1 <= warnings <= MOST_NOTIFICATIONS:
        raise ConfigurationError(
            f"budget.actual_percent and forecast_percent have {warnings} thresholds, and a budget takes 1 to "
            f"{MOST_NOTIFICATIONS}; change the lists"
        )
