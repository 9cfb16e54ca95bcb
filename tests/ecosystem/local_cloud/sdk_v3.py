"""What users of version 3 of the SageMaker SDK do, with nothing but the exports of the local cloud.

python sdk_v3.py MODEL.tar.gz CODE_DIR FOUND.json      (run in the SDK's environment, by runs.py)
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import outgoing_calls

INSTANCE = "ml.m5.large"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tidegate:cpu"
JSON = "application/json"


def files_of(uri: str) -> dict[str, str]:
    """The files of an archive in S3."""
    import boto3

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content = io.BytesIO(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    with tarfile.open(fileobj=content) as tar:
        return {item.name: tar.extractfile(item).read().decode() for item in tar if item.isfile()}  # type: ignore[union-attr]


def main(archive: str, code: str, found_file: str) -> None:
    outgoing_calls.watch()

    import boto3
    from sagemaker.core.helper.session_helper import Session, get_execution_role
    from sagemaker.core.inference_config import AsyncInferenceConfig, ServerlessInferenceConfig
    from sagemaker.core.processing import ScriptProcessor
    from sagemaker.core.resources import Endpoint, ModelPackage
    from sagemaker.core.shapes import ProcessingOutput, ProcessingS3Output
    from sagemaker.core.training.configs import SourceCode
    from sagemaker.serve import ModelBuilder
    from sagemaker.train import ModelTrainer
    from sagemaker.train.configs import Compute, InputData

    found: dict[str, Any] = {}
    session = Session()
    bucket = session.default_bucket()
    found["role"], found["bucket"] = get_execution_role(), bucket
    found["default role"] = get_execution_role(use_default=True)
    data = session.upload_data(archive, bucket, "mine")
    source = SourceCode(source_dir=code, entry_script="inference.py")

    def built(**more: Any) -> ModelBuilder:
        builder = ModelBuilder(
            s3_model_data_url=data, source_code=source, image_uri=IMAGE, instance_type=INSTANCE, **more
        )
        builder.build()
        return builder

    builder = built()
    endpoint = builder.deploy(endpoint_name="mine")
    answer = endpoint.invoke(body=b"[[1, 2], [3, 4]]", content_type=JSON, accept=JSON)
    found["predicted"] = json.loads(answer.body.read())
    endpoint.delete()

    # To wait for an endpoint takes the SDK 30 s; once is enough.
    def deployed(name: str, config: Any) -> Endpoint:
        built().deploy(endpoint_name=name, inference_config=config, wait=False)
        endpoint = Endpoint.get(name)
        endpoint.wait_for_status("InService", poll=1)
        return endpoint

    serverless = deployed("serverless", ServerlessInferenceConfig())
    answer = serverless.invoke(body=b"[[1, 2], [3, 4]]", content_type=JSON, accept=JSON)
    found["predicted without a server"] = json.loads(answer.body.read())
    serverless.delete()

    waiting = deployed("waiting", AsyncInferenceConfig())
    rows = session.upload_string_as_file_body("[[1, 2], [3, 4]]", bucket, "rows/rows.json")
    output = waiting.invoke_async(input_location=rows, content_type=JSON, accept=JSON).output_location
    key = output.partition(f"{bucket}/")[2]
    s3 = boto3.client("s3")
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    found["predicted asynchronously"] = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    waiting.delete()

    lines = Path("rows.csv")
    lines.write_text("1,2\n3,4\n")
    uploaded = session.upload_data(str(lines), bucket, "lines")
    transformer = builder.transformer(1, INSTANCE, strategy="SingleRecord", assemble_with="Line", accept=JSON)
    transformer.transform(uploaded, content_type="text/csv", split_type="Line")
    written = session.read_s3_file(bucket, f"{transformer.output_path.partition(f'{bucket}/')[2]}/rows.csv.out")
    found["transformed"] = [json.loads(line) for line in written.splitlines()]

    types = {"content_types": [JSON], "response_types": [JSON], "inference_instances": [INSTANCE]}
    version = builder.register(model_package_group_name="mine", approval_status="Approved", **types)
    alone = builder.register(model_package_name="alone", transform_instances=[INSTANCE], **types)
    found["registered"] = [version, alone]
    found["rejected"] = ModelPackage.get(version).update(model_approval_status="Rejected").model_approval_status

    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    boto3.client("iam").create_role(RoleName="poor", AssumeRolePolicyDocument=document)
    try:
        built(role_arn="poor")
    except Exception as error:
        found["poor role"] = f"{type(error).__name__}: {error}"

    trainer = ModelTrainer(
        training_image=IMAGE,
        source_code=SourceCode(source_dir=code, entry_script="train.py"),
        hyperparameters={"factor": 1.5},
        compute=Compute(instance_type=INSTANCE, instance_count=1),
    )
    try:
        trainer.train(input_data_config=[InputData(channel_name="train", data_source=uploaded)])
        found["trained"] = files_of(trainer._latest_training_job.model_artifacts.s3_model_artifacts)
    except Exception as error:  # its start script names /opt/ml, which not every machine gives a process
        found["trained"] = f"{type(error).__name__}: {error}"

    processor = ScriptProcessor(
        role=found["role"], image_uri=IMAGE, command=["python3"], instance_count=1, instance_type=INSTANCE
    )
    place = {"s3_uri": f"s3://{bucket}/processed", "local_path": "/opt/ml/processing/out"}
    output = ProcessingOutput(output_name="out", s3_output=ProcessingS3Output(**place, s3_upload_mode="EndOfJob"))
    processor.run(code="process.py", arguments=["--share", "0.2"], outputs=[output])
    found["processed"] = session.read_s3_file(bucket, "processed/words")
    found["calls"] = outgoing_calls.calls
    Path(found_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
