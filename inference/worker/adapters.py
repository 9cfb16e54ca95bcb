"""The adapters of the model in this worker: loaded and dropped by the frontend's orders, switched to by requests.

The model is a `PeftModel`, of which one adapter is active at one time. So the server switches before each call that is
given the model, and before each step of a generator; requests of different adapters never share a call. What would run
the model between these, asynchronous streams and `stream_fn`, has no adapters.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tidegate.inference.adapter_frames import Drop, Load, Outcome, frame_of, order_of
from tidegate.inference.errors import AdapterLoadFailed, DeploymentError, ModelDoesNotFit, one_line
from tidegate.inference.protocol import Payload
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost, is_out_of_memory
from tidegate.inference.worker.handler import Functions

log = logging.getLogger("tidegate.worker")

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1024 * 1024


@runtime_checkable
class Adaptable(Protocol):
    """What is needed of a `PeftModel`. Source: peft's reference, "PEFT model"."""

    active_adapter: Any
    peft_config: Any

    def load_adapter(self, model_id: str, adapter_name: str) -> Any: ...
    def set_adapter(self, adapter_name: Any, **more: Any) -> None: ...
    def delete_adapter(self, adapter_name: str) -> None: ...
    def state_dict(self) -> Mapping[str, Any]: ...


class Adapters:
    """Those of one model. Requests know them by their own names, peft by names that no file can clash with."""

    def __init__(self) -> None:
        self.roots: Sequence[Path] = ()
        """Below which directories all that is read must lie."""
        self._names: dict[str, str | DeploymentError] = {}
        """What peft calls each; or why it is not there."""
        self._model: Adaptable | None = None
        self.in_use = False
        """Whether the model may be another than the one that was loaded."""
        self._home: Any = None
        """What was active when the model was loaded: the adapter of requests that name none."""
        self._can_freeze = False
        self._numbers = count(1)

    def __len__(self) -> int:
        return sum(isinstance(each, str) for each in self._names.values())

    def obey(
        self, payload: Payload, *, model: Any, functions: Functions, awaiting: bool, send: Callable[[bytes], None]
    ) -> None:
        """Do what an ADAPTER frame says. `awaiting` says that asynchronous streams are open."""
        order = order_of(payload)
        if isinstance(order, Drop):
            self._drop(order.name)
            return
        outcome = Outcome(number=order.number)
        try:
            self._demand_one_call_at_a_time(functions, awaiting=awaiting)
            self._names[order.name] = self._load(order, model)
        except DeploymentError as error:
            self._names[order.name] = error
            if error.__cause__ is not None:
                log.error("loading an adapter failed", exc_info=error.__cause__, extra={"adapter": order.name})
            too_large = isinstance(error, ModelDoesNotFit)
            outcome = Outcome(number=order.number, reason=str(error), too_large=too_large)
        # Outside the handler: until it is left, the traceback holds the tensors that did not fit.
        if outcome.too_large:
            empty_cache()
        send(frame_of(outcome))

    def turn_to(self, name: str | None) -> None:
        """Let the model be the one of this adapter. Raises `AdapterLoadFailed` where it is not there."""
        if self._model is None and name is None:
            return
        wanted = self._home
        if name is not None:
            found = self._names.get(name)
            if not isinstance(found, str):
                # Who asks for a prediction is told nothing of files and exceptions; who registers an adapter is.
                raise AdapterLoadFailed(f"The adapter '{name}' could not be loaded; the log says why.")
            wanted = found
        self._activate(wanted)

    # --- loading and dropping

    def _demand_one_call_at_a_time(self, functions: Functions, *, awaiting: bool) -> None:
        if functions.stream_fn is not None:
            raise DeploymentError("A script with a stream_fn has no adapters: its conversations share one model.")
        chain = (functions.predict_fn, functions.transform_fn, functions.output_fn, functions.chat_fn)
        if awaiting or any(inspect.isasyncgenfunction(inspect.unwrap(each)) for each in chain if each is not None):
            raise DeploymentError("A script with asynchronous streams has no adapters: they share one model.")

    def _load(self, order: Load, model: Any) -> str:
        adapted = self._model or _adaptable(model)
        directory = Path(order.directory)
        try:
            _demand_inside(directory, self.roots, called=order.name)
            _demand_plain(directory, adapted, called=order.name)
        except (TypeError, AttributeError, ValueError) as error:  # a member of the configuration is of another kind
            raise DeploymentError(
                f"The {CONFIG} of the adapter '{order.name}' is not peft's: {one_line(error)}."
            ) from None
        if self._model is None:
            self._model, self._home, self.in_use = adapted, adapted.active_adapter, True
            self._can_freeze = "inference_mode" in inspect.signature(adapted.set_adapter).parameters
        # All of one length: peft looks for the name inside of the names of weights.
        own = f"tidegate_{next(self._numbers):09d}"
        try:
            with warnings.catch_warnings():
                # It would go on with random numbers.
                warnings.filterwarnings("error", message="Found missing adapter keys|Adapter name")
                result = adapted.load_adapter(str(directory), adapter_name=own)
            _demand_complete(result)
        except BaseException as error:
            give_up_if_device_is_lost(error)
            self._delete(own)
            kind = ModelDoesNotFit if is_out_of_memory(error) else DeploymentError
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise kind(f"The adapter '{order.name}' cannot be put onto the model: {reason}.") from error
        self._activate(self._home)
        log.info("adapter loaded", extra={"adapter": order.name, "directory": order.directory})
        return own

    def _drop(self, name: str) -> None:
        own = self._names.pop(name, None)
        if isinstance(own, str):
            self._delete(own)
            empty_cache()
            log.info("adapter dropped", extra={"adapter": name})

    def _delete(self, own: str) -> None:
        if self._model is None or own not in self._model.peft_config:
            return
        try:
            self._activate(self._home)
            self._model.delete_adapter(own)
        except Exception as error:
            give_up_if_device_is_lost(error)
            log.exception("an adapter cannot be deleted, and its memory is not free")

    def _activate(self, wanted: Any) -> None:
        model = self._model
        if model is None or model.active_adapter == wanted:
            return
        # As for training it would have its results ask for gradients, which a script that calls numpy() cannot have.
        if self._can_freeze:
            model.set_adapter(wanted, inference_mode=True)
        else:
            model.set_adapter(wanted)


def _adaptable(model: Any) -> Adaptable:
    """The model that takes adapters: what `model_fn` returned, or the only such member of it."""
    members: list[Any] = [model]
    if isinstance(model, list | tuple):
        members = list(model)
    elif isinstance(model, Mapping):
        members = list(model.values())
    found = [each for each in members if isinstance(each, Adaptable) and not callable(each.active_adapter)]
    if len(found) != 1:
        raise DeploymentError(
            f"The model is a {type(model).__name__} and takes no adapters: model_fn must return one PeftModel, alone "
            "or in a tuple, list or dict."
        )
    status = getattr(found[0], "get_model_status", None)
    if status is not None:
        try:
            state = status()
        except Exception as error:  # peft has none of it for prompts that are learnt
            raise DeploymentError(f"The model takes no LoRA adapters: {one_line(error)}.") from None
        if state.enabled is not True or state.merged_adapters:
            raise DeploymentError("The adapters of the model are merged or disabled, so that no other would count.")
    return found[0]


class _Unfit(Exception):
    """Weights that would make every answer senseless; what they have."""


def _demand_inside(directory: Path, roots: Sequence[Path], *, called: str) -> None:
    """Raise `DeploymentError` where a file of an adapter leads by a link to where no adapter may lie.

    The directory was looked at when it was registered, and may be another by now.
    """
    places = [root.resolve() for root in roots]
    for path in (directory, *directory.rglob("*")):
        try:
            real = path.resolve(strict=True)
            inside = any(real.is_relative_to(place) and real != place for place in places)
        except (OSError, RuntimeError):  # it leads nowhere, or in a circle
            inside = False
        if not inside:
            what = "lies" if path == directory else f"has {str(path.relative_to(directory))[:100]}, which leads"
            raise DeploymentError(
                f"The adapter '{called}' {what} out of the model directory and TIDEGATE_ADAPTERS_DIR: put the files "
                "themselves there, and no links to others."
            )


def _demand_plain(directory: Path, model: Adaptable, *, called: str) -> None:
    """Raise `DeploymentError` for what is no adapter, or would change more than the answers of its own requests."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise DeploymentError(f"The adapter '{called}' has no {name}: save it by PeftModel.save_pretrained.")
    config = _config(directory / CONFIG, called)
    # peft's other ways to begin (PiSSA, OLoRA and the like) take something away from the base's own weights.
    if config.get("init_lora_weights", True) not in (True, False, None, "gaussian", "orthogonal"):
        raise DeploymentError(
            f"The adapter '{called}' changes the base (init_lora_weights is {config['init_lora_weights']!r}): save it "
            "converted to a plain LoRA (path_initial_model_for_weight_conversion)."
        )
    if config.get("megatron_config"):
        raise DeploymentError(f"The adapter '{called}' names a module of megatron to import, which is not done.")
    copied = tuple(config.get("modules_to_save") or ())
    base, shapes = model.state_dict().keys(), _shapes(directory / WEIGHTS, called, copied)
    lengths = {length for shape in shapes.values() for length in shape}
    for rank in (config.get("r"), *(config.get("rank_pattern") or {}).values()):
        # The memory is taken before the weights are looked at.
        if rank is not None and rank not in lengths:
            raise DeploymentError(f"The adapter '{called}' has no weights of the rank {str(rank)[:20]} that it names.")
    for name in shapes:
        if name in base and not _is_of(name, copied):
            raise DeploymentError(f"The adapter '{called}' would replace the base's own weight {name}.")


def _config(path: Path, called: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        config = json.loads(path.read_bytes(), parse_constant=_finite, parse_float=_finite)
        if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
            raise ValueError("it is no object with a peft_type")
    except (OSError, ValueError, RecursionError) as error:
        raise DeploymentError(
            f"The adapter '{called}' has an {CONFIG} that cannot be read: {one_line(error)}."
        ) from None
    return config


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"it has the number {text[:40]}")
    return number


def _is_of(name: str, modules: Iterable[str]) -> bool:
    return any(f".{module}." in f".{name}" for module in modules)


def _shapes(path: Path, called: str, copied: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights, which are finite numbers of a floating-point type.

    Whole modules that the adapter has copied have buffers of other types, too.
    """
    try:
        from safetensors import safe_open  # noqa: PLC0415 - peft's own, where there is peft

        with safe_open(path, framework="pt") as file:
            names = file.keys()  # it is no mapping
            found: dict[str, tuple[int, ...]] = {}
            for name in names:
                weight = file.get_tensor(name)
                if not (weight.is_floating_point() or _is_of(name, copied)):
                    raise _Unfit(f"the weight {name} of the type {str(weight.dtype).removeprefix('torch.')}")
                # torch cannot tell it of numbers of one byte.
                if not (weight.float() if weight.itemsize == 1 else weight).isfinite().all():
                    raise _Unfit(f"NaN or infinity in the weight {name}")
                found[name] = tuple(weight.shape)
            return found
    except _Unfit as unfit:
        raise DeploymentError(
            f"The adapter '{called}' has {unfit}: finite numbers of a floating-point type are what it adds to a model."
        ) from None
    except ImportError:
        raise DeploymentError(f"The adapter '{called}' needs the package safetensors.") from None
    except Exception as error:
        raise DeploymentError(f"The adapter '{called}' has weights that cannot be read: {one_line(error)}.") from None


def _demand_complete(result: Any) -> None:
    for what in ("missing_keys", "unexpected_keys"):
        names = list(getattr(result, what, ()))
        if names:
            raise ValueError(f"it is of another model: {what.replace('_', ' ')} such as {names[0]}")
