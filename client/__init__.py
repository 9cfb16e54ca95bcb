"""A client of deployed models that copes: errors in plain words, endpoints that wake up, work that shows progress.

    >>> from tidegate.client import Endpoint
    >>> Endpoint("tidegate-dev").invoke(b"1,2,3", content_type="text/csv").body

It knows boto3 and the errors of the server, and nothing else of Tidegate.
"""

from tidegate.client.asynchronous import Submitted
from tidegate.client.batch import BatchJob
from tidegate.client.endpoint import Answer, Endpoint
from tidegate.client.errors import (
    BatchFailed,
    ClientFailure,
    GaveUpWaiting,
    InvocationFailed,
    ModelError,
    StreamBroken,
    StreamClosed,
    TableFailed,
    UnreadableStream,
)
from tidegate.client.model_choice import AnsweredBy
from tidegate.client.reassembly import ServerSentEvent
from tidegate.client.stream import Stream

__all__ = [
    "Answer",
    "AnsweredBy",
    "BatchFailed",
    "BatchJob",
    "ClientFailure",
    "Endpoint",
    "GaveUpWaiting",
    "InvocationFailed",
    "ModelError",
    "ServerSentEvent",
    "Stream",
    "StreamBroken",
    "StreamClosed",
    "Submitted",
    "TableFailed",
    "UnreadableStream",
]
