"""A run's model by one import, without a server: `from tidegate.model_loader import ModelLoader`.

ModelLoader("62").get_prediction("data:image/png;base64,…")
"""

from tidegate.inference.errors import BadRequest, DeploymentError, HandlerFailed, PayloadTooLarge, RequestError
from tidegate.inference.model_loader.configuration import ConfigurationInvalid, load_configurations
from tidegate.inference.model_loader.functions import functions_of
from tidegate.inference.model_loader.loader import ModelLoader
from tidegate.inference.model_loader.run_configuration import RunConfiguration
from tidegate.inference.model_loader.weight_addresses import UnknownEpoch

__all__ = [
    "BadRequest",
    "ConfigurationInvalid",
    "DeploymentError",
    "HandlerFailed",
    "ModelLoader",
    "PayloadTooLarge",
    "RequestError",
    "RunConfiguration",
    "UnknownEpoch",
    "functions_of",
    "load_configurations",
]
