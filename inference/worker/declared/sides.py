"""Both sides of what a manifest declares: how a body is read, and how an answer is written, where no script does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from tidegate.inference.declarations import classes, table, tensors
from tidegate.inference.declarations.classes import Classes
from tidegate.inference.declarations.table import Table
from tidegate.inference.declarations.tensors import Tensors
from tidegate.inference.errors import DeploymentError
from tidegate.inference.images import declaration
from tidegate.inference.images.declaration import ImageInput, ImageOutput
from tidegate.inference.images.reading import WHITE
from tidegate.inference.layout import MANIFEST
from tidegate.inference.worker.artifact import below
from tidegate.inference.worker.content import READABLE, WRITABLE, Reading
from tidegate.inference.worker.declared import class_names, pictures_in, pictures_out, tables
from tidegate.inference.worker.declared import tensors as declared_tensors
from tidegate.inference.worker.declared.taken import Taken

Input = ImageInput | Table | Tensors
Output = ImageOutput | Classes
_Side = TypeVar("_Side")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is declared; None for a side of which the manifest says nothing, which then is as by default."""

    input: Input | None = None
    output: Output | None = None

    @property
    def readable(self) -> tuple[str, ...]:
        """The types that bodies may have where the server reads them."""
        match self.input:
            case Table():
                return tables.READABLE
            case Tensors(inputs=inputs):
                return declared_tensors.READABLE if len(inputs) == 1 else declared_tensors.READABLE_OF_SEVERAL
            case ImageInput():
                return pictures_in.READABLE
        return READABLE

    @property
    def writable(self) -> tuple[str, ...]:
        """The types that answers may have where the server writes them."""
        if isinstance(self.output, ImageOutput):
            return pictures_out.writable(self.output)
        return class_names.WRITABLE if isinstance(self.output, Classes) else WRITABLE

    def read(
        self, body: str | bytes | bytearray | memoryview, content_type: str, *, max_decoded_bytes: int
    ) -> Taken | None:
        """What the model is given; None where the input is not declared. Raises what a client has to be told."""
        match self.input:
            case None:
                return None
            case Table():
                return tables.read(body, content_type, self.input, max_decoded_bytes=max_decoded_bytes)
            case Tensors():
                return declared_tensors.read(body, content_type, self.input, max_decoded_bytes=max_decoded_bytes)
            case ImageInput():
                return pictures_in.read(body, content_type, self.input, max_decoded_bytes=max_decoded_bytes)

    def checked(self, named: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
        """Tensors that a client gave by name, as the model takes them; None where no tensors are declared.

        Raises `BadRequest` for what is not declared so.
        """
        return declared_tensors.fitting(named, self.input) if isinstance(self.input, Tensors) else None

    def write(self, prediction: Any, accept: str, taken: Taken | None, *, records: int) -> bytes | None:
        """The answer, of one of the types in `writable`; None where the output is not declared.

        `taken` is what was declared to be read, None where something else read the body; `records` is how many the body
        has, 0 where nobody counted. Raises `NotAcceptable`, and `HandlerFailed` for what cannot be such an answer.
        """
        sizes, one_alone = (taken.sizes, taken.one_alone) if taken is not None else ((), records == 1)
        match self.output:
            case None:
                return None
            case Classes():
                return class_names.write(prediction, accept, self.output, records=records, one_alone=one_alone)
            case ImageOutput():
                return pictures_out.write(
                    prediction, accept, self.output, sizes, records=records, one_alone=one_alone or taken is None
                )

    def doubt(self, prediction: Any) -> str | None:
        """What of the declaration this prediction makes doubtful, in a sentence."""
        return class_names.doubt(prediction, self.output) if isinstance(self.output, Classes) else None


def declared(manifest: Mapping[str, Any], reading: Reading, root: Path | None = None) -> Declared:
    """What the manifest says; of pictures `reading` says the rest, and the labels' file is below `root`.

    Raises `DeploymentError` with the place of a mistake.
    """
    image = declaration.declared(
        manifest,
        onto=WHITE if reading.image_background == "white" else "drop",
        obey_orientation=reading.image_orientation == "obey",
    )
    labels = _labels(manifest, root) if "classes" in manifest and root is not None else ()
    inputs: dict[str, Input | None] = {
        "image.input": image.input,
        "table": table.declared(manifest),
        "tensors": tensors.declared(manifest),
    }
    outputs: dict[str, Output | None] = {"image.output": image.output, "classes": classes.declared(manifest, labels)}
    return Declared(input=_only(inputs, "the input"), output=_only(outputs, "the answer"))


def _only(said: Mapping[str, _Side], what: str) -> _Side | None:
    there = {place: side for place, side in said.items() if side is not None}
    if len(there) > 1:
        raise DeploymentError(f"{MANIFEST}: {' and '.join(there)} both say what {what} is; keep one of them.")
    return next(iter(there.values()), None)


def _labels(manifest: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    if (name := manifest.get("labels")) is None:
        return ()
    path = below(root, name)
    try:
        return classes.read_labels(path.read_bytes(), str(path))
    except OSError as error:
        raise DeploymentError(f"{path}, the labels of the manifest, cannot be read: {error.strerror}.") from None
