"""What each serializer of a SageMaker SDK sends and each deserializer reads, at an endpoint.

python serializers.py ENDPOINT FOUND.json      (run in the SDK's environment; OTHER_PACKAGES has torch and scipy)
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import outgoing_calls

Ask = Callable[[Any, Any, Any], Any]
"""Given a serializer, a deserializer and the data: what the deserializer makes of the answer."""


def asked_by(endpoint: str) -> tuple[Any, Any, Ask]:
    """The modules of serializers and deserializers, and how one asks, of the SDK that is installed."""
    if importlib.util.find_spec("sagemaker.core") is not None:
        from sagemaker.core import deserializers, serializers
        from sagemaker.core.resources import Endpoint

        def ask_v3(serializer: Any, deserializer: Any, data: Any) -> Any:
            found = Endpoint.get(endpoint)
            found.serializer, found.deserializer = serializer, deserializer
            accept = ", ".join(deserializer.ACCEPT)
            return found.invoke(body=data, content_type=serializer.CONTENT_TYPE, accept=accept).body

        return serializers, deserializers, ask_v3
    from sagemaker import Predictor, base_deserializers, base_serializers

    def ask_v2(serializer: Any, deserializer: Any, data: Any) -> Any:
        return Predictor(endpoint, serializer=serializer, deserializer=deserializer).predict(data)

    return base_serializers, base_deserializers, ask_v2


def main(endpoint: str, found_file: str) -> None:
    outgoing_calls.watch()
    import numpy as np
    import pandas as pd

    sys.path.append(os.environ["OTHER_PACKAGES"])
    import scipy.sparse
    import torch

    ours, theirs, ask = asked_by(endpoint)
    found: dict[str, Any] = {}
    rows = np.array([[1.5, 2.0], [3.0, 0.0]], dtype="float32")
    Path("raw.bin").write_bytes(b"\x00\xff raw")

    def told(name: str, serializer: Any, deserializer: Any, data: Any, shown: Callable[[Any], Any]) -> None:
        found[name] = shown(ask(serializer, deserializer, data))

    def same(value: Any) -> Any:
        return value

    told("CSV", ours.CSVSerializer(), theirs.CSVDeserializer(), [[1, "a,b"], [2, "ü"]], same)
    told("CSV to pandas", ours.CSVSerializer(), theirs.PandasDeserializer(), "a,b\n1,x\n2,y\n", pd.DataFrame.to_dict)
    told("JSON", ours.JSONSerializer(), theirs.JSONDeserializer(), {"a": rows, "b": None}, same)
    lines = [{"a": 1}, {"a": "ü"}]
    told("JSON lines", ours.JSONLinesSerializer(), theirs.JSONLinesDeserializer(), lines, same)
    told("NumPy", ours.NumpySerializer(), theirs.NumpyDeserializer(), rows, np.ndarray.tolist)
    told(
        "torch", ours.TorchTensorSerializer(), theirs.TorchTensorDeserializer(), torch.tensor(rows), torch.Tensor.tolist
    )
    told("text", ours.StringSerializer(), theirs.StringDeserializer(accept="text/plain"), "grüße", same)
    told("bytes", ours.IdentitySerializer(), theirs.BytesDeserializer(), b"\x00\x01\xff", list)
    told("file", ours.DataSerializer(), theirs.BytesDeserializer(), "raw.bin", list)
    told("libsvm", ours.LibSVMSerializer(), theirs.StringDeserializer(accept="text/libsvm"), "1 1:2.5 3:4\n", same)

    def read_stream(answer: tuple[Any, str]) -> list[Any]:
        stream, content_type = answer
        with stream:
            return [stream.read().decode(), content_type]

    told("stream", ours.StringSerializer(), theirs.StreamDeserializer(accept="text/plain"), "streamed", read_stream)

    def read_npz(content: bytes) -> list[list[float]]:
        Path("matrix.npz").write_bytes(content)
        matrix: list[list[float]] = scipy.sparse.load_npz("matrix.npz").toarray().tolist()
        return matrix

    sparse = scipy.sparse.csr_matrix(rows)
    told("sparse", ours.SparseMatrixSerializer(), theirs.BytesDeserializer(), sparse, read_npz)

    def values(records: list[Any]) -> list[list[float]]:
        return [list(record.features["values"].float32_tensor.values) for record in records]

    try:
        told("RecordIO", ours.RecordSerializer(), theirs.RecordDeserializer(), rows, values)
    except NotImplementedError:  # the SDK's own, before it sends anything
        found["RecordIO"] = "not implemented"

    found["all"] = sorted(
        name
        for module in (ours, theirs)
        for name, value in vars(module).items()
        if name.endswith("erializer") and not name.startswith(("Base", "SimpleBase")) and isinstance(value, type)
    )
    found["calls"] = outgoing_calls.calls
    Path(found_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
