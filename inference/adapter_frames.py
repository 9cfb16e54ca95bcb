"""What frontend and worker say to each other about adapters (LoRA and its like) of the model that the worker serves.

    frontend ▶ worker   Load     read the adapter in a directory: Outcome follows
                        Drop     let go of it
    worker ▶ frontend   Outcome  what came of a Load

All are frames of the kind ADAPTER with JSON in them. They travel on the socket of the batches, so a Load that is sent
before a batch is done before it, and no request needs to wait for an Outcome.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tidegate.inference.protocol import Kind, Payload, frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Read the adapter in `directory`, which requests call `name`; `number` is of this order and no other."""

    number: int
    name: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Let go of the adapter that requests call `name`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The adapter of the Load with this `number` is there; or it is not, for a `reason`."""

    number: int
    reason: str = ""
    too_large: bool = False


Order = Load | Drop


def frame_of(message: Order | Outcome) -> bytes:
    """The ADAPTER frame of a message."""
    return frame(Kind.ADAPTER, json.dumps({"kind": type(message).__name__, **asdict(message)}).encode())


def order_of(payload: Payload) -> Order:
    """The order of an ADAPTER payload, in a worker."""
    fields = json.loads(payload)
    return Load(**fields) if fields.pop("kind") == "Load" else Drop(**fields)


def outcome_of(payload: Payload) -> Outcome:
    """The outcome of an ADAPTER payload, in the frontend."""
    fields = json.loads(payload)
    del fields["kind"]
    return Outcome(**fields)
