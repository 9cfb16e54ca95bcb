"""The four functions of the SageMaker contract over a ModelLoader, for a `code/inference.py` of two lines:

    from tidegate.model_loader import functions_of
    model_fn, input_fn, predict_fn, output_fn = functions_of("models.yaml")

A request is `{"segmap": "data:image/png;base64,…"}`, or the map itself as an image; the answer is
`{"image": "data:image/png;base64,…"}`, or the picture itself where Accept asks for `image/png`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tidegate.inference.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from tidegate.inference.images import data_uri, writing
from tidegate.inference.images.kinds import is_image
from tidegate.inference.model_loader.loader import PNG, ModelLoader
from tidegate.inference.model_loader.weight_addresses import LATEST

MAP_KEY, PICTURE_KEY = "segmap", "image"
_JSON = "application/json"
_WRITABLE = (_JSON, *writing.WRITABLE)


class Functions(NamedTuple):
    """In the order of the contract."""

    model_fn: Callable[[str], ModelLoader]
    input_fn: Callable[[Any, str | None], torch.Tensor]
    predict_fn: Callable[[torch.Tensor, ModelLoader], torch.Tensor]
    output_fn: Callable[[torch.Tensor, str | None], tuple[str | bytes, str]]


def functions_of(
    configurations: str | os.PathLike[str] | None = None, run_id: str | int | None = None, epoch_id: str | int = LATEST
) -> Functions:
    """The four functions over the ModelLoader of a run.

    Args:
        configurations: the YAML file, or the folder of `RUN_ID.yaml`; relative paths begin at the model directory. By
            default what MODEL_CONFIG_PATH names.
        run_id: by default the only run that there is.
        epoch_id: as ModelLoader has it.
    """
    loaded: list[ModelLoader] = []

    def model_fn(model_dir: str) -> ModelLoader:
        place = None if configurations is None else Path(model_dir) / configurations
        loaded[:] = [ModelLoader(run_id, epoch_id, configurations=place)]
        return loaded[0]

    def input_fn(body: Any, content_type: str | None) -> torch.Tensor:
        # A request's functions run where model_fn ran, so that what that has loaded is here, with its palette.
        labels = loaded[0].labels(_image_of(body, content_type, loaded[0]))
        return torch.from_numpy(labels.astype(np.int64)).unsqueeze(0)

    def predict_fn(labels: torch.Tensor, loader: ModelLoader) -> torch.Tensor:
        return loader.predict(labels)

    def output_fn(pictures: torch.Tensor, accept: str | None) -> tuple[str | bytes, str]:
        media_type = _answered_type(accept)
        if media_type != _JSON:
            return loaded[0].picture(pictures[0], media_type), media_type
        return json.dumps({PICTURE_KEY: data_uri.write(loaded[0].picture(pictures[0]), PNG)}), _JSON

    output_fn.media_types = _WRITABLE  # type: ignore[attr-defined]
    return Functions(model_fn, input_fn, predict_fn, output_fn)


def _image_of(body: Any, content_type: str | None, loader: ModelLoader) -> bytes:
    media_type = (content_type or _JSON).partition(";")[0].strip().lower()
    if is_image(media_type):
        return bytes(body)
    if media_type != _JSON:
        raise UnsupportedMediaType(f"A map comes as {_JSON} or as an image, such as {PNG}; this is {media_type!r}.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    uri = asked.get(MAP_KEY) if isinstance(asked, dict) else None
    if not isinstance(uri, str):
        raise BadRequest(f'The body must be {{"{MAP_KEY}": "data:image/png;base64,…"}}.')
    return loader.image_of(uri)


def _answered_type(accept: str | None) -> str:
    """The media type of an answer; a server has chosen one of `media_types` for Accept already."""
    wanted = (accept or _JSON).partition(";")[0].strip().lower()
    if wanted in (_JSON, "application/*", "*/*"):
        return _JSON
    if wanted in (*_WRITABLE, "image/*"):
        return PNG if wanted == "image/*" else wanted
    raise NotAcceptable(f"The picture comes as {', '.join(_WRITABLE)}; Accept is {accept!r}.")
