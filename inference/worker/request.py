"""One request on its way through the user's functions."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from tidegate.inference import protocol
from tidegate.inference.body_file import BodyFile
from tidegate.inference.protocol import Answer, Error
from tidegate.inference.worker.chunks import StreamBody
from tidegate.inference.worker.context import ADAPTER_LINE, RequestProcessor
from tidegate.inference.worker.members import Path

if TYPE_CHECKING:
    from tidegate.inference.worker.declared.taken import Taken
    from tidegate.inference.worker.open_inference import Asked


_MAKING = Lock()


@dataclass(slots=True, kw_only=True)
class Request:
    """What was received, what each function has made of it, and the outcome."""

    received: protocol.Request
    accept: str
    """The one type to answer with."""
    asked: Asked | None = None
    """What the client asks for by the open inference protocol; None for requests of other forms."""
    data: Any = None
    decoded: bool = False
    records: int = 0
    """How many records `data` holds; 0 until they are counted."""
    records_in_body: int = 0
    """How many records the default `input_fn` counted in the body; 0 where it could not, or did not run."""
    taken: Taken | None = None
    """What is known of a body that a declared input has read, without its data; None where something else read it."""
    prediction: Any = None
    members: dict[Path, int] | None = None
    """The members of `data` by their digests, where a proof that it may share a call is due."""
    compared: bool = False
    """Whether its answer may be compared with that of a batch."""
    kept: Any = None
    """A copy of the prediction from before output_fn, which may change it, to compare."""
    asked_context: bool = False
    """Whether predict_fn has asked the context about the request."""
    predict_s: float = 0.0
    outcome: Answer | Error | None = None
    stream: StreamBody | None = None
    """What answers the request instead of an outcome, where its body is a stream."""
    told: RequestProcessor | None = None
    """The processor, once somebody has asked for it."""

    @property
    def processor(self) -> RequestProcessor:
        """What user code sees of it, and decides about its response; made when somebody asks for it."""
        if (told := self.told) is None:
            with _MAKING:  # user code may ask for it in several threads
                told = self.told = self.told or RequestProcessor(self.received)
        return told

    @property
    def adapter(self) -> str | None:
        """The adapter that it asks for; None for the model as it was loaded."""
        # Seldom there, and this is asked before each call.
        return self.processor.adapter if ADAPTER_LINE in self.received.headers else None

    def forget(self) -> None:
        """Let go of what led to the answer, which is there. A proof begins with the body again."""
        self.data = self.prediction = self.asked = self.taken = None

    def let_go(self) -> None:
        """Let go of all that was made of it, because the context of each thread that had it at hand still has it."""
        self.forget()
        self.kept = self.members = self.outcome = self.stream = None
        self.close_body()

    def close_body(self) -> None:
        """Close the file that its body is in, where it is in one."""
        if isinstance(self.received.body, BodyFile):
            self.received.body.close()
