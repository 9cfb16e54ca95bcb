"""Tell when somebody speaks, while they do: Silero VAD over the bidirectional stream.

A connection to /invocations-bidirectional-stream sends audio as binary messages of any size, 16-bit little-endian mono
samples at 16 kHz, and gets an event as a text message when speech begins and when it has ended:

    {"event": "speech_start", "at_s": 1.056}
    {"event": "speech_end", "at_s": 2.336}

The text message "end" says that no more audio comes; {"event": "audio_end", "at_s": 5.0} is the last answer to it.

/invocations answers a whole recording (application/octet-stream) with the same events, as application/jsonlines while
they are found or as application/json in one list.
"""

import json
from pathlib import Path

import torch
from speech import SAMPLE_BYTES, SpeechDetector


class BadRequest(ValueError):
    """The client's mistake in one sentence; servers read the status."""

    status_code = 400


def model_fn(model_dir):
    """Load the network."""
    torch.set_num_threads(1)  # on a net of this size, threads only wait for each other
    return torch.jit.load(Path(model_dir) / "model.pt", map_location="cpu").eval()


def stream_fn(incoming, context):
    """Answer one connection."""
    detector = SpeechDetector(context.model)
    for message in incoming:
        if message == "end":
            break
        if isinstance(message, str):
            raise BadRequest('audio comes in binary messages; the only text message is "end"')
        for event in detector.feed(message):
            yield json.dumps(event)
    for event in detector.end():
        yield json.dumps(event)


def input_fn(input_data, content_type):
    """Take a recording as it is."""
    if content_type != "application/octet-stream":
        raise BadRequest(f"content type {content_type!r} is not application/octet-stream: 16-bit samples at 16 kHz")
    if len(input_data) % SAMPLE_BYTES:
        raise BadRequest(f"the body has {len(input_data)} bytes, which are no whole number of 16-bit samples")
    return input_data


def predict_fn(data, model):
    """Yield the recording's events."""
    detector = SpeechDetector(model)
    yield from detector.feed(data)
    yield from detector.end()


def output_fn(prediction, accept):
    """Write each event as it is found; only JSON has to wait for the last one."""
    if accept == "application/jsonlines":
        return (json.dumps(event) + "\n" for event in prediction), accept
    if accept == "application/json":
        return json.dumps(list(prediction)), accept
    error = ValueError(f"events can be application/jsonlines or application/json, not {accept}")
    error.status_code = 406
    raise error
