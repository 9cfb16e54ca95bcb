"""Tell stories, one character at a time: what is yielded is sent while the next character is being made.

A request to /invocations begins a story, as JSON or as plain text:

    application/json   {"prompt": "Once upon a time", "max_characters": 400, "temperature": 0.7, "seed": 1}
    text/plain         Once upon a time

Only the prompt is needed. The answer goes on from it, by the Accept header:

    text/plain              the characters as they are made
    application/jsonlines   {"text": "O"} for each, a line as soon as it is made
    application/json        {"text": "..."} when the story is complete

/v1/chat/completions asks the same model as OpenAI's clients do: the first animal that the last message names becomes
the hero. A token of this model is a character.
"""

import json
import re
from pathlib import Path

import torch
from story_net import StoryNet

END = "\n"
MAX_CHARACTERS = 2_000
MAX_PROMPT = 2_000
DEFAULTS = {"max_characters": 400, "temperature": 0.7, "seed": None}


class BadRequest(ValueError):
    """The client's mistake in one sentence; servers read the status."""

    status_code = 400


def model_fn(model_dir):
    """Load the network with its alphabet."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    directory = Path(model_dir)
    constants = json.loads((directory / "preprocessing.json").read_text(encoding="utf-8"))
    net = StoryNet(len(constants["alphabet"]))
    net.load_state_dict(torch.load(directory / "model.pth", map_location=device, weights_only=True))
    return {"net": net.to(device).eval(), "device": device, **constants}


def input_fn(input_data, content_type):
    """Read a request: the prompt, and how to go on from it."""
    media_type = (content_type or "").split(";")[0].strip().lower()
    text = input_data if isinstance(input_data, str) else bytes(input_data).decode("utf-8")
    if media_type == "text/plain":
        given = {"prompt": text}
    elif media_type == "application/json":
        given = json.loads(text)
    else:
        raise BadRequest(f"content type {content_type!r} is neither application/json nor text/plain")
    if not isinstance(given, dict) or not isinstance(given.get("prompt"), str):
        raise BadRequest('a request is an object such as {"prompt": "Once upon a time"}')
    if unknown := sorted(given.keys() - DEFAULTS.keys() - {"prompt"}):
        raise BadRequest(f"{unknown[0]!r} is not one of prompt, {', '.join(DEFAULTS)}")
    return _checked({**DEFAULTS, **given})


def predict_fn(data, model):
    """Yield the story's characters. The server takes the next one when the last is on its way."""
    if unknown := sorted(set(data["prompt"]) - set(model["alphabet"])):
        raise BadRequest(f"the prompt has {unknown[0]!r}, and the stories are made of {model['alphabet'].strip()}")
    yield from _story(model, **data)


def output_fn(prediction, accept):
    """Give each piece its form; only JSON has to wait for the last one."""
    if accept == "text/plain":
        return prediction, "text/plain; charset=utf-8"
    if accept == "application/jsonlines":
        return (json.dumps({"text": piece}) + "\n" for piece in prediction), accept
    if accept == "application/json":
        return json.dumps({"text": "".join(prediction)}), accept
    error = ValueError(f"a story can be text/plain, application/jsonlines or application/json, not {accept}")
    error.status_code = 406
    raise error


def chat_fn(request, model):
    """Answer OpenAI's request for a chat: yield the answer's pieces, then why it ended and how long it is."""
    question = _last_words(request)
    longest = request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULTS["max_characters"]
    wanted = {"temperature": request.get("temperature", DEFAULTS["temperature"]), "seed": request.get("seed")}
    heroes = [word for word in re.findall("[a-z]+", question.lower()) if word in model["openings"]]
    opening = model["openings"][heroes[0] if heroes else min(model["openings"])]
    options = _checked({"prompt": opening, "max_characters": longest, **wanted})
    if request.get("stop"):
        raise BadRequest("stop is not read here: a story ends by itself, or at max_tokens characters")
    said = opening[:longest]
    yield said
    reason, length = "length", len(said)
    if length < longest:
        reason, further = yield from _story(model, **{**options, "max_characters": longest - length})
        length += further
    usage = {"prompt_tokens": len(question), "completion_tokens": length, "total_tokens": len(question) + length}
    yield {"finish_reason": reason, "usage": usage}


def _story(model, prompt, max_characters, temperature, seed):
    """Yield characters up to the end of the story; return why it ended, and its length."""
    chance = torch.Generator()
    if seed is None:
        chance.seed()
    else:
        chance.manual_seed(seed)
    logits, state = _next(model, END + prompt, None)
    for length in range(max_characters):
        if temperature:
            # The best is at 0, in double precision: a temperature of next to nothing divides by next to nothing.
            chances = ((logits - logits.max()).double() / temperature).softmax(0)
            place = torch.multinomial(chances, 1, generator=chance)
        else:
            place = logits.argmax()
        character = model["alphabet"][int(place)]
        if character == END:
            return "stop", length
        yield character
        logits, state = _next(model, character, state)
    return "length", max_characters


# Around one step and not around the generator: between two steps other requests run in this thread.
@torch.inference_mode()
def _next(model, text, state):
    """The logits of what follows `text`, on the CPU, and the state after it."""
    places = torch.tensor([[model["alphabet"].index(character) for character in text]], device=model["device"])
    logits, state = model["net"](places, state)
    return logits[0, -1].cpu(), state


def _checked(options):
    """Return the options, or say which of them cannot be used."""
    prompt, longest, temperature, seed = (options[n] for n in ("prompt", "max_characters", "temperature", "seed"))
    if len(prompt) > MAX_PROMPT:
        raise BadRequest(f"the prompt has {len(prompt)} characters, more than {MAX_PROMPT}")
    if type(longest) is not int or not 1 <= longest <= MAX_CHARACTERS:
        raise BadRequest(f"the longest answer must be a whole number from 1 to {MAX_CHARACTERS}, not {longest!r}")
    if type(temperature) not in (int, float) or not 0 <= temperature <= 2:
        raise BadRequest(f"temperature must be a number from 0 to 2, not {temperature!r}")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise BadRequest(f"seed must be a whole number from 0 to 2**63 - 1, not {seed!r}")
    return options


def _last_words(request):
    """The text of the last message, which OpenAI's clients send as text or as parts."""
    try:
        content = request["messages"][-1]["content"]
        if isinstance(content, list):
            content = " ".join(part["text"] for part in content if part["type"] == "text")
    except (LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise BadRequest('the last of the messages must have text, as in {"role": "user", "content": "About a fox?"}')
    return content
