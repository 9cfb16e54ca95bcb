"""The pipeline of the public examples, written with version 2 of the SageMaker SDK.

python pipeline_v2.py FOLDER FOUND.json      (run in the SDK's environment; FOLDER has the scripts)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import outgoing_calls
from pipeline_found import found_of, read_json

INSTANCE = "ml.m5.large"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tidegate:cpu"


def main(folder: str, found_file: str) -> None:
    outgoing_calls.watch()

    from sagemaker import Session, get_execution_role
    from sagemaker.inputs import TrainingInput, TransformInput
    from sagemaker.model import Model
    from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor
    from sagemaker.pytorch import PyTorch
    from sagemaker.transformer import Transformer
    from sagemaker.workflow.condition_step import ConditionStep
    from sagemaker.workflow.conditions import ConditionLessThanOrEqualTo
    from sagemaker.workflow.execution_variables import ExecutionVariables
    from sagemaker.workflow.fail_step import FailStep
    from sagemaker.workflow.functions import Join, JsonGet
    from sagemaker.workflow.model_step import ModelStep
    from sagemaker.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
    from sagemaker.workflow.pipeline import Pipeline
    from sagemaker.workflow.pipeline_context import PipelineSession
    from sagemaker.workflow.properties import PropertyFile
    from sagemaker.workflow.steps import CacheConfig, ProcessingStep, TrainingStep, TransformStep

    scripts = Path(folder)
    role, session, plain = get_execution_role(), PipelineSession(), Session()
    bucket = plain.default_bucket()
    rows = plain.upload_data(str(scripts / "rows.csv"), key_prefix="pipeline/rows")
    lines = plain.upload_data(str(scripts / "lines.csv"), key_prefix="pipeline/lines")
    count = ParameterInteger(name="InstanceCount", default_value=1)
    factor = ParameterFloat(name="Factor", default_value=2.0)
    limit = ParameterInteger(name="Limit", default_value=100)
    approval = ParameterString(name="Approval", default_value="PendingManualApproval")
    data = ParameterString(name="InputData", default_value=rows)
    cache = CacheConfig(enable_caching=True, expire_after="30d")

    def processor(name: str) -> ScriptProcessor:
        return ScriptProcessor(
            image_uri=IMAGE,
            command=["python3"],
            instance_type=INSTANCE,
            instance_count=count,
            base_job_name=name,
            role=role,
            sagemaker_session=session,
        )

    prepared = processor("prepare").run(
        inputs=[ProcessingInput(source=data, destination="/opt/ml/processing/input")],
        outputs=[ProcessingOutput(output_name="train", source="/opt/ml/processing/train")],
        code=str(scripts / "prepare.py"),
    )
    process = ProcessingStep(name="AbaloneProcess", step_args=prepared, cache_config=cache)

    estimator = PyTorch(
        entry_point="train.py",
        source_dir=str(scripts / "code"),
        role=role,
        instance_count=1,
        instance_type=INSTANCE,
        framework_version="2.6",
        py_version="py312",
        hyperparameters={"factor": factor},
        sagemaker_session=session,
    )
    prepared_data = process.properties.ProcessingOutputConfig.Outputs["train"].S3Output.S3Uri
    trained = estimator.fit({"train": TrainingInput(s3_data=prepared_data, content_type="text/csv")})
    train = TrainingStep(name="AbaloneTrain", step_args=trained, cache_config=cache)
    artifacts = train.properties.ModelArtifacts.S3ModelArtifacts

    evaluated = processor("evaluate").run(
        inputs=[ProcessingInput(source=artifacts, destination="/opt/ml/processing/model")],
        outputs=[
            ProcessingOutput(
                output_name="evaluation",
                source="/opt/ml/processing/evaluation",
                destination=Join(
                    on="/", values=["s3:/", bucket, ExecutionVariables.PIPELINE_EXECUTION_ID, "evaluation"]
                ),
            )
        ],
        code=str(scripts / "evaluate.py"),
    )
    report = PropertyFile(name="EvaluationReport", output_name="evaluation", path="evaluation.json")
    evaluate = ProcessingStep(name="AbaloneEval", step_args=evaluated, property_files=[report])

    model = Model(image_uri=IMAGE, model_data=artifacts, sagemaker_session=session, role=role)
    register = ModelStep(
        name="AbaloneRegister",
        step_args=model.register(
            content_types=["text/csv"],
            response_types=["application/json"],
            inference_instances=[INSTANCE],
            transform_instances=[INSTANCE],
            model_package_group_name="AbaloneGroup",
            approval_status=approval,
        ),
    )
    create = ModelStep(name="AbaloneCreate", step_args=model.create(instance_type=INSTANCE))
    transformer = Transformer(
        model_name=create.properties.ModelName,
        instance_type=INSTANCE,
        instance_count=1,
        strategy="SingleRecord",
        assemble_with="Line",
        accept="application/json",
        output_path=f"s3://{bucket}/AbaloneTransform",
        sagemaker_session=session,
    )
    transformed = transformer.transform(data=lines, content_type="text/csv", split_type="Line")
    transform = TransformStep(name="AbaloneTransform", step_args=transformed, inputs=TransformInput(data=lines))
    fail = FailStep(name="AbaloneFail", error_message=Join(on=" ", values=["the error is above", limit]))
    value = JsonGet(step_name=evaluate.name, property_file=report, json_path="regression_metrics.mse.value")
    decide = ConditionStep(
        name="AbaloneCond",
        conditions=[ConditionLessThanOrEqualTo(left=value, right=limit)],
        if_steps=[register, create, transform],
        else_steps=[fail],
    )
    pipeline = Pipeline(
        name="AbalonePipeline",
        parameters=[count, factor, limit, approval, data],
        steps=[process, train, evaluate, decide],
        sagemaker_session=session,
    )
    pipeline.upsert(role_arn=role, tags=[{"Key": "team", "Value": "blue"}])
    pipeline.upsert(role_arn=role, description="again")
    good = pipeline.start(parameters={"Approval": "Approved"}, execution_display_name="good")
    good.wait(delay=1, max_attempts=900)
    bad = pipeline.start(parameters={"Limit": 1})
    found: dict[str, Any] = {
        "version": pipeline.latest_pipeline_version_id,
        "good": found_of(good),
        "bad": found_of(bad),
        "transformed": read_json(bucket, "AbaloneTransform/lines.csv.out"),
        "calls": outgoing_calls.calls,
    }
    Path(found_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
