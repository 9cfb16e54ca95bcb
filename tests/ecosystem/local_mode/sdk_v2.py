"""One run of SageMaker's local mode with version 2 of its SDK. Run by runs.py in the SDK's environment.

python sdk_v2.py JOB.json      (written by runs.py: image, port, source, channel, body, batch, work)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import outgoing_calls
from narration import Run, member, members

ROLE = "arn:aws:iam::123456789012:role/local"


def main(job: dict[str, Any]) -> None:
    work = Path(job["work"])
    outgoing_calls.refuse(work)

    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.estimator import Estimator
    from sagemaker.local import LocalSession
    from sagemaker.model import Model
    from sagemaker.predictor import Predictor
    from sagemaker.pytorch import PyTorch
    from sagemaker.serializers import JSONSerializer

    run = Run("SageMaker Python SDK 2, local mode")
    session = LocalSession()
    session.config = {"local": {"local_code": True, "container_root": job["work"], "serving_port": job["port"]}}

    with run.step("train: Estimator.fit"):
        estimator = Estimator(
            image_uri=job["image"],
            role=ROLE,
            instance_count=1,
            instance_type="local",
            entry_point="train.py",
            source_dir=job["source"],
            hyperparameters={"epochs": job["epochs"]},
            environment=job["environment"],
            output_path=f"file://{work / 'trained'}",
            sagemaker_session=session,
        )
        estimator.fit({"train": f"file://{job['channel']}"})
        artifact = Path(estimator.model_data.removeprefix("file://"))
        run.found["training"] = {"status": "Completed", "members": members(artifact)}
        run.say(f"  Completed: {artifact.name} holds {', '.join(members(artifact))}")

    with run.step("train on two instances: PyTorch.fit with torch_distributed"):
        together = PyTorch(
            image_uri=job["image"],
            role=ROLE,
            instance_count=2,
            instance_type="local",
            entry_point="together.py",
            source_dir=job["small_source"],
            distribution={"torch_distributed": {"enabled": True}},
            output_path=f"file://{work / 'together'}",
            sagemaker_session=session,
        )
        together.fit()
        archive = Path(together.model_data.removeprefix("file://"))
        run.found["together"] = json.loads(member(archive, "hosts.json"))
        run.say(f"  {len(set(run.found['together']))} hosts know of each other")

    # Local mode unpacks the archive where it lies and mounts that folder: it gets one of its own.
    model_dir = work / "model"
    model_dir.mkdir()
    shutil.copy(artifact, model_dir)
    model = Model(
        image_uri=job["image"],
        model_data=f"file://{model_dir / artifact.name}",
        role=ROLE,
        sagemaker_session=session,
        predictor_cls=Predictor,
    )
    with run.step("endpoint: Model.deploy"):
        predictor = model.deploy(
            1, "local", wait=False, serializer=JSONSerializer(), deserializer=JSONDeserializer()
        )  # to wait takes another 30 s of sleep; without, it returns when /ping is 200 as well
        run.found["endpoint"] = session.sagemaker_client.describe_endpoint(predictor.endpoint_name)["EndpointStatus"]
        run.say(f"  {run.found['endpoint']}")
    try:
        with run.step("Predictor.predict, four digits as JSON"):
            run.found["predictions"] = predictor.predict(json.loads(job["body"]))["predictions"]
            run.say(f"  labels {' '.join(one['label'] for one in run.found['predictions'])}")
    finally:
        predictor.delete_endpoint()

    with run.step("batch transform of the same digits as JSON Lines: Transformer.transform"):
        (work / "batch").mkdir()
        (work / "batch" / "digits.jsonl").write_text("".join(f"{line}\n" for line in job["batch"]))
        transformer = model.transformer(
            1,
            "local",
            strategy="SingleRecord",
            assemble_with="Line",
            accept="application/jsonlines",
            output_path=f"file://{work / 'transformed'}",
        )
        transformer.transform(
            f"file://{work / 'batch'}", content_type="application/jsonlines", split_type="Line", wait=False, logs=False
        )
        lines = (work / "transformed" / "digits.jsonl.out").read_text().splitlines()
        run.found["batch"] = [json.loads(line) for line in lines]
        run.say(f"  {len(lines)} lines, labels {' '.join(one['label'] for one in run.found['batch'])}")
    run.finish(work / "found.json")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
