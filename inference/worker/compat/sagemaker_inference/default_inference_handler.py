"""The base class of the frameworks' default functions."""

from __future__ import annotations

from typing import Any

from . import decoder, encoder, utils


class DefaultInferenceHandler:
    """Reads and writes what the codecs know; loading and predicting are the subclass's."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:
        raise NotImplementedError("Define a model_fn: there is no default one without a framework.")

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:  # noqa: ARG002 - overridden
        """The body as a numpy array."""
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        raise NotImplementedError("Define a predict_fn: there is no default one without a framework.")

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:  # noqa: ARG002 - overridden
        """The body and its type: the first entry of `accept` that can be written."""
        for media_type in utils.parse_accept(accept):
            if media_type in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(prediction, media_type), media_type
        return encoder.encode(prediction, accept), accept
