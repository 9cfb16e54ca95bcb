"""The pipeline of the public examples, written with version 3 of the SageMaker SDK.

python pipeline_v3.py FOLDER FOUND.json      (run in the SDK's environment; FOLDER has the scripts)
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

    from sagemaker.core.helper.session_helper import Session, get_execution_role
    from sagemaker.core.processing import ScriptProcessor
    from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
    from sagemaker.core.transformer import Transformer
    from sagemaker.core.workflow.conditions import ConditionLessThanOrEqualTo
    from sagemaker.core.workflow.execution_variables import ExecutionVariables
    from sagemaker.core.workflow.functions import Join, JsonGet
    from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
    from sagemaker.core.workflow.pipeline_context import PipelineSession
    from sagemaker.core.workflow.properties import PropertyFile
    from sagemaker.mlops.workflow.condition_step import ConditionStep
    from sagemaker.mlops.workflow.fail_step import FailStep
    from sagemaker.mlops.workflow.model_step import ModelStep
    from sagemaker.mlops.workflow.pipeline import Pipeline
    from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep, TrainingStep, TransformStep
    from sagemaker.serve.model_builder import ModelBuilder
    from sagemaker.train import ModelTrainer
    from sagemaker.train.configs import Compute, InputData

    scripts = Path(folder)
    role, session, plain = get_execution_role(), PipelineSession(), Session()
    bucket = plain.default_bucket()
    rows = plain.upload_data(str(scripts / "rows.csv"), bucket, "pipeline/rows")
    lines = plain.upload_data(str(scripts / "lines.csv"), bucket, "pipeline/lines")
    code = plain.upload_data(str(scripts / "source.tar.gz"), bucket, "pipeline/code")
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

    def given(name: str, uri: Any) -> ProcessingInput:
        place = {"s3_uri": uri, "local_path": f"/opt/ml/processing/{name}"}
        source = ProcessingS3Input(**place, s3_data_type="S3Prefix", s3_input_mode="File")
        return ProcessingInput(input_name=name, s3_input=source)

    def made(name: str, uri: Any) -> ProcessingOutput:
        place = {"s3_uri": uri, "local_path": f"/opt/ml/processing/{name}"}
        return ProcessingOutput(output_name=name, s3_output=ProcessingS3Output(**place, s3_upload_mode="EndOfJob"))

    prepared = processor("prepare").run(
        inputs=[given("input", data)],
        outputs=[made("train", f"s3://{bucket}/pipeline/train")],
        code=str(scripts / "prepare.py"),
    )
    process = ProcessingStep(name="AbaloneProcess", step_args=prepared, cache_config=cache)

    # The image's own `train` runs the script: the start script of SourceCode needs an /opt/ml that is not everywhere.
    prepared_data = process.properties.ProcessingOutputConfig.Outputs["train"].S3Output.S3Uri
    trainer = ModelTrainer(
        training_image=IMAGE,
        compute=Compute(instance_type=INSTANCE, instance_count=1),
        base_job_name="train",
        sagemaker_session=session,
        role=role,
        hyperparameters={
            "factor": factor,
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": code,
        },
        input_data_config=[InputData(channel_name="train", data_source=prepared_data, content_type="text/csv")],
    )
    train = TrainingStep(name="AbaloneTrain", step_args=trainer.train(), cache_config=cache)
    artifacts = train.properties.ModelArtifacts.S3ModelArtifacts

    evaluation = Join(on="/", values=["s3:/", bucket, ExecutionVariables.PIPELINE_EXECUTION_ID, "evaluation"])
    evaluated = processor("evaluate").run(
        inputs=[given("model", artifacts)],
        outputs=[made("evaluation", evaluation)],
        code=str(scripts / "evaluate.py"),
    )
    report = PropertyFile(name="EvaluationReport", output_name="evaluation", path="evaluation.json")
    evaluate = ProcessingStep(name="AbaloneEval", step_args=evaluated, property_files=[report])

    builder = ModelBuilder(s3_model_data_url=artifacts, image_uri=IMAGE, sagemaker_session=session, role_arn=role)
    create = ModelStep(name="AbaloneCreate", step_args=builder.build())
    register = ModelStep(
        name="AbaloneRegister",
        step_args=builder.register(
            model_package_group_name="AbaloneGroup",
            content_types=["text/csv"],
            response_types=["application/json"],
            inference_instances=[INSTANCE],
            approval_status=approval,
        ),
    )
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
    transform = TransformStep(name="AbaloneTransform", step_args=transformed)
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
