"""Save models by the real tensorflow, and its own answers: python save_models.py FOLDER

Each is a folder `NAME/` with a SavedModel. Those whose answers are compared make `NAME.npz`, loaded anew by
`tensorflow.saved_model.load`: it holds what they were given (`in.INPUT`) and what they gave (`out.OUTPUT`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

SOURCE = np.random.default_rng(0)


class Sums(tf.Module):
    """Two inputs by name, one of whole numbers and of any length; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(SOURCE.standard_normal((50, 4)).astype(np.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None), tf.int64, name="ids"),
            tf.TensorSpec((None, None), tf.float32, name="weights"),
        ]
    )
    def serve(self, ids: Any, weights: Any) -> dict[str, Any]:
        rows = tf.gather(self.table, ids) * weights[..., None]
        return {"sums": tf.reduce_sum(rows, 1), "counts": tf.reduce_sum(tf.ones_like(ids), 1)}


class Half(tf.Module):
    """Computes in bfloat16, and gives it."""

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": tf.cast(x, tf.bfloat16) * 2}


class Lengths(tf.Module):
    """Takes texts, and gives some."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="texts")])
    def serve(self, texts: Any) -> dict[str, Any]:
        return {"lengths": tf.strings.length(texts, unit="UTF8_CHAR"), "upper": tf.strings.upper(texts, "utf-8")}


class Pictures(tf.Module):
    """Takes images as they are in files, as many models of TensorFlow Serving do, and gives some."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def serve(self, image_bytes: Any) -> dict[str, Any]:
        pixels = tf.map_fn(lambda file: tf.io.decode_png(file, 3), image_bytes, fn_output_signature=tf.uint8)
        return {"pixels": pixels, "files": tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.string)}


class Examples(tf.Module):
    """Takes serialized examples of TensorFlow."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="examples")])
    def serve(self, examples: Any) -> dict[str, Any]:
        return {"x": tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"]}


class Elsewhere(tf.Module):
    """Computes on a machine that is not there."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        with tf.device("/job:worker/task:1/CPU:0"):
            return {"y": x * 2}


class WithoutKernel(tf.Module):
    """Has an operation that only GPUs compute."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": tf.raw_ops.NcclAllReduce(input=x, reduction="sum", num_devices=1, shared_name="all")}


def classifier() -> Any:
    """A network of Keras, trained for a little."""
    keras.utils.set_random_seed(0)
    given = keras.Input((4,), name="measurements")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8, activation="relu")(given))
    network = keras.Model(given, keras.layers.Dense(3, activation="softmax", name="species")(hidden))
    network.compile("adam", "sparse_categorical_crossentropy")
    x = SOURCE.standard_normal((256, 4)).astype(np.float32)
    network.fit(x, x[:, :3].argmax(1), epochs=5, verbose=0)
    return network


def main(folder: Path) -> None:
    classifier().export(folder / "keras", verbose=False)
    modules = {
        "sums": Sums(),
        "half": Half(),
        "lengths": Lengths(),
        "pictures": Pictures(),
        "examples": Examples(),
        "elsewhere": Elsewhere(),
        "without_kernel": WithoutKernel(),
    }
    for name, module in modules.items():
        tf.saved_model.save(module, str(folder / name), signatures={"serving_default": module.serve})
    given: dict[str, dict[str, Any]] = {
        "keras": {"measurements": SOURCE.standard_normal((5, 4)).astype(np.float32)},
        "sums": {"ids": SOURCE.integers(0, 50, (3, 6)), "weights": SOURCE.random((3, 6), dtype=np.float32)},
        "half": {"x": SOURCE.standard_normal((2, 3)).astype(np.float32)},
        "lengths": {"texts": np.array(["Ünïcödé", "", "a b"])},
    }
    for name, inputs in given.items():
        signature = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
        outputs = signature(**{key: tf.constant(value) for key, value in inputs.items()})
        named = {f"in.{key}": value for key, value in inputs.items()}
        for key, output in outputs.items():
            texts = output.dtype == tf.string
            named[f"out.{key}"] = (
                np.char.decode(output.numpy().astype(bytes)) if texts else tf.cast(output, tf.float32).numpy()
            )
        np.savez(folder / f"{name}.npz", **named)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
