"""One run of SageMaker's local mode with version 3 of its SDK. Run by runs.py in the SDK's environment.

python sdk_v3.py JOB.json      (written by runs.py: image, port, source, channel, body, batch, work)
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

    from sagemaker.core.local import LocalSession

    run = Run("SageMaker Python SDK 3, local mode")
    session = LocalSession()
    session.config = {"local": {"local_code": True, "container_root": job["work"], "serving_port": job["port"]}}
    client, runtime = session.sagemaker_client, session.sagemaker_runtime_client

    with run.step("train: create_training_job"):
        client.create_training_job(
            TrainingJobName="digits",
            RoleArn=ROLE,
            AlgorithmSpecification={"TrainingImage": job["image"], "TrainingInputMode": "File"},
            OutputDataConfig={"S3OutputPath": f"file://{work / 'trained'}"},
            ResourceConfig={"InstanceType": "local", "InstanceCount": 1},
            HyperParameters={
                "sagemaker_program": json.dumps("train.py"),
                "sagemaker_submit_directory": json.dumps(f"file://{job['source']}"),
                "epochs": str(job["epochs"]),
            },
            Environment=job["environment"],
            InputDataConfig=[
                {
                    "ChannelName": "train",
                    "DataSource": {
                        "FileDataSource": {
                            "FileDataDistributionType": "FullyReplicated",
                            "FileUri": f"file://{job['channel']}",
                        }
                    },
                }
            ],
        )
        described = client.describe_training_job("digits")
        artifact = Path(described["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://"))
        run.found["training"] = {"status": described["TrainingJobStatus"], "members": members(artifact)}
        run.say(f"  {described['TrainingJobStatus']}: {artifact.name} holds {', '.join(members(artifact))}")

    # Local mode unpacks the archive where it lies and mounts that folder: it gets one of its own.
    model_dir = work / "model"
    model_dir.mkdir()
    shutil.copy(artifact, model_dir)
    container = {"Image": job["image"], "ModelDataUrl": f"file://{model_dir / artifact.name}", "Environment": {}}
    client.create_model("digits", container)
    variant = {"VariantName": "AllTraffic", "ModelName": "digits", "InstanceType": "local", "InitialInstanceCount": 1}
    client.create_endpoint_config("digits", [variant])
    with run.step("endpoint: create_endpoint"):
        client.create_endpoint("digits", "digits")
        status = client.describe_endpoint("digits")["EndpointStatus"]
        run.found["endpoint"] = status
        run.say(f"  {status}")
    try:
        with run.step("invoke_endpoint, four digits as JSON"):
            answer = runtime.invoke_endpoint(
                EndpointName="digits",
                Body=job["body"].encode(),
                ContentType="application/json",
                Accept="application/json",
            )
            predictions = json.loads(answer["Body"].read())["predictions"]
            run.found["predictions"] = predictions
            run.say(f"  labels {' '.join(one['label'] for one in predictions)}")
    finally:
        client.delete_endpoint("digits")

    with run.step("batch transform of the same digits as JSON Lines: Transformer.transform"):
        run.found["batch"] = transform(session, job, work)
        run.say(f"  {len(run.found['batch'])} lines, labels {' '.join(one['label'] for one in run.found['batch'])}")

    with run.step("ModelTrainer with SourceCode, TrainingMode.LOCAL_CONTAINER"):
        run.found["model_trainer"] = members(model_trainer(job, work, "fit.py", {"slope": 3}))
        run.say(f"  model.tar.gz holds {', '.join(run.found['model_trainer'])}")

    with run.step("ModelTrainer with Torchrun, two processes"):
        from sagemaker.train.distributed import Torchrun

        archive = model_trainer(job, work, "together.py", {}, distributed=Torchrun(process_count_per_node=2))
        run.found["together"] = json.loads(member(archive, "hosts.json"))
        run.say(f"  {len(run.found['together'])} processes know of each other")
    run.finish(work / "found.json")


def transform(session: Any, job: dict[str, Any], work: Path) -> list[Any]:
    """The predictions of a transform job, one for each line of the batch."""
    from sagemaker.core.transformer import Transformer

    (work / "batch").mkdir()
    (work / "batch" / "digits.jsonl").write_text("".join(f"{line}\n" for line in job["batch"]))
    transformer = Transformer(
        model_name="digits",
        instance_count=1,
        instance_type="local",
        strategy="SingleRecord",
        assemble_with="Line",
        accept="application/jsonlines",
        output_path=f"file://{work / 'transformed'}",
        base_transform_job_name="digits",
        sagemaker_session=session,
    )
    transformer.transform(f"file://{work / 'batch'}", content_type="application/jsonlines", split_type="Line")
    return [json.loads(line) for line in (work / "transformed" / "digits.jsonl.out").read_text().splitlines()]


def model_trainer(
    job: dict[str, Any], work: Path, script: str, hyperparameters: dict[str, Any], distributed: Any = None
) -> Path:
    """The archive that a ModelTrainer made of a script of the small folder."""
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.train import ModelTrainer
    from sagemaker.train.configs import Compute, SourceCode
    from sagemaker.train.model_trainer import Mode

    root = work / Path(script).stem
    root.mkdir()
    trainer = ModelTrainer(
        training_mode=Mode.LOCAL_CONTAINER,
        training_image=job["image"],
        source_code=SourceCode(source_dir=job["small_source"], entry_script=script),
        compute=Compute(instance_type="local_cpu", instance_count=1),
        hyperparameters=hyperparameters,
        distributed=distributed,
        role=ROLE,
        base_job_name="small",
        local_container_root=str(root),
        sagemaker_session=Session(default_bucket="local"),
    )
    trainer.train()
    return root / "compressed_artifacts" / "model.tar.gz"


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
