"""What frontend and worker say to each other for `context.get_model`: models of the repository in a script's worker.

    worker ▶ frontend   Want       a script asks: Granted or Refused follows, and before that perhaps a Load
                        Leave      it waits no more
                        Held       what a Load named is loaded
                        NotHeld    it is not
                        Dropped    what a Drop named is gone, its memory is free
                        Overgrown  the worker cannot get rid of a model: it is to be replaced
    frontend ▶ worker   Load       load a revision, whose room is reserved; in a thread that waits in get_model
                        Granted    a revision that is held here is the answer
                        Refused    there is none
                        Drop       let go of a revision

All are frames of the kind MODEL with JSON in them: none is sent for a request whose models are held.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tidegate.inference.protocol import Kind, Payload, frame
from tidegate.inference.repository.catalogue import Revision

# --- worker ▶ frontend


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A script asks for a model, and waits for `wait_s` at most."""

    id: int
    name: str | None
    version: str
    wait_s: float
    used: tuple[Revision, ...] = ()
    """What it got without asking since it asked last, in that order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """It waits no more."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A revision is loaded; `size_bytes` is what the worker has grown by (host and GPU)."""

    revision: Revision
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHeld:
    """A revision is not loaded, and takes no memory; where it was `tried`, for a `reason`."""

    revision: Revision
    reason: str = ""
    too_large: bool = False
    tried: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """The memory of a revision is free."""

    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Overgrown:
    """The worker stays above what it should take, for a `reason`."""

    reason: str


# --- frontend ▶ worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load a revision; `Held` or `NotHeld` follows."""

    revision: Revision
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The answer to a `Want`: it is held here."""

    id: int
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The other answer to a `Want`: an error as a client reads it."""

    id: int
    code: str
    message: str
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Let go of a revision; `Dropped` follows when its memory is free."""

    revision: Revision


ToFrontend = Want | Leave | Held | NotHeld | Dropped | Overgrown
ToWorker = Load | Granted | Refused | Drop

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Want, Leave, Held, NotHeld, Dropped, Overgrown, Load, Granted, Refused, Drop)
}


def frame_of(message: ToFrontend | ToWorker) -> bytes:
    """The MODEL frame of a message."""
    return frame(Kind.MODEL, json.dumps({"kind": type(message).__name__, **asdict(message)}).encode())


def message_of(payload: Payload) -> Any:
    """The message of a MODEL payload: one of `ToFrontend` or `ToWorker`, as the reader's end of the socket is."""
    fields = json.loads(payload)
    kind = _KINDS[fields.pop("kind")]
    if "revision" in fields:
        fields["revision"] = Revision(**fields["revision"])
    if kind is Want:
        fields["used"] = tuple(Revision(**each) for each in fields["used"])
    return kind(**fields)
