"""Whether spans are made: where OpenTelemetry's own variables ask for it and its packages are there.

Nothing of OpenTelemetry is imported but from here, and not at all where it is off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tidegate.inference.errors import one_line

if TYPE_CHECKING:
    from tidegate.inference.span_export import Tracing

log = logging.getLogger("tidegate.tracing")

FLUSH_S = 3.0
"""How long a process that ends may still take to send its last spans."""


def begin(process: str, *, exporter: str = "otlp", protocol: str = "http/protobuf") -> Tracing | None:
    """Begin to make spans in this process, which is called `process` in them.

    `exporter` and `protocol` are what OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL say. None, and a line of the
    log that says why, where it cannot be: no server fails to start because nobody can watch it.
    """
    if exporter != "otlp":
        log.warning("no spans are sent: OTEL_TRACES_EXPORTER=%s is not known here; otlp and none are", exporter)
        return None
    if protocol != "http/protobuf":
        log.warning(
            "no spans are sent: OTEL_EXPORTER_OTLP_PROTOCOL=%s is not spoken here; use http/protobuf, "
            "which collectors take on port 4318",
            protocol,
        )
        return None
    try:
        from tidegate.inference.span_export import Tracing  # noqa: PLC0415 - takes long, and needs packages
    except ImportError as error:
        log.warning("no spans are sent: %s (pip install 'tidegate[otel]' brings what is needed)", one_line(error))
        return None
    except Exception as error:  # what OTEL_PROPAGATORS names is looked for when it is imported
        log.warning("no spans are sent: %s", one_line(error))
        return None
    try:
        return Tracing(process)
    except Exception as error:  # a value of one of OpenTelemetry's own variables
        log.warning("no spans are sent: %s", one_line(error))
        return None
