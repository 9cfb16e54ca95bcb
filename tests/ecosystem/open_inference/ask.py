"""Asks a server by `tritonclient` at its defaults, in the client's own environment; says as JSON what it saw."""

from __future__ import annotations

import json
import sys
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.http as triton

ARRAYS = {
    "BOOL": np.array([[True, False]]),
    **{f"INT{8 * size}": np.array([[-1, 2]], f"i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.array([[1, 255]], f"u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.array([[0.5, np.inf]], f"f{size}") for size in (2, 4, 8)},
    "BF16": np.array([[0.5, 3]], ml_dtypes.bfloat16),
    "BYTES": np.array([["a", "ü"]], object),
}


def main(address: str) -> None:
    """Ask everything once."""
    client = triton.InferenceServerClient(address)
    seen: dict[str, Any] = {"live": client.is_server_live(), "ready": client.is_server_ready()}
    seen["server"] = client.get_server_metadata()["name"]
    seen["ghost"] = client.is_model_ready("ghost")
    client.load_model("echo")
    seen["model"] = [
        client.is_model_ready("echo"),
        client.is_model_ready("echo", "1"),
        client.is_model_ready("echo", "2"),
    ]
    seen["metadata"] = client.get_model_metadata("echo")
    seen["index"] = [entry["name"] + " " + entry["state"] for entry in client.get_model_repository_index()]
    seen["echoed"] = {name: echoed(client, name, array) for name, array in ARRAYS.items()}
    seen["in JSON"] = {
        name: echoed(client, name, array, binary=False) for name, array in ARRAYS.items() if name != "BF16"
    }
    seen["empty"] = echoed(client, "FP32", np.zeros((0, 3), np.float32))
    several = client.infer("echo", [given("FP32", ARRAYS["FP32"], "a"), given("BYTES", ARRAYS["BYTES"], "b")])
    seen["several"] = [several.as_numpy("a").tolist(), [each.decode() for each in several.as_numpy("b").ravel()]]
    packed = client.infer(
        "echo",
        [given("FP32", ARRAYS["FP32"])],
        model_version="1",
        request_id="seven",
        request_compression_algorithm="gzip",
        response_compression_algorithm="gzip",
    )
    seen["packed"] = [packed.get_response()["id"], packed.as_numpy("output_0").tolist()]
    waiting = [client.async_infer("echo", [given("FP32", ARRAYS["FP32"])]) for _ in range(8)]
    seen["at once"] = all(np.array_equal(each.get_result().as_numpy("output_0"), ARRAYS["FP32"]) for each in waiting)
    try:
        client.infer("echo", [given("FP32", ARRAYS["FP32"])], outputs=[triton.InferRequestedOutput("ghost")])
    except triton.InferenceServerException as error:
        seen["refused"] = [error.status(), error.message()]
    client.unload_model("echo")
    seen["gone"] = client.is_model_ready("echo")
    print(json.dumps(seen))


def given(datatype: str, array: Any, name: str = "x", *, binary: bool = True) -> triton.InferInput:
    """An input of the model."""
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def echoed(client: triton.InferenceServerClient, datatype: str, array: Any, *, binary: bool = True) -> bool:
    """Whether an array comes back as it went, and of its datatype."""
    outputs = None if binary else [triton.InferRequestedOutput("output_0", binary_data=False)]
    result = client.infer("echo", [given(datatype, array, binary=binary)], outputs=outputs)
    back = result.as_numpy("output_0")
    if datatype == "BYTES":
        back = np.array([each.decode() if isinstance(each, bytes) else each for each in back.ravel()]).reshape(
            back.shape
        )
        return bool(back.tolist() == array.tolist())
    same = back.dtype == array.dtype and back.shape == array.shape and np.array_equal(back, array)
    return bool(same and result.get_output("output_0")["datatype"] == datatype)


main(sys.argv[1])
