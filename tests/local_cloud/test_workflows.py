"""Events start state machines, and state machines really run and call this cloud's services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_cloud.conftest import ROLE, Account, await_true
from tests.local_cloud.test_stacks import stack_of
from tidegate.local_cloud.workflows.event_targets import filled

Json = dict[str, Any]

# JSONata: an uploaded object's key is noted in a manifest, together with how many models SageMaker has.
MACHINE = {
    "QueryLanguage": "JSONata",
    "StartAt": "Count",
    "States": {
        "Count": {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:sagemaker:listModels",
            "Arguments": {"NameContains": "{% $states.input.mark %}"},
            "Assign": {"models": "{% $count($states.result.Models) %}"},
            "Output": "{% $states.input %}",
            "Next": "Note",
        },
        "Note": {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
            "Arguments": {
                "Bucket": "{% $states.input.bucket %}",
                "Key": "{% 'notes/' & $hash($states.input.key, 'SHA-256') %}",
                "Body": {
                    "key": "{% $states.input.key %}",
                    "models": "{% $models %}",
                    "named": "{% $length($states.context.Execution.Name) > 0 %}",
                },
            },
            "End": True,
        },
    },
}


def template(bucket: str, mark: str) -> Json:
    """A bucket whose uploads below `in/` start the machine."""
    return {
        "Resources": {
            "Bucket": {
                "Type": "AWS::S3::Bucket",
                "Properties": {
                    "BucketName": bucket,
                    "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
                },
            },
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {"RoleArn": ROLE, "DefinitionString": json.dumps(MACHINE)},
            },
            "Rule": {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": {
                        "source": ["aws.s3"],
                        "detail-type": ["Object Created"],
                        "detail": {"bucket": {"name": [bucket]}, "object": {"key": [{"prefix": "in/"}]}},
                    },
                    "Targets": [
                        {
                            "Id": "machine",
                            "Arn": {"Ref": "Machine"},
                            "RoleArn": ROLE,
                            "InputTransformer": {
                                "InputPathsMap": {"bucket": "$.detail.bucket.name", "key": "$.detail.object.key"},
                                "InputTemplate": f'{{"bucket": <bucket>, "key": <key>, "mark": "{mark}"}}',
                            },
                        }
                    ],
                },
            },
        }
    }


@pytest.fixture(scope="module")
def bucket(account: Account) -> Iterator[str]:
    name = account.name("watched")
    with stack_of(account) as stack:
        status = stack.create(template(name, mark="noted"))
        assert status == "CREATE_COMPLETE", stack.events("Machine")
        yield name
        for item in account.s3.list_objects_v2(Bucket=name).get("Contents", []):
            account.s3.delete_object(Bucket=name, Key=item["Key"])


def notes(account: Account, bucket: str) -> list[Json]:
    found = account.s3.list_objects_v2(Bucket=bucket, Prefix="notes/").get("Contents", [])
    return [json.loads(account.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()) for item in found]


def test_an_upload_starts_a_machine_that_calls_our_sagemaker_and_writes_json(account: Account, bucket: str) -> None:
    account.sagemaker.create_model(ModelName="noted-1", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "serve"})
    account.s3.put_object(Bucket=bucket, Key="elsewhere/b.csv", Body=b"2")
    account.s3.put_object(Bucket=bucket, Key="in/a.csv", Body=b"1")
    await_true(lambda: len(notes(account, bucket)) == 1, "the machine writes its note")
    assert notes(account, bucket) == [{"key": "in/a.csv", "models": 1, "named": True}]


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ('{"key": <key>, "size": <size>}', {"key": 'a "b".csv', "size": 3}),
        ('{"said": "<key> has <size> bytes"}', {"said": 'a "b".csv has 3 bytes'}),
        ('{"nothing": <absent>}', {"nothing": None}),
        ('"a string with \\" and <size>"', 'a string with " and 3'),
    ],
)
def test_a_template_is_filled_with_values_as_json_or_as_text(template: str, made: Any) -> None:
    assert json.loads(filled(template, {"key": 'a "b".csv', "size": 3})) == made


def test_a_machine_starts_another_and_tells_a_topic_in_json(account: Account) -> None:
    states, sns, sqs = (account.cloud.client(service) for service in ("stepfunctions", "sns", "sqs"))
    topic = sns.create_topic(Name=account.name("told"))["TopicArn"]
    queue = sqs.create_queue(QueueName=account.name("told"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})

    def machine(resource: str, **arguments: Any) -> str:
        task = {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Arguments": arguments, "End": True}
        definition = json.dumps({"QueryLanguage": "JSONata", "StartAt": "Do", "States": {"Do": task}})
        made = states.create_state_machine(name=account.name("m"), definition=definition, roleArn=ROLE)
        return str(made["stateMachineArn"])

    tells = machine("sns:publish", TopicArn=topic, Message={"said": "{% $states.input.word %}"})
    starts = machine("states:startExecution", StateMachineArn=tells, Name="{% 'named' %}", Input={"word": "hello"})
    states.start_execution(stateMachineArn=starts, input="{}")
    messages: list[Json] = []

    def told() -> bool:
        messages.extend(sqs.receive_message(QueueUrl=queue).get("Messages", []))
        return bool(messages)

    await_true(told, "the topic is told")
    assert json.loads(messages[0]["Body"]) == {"said": "hello"}
    assert [item["name"] for item in states.list_executions(stateMachineArn=tells)["executions"]] == ["named"]
    for client in (states, sns, sqs):
        client.close()


def test_an_execution_whose_answer_holds_a_moment_is_described(account: Account) -> None:
    states = account.cloud.client("stepfunctions")
    account.sagemaker.create_model(ModelName="timed", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "serve"})
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sagemaker:describeModel",
        "Arguments": {"ModelName": "timed"},
        "End": True,
    }
    definition = json.dumps({"QueryLanguage": "JSONata", "StartAt": "Look", "States": {"Look": task}})
    made = states.create_state_machine(name=account.name("m"), definition=definition, roleArn=ROLE)
    started = states.start_execution(stateMachineArn=made["stateMachineArn"], input="{}")["executionArn"]
    await_true(lambda: states.describe_execution(executionArn=started)["status"] == "SUCCEEDED", "it succeeds")
    output = json.loads(states.describe_execution(executionArn=started)["output"])
    assert output["CreationTime"].endswith("Z")
    states.close()


def test_an_execution_that_fails_says_why(account: Account) -> None:
    states = account.cloud.client("stepfunctions")
    definition = {
        "QueryLanguage": "JSONata",
        "StartAt": "Look",
        "States": {
            "Look": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:sagemaker:describeTransformJob",
                "Arguments": {"TransformJobName": "nobody"},
                "End": True,
            }
        },
    }
    made = states.create_state_machine(name=account.name("m"), definition=json.dumps(definition), roleArn=ROLE)
    started = states.start_execution(stateMachineArn=made["stateMachineArn"], input="{}")["executionArn"]
    await_true(lambda: states.describe_execution(executionArn=started)["status"] != "RUNNING", "the execution ends")
    ended = states.describe_execution(executionArn=started)
    assert (ended["status"], ended["error"]) == ("FAILED", "SageMaker.ResourceNotFoundException")
    assert "Could not find requested job with name: nobody" in ended["cause"]
    states.close()
