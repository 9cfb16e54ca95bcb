"""The toolkit's logger, which scripts reach as `sagemaker_inference.logging`."""

from __future__ import annotations

import logging


def get_logger() -> logging.Logger:
    """The logger of the toolkit's own name."""
    return logging.getLogger("sagemaker-inference")


def configure_logger() -> None:
    """Nothing: the container's log level is the server's to set."""
