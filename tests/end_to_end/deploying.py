"""A user who deploys: archives, the command line, questions to what was deployed, and an inventory of the account."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import torch

from tests.infra.command_line import cdk
from tests.polling import until

HANDLERS = """
import json
import os

import torch


def model_fn(model_dir):
    return torch.load(os.path.join(model_dir, "model.pth"), weights_only=True)


def input_fn(request_body, content_type):
    return json.loads(request_body)


def predict_fn(data, model):
    # The server is known by its port; of its workers any may answer.
    server = os.environ["SAGEMAKER_BIND_TO_PORT"]
    return {"product": data * model["w"].item(), "server": server, "process": os.getpid()}


def output_fn(prediction, accept):
    return json.dumps(prediction)
"""

# Of a role that SageMaker may take on.
TRUST = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}


def archive(directory: Path, *, weight: float, handlers: str = HANDLERS) -> Path:
    """A model.tar.gz that multiplies numbers by `weight`."""
    weights = io.BytesIO()
    torch.save({"w": torch.tensor(weight)}, weights)
    path = directory / f"times-{weight:g}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("model.pth", weights.getvalue()), ("code/inference.py", handlers.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@dataclass
class Deployer:
    """A user at the command line: the stacks of one stage, and what their outputs say.

    `stage` is what `-c stage=` names; the stage's own name is that of its file.
    """

    cloud: dict[str, str]
    directory: Path
    stage: str = "local"
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    held_to_the_rules: bool = False

    @property
    def name(self) -> str:
        return Path(self.stage).stem

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        chosen = () if "--app" in arguments else ("-c", f"stage={self.stage}")
        # The CDK's own rules for templates take a third of a synthesis: its first deploy holds a stage to them.
        cloud = self.cloud | ({"CDK_VALIDATION": "false"} if self.held_to_the_rules else {})
        done = cdk(*arguments, *chosen, output=self.directory / "cdk.out", cloud=cloud, timeout_s=500)
        assert done.returncode == exit_code, done.stdout + done.stderr
        self.held_to_the_rules |= arguments[0] == "deploy"
        return done.stdout + done.stderr

    def deploy(self, *arguments: str, exit_code: int = 0) -> str:
        file = self.directory / "outputs.json"
        how = ("--require-approval", "never", "--concurrency", "3", "--outputs-file", str(file))
        said = self.run("deploy", *arguments, *how, exit_code=exit_code)
        self.outputs |= json.loads(file.read_text())
        return said

    def output(self, unit: str, name: str) -> str:
        return self.outputs[f"tidegate-{self.name}-{unit}"][name]

    def synthesised(self) -> tuple[str, str]:
        """What the last synthesis left, for a further command that need not synthesise again."""
        return "--app", str(self.directory / "cdk.out")

    def upload(self, path: Path) -> str:
        bucket, key = self.output("storage", "BucketName"), f"models/{path.name}"
        boto3.client("s3").upload_file(str(path), bucket, key)
        return f"s3://{bucket}/{key}"


def invoke(endpoint: str, number: float) -> dict[str, Any]:
    """What `invoke_endpoint` answers for `number`."""
    runtime = boto3.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=json.dumps(number))
    result: dict[str, Any] = json.loads(answer["Body"].read())
    return result


def answered(accepted: Mapping[str, Any]) -> dict[str, Any]:
    """What an asynchronous request is answered at last, after `invoke_endpoint_async` said this.

    Raises:
        AssertionError: with the failure, where that is what came of it.
    """
    s3 = boto3.client("s3")
    places = [accepted[name] for name in ("OutputLocation", "FailureLocation") if name in accepted]
    objects = [place.removeprefix("s3://").split("/", 1) for place in places]

    def ended() -> list[str] | None:
        return next((each for each in objects if s3.list_objects_v2(Bucket=each[0], Prefix=each[1])["KeyCount"]), None)

    bucket, key = until(ended, "the request has an answer or a failure", timeout_s=400)
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert [bucket, key] == objects[0], body
    result: dict[str, Any] = json.loads(body)
    return result


def role_for(iam: Any, name: str, *, bucket: str, repository: str) -> str:
    """The ARN of a new role as SageMaker needs it beside any stack: one bucket, one repository, logs and metrics."""

    def may(actions: list[str], resource: str = "*") -> dict[str, Any]:
        return {"Effect": "Allow", "Action": actions, "Resource": resource}

    images = f"arn:aws:ecr:us-east-1:123456789012:repository/{repository}"
    rights = document(
        may(["s3:ListBucket"], f"arn:aws:s3:::{bucket}"),
        may(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], f"arn:aws:s3:::{bucket}/*"),
        may(["ecr:GetAuthorizationToken"]),
        may(["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], images),
        may(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]),
        may(["cloudwatch:PutMetricData"]),
    )
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(TRUST))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="sagemaker", PolicyDocument=rights)
    return arn


def document(*statements: dict[str, Any]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def inventory(stage: str) -> dict[str, list[str]]:
    """Everything of a stage that the account holds and its stacks could have left there."""
    sagemaker = boto3.client("sagemaker")
    scaling, alarms = boto3.client("application-autoscaling"), boto3.client("cloudwatch").describe_alarms()
    stacks = boto3.client("cloudformation").list_stacks()["StackSummaries"]
    held = {
        "models": [item["ModelName"] for item in sagemaker.list_models()["Models"]],
        "configs": [item["EndpointConfigName"] for item in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "endpoints": [item["EndpointName"] for item in sagemaker.list_endpoints()["Endpoints"]],
        "groups": [
            item["ModelPackageGroupName"]
            for item in sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
        ],
        "targets": [
            item["ResourceId"]
            for item in scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        ],
        "policies": [
            item["ResourceId"]
            for item in scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        ],
        "alarms": [item["AlarmName"] for item in (*alarms["MetricAlarms"], *alarms["CompositeAlarms"])],
        "topics": [item["TopicArn"] for item in boto3.client("sns").list_topics()["Topics"]],
        "buckets": [item["Name"] for item in boto3.client("s3").list_buckets()["Buckets"]],
        "repositories": [
            item["repositoryName"] for item in boto3.client("ecr").describe_repositories()["repositories"]
        ],
        "roles": [item["RoleName"] for item in boto3.client("iam").list_roles()["Roles"]],
        "rules": [item["Name"] for item in boto3.client("events").list_rules()["Rules"]],
        "machines": [item["name"] for item in boto3.client("stepfunctions").list_state_machines()["stateMachines"]],
        "databases": [item["Name"] for item in boto3.client("glue").get_databases()["DatabaseList"]],
        "workgroups": [item["Name"] for item in boto3.client("athena").list_work_groups()["WorkGroups"]],
        "rights": [item["PolicyName"] for item in boto3.client("iam").list_policies(Scope="Local")["Policies"]],
        "parameters": [
            item["Name"].replace("/", "-")[1:] for item in boto3.client("ssm").describe_parameters()["Parameters"]
        ],
        "logs": [item["logGroupName"] for item in boto3.client("logs").describe_log_groups()["logGroups"]],
        "stacks": [item["StackName"] for item in stacks if item["StackStatus"] != "DELETE_COMPLETE"],
    }
    mark = f"tidegate-{stage}"
    # SQL takes no hyphens.
    return {kind: [name for name in names if mark in name.replace("_", "-")] for kind, names in held.items()}
