"""OpenAI's chat completions: the request that chat_fn is given, and the JSON or the events that its words become.

The format is that of https://platform.openai.com/docs/api-reference/chat: one choice, text only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from tidegate.inference.errors import BadRequest, HandlerFailed, NotFound
from tidegate.inference.worker.chunks import StreamBody, is_source
from tidegate.inference.worker.content import JSON, bad_json, decode_text, split_media_type

FUNCTION = "chat_fn"
EVENTS = "text/event-stream"


def no_chat_fn() -> NotFound:
    """What a model without the function says."""
    return NotFound(
        "This model has no chat_fn: define chat_fn(request, model) in code/inference.py to answer "
        "/v1/chat/completions, or ask /invocations."
    )


def read_request(body: bytes | bytearray | memoryview, content_type: str) -> dict[str, Any]:
    """The request that chat_fn is given. Raises `BadRequest` for what no chat_fn could answer."""
    try:
        request = json.loads(decode_text(body, split_media_type(content_type)[1]))
    except (ValueError, RecursionError) as error:
        raise bad_json("The body", error) from None
    if not isinstance(request, dict):
        raise BadRequest("The body must be a JSON object with 'messages'.")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise BadRequest("'messages' must be a list of at least one object.")
    if request.get("stream") not in (None, True, False):
        raise BadRequest("'stream' must be true or false.")
    if request.get("n") not in (None, 1):
        raise BadRequest("'n' must be 1: a chat_fn gives one choice.")
    return request


def answer_of(said: Any, request: Mapping[str, Any], *, request_id: str, model_name: str) -> StreamBody | bytes:
    """The body that `said`, a str or a generator of them, makes: events where the client asks for them, else JSON.

    The JSON of a str is there at once, and no stream.
    """
    named = str(request.get("model") or model_name)
    head = {"id": f"chatcmpl-{request_id}", "created": int(time.time()), "model": named}
    if isinstance(said, str):
        if not request.get("stream"):
            return _whole(said, ChatJson(head))
        said = iter((said,))
    if not is_source(said):
        raise HandlerFailed(f"chat_fn returned a {type(said).__name__}; it must return or yield str.")
    if request.get("stream"):
        options = request.get("stream_options")
        include_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
        return StreamBody(said, ChatEvents(head, include_usage=include_usage), FUNCTION)
    return StreamBody(said, ChatJson(head), FUNCTION)


class _Words:
    """The str of a chat, and the dict that may come last."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        self._head = head
        self._last: Mapping[str, Any] | None = None

    def _word(self, item: Any) -> str:
        """The text of `item`; none in the dict. Raises `HandlerFailed`."""
        if self._last is not None:
            raise HandlerFailed("chat_fn yielded something after the dict, which must be the last.")
        if isinstance(item, str):
            return item
        if not isinstance(item, Mapping):
            raise HandlerFailed(
                f"chat_fn yielded a {type(item).__name__}; it must yield str and, at the end, one dict."
            )
        if unknown := sorted(str(key) for key in item.keys() - {"finish_reason", "usage"}):
            raise HandlerFailed(f"chat_fn yielded a dict with '{unknown[0]}'; it may have finish_reason and usage.")
        self._last = item
        return ""

    @property
    def _finish_reason(self) -> str:
        return str((self._last or {}).get("finish_reason") or "stop")

    @property
    def _usage(self) -> Any:
        return (self._last or {}).get("usage")


class ChatJson(_Words):
    """All words as one JSON object, when the last is there."""

    content_type = JSON

    def __init__(self, head: Mapping[str, Any]) -> None:
        super().__init__(head)
        self._text: list[str] = []

    def encode(self, item: Any) -> None:
        """Keep a word; nothing is sent before the end, so that an error is an ordinary one."""
        self._text.append(self._word(item))

    def finish(self) -> bytes:
        """The whole object."""
        message = {"role": "assistant", "content": "".join(self._text)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        whole = {**self._head, "object": "chat.completion", "choices": [choice]}
        return _json({**whole, **({"usage": self._usage} if self._usage is not None else {})})


class ChatEvents(_Words):
    """Each word as a server-sent event, and at the end why it ended, the usage if asked for, and `[DONE]`."""

    content_type = EVENTS

    def __init__(self, head: Mapping[str, Any], *, include_usage: bool) -> None:
        super().__init__(head)
        self._include_usage = include_usage
        self._begun = False

    def encode(self, item: Any) -> bytes:
        """The event of one word."""
        word = self._word(item)
        return self._said({"content": word}) if word else b""

    def finish(self) -> bytes:
        """The last events."""
        events = [self._said({}, self._finish_reason)]
        if self._include_usage and self._usage is not None:  # clients take an empty list of choices for the usage
            events.append(self._event({"choices": [], "usage": self._usage}))
        return b"".join((*events, b"data: [DONE]\n\n"))

    def _said(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", "content": "", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event({"choices": [choice], **({"usage": None} if self._include_usage else {})})

    def _event(self, content: Mapping[str, Any]) -> bytes:
        return b"data: " + _json({**self._head, "object": "chat.completion.chunk", **content}) + b"\n\n"


def _whole(said: str, words: ChatJson) -> bytes:
    words.encode(said)
    return words.finish()


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise HandlerFailed(f"The usage that chat_fn yielded cannot be written as JSON: {error}.") from None
