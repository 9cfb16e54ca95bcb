"""A model whose archive is one script, as a stage of the local cloud has it: in the bucket and in Parameter Store."""

from __future__ import annotations

import io
import tarfile

from tidegate.local_cloud import LocalCloud


def deploy(cloud: LocalCloud, *, bucket: str, model: str, script: str) -> None:
    """Make the bucket, the model of this name and the parameter by which clients of the stage `try` find it."""
    s3, sagemaker, ssm = (cloud.client(name) for name in ("s3", "sagemaker", "ssm"))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(script.encode())
        tar.addfile(member, io.BytesIO(script.encode()))
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="models/model.tar.gz", Body=content.getvalue())
    sagemaker.create_model(
        ModelName=model,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/service",
        PrimaryContainer={
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
            "ModelDataUrl": f"s3://{bucket}/models/model.tar.gz",
            "Environment": {"TIDEGATE_WORKERS": "1"},
        },
    )
    ssm.put_parameter(Name="/tidegate/try/model-name", Value=model, Type="String")
    for client in (s3, sagemaker, ssm):
        client.close()
