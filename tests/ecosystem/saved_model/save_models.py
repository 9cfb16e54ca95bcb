"""Save models by the real tensorflow, and its own answers: python save_models.py FOLDER

Each is a folder `NAME/` with a SavedModel. Loaded anew by `tensorflow.saved_model.load`, it makes `NAME.npz`, which
holds what it was given (`in.INPUT`) and what it gave (`out.OUTPUT`).
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
    for name, module in (("sums", Sums()), ("half", Half()), ("lengths", Lengths())):
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
