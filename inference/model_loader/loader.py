"""A run's model as one object: a drawn map in, a picture out, both as data URIs, and no web server anywhere.

data URI ▶ pixels ▶ labels by the palette ▶ network ▶ picture ▶ data URI
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tidegate.inference import settings as server_settings
from tidegate.inference.errors import DeploymentError, HandlerFailed, PayloadTooLarge, one_line, some_of
from tidegate.inference.images import data_uri, reading, resizing, writing
from tidegate.inference.images.palette import Palette
from tidegate.inference.model_loader import architecture, state
from tidegate.inference.model_loader.configuration import load_configurations
from tidegate.inference.model_loader.run_configuration import RunConfiguration
from tidegate.inference.model_loader.weight_addresses import LATEST
from tidegate.inference.model_loader.weight_cache import WeightCache
from tidegate.inference.model_loader.weight_files import addresses_like, weights_at

CONFIG_PATH = "MODEL_CONFIG_PATH"
PNG = "image/png"
_SHOWN_RUNS = 20
_TRIAL_SIDE = 256
"""Of the map that a network without a size of its own is tried with: what networks halve several times."""
_BYTES_PER_PIXEL = np.dtype(np.int64).itemsize + 3 * np.dtype(np.float32).itemsize
"""Its label and its place in the picture."""
_RANGE = (-1.0, 1.0)

Configurations = str | os.PathLike[str] | Mapping[str, RunConfiguration]


class ModelLoader:
    """The model of a run, loaded.

        loader = ModelLoader("62")
        picture = loader.get_prediction("data:image/png;base64,…")

    Args:
        run_id: a key of the configurations; by default the only one.
        epoch_id: which weights; "latest" are those of the highest number.
        configurations: the YAML file, the folder of `RUN_ID.yaml`, or what `load_configurations` made of them; by
            default what MODEL_CONFIG_PATH names.
        device: where the network computes; by default on the GPU if there is one.

    The network takes labels, int64 (N, height, width), and gives pictures, float (N, 3, height, width) from -1 to 1. It
    is built, and asked for a picture, before this returns. Nothing is fetched before the configuration was checked and
    the network was built. Raises `DeploymentError`, in one sentence.
    """

    def __init__(
        self,
        run_id: str | int | None = None,
        epoch_id: str | int = LATEST,
        *,
        configurations: Configurations | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        settings = server_settings.read(os.environ)
        self._max_body_bytes, self._max_decoded_bytes = settings.max_body_bytes, settings.max_decoded_bytes
        self.configuration = run = _run(run_id, configurations, settings.model_config_path)
        network = architecture.build(
            run.architecture, run.arguments, configured_in=run.file, code=settings.model_code_path
        )
        address = run.weights.find(str(epoch_id), there=addresses_like)
        self.epoch_id = address.epoch
        """The name of the weights' epoch, also where "latest" was asked for; None where the run has one file."""
        cache_dir, cache_bytes = settings.weight_cache_dir.expanduser(), settings.weight_cache_bytes
        with weights_at(address, lambda: WeightCache(cache_dir, max_bytes=cache_bytes)) as path:
            state.load_into(network, path, called=address.text)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = network.to(self.device).eval()
        self.palette = Palette(run.palette.colours, unknown=run.palette.unknown)
        self._try()

    def get_prediction(self, uri: str) -> str:
        """The picture of a map: both are data URIs, the answer's a PNG.

        It has the size that the configuration says, and the map's where that says none. Raises `BadRequest` for a map
        that cannot be read or has a colour that is no class's, and `HandlerFailed` where the network made no picture.
        """
        labels = self.labels(self.image_of(uri))
        return data_uri.write(self.picture(self.predict(labels)[0]), PNG)

    def image_of(self, uri: str) -> bytes:
        """The image file in a data URI. Raises `BadRequest`."""
        return data_uri.read_image(uri, max_bytes=self._max_body_bytes)

    def labels(self, image: bytes) -> npt.NDArray[Any]:
        """The classes of a map, an image file, as whole numbers (height, width) at the size that is painted.

        Raises `BadRequest`; also for more pixels than `max_pixels`, and for a transparent one, unless the palette has
        a background.
        """
        background = self.configuration.palette.background
        onto: reading.Onto = "refuse" if background is None else background
        pixels = reading.pixels(
            image, max_decoded_bytes=self._max_decoded_bytes, max_pixels=self.configuration.max_pixels, onto=onto
        )
        labels = self.palette.labels(pixels)
        if (size := self.configuration.size) is not None:
            return resizing.resize_labels(labels, height=size.height, width=size.width)
        if labels.size * _BYTES_PER_PIXEL > self._max_decoded_bytes:
            height, width = labels.shape
            raise PayloadTooLarge(
                f"The map of {width} x {height} pixels takes {labels.size * _BYTES_PER_PIXEL} bytes with its picture; "
                f"the limit is {self._max_decoded_bytes}."
            )
        return labels

    def predict(self, labels: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
        """The pictures of maps, whole numbers (height, width) or (N, height, width), as float (N, 3, height, width).

        They are on the network's device. Raises `HandlerFailed` where the network gives anything else.
        """
        maps = labels if isinstance(labels, torch.Tensor) else torch.from_numpy(labels.astype(np.int64))
        maps = maps.to(self.device, torch.int64)
        maps = maps.unsqueeze(0) if maps.ndim == 2 else maps
        with torch.inference_mode():
            pictures = self.network(maps)
        wanted = (maps.shape[0], 3, *maps.shape[1:])
        if not isinstance(pictures, torch.Tensor) or not pictures.is_floating_point() or pictures.shape != wanted:
            raise HandlerFailed(
                f"The network {self.configuration.architecture!r} gave {_shown(pictures)} for labels of "
                f"{tuple(maps.shape)}; it must give floats of {wanted}."
            )
        return pictures

    def picture(self, painted: torch.Tensor, media_type: str = PNG) -> bytes:
        """The image file of one picture, float (3, height, width): -1 is black, 1 white, and what is beyond is cut."""
        array = painted.detach().to("cpu", torch.float32).numpy()
        return writing.image(array, value_range=_RANGE, media_type=media_type, channels="first")

    def _try(self) -> None:
        """Paint a map with every class of the palette, so that a mistake is found now and not by the first request."""
        size = self.configuration.size
        height, width = (size.height, size.width) if size is not None else (_TRIAL_SIDE, _TRIAL_SIDE)
        labels = (np.arange(height * width) % len(self.palette)).reshape(height, width)
        what = f"{self.configuration.file}: run {self.configuration.run_id!r}"
        try:
            self.picture(self.predict(labels)[0])
        except HandlerFailed as error:
            raise DeploymentError(f"{what}: {error}") from error
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            hint = "" if size is not None else "; where the network paints at one size only, the run needs that 'size'"
            raise DeploymentError(
                f"{what}: the network {self.configuration.architecture!r} cannot paint a map of {width} x {height} "
                f"pixels with the {len(self.palette)} classes of its palette: {type(error).__name__}: "
                f"{one_line(error)}{hint}."
            ) from error


def _run(run_id: str | int | None, given: Configurations | None, from_environment: Path | None) -> RunConfiguration:
    if isinstance(given, Mapping):
        runs, place = given, "the configurations"
    else:
        path = from_environment if given is None else Path(given)
        if path is None:
            raise DeploymentError(
                f"{CONFIG_PATH} is not set: it must name the YAML file of the runs, or a folder of RUN_ID.yaml."
            )
        runs, place = load_configurations(path), str(path)
    if run_id is None and len(runs) == 1:
        return next(iter(runs.values()))
    if run_id is None:
        raise DeploymentError(f"{place} has the runs {some_of(runs, limit=_SHOWN_RUNS)}: say which by run_id.")
    if str(run_id) not in runs:
        raise DeploymentError(
            f"There is no run {str(run_id)!r} in {place}; there are {some_of(runs, limit=_SHOWN_RUNS)}."
        )
    return runs[str(run_id)]


def _shown(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of {tuple(value.shape)}"
    return f"a {type(value).__name__}"
