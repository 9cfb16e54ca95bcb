"""The server's own default functions, in the class from which scripts call or inherit them."""

from __future__ import annotations

from typing import Any, ClassVar

from tidegate.inference.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from tidegate.inference.worker import defaults
from tidegate.inference.worker.accept import preferred_type
from tidegate.inference.worker.compat.sagemaker_inference import content_types, errors
from tidegate.inference.worker.compat.sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from tidegate.inference.worker.content import JSON, WRITABLE, Reading

DEFAULT_MODEL_FILENAME = "model.pt"


class ModelLoadError(Exception):
    """Kept for scripts that catch it; a model that cannot be loaded is a `DeploymentError` here."""


class DefaultPytorchInferenceHandler(DefaultInferenceHandler):
    """What the server does for a script that leaves a function out. Tensors come and go on the worker's own device."""

    VALID_CONTENT_TYPES = (content_types.JSON, content_types.NPY)
    reading: ClassVar[Reading] = Reading(max_decoded_bytes=2**30)
    """How bodies are read; the worker sets it by the server's settings."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:  # noqa: ARG002 - the contract's
        return defaults.model_fn(model_dir)

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:  # noqa: ARG002
        try:
            data = defaults.input_fn(input_data, content_type, self.reading).data
        except UnsupportedMediaType:
            raise errors.UnsupportedFormatError(content_type) from None
        except BadRequest as error:
            raise ValueError(error.message.rstrip(".")) from None  # as scripts may catch it; 400 where they do not
        return defaults.to_device(data, defaults.device())

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:  # noqa: ARG002
        try:
            return defaults.predict_fn(data, model)
        except BadRequest as error:  # torch's own words, which scripts may catch
            raise (error.__cause__ or error) from None

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:  # noqa: ARG002
        try:
            media_type = preferred_type(accept, JSON, WRITABLE)
            body = defaults.output_fn(prediction, media_type)
        except NotAcceptable:
            raise errors.UnsupportedFormatError(accept) from None
        return body.decode() if media_type == JSON else body
