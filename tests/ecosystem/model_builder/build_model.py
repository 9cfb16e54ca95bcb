"""Build a toy model by ModelBuilder of version 3 of the SageMaker SDK, for a container that is no image of AWS.

python build_model.py FOLDER            writes serve.tar.gz, as it was uploaded, and built.json: environment and request

Run by the SDK's interpreter; TORCH is where torch and moto are installed, which come after the SDK's own packages.
"""

import json
import os
import site
import sys
from pathlib import Path

site.addsitedir(os.environ["TORCH"])

import boto3
import torch
from moto import mock_aws
from sagemaker.serve import ModelBuilder, ModelServer
from sagemaker.serve.builder.schema_builder import SchemaBuilder
from sagemaker.serve.mode.function_pointers import Mode

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tidegate:cpu"


@mock_aws
def main(folder: Path) -> None:
    """Build, and keep what the SDK has uploaded."""
    boto3.client("iam").create_role(RoleName="local", AssumeRolePolicyDocument="{}")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    rows = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]])
    with torch.no_grad():
        answer = network(rows)
    schema = SchemaBuilder(rows, answer)
    builder = ModelBuilder(
        model=network,
        schema_builder=schema,
        model_server=ModelServer.TORCHSERVE,
        image_uri=IMAGE,
        mode=Mode.SAGEMAKER_ENDPOINT,
        model_path=str(folder / "model-builder"),
        role_arn="arn:aws:iam::123456789012:role/local",
        dependencies={"auto": False, "custom": ["cloudpickle"]},
    )
    try:
        builder.build()
    except NotImplementedError as error:
        # moto does not simulate a role's policies, which the SDK asks for after the upload.
        if "simulate_principal_policy" not in str(error):
            raise
    bucket, _, key = builder.s3_upload_path.removeprefix("s3://").partition("/")
    boto3.client("s3").download_file(bucket, key, str(folder / "serve.tar.gz"))
    built = {
        "environment": builder.env_vars,
        "content_type": schema.input_serializer.CONTENT_TYPE,
        "accept": schema.output_deserializer.ACCEPT[0],
        "answer": answer.tolist(),
    }
    (folder / "request").write_bytes(schema.input_serializer.serialize(rows))
    (folder / "built.json").write_text(json.dumps(built))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
