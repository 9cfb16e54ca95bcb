"""The functions of a server that runs a pipeline of transformers: those of the Hugging Face toolkit's default handler.

A script's own functions take the place of these, one by one, as they did there: a `model_fn` may return anything that
is called as a pipeline is.
"""

from __future__ import annotations

import importlib.util
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.inference.errors import BadRequest, one_line, text_of
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker import defaults, misfit
from tidegate.inference.worker.accept import demand_some
from tidegate.inference.worker.content import Reading, split_media_type
from tidegate.inference.worker.foreign import pipeline_bodies, pretrained
from tidegate.inference.worker.handler import Functions

_MEDIA = ("feature_extractor", "image_processor", "video_processor", "processor")
"""What a pipeline has that takes pictures, sounds or films."""
_READS_INPUT = ("preprocess", "_sanitize_parameters")
"""The steps of a pipeline in which it looks at what the client sent."""
_CLIENTS = (ValueError, TypeError, LookupError, AttributeError, AssertionError)


def functions(spec: ModelSpec, task: str, reading: Reading) -> Functions:
    """The functions of a server of `task`."""
    return Functions(
        model_fn=partial(_load, task=task, spec=spec),
        input_fn=partial(_read, reading=reading),
        predict_fn=partial(_predict, most_together=spec.max_batch_size),
        output_fn=_write,
        media_types=pipeline_bodies.WRITABLE,
        model_maker=f"{pretrained.PIPELINE} for {task}",
        called="The pipeline",
    )


def _load(model_dir: str, *, task: str, spec: ModelSpec) -> Any:
    trust = spec.hf_trust_remote_code
    place = defaults.device() if len(spec.gpu_ids) < 2 else None
    return pretrained.open_pipeline(Path(model_dir), task, place, trust_code=trust)


def _read(body: Any, content_type: str | None, *, reading: Reading) -> dict[str, Any]:
    return pipeline_bodies.read(body, content_type, reading)


def _predict(data: Any, model: Any, *, most_together: int) -> Any:
    """What the pipeline answers. Raises `BadRequest` for what it does not take."""
    inputs, parameters = data, {}
    if isinstance(data, dict):
        parameters = pipeline_bodies.demand_allowed(data["parameters"]) if data.get("parameters") is not None else {}
        inputs = data["inputs"] if "inputs" in data else {k: v for k, v in data.items() if k != "parameters"}
    if inputs is None or (isinstance(inputs, list | dict | str) and not inputs):
        raise BadRequest("'inputs' is empty.")
    if any(getattr(model, name, None) is not None for name in _MEDIA):
        inputs = _own(inputs, model)
        pipeline_bodies.demand_own_data([inputs, parameters])
    together = _together(inputs, model, most_together)
    if together > 1:
        parameters = {"batch_size": together, **parameters}
    try:
        return model(inputs, **parameters)
    except Exception as error:
        reason = _refusal(error, inputs)
        if reason is None:
            raise
        raise BadRequest(f"The pipeline does not take this input: {reason}.") from error


def _own(inputs: Any, model: Any) -> Any:
    """The input of a pipeline that takes sounds, read from base64 where it came as text."""
    hears: Any = getattr(model, "feature_extractor", None)
    if getattr(model, "image_processor", None) is not None or not hasattr(hears, "sampling_rate"):
        return inputs
    pipeline_bodies.demand_own_data(inputs)
    found = [pipeline_bodies.sound_in_base64(each) if isinstance(each, str) else each for each in _list(inputs)]
    for each in found:
        rate = each.get("sampling_rate") if isinstance(each, dict) else None
        if rate not in (None, hears.sampling_rate) and importlib.util.find_spec("torchaudio") is None:
            raise BadRequest(
                f"The sound has {rate} samples a second, and the model takes {hears.sampling_rate}: send those "
                "(torchaudio, which could convert it, is not here)."
            )
    return found if isinstance(inputs, list) else found[0]


def _list(inputs: Any) -> list[Any]:
    return inputs if isinstance(inputs, list) else [inputs]


def _together(inputs: Any, model: Any, most: int) -> int:
    """How many inputs of one call the model computes at once: what the deployer allows, where they can be padded."""
    tokenizer = getattr(model, "tokenizer", None)
    if not isinstance(inputs, list) or (tokenizer is not None and getattr(tokenizer, "pad_token_id", None) is None):
        return 1
    return min(len(inputs), most) if hasattr(model, "_sanitize_parameters") else 1


def _refusal(error: Exception, inputs: Any) -> str | None:
    """Why the input, or a parameter, is not what the pipeline takes; None where the error is the model's own."""
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    of_the_input = any(name in _READS_INPUT or name.lstrip("_").startswith("validate") for name in frames)
    unknown_parameter = (
        isinstance(error, TypeError) and "unexpected keyword argument" in text_of(error) and len(frames) < 4
    )
    if isinstance(error, _CLIENTS) and (of_the_input or unknown_parameter):
        return one_line(error, 300)
    return misfit.reason(error, inputs) if isinstance(error, misfit.KINDS) else None


def _write(prediction: Any, accept: str) -> tuple[bytes, str]:
    demand_some(accept)
    media_type = split_media_type(accept)[0]
    return pipeline_bodies.write(prediction, media_type), media_type
