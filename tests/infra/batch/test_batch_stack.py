"""The batch stack's resources: who may do what, and where messages and lost events go."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.batch.conftest import BUCKET, PARAMETER, SynthesiseBatch
from tests.infra.state_machines import ACCOUNT, REGION, text
from tests.infra.templates import LOGS_AND_TRACES, Synthesised, called_actions, lint_definition, lint_template

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
HERE = f"{REGION}:{ACCOUNT}"


def test_the_job_machine_may_do_what_its_calls_need_and_nothing_else(batch_stack: Synthesised) -> None:
    assert batch_stack.rights_of_machine("RunJobs") == LOGS_AND_TRACES | {
        "ReadModelName": ({"ssm:GetParameter"}, [f"arn:aws:ssm:{HERE}:parameter{PARAMETER}"]),
        "RunJobs": (
            {"sagemaker:AddTags", "sagemaker:CreateTransformJob", "sagemaker:DescribeTransformJob"},
            [f"arn:aws:sagemaker:{HERE}:transform-job/tidegate-dev-batch-*"],
        ),
        "WriteManifests": (
            {"s3:PutObject"},
            [f"arn:aws:s3:::{BUCKET}/batch/manifests/*", f"arn:aws:s3:::{BUCKET}/batch/output/*"],
        ),
        "Notify": ({"sns:Publish"}, ["topic"]),
    }


def test_every_action_of_the_definition_is_allowed_and_every_allowed_one_is_called(batch_stack: Synthesised) -> None:
    for name, sid in (("tidegate-dev-batch", "RunJobs"), ("tidegate-dev-batch-intake", "StartJobs")):
        allowed = batch_stack.rights_of_machine(sid)
        needed = set().union(*(actions for key, (actions, _) in allowed.items() if key not in LOGS_AND_TRACES))

        # Whoever creates a job with tags needs the right to tag, and makes no second call.
        needed -= {"sagemaker:AddTags"}
        assert called_actions(batch_stack.definition(name)) == {action.lower() for action in needed}


def test_jobs_carry_the_stage_s_tags_by_which_its_budget_counts(batch_stack: Synthesised) -> None:
    arguments = json.loads(batch_stack.definition("tidegate-dev-batch"))["States"]["CreateJob"]["Arguments"]

    assert arguments["Tags"] == [{"Key": "project", "Value": "tidegate"}, {"Key": "stage", "Value": "dev"}]


def test_the_machine_that_takes_events_may_start_jobs_and_nothing_else(batch_stack: Synthesised) -> None:
    assert batch_stack.rights_of_machine("StartJobs") == LOGS_AND_TRACES | {
        "StartJobs": ({"states:StartExecution"}, [f"arn:aws:states:{HERE}:stateMachine:tidegate-dev-batch"])
    }


def test_events_and_the_scheduler_may_start_the_machine_that_takes_events_and_nothing_else(
    batch_stack: Synthesised,
) -> None:
    start = ({"states:StartExecution"}, [f"arn:aws:states:{HERE}:stateMachine:tidegate-dev-batch-intake"])
    queue = {f"{batch_stack.logical_id('AWS::SQS::Queue')}.Arn": "queue"}

    assert batch_stack.rights("events.amazonaws.com") == [{"Start": start}]
    assert batch_stack.rights("scheduler.amazonaws.com", **queue) == [
        {"Start": start, "KeepUndelivered": ({"sqs:SendMessage"}, ["queue"])}
    ]


def test_a_role_is_taken_only_on_behalf_of_its_own_resource(batch_stack: Synthesised) -> None:
    sources = set()
    for role in batch_stack.of_type("AWS::IAM::Role"):
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert text(trust["Condition"]["StringEquals"]["aws:SourceAccount"], {}) == ACCOUNT
        sources.add(text(trust["Condition"]["ArnLike"]["aws:SourceArn"], {}))

    assert sources == {
        f"arn:aws:states:{HERE}:stateMachine:tidegate-dev-batch",
        f"arn:aws:states:{HERE}:stateMachine:tidegate-dev-batch-intake",
        f"arn:aws:events:{HERE}:rule/tidegate-dev-batch-upload",
        f"arn:aws:scheduler:{HERE}:schedule-group/tidegate-dev-batch",
    }


def test_there_is_no_lambda_no_custom_resource_and_no_policy_outside_of_a_role(batch_stack: Synthesised) -> None:
    kinds = {resource["Type"] for resource in batch_stack.template["Resources"].values()}

    assert not {kind for kind in kinds if kind.startswith(("AWS::Lambda", "Custom::", "AWS::CloudFormation"))}
    assert not {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"} & kinds


def test_every_machine_writes_its_log_and_its_traces(batch_stack: Synthesised) -> None:
    machines = batch_stack.of_type("AWS::StepFunctions::StateMachine")

    assert {machine["StateMachineName"] for machine in machines} == {"tidegate-dev-batch", "tidegate-dev-batch-intake"}
    for machine in machines:
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["TracingConfiguration"] == {"Enabled": True}
    assert {(log["LogGroupName"], log["RetentionInDays"]) for log in batch_stack.of_type("AWS::Logs::LogGroup")} == {
        (f"/aws/vendedlogs/states/{machine['StateMachineName']}", 90) for machine in machines
    }


def test_the_topic_is_encrypted_and_takes_messages_over_tls_only(batch_stack: Synthesised) -> None:
    (topic,) = batch_stack.of_type("AWS::SNS::Topic")
    (policy,) = batch_stack.of_type("AWS::SNS::TopicPolicy")
    (subscription,) = batch_stack.of_type("AWS::SNS::Subscription")
    (statement,) = policy["PolicyDocument"]["Statement"]

    assert topic["KmsMasterKeyId"] == "alias/aws/sns"
    assert (statement["Effect"], statement["Action"]) == ("Deny", "sns:Publish")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ml-team@example.com")


def test_events_that_cannot_be_delivered_are_kept_for_two_weeks(batch_stack: Synthesised) -> None:
    (queue,) = batch_stack.of_type("AWS::SQS::Queue")
    (policy,) = batch_stack.of_type("AWS::SQS::QueuePolicy")
    (rule,) = batch_stack.of_type("AWS::Events::Rule")
    (schedule,) = batch_stack.of_type("AWS::Scheduler::Schedule")
    refuse, keep = policy["PolicyDocument"]["Statement"]

    assert (queue["SqsManagedSseEnabled"], queue["MessageRetentionPeriod"]) == (True, 14 * 24 * 3600)
    assert (refuse["Effect"], refuse["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert keep["Principal"] == {"Service": "events.amazonaws.com"}
    assert text(keep["Condition"]["ArnEquals"]["aws:SourceArn"], {}).endswith(":rule/tidegate-dev-batch-upload")
    where = {"Fn::GetAtt": [batch_stack.logical_id("AWS::SQS::Queue"), "Arn"]}
    assert rule["Targets"][0]["DeadLetterConfig"] == {"Arn": where}
    assert schedule["Target"]["DeadLetterConfig"] == {"Arn": where}
    for retry in (rule["Targets"][0]["RetryPolicy"], schedule["Target"]["RetryPolicy"]):
        assert retry == {"MaximumEventAgeInSeconds": 24 * 3600, "MaximumRetryAttempts": 185}


def test_a_stage_that_starts_nothing_by_itself_has_only_the_machine_for_jobs(synthesise_batch: SynthesiseBatch) -> None:
    stack = synthesise_batch(instance_type="ml.g5.xlarge", instance_count=2, max_payload_mib=0, max_concurrent=4)
    (machine,) = stack.of_type("AWS::StepFunctions::StateMachine")
    arguments = json.loads(stack.definition(machine["StateMachineName"]))["States"]["CreateJob"]["Arguments"]

    assert not stack.of_type("AWS::Events::Rule")
    assert not stack.of_type("AWS::Scheduler::Schedule")
    assert not stack.of_type("AWS::SQS::Queue")
    assert not stack.of_type("AWS::SNS::Subscription")
    assert arguments["TransformResources"] == {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}
    assert (arguments["MaxPayloadInMB"], arguments["MaxConcurrentTransforms"]) == (0, 4)


def test_a_key_of_the_stage_encrypts_outputs_volumes_and_messages(synthesise_batch: SynthesiseBatch) -> None:
    stack = synthesise_batch(key_arn=KEY, volume_key_arn=KEY)
    arguments = json.loads(stack.definition("tidegate-dev-batch"))["States"]["CreateJob"]["Arguments"]
    (topic,) = stack.of_type("AWS::SNS::Topic")
    allowed = stack.rights_of_machine("RunJobs")

    assert arguments["TransformOutput"]["KmsKeyId"] == KEY
    assert arguments["TransformResources"]["VolumeKmsKeyId"] == KEY
    assert topic["KmsMasterKeyId"] == KEY
    assert allowed["UseKey"] == ({"kms:CreateGrant", "kms:DescribeKey", "kms:GenerateDataKey"}, [KEY])
    assert allowed["NotifyEncrypted"] == ({"kms:Decrypt", "kms:GenerateDataKey"}, [KEY])


def test_the_template_passes_cdk_nag_and_cfn_lint(batch_stack: Synthesised) -> None:
    assert '"failure"' not in batch_stack.report
    assert lint_template(batch_stack.file) == ""


@pytest.mark.parametrize("name", ["tidegate-dev-batch", "tidegate-dev-batch-intake"])
def test_the_definition_passes_cfn_lint_s_check_of_state_machines(name: str, batch_stack: Synthesised) -> None:
    assert lint_definition(batch_stack.definition(name)) == ""


def test_cfn_lint_s_check_is_really_asked(batch_stack: Synthesised) -> None:
    definition = json.loads(batch_stack.definition("tidegate-dev-batch"))
    definition["States"]["Pause"]["Secs"] = definition["States"]["Pause"].pop("Seconds")

    assert re.search(r"E3601.*Secs", lint_definition(json.dumps(definition)))
