"""Both sides of what a manifest declares: how a body is read, and how an answer is written, where no script does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.inference.images import declaration
from tidegate.inference.images.declaration import ImageInput, ImageOutput
from tidegate.inference.images.reading import WHITE
from tidegate.inference.worker.content import WRITABLE, Reading
from tidegate.inference.worker.declared import pictures_in, pictures_out
from tidegate.inference.worker.declared.taken import Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is declared; None for a side of which the manifest says nothing, which then is as by default."""

    input: ImageInput | None = None
    output: ImageOutput | None = None

    @property
    def writable(self) -> tuple[str, ...]:
        """The types that answers may have where the server writes them."""
        return WRITABLE if self.output is None else pictures_out.writable(self.output)

    def read(
        self, body: str | bytes | bytearray | memoryview, content_type: str, *, max_decoded_bytes: int
    ) -> Taken | None:
        """What the model is given; None where the input is not declared. Raises what a client has to be told."""
        if self.input is None:
            return None
        return pictures_in.read(body, content_type, self.input, max_decoded_bytes=max_decoded_bytes)

    def write(self, prediction: Any, accept: str, taken: Taken | None, *, records: int) -> bytes | None:
        """The answer, of one of the types in `writable`; None where the output is not declared.

        `taken` is what was declared to be read, None where something else read the body; `records` is how many the body
        has, 0 where nobody counted. Raises `NotAcceptable`, and `HandlerFailed` for what cannot be such an answer.
        """
        if self.output is None:
            return None
        sizes, one_alone = (taken.sizes, taken.one_alone) if taken is not None else ((), True)
        return pictures_out.write(prediction, accept, self.output, sizes, records=records, one_alone=one_alone)


def declared(manifest: Mapping[str, Any], reading: Reading) -> Declared:
    """What the manifest says; of pictures `reading` says the rest. Raises `DeploymentError` with the place."""
    image = declaration.declared(
        manifest,
        onto=WHITE if reading.image_background == "white" else "drop",
        obey_orientation=reading.image_orientation == "obey",
    )
    return Declared(input=image.input, output=image.output)
