"""What users of `mlflow deployments` do with the target `sagemaker`, with nothing but the exports of the local cloud.

python deploy.py FOUND.json      (run in the environment that has mlflow, by test_deployments.py)
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.ecosystem import outgoing_calls

REGION = "us-east-1"
SOURCE = """
import mlflow

class Times(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * {factor}

mlflow.models.set_model(Times())
"""


def saved(factor: int) -> str:
    """The folder of a model that multiplies a column."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    source, folder = Path(f"times_{factor}.py"), Path(f"times-{factor}")
    source.write_text(SOURCE.format(factor=factor))
    rows = pd.DataFrame({"a": [1.0, 2.0]})
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(source),
        signature=infer_signature(rows, rows),
        pip_requirements=["mlflow-skinny", "pandas"],
    )
    return str(folder)


def main(found_file: str) -> None:
    outgoing_calls.watch()

    import boto3
    import mlflow.sagemaker
    import pandas as pd
    from mlflow.deployments import get_deploy_client

    found: dict[str, Any] = {}
    client = get_deploy_client(f"sagemaker:/{REGION}")
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlflow-pyfunc:3"
    config = {"image_url": image, "instance_type": "ml.m5.large", "region_name": REGION}
    rows = pd.DataFrame({"a": [1.0, 2.0]})

    def predicted() -> Any:
        return client.predict("mine", rows).get_predictions()["a"].tolist()

    found["created"] = client.create_deployment("mine", model_uri=saved(2), config=config)
    found["predicted"] = predicted()
    found["listed"] = [each["EndpointName"] for each in client.list_deployments()]
    found["got"] = client.get_deployment("mine")["EndpointStatus"]
    client.update_deployment("mine", model_uri=saved(3), config=config)
    found["predicted after the update"] = predicted()
    command = [sys.executable, "-m", "mlflow", "deployments", "get", "-t", f"sagemaker:/{REGION}", "--name", "mine"]
    found["command line"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout

    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="rows")
    s3.put_object(Bucket="rows", Key="in/rows.csv", Body=b"a\n1.0\n2.0\n")
    mlflow.sagemaker.deploy_transform_job(
        "batch",
        saved(5),
        "S3Prefix",
        "s3://rows/in/",
        "text/csv",
        "s3://rows/out",
        image_url=image,
        region_name=REGION,
        instance_type="ml.m5.large",
        # As defaults mlflow asks for lines of CSV, which neither its own server nor this one answers.
        split_type="None",
        accept="application/json",
        assemble_with="None",
    )
    found["transformed"] = json.loads(s3.get_object(Bucket="rows", Key="out/rows.csv.out")["Body"].read())

    client.delete_deployment("mine", config={"region_name": REGION})
    sagemaker = boto3.client("sagemaker")
    found["left"] = {
        "endpoints": [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]],
        "configurations": [each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "models": [each["ModelName"] for each in sagemaker.list_models()["Models"]],
    }
    found["calls"] = outgoing_calls.calls
    Path(found_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
