"""What a worker tells of its load in a rehearsal: each step, what the server warned of, and what came of it."""

from __future__ import annotations

from dataclasses import asdict

from tidegate.inference import protocol
from tidegate.inference.load_report import Caution
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker.channel import Channel
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.heard_warnings import Heard


class Rehearsal:
    """Tells the frontend, over `channel`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.heard = Heard()

    def step(self, line: str) -> None:
        """Something is done."""
        self._channel.send_frame(protocol.report_frame({"step": line}))

    def failed(self) -> None:
        """The model is not loaded; what was warned of may say why."""
        self._channel.send_frame(protocol.report_frame({"cautions": [asdict(each) for each in self.cautions()]}))

    def loaded(self, computation: Computation, spec: ModelSpec, load_s: float) -> None:
        """The model is loaded, and takes no traffic: look into it."""
        # Only where it is meant: a worker that serves has no use for it.
        from tidegate.inference.worker.examination import examine  # noqa: PLC0415

        report = examine(computation, spec, load_s=load_s, cautions=self.cautions())
        self._channel.send_frame(protocol.report_frame({"report": report.to_plain()}))

    def cautions(self) -> list[Caution]:
        """What the server warned of while it loaded the model."""
        return [Caution(code="said_at_load", message=message, way_out="") for message in self.heard.messages]
