"""What a worker says, in a rehearsal, of a model that it has loaded: plain data for `check`, which writes it out.

Each field here is a key of `check --json`, below `load`; docs/guides/check.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tidegate.inference.protocol import ServedAs, Tensors


class Sharing(StrEnum):
    """Whether requests may share a call of the model."""

    DECLARED = "declared"
    """The archive says so."""
    PROVED = "proved"
    """Requests like its example were answered together as alone."""
    REFUSED = "refused"
    """They were answered otherwise, or the script keeps something between its functions."""
    UNDECIDED = "undecided"
    """The example shows nothing; the server goes on to look at what clients send together."""
    NEVER = "never"
    """The archive or its script rules it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """Something that does not stop the load and will hurt later. `way_out` is what to do about it."""

    code: str
    message: str
    way_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredExample:
    """The archive's example, answered. `data` is what `predict_fn` was given, `prediction` what it returned."""

    request_type: str
    request_bytes: int
    answer_type: str
    answer_bytes: int
    answer: str
    """The beginning of it, where it is text."""
    data: str
    prediction: str
    largest_difference: float | None
    """From the number that the archive expects at the same place; None where it is not compared by numbers."""
    rtol: float
    atol: float
    calls: int
    """How often it was asked for the times below."""
    predict_ms: float
    """The median of what predict_fn took."""
    answer_ms: float
    """The median of all that is done in the worker: decoding, predicting and encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Whether requests may share a call, and why."""

    sharing: Sharing
    why: str
    tried_together: int | None = None
    """The most requests that a call of the proof had."""
    size_found_on_traffic: bool = False
    """Whether a server finds on live traffic how many requests share one, and how long they wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """One model, loaded. Bytes are of this worker alone, without what all workers share."""

    loaded_by: str
    """The function of the script, or `default`."""
    functions: tuple[str, ...]
    """Those of the script that are called."""
    kind: str
    """The class of what `model_fn` returned."""
    device: str
    parameters: int | None
    """None where the model is no torch.nn.Module."""
    parameter_bytes: int | None
    dtypes: tuple[str, ...]
    tensors: Tensors
    """What the model takes and gives, as far as it is known."""
    load_s: float
    memory_bytes: int
    gpus: int
    """How many GPUs a worker has of its own."""
    gpu_bytes: int
    """Of all of them together."""
    threads: int
    example: AnsweredExample | None
    batches: Batches
    cautions: tuple[Caution, ...] = ()
    form: ServedAs | None = None
    """Which form of the model is served and why, where it has any."""

    def to_plain(self) -> dict[str, Any]:
        """What a REPORT frame carries."""
        return asdict(self)

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> LoadReport:
        """What a REPORT frame says."""
        values = dict(said)
        example = values["example"]
        return cls(
            **values
            | {
                "functions": tuple(values["functions"]),
                "dtypes": tuple(values["dtypes"]),
                "example": AnsweredExample(**example) if example is not None else None,
                "batches": Batches(**values["batches"] | {"sharing": Sharing(values["batches"]["sharing"])}),
                "cautions": tuple(Caution(**each) for each in values["cautions"]),
            }
        )
