"""What a user of OpenAI's client writes, with the address and the token of an endpoint; prints what it saw."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

from tidegate.client import Endpoint

found: dict[str, Any] = {}
endpoint = Endpoint("chat")
chat = openai.OpenAI(base_url=endpoint.openai_base_url, api_key=endpoint.bearer_token, max_retries=0)


def ask(content: str, **options: Any) -> Any:
    return chat.chat.completions.create(model="", messages=[{"role": "user", "content": content}], **options)


found["whole"] = ask("tell").choices[0].message.content
found["streamed"] = [word for event in ask("tell", stream=True) if (word := event.choices[0].delta.content)]
try:
    ask("refuse")
except openai.BadRequestError as error:
    found["refused"] = [error.status_code, error.body]
told: list[str] = []
try:
    for event in ask("break off", stream=True):
        told += filter(None, [event.choices[0].delta.content])
except Exception as error:
    found["broken"] = [told, type(error).__name__]
try:
    chat.with_options(api_key="sk-of-openai").chat.completions.create(
        model="", messages=[{"role": "user", "content": "tell"}]
    )
except openai.PermissionDeniedError as error:
    found["denied"] = str(error)
try:
    chat.models.list()
except openai.NotFoundError as error:
    found["other routes"] = str(error)
sys.stdout.write(json.dumps(found))
