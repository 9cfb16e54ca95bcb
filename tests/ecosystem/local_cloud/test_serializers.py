"""Each serializer and deserializer of both SageMaker SDKs, unmodified, against one endpoint of Tidegate's server."""

from __future__ import annotations

import io
import json
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.environments import python_of
from tests.ecosystem.local_cloud.conftest import HERE, LIMIT_S, run_as_a_user
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.pytest_plugin import Account

pytestmark = pytest.mark.timeout(2 * LIMIT_S)

SCRIPT = b"""
def model_fn(model_dir):
    return "says it again"

def input_fn(body, content_type):
    return body.encode() if isinstance(body, str) else bytes(body)

def predict_fn(data, model):
    return data

def output_fn(data, accept):
    return data, accept.split(",")[0]
"""
ROWS = [[1.5, 2.0], [3.0, 0.0]]
READ = {
    "CSV": [["1", "a,b"], ["2", "ü"]],
    "CSV to pandas": {"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}},
    "JSON": {"a": ROWS, "b": None},
    "JSON lines": [{"a": 1}, {"a": "ü"}],
    "NumPy": ROWS,
    "torch": ROWS,
    "text": "grüße",
    "bytes": [0, 1, 255],
    "file": list(b"\x00\xff raw"),
    "libsvm": "1 1:2.5 3:4\n",
    "stream": ["streamed", "text/plain"],
    "sparse": ROWS,
    "RecordIO": ROWS,
}
SERIALIZERS = "CSV Data Identity JSON JSONLines LibSVM Numpy Record SparseMatrix String TorchTensor"
DESERIALIZERS = "Bytes CSV JSON JSONLines Numpy Pandas Record Stream String TorchTensor"
ALL = sorted(
    [f"{name}Serializer" for name in SERIALIZERS.split()] + [f"{name}Deserializer" for name in DESERIALIZERS.split()]
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCloud, str]]:
    """A cloud with one endpoint, which answers with what it was asked."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("code/inference.py")
        entry.size = len(SCRIPT)
        archive.addfile(entry, io.BytesIO(SCRIPT))
    with LocalCloud(tmp_path_factory.mktemp("serializers") / "cloud") as running:
        account = Account(running, bucket="models")
        account.client("s3").create_bucket(Bucket="models")
        yield running, account.endpoint(archive=content.getvalue())
        account.close()


@pytest.mark.parametrize("version", ["v3", "v2"])
def test_what_is_sent_by_each_is_read_by_its_counterpart(
    cloud: tuple[LocalCloud, str], version: str, tmp_path: Path
) -> None:
    running, endpoint = cloud
    script = ["env", f"OTHER_PACKAGES={sysconfig.get_path('purelib')}", str(python_of(version)), "-P"]
    run_as_a_user(running, tmp_path, [*script, str(HERE / "serializers.py"), endpoint, "found.json"])
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found.pop("calls") == []
    assert found.pop("all") == ALL, "one that is not tried below"
    # Version 3 has left out how it writes tensors for RecordIO.
    assert found == (READ if version == "v2" else READ | {"RecordIO": "not implemented"})
