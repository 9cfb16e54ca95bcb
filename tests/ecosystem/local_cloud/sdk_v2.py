"""What users of version 2 of the SageMaker SDK do, with nothing but the exports of the local cloud.

python sdk_v2.py MODEL.tar.gz CODE_DIR FOUND.json      (run in the SDK's environment, by runs.py)
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


def files_of(uri: str) -> dict[str, str]:
    """The files of an archive in S3."""
    import boto3

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content = io.BytesIO(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    with tarfile.open(fileobj=content) as tar:
        return {item.name: tar.extractfile(item).read().decode() for item in tar if item.isfile()}  # type: ignore[union-attr]


def main(archive: str, code: str, found_file: str) -> None:
    outgoing_calls.watch()

    import numpy as np
    from sagemaker import ModelPackage, Predictor, Session, get_execution_role
    from sagemaker.async_inference import AsyncInferenceConfig
    from sagemaker.async_inference.waiter_config import WaiterConfig
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.processing import ProcessingOutput, ScriptProcessor
    from sagemaker.pytorch import PyTorch, PyTorchModel
    from sagemaker.s3 import S3Downloader
    from sagemaker.serializers import JSONSerializer
    from sagemaker.tuner import CategoricalParameter, HyperparameterTuner

    found: dict[str, Any] = {}
    session = Session()
    role = get_execution_role()
    found["role"], found["bucket"] = role, session.default_bucket()
    found["default role"] = get_execution_role(use_default=True)
    framework = {"framework_version": "2.6", "py_version": "py312"}
    rows = np.array([[1, 2], [3, 4]], dtype="float32")

    def model() -> PyTorchModel:
        data = session.upload_data(archive, key_prefix="mine")
        return PyTorchModel(model_data=data, role=role, entry_point="inference.py", source_dir=code, **framework)

    predictor = model().deploy(1, INSTANCE)
    found["predicted"] = predictor.predict(rows).tolist()
    predictor.delete_model()
    predictor.delete_endpoint()

    # To wait for an endpoint takes the SDK 30 s; once is enough.
    packer = model()
    waiting = packer.deploy(1, INSTANCE, async_inference_config=AsyncInferenceConfig(), wait=False)
    session.wait_for_endpoint(waiting.endpoint_name, poll=1)
    answer = waiting.predict_async(rows)
    found["predicted asynchronously"] = answer.get_result(WaiterConfig(max_attempts=300, delay=1)).tolist()
    waiting.delete_endpoint()

    lines = Path("rows.csv")
    lines.write_text("1,2\n3,4\n")
    transformer = packer.transformer(
        1, INSTANCE, strategy="SingleRecord", assemble_with="Line", accept="application/json"
    )
    transformer.transform(
        session.upload_data(str(lines), key_prefix="rows"), content_type="text/csv", split_type="Line"
    )
    prefix = transformer.output_path.partition(f"{session.default_bucket()}/")[2]
    written = session.read_s3_file(session.default_bucket(), f"{prefix}/rows.csv.out")
    found["transformed"] = [json.loads(line) for line in written.splitlines()]

    types = {
        "content_types": ["application/json"],
        "response_types": ["application/json"],
        "inference_instances": [INSTANCE],
        "transform_instances": [INSTANCE],
    }
    version = packer.register(model_package_group_name="mine", approval_status="Approved", **types)
    alone = packer.register(model_package_name="alone", **types)
    found["registered"] = [version.model_package_arn, alone.model_package_arn]
    version.update_customer_metadata({"accuracy": "0.9"})
    ModelPackage(role=role, model_package_arn=version.model_package_arn).deploy(
        1, INSTANCE, endpoint_name="packaged", endpoint_logging=True
    )
    packaged = Predictor("packaged", serializer=JSONSerializer(), deserializer=JSONDeserializer())
    found["predicted by the package"] = packaged.predict([[5, 6]])
    packaged.delete_endpoint()

    trainer = PyTorch(
        entry_point="train.py",
        source_dir=code,
        role=role,
        instance_count=1,
        instance_type=INSTANCE,
        hyperparameters={"factor": 1.5},
        metric_definitions=[{"Name": "rows", "Regex": "rows=([0-9]+)"}],
        **framework,
    )
    trainer.fit({"train": session.upload_data(str(lines), key_prefix="train")})
    found["trained"] = files_of(trainer.model_data)

    tuner = HyperparameterTuner(
        trainer,
        "rows",
        {"factor": CategoricalParameter([1, 2])},
        metric_definitions=[{"Name": "rows", "Regex": "product=([0-9.]+)"}],
        strategy="Grid",
        max_jobs=2,
    )
    tuner.fit({"train": session.upload_data(str(lines), key_prefix="train")})
    values = tuner.analytics().dataframe()["FinalObjectiveValue"]
    best = files_of(tuner.best_estimator().model_data)
    found["tuned"] = {"tried": sorted(values), "best": best["factor"]}

    processor = ScriptProcessor(
        image_uri="any", command=["python3"], role=role, instance_count=1, instance_type=INSTANCE
    )
    output = ProcessingOutput(source="/opt/ml/processing/out", output_name="out")
    processor.run(code="process.py", arguments=["--share", "0.2"], outputs=[output])
    found["processed"] = S3Downloader.read_file(f"{processor.latest_job.outputs[0].destination}/words")
    found["calls"] = outgoing_calls.calls
    Path(found_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
