"""A user who deploys: archives, the command line, questions to what was deployed, and an inventory of the account."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import torch

from tests.infra.command_line import cdk

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

    @property
    def name(self) -> str:
        return Path(self.stage).stem

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        chosen = () if "--app" in arguments else ("-c", f"stage={self.stage}")
        done = cdk(*arguments, *chosen, output=self.directory / "cdk.out", cloud=self.cloud, timeout_s=250)
        assert done.returncode == exit_code, done.stdout + done.stderr
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
