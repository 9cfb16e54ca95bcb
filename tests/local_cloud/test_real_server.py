"""The real server in the place of the stand-in: it serves, works in a batch, and says what a deployer did wrong."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

from tests.contract.adapters import MODEL, adapter
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.test_private_opt_ml import UNSHARE, works
from tidegate.local_cloud import LocalCloud

HANDLERS = """
import json, os, torch

def model_fn(model_dir):
    return torch.load(os.path.join(model_dir, "model.pth"), weights_only=True)

def input_fn(body, content_type):
    return [float(cell) for cell in (body.decode() if isinstance(body, bytes) else body).split(",")]

def predict_fn(row, model):
    return [cell * model["w"].item() for cell in row]

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def weights() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.tensor(2.0)}, content)
    return content.getvalue()


def archive(handlers: str | None, model: bytes) -> bytes:
    return packed({"model.pth": model} | ({"code/inference.py": handlers.encode()} if handlers is not None else {}))


def packed(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with LocalCloud(tmp_path_factory.mktemp("real") / "state") as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def test_the_real_server_answers_and_works_in_a_batch(real: Account) -> None:
    model = real.model(data=real.put("good.tar.gz", archive(HANDLERS, weights())))
    real.put("in/rows.csv", b"1,2\n3,4\n")
    real.sagemaker.create_transform_job(
        TransformJobName="rows",
        ModelName=model,
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    endpoint = real.endpoint(model)
    assert real.invoke(endpoint, b"1,2", ContentType="text/csv") == b"[2.0, 4.0]"
    job: dict[str, Any] = {}

    def ended() -> bool:
        job.update(real.sagemaker.describe_transform_job(TransformJobName="rows"))
        return bool(job["TransformJobStatus"] != "InProgress")

    await_true(ended, "the job ends", timeout_s=200)
    assert job["TransformJobStatus"] == "Completed", job
    assert real.get("out/rows.csv.out") == b"[2.0, 4.0]\n[6.0, 8.0]\n"
    real.delete(endpoint)


def wheel() -> bytes:
    """A package `toy` that says where it came from."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("toy.py", "WORD = 'from the wheel'\n")
        file.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        file.writestr(
            "toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("toy-1.0.dist-info/RECORD", "")
    return content.getvalue()


NAMES_OPT_ML = """
import toy

def model_fn(model_dir):
    return open("/opt/ml/model/words.txt").read()

def predict_fn(data, model):
    return [model, toy.WORD]
"""


def test_a_requirement_and_a_script_may_name_opt_ml(real: Account) -> None:
    if not any(works(*unshare) for unshare in UNSHARE.values()):
        pytest.skip("this machine refuses mount namespaces")
    files = {
        "words.txt": b"from the archive",
        "toy-1.0-py3-none-any.whl": wheel(),
        "code/inference.py": NAMES_OPT_ML.encode(),
        "code/requirements.txt": b"toy @ file:///opt/ml/model/toy-1.0-py3-none-any.whl\n",
    }
    endpoint = real.endpoint(real.model(data=real.put("names.tar.gz", packed(files))))
    assert json.loads(real.invoke(endpoint, b"[1]", ContentType="application/json")) == [
        "from the archive",
        "from the wheel",
    ]
    real.delete(endpoint)


@pytest.mark.parametrize(
    ("handlers", "model", "words"),
    [
        (f"{HANDLERS}\ndef broken(:\n", weights(), "inference.py"),
        (HANDLERS.replace("def predict_fn(row, model)", "def predict_fn()"), weights(), "predict_fn"),
        (HANDLERS, b"not a state dict", "model"),
    ],
    ids=["syntax error", "bad signature", "corrupt weights"],
)
def test_a_deployers_mistake_is_the_failure_reason_in_the_servers_own_line(
    real: Account, handlers: str, model: bytes, words: str
) -> None:
    reason = real.failed_endpoint(real.model(data=real.put("bad.tar.gz", archive(handlers, model))))
    assert reason.startswith("tidegate: error: ")
    assert words in reason


def test_an_adapter_component_changes_what_the_real_server_answers(real: Account) -> None:
    """The archive is unpacked where the server takes adapters from, in the form that `save_pretrained` writes."""
    name, base_name = real.name("shared"), real.name("base")
    script = MODEL + "\ndef predict_fn(data, model):\n    return model(data.float()).tolist()\n"
    files = {path.rpartition("/")[2]: content for path, content in adapter("tenfold", 10.0).items()}
    variant = {"VariantName": "v", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
    create, describe = real.sagemaker.create_inference_component, real.sagemaker.describe_inference_component
    real.sagemaker.create_endpoint_config(EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant])
    real.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    real.settled(name)

    def in_service(component: str) -> bool:
        described = describe(InferenceComponentName=component)
        assert described["InferenceComponentStatus"] != "Failed", described
        return bool(described["InferenceComponentStatus"] == "InService")

    def ask(component: str) -> Any:
        answer = real.runtime.invoke_endpoint(
            EndpointName=name, InferenceComponentName=component, ContentType="application/json", Body=b"[3]"
        )
        return json.loads(answer["Body"].read())

    create(
        InferenceComponentName=base_name,
        EndpointName=name,
        VariantName="v",
        Specification={
            "ModelName": real.model(data=real.put("base.tar.gz", packed({"code/inference.py": script.encode()}))),
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 512},
        },
        RuntimeConfig={"CopyCount": 1},
    )
    await_true(lambda: in_service(base_name), "the base is in service", timeout_s=200)
    create(
        InferenceComponentName=f"{base_name}-tenfold",
        EndpointName=name,
        Specification={
            "BaseInferenceComponentName": base_name,
            "Container": {"ArtifactUrl": real.put("tenfold.tar.gz", packed(files))},
        },
    )
    await_true(lambda: in_service(f"{base_name}-tenfold"), "the adapter is in service", timeout_s=200)

    assert (ask(base_name), ask(f"{base_name}-tenfold")) == ([3.0], [30.0])
