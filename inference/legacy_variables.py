"""Variables of the AWS containers and of their servers that are no settings of this server, and what becomes of them.

One that asked for something that is not here, and that a client or a user would miss, is refused at start with its
reason. All others are without effect: what they tuned does not exist here, or is so already. The names are those of
`ConfigManager` of TorchServe 0.12 and of Multi Model Server 1.1 and of the toolkits' `parameters.py`; docs/settings.md
shows this table.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tidegate.inference.errors import DeploymentError


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyVariable:
    """Names that share one fate. `unless` are values, in lower case, by which a refused one asks for nothing."""

    names: tuple[str, ...]
    why: str
    refused: bool = False
    unless: tuple[str, ...] = ()


_ALSO_MMS = """
DEBUG INFERENCE_ADDRESS MANAGEMENT_ADDRESS LOAD_MODELS BLACKLIST_ENV_VARS NUMBER_OF_NETTY_THREADS CONFIG_FILE
NETTY_CLIENT_THREADS NUMBER_OF_GPU ASYNC_LOGGING CORS_ALLOWED_ORIGIN CORS_ALLOWED_METHODS CORS_ALLOWED_HEADERS
DECODE_INPUT_REQUEST KEYSTORE KEYSTORE_PASS KEYSTORE_TYPE CERTIFICATE_FILE PRIVATE_KEY_FILE DEFAULT_SERVICE_HANDLER
MODEL_STORE
"""
"""What TorchServe, as TS_, has from its forerunner, Multi Model Server, which had it as MMS_."""


def _refused(*names: str, why: str, unless: tuple[str, ...] = ()) -> LegacyVariable:
    return LegacyVariable(names=_with_twins(names), why=why, refused=True, unless=unless)


def _idle(*names: str, why: str) -> LegacyVariable:
    return LegacyVariable(names=_with_twins(names), why=why)


def _with_twins(names: tuple[str, ...]) -> tuple[str, ...]:
    properties = (name.removeprefix("TS_") for name in names if name.startswith("TS_"))
    return (*names, *(f"MMS_{each}" for each in properties if each in _ALSO_MMS.split()))


LEGACY_VARIABLES = (
    # --- refused: silence would leave out what was asked for
    _refused(
        "SAGEMAKER_HANDLER",
        "TS_DEFAULT_SERVICE_HANDLER",
        why="TorchServe handlers are not supported; write model_fn, input_fn, predict_fn and output_fn",
    ),
    _refused(
        "TS_SERVICE_ENVELOPE",
        "TS_OPEN_INFERENCE_PROTOCOL",
        why="input_fn receives the body unchanged; remove the envelope there",
        unless=("false", "body"),
    ),
    _refused("TS_CONFIG_FILE", why="no properties file is read; set a variable for each property"),
    _refused(
        "TS_KEYSTORE",
        "TS_KEYSTORE_PASS",
        "TS_KEYSTORE_TYPE",
        "TS_CERTIFICATE_FILE",
        "TS_PRIVATE_KEY_FILE",
        "TS_ENABLE_GRPC_SSL",
        why="the port serves plain HTTP, which SageMaker uses for containers; terminate TLS in front of it",
        unless=("false",),
    ),
    _refused(
        "TS_DISABLE_TOKEN_AUTHORIZATION",
        why="there are no tokens; control access in front of the container",
        unless=("true",),
    ),
    _refused("TS_BLACKLIST_ENV_VARS", why="user code sees the whole environment; omit what it should not see"),
    _refused(
        "TS_NUMBER_OF_GPU",
        why="the GPUs are those of CUDA_VISIBLE_DEVICES; set the number of workers with TIDEGATE_WORKERS, and the GPUs "
        "of each with TIDEGATE_GPUS_PER_WORKER",
    ),
    _refused(
        "TS_DECODE_INPUT_REQUEST",
        why="input_fn receives JSON and CSV as str and everything else as bytearray, as in the AWS container",
        unless=("false",),
    ),
    _refused("SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT", why="AWS has ended Elastic Inference", unless=("false",)),
    # --- without effect: it is so already
    _idle(
        "SAGEMAKER_REGION",
        "SAGEMAKER_SERVING_MODULE",
        "SAGEMAKER_TRAINING_MODULE",
        why="the AWS container does not use it for serving either",
    ),
    _idle("SAGEMAKER_SAFE_PORT_RANGE", why="this server opens only one port"),
    _idle(
        "SAGEMAKER_STARTUP_TIMEOUT",
        why="it limits the start of the Java process; TIDEGATE_LOAD_TIMEOUT_S limits the load of the model",
    ),
    _idle("TS_INSTALL_PY_DEP_PER_MODEL", why="each model's requirements are always installed, for that model only"),
    _idle(
        "TS_ENABLE_MODEL_API",
        "TS_LOAD_MODELS",
        "TS_MODEL_STORE",
        "TS_ALLOWED_URLS",
        "TS_WORKFLOW_STORE",
        why="the models are that of SAGEMAKER_BASE_DIR, or those that POST /models names",
    ),
    _idle(
        "TS_INFERENCE_ADDRESS",
        "TS_MANAGEMENT_ADDRESS",
        "TS_METRICS_ADDRESS",
        why="everything is served on one port: TIDEGATE_HOST, SAGEMAKER_BIND_TO_PORT",
    ),
    _idle(
        "TS_ENABLE_METRICS_API",
        "TS_METRICS_CONFIG",
        "TS_METRICS_MODE",
        "TS_MODEL_METRICS_AUTO_DETECT",
        "TS_DISABLE_SYSTEM_METRICS",
        why="/metrics is always available, and a script's metrics are in the log",
    ),
    _idle("TS_LIMIT_MAX_IMAGE_PIXELS", why="the limit always applies: TIDEGATE_MAX_IMAGE_PIXELS"),
    _idle("TS_UNREGISTER_MODEL_TIMEOUT", why="an unload waits for requests in flight, at most TIDEGATE_TIMEOUT_S"),
    # --- without effect: what it tuned does not exist
    _idle(
        "SAGEMAKER_MODEL_SERVER_VMARGS",
        "TS_NUMBER_OF_NETTY_THREADS",
        "TS_NETTY_CLIENT_THREADS",
        "TS_PREFER_DIRECT_BUFFER",
        "TS_ASYNC_LOGGING",
        "TS_MODEL_SERVER_HOME",
        why="this server does not use Java",
    ),
    _idle(
        "TS_GRPC_INFERENCE_ADDRESS",
        "TS_GRPC_MANAGEMENT_ADDRESS",
        "TS_GRPC_INFERENCE_PORT",
        "TS_GRPC_MANAGEMENT_PORT",
        "TS_GRPC_INFERENCE_MAX_CONNECTION_AGE_MS",
        "TS_GRPC_MANAGEMENT_MAX_CONNECTION_AGE_MS",
        "TS_GRPC_INFERENCE_MAX_CONNECTION_AGE_GRACE_MS",
        "TS_GRPC_MANAGEMENT_MAX_CONNECTION_AGE_GRACE_MS",
        why="this server has no gRPC, which SageMaker does not support",
    ),
    _idle(
        "MMS_PRELOAD_MODEL",
        why="each worker is forked from a process that has imported torch, and loads the model itself",
    ),
    _idle("TS_INITIAL_WORKER_PORT", "TS_INITIAL_DISTRIBUTION_PORT", why="workers have no ports"),
    _idle(
        "TS_CORS_ALLOWED_ORIGIN",
        "TS_CORS_ALLOWED_METHODS",
        "TS_CORS_ALLOWED_HEADERS",
        why="browsers cannot reach a SageMaker container",
    ),
    _idle(
        "HF_MODEL_ID",
        "HF_MODEL_REVISION",
        "HF_API_TOKEN",
        "HF_HUB_TOKEN",
        why="nothing is downloaded at start: pack what save_pretrained wrote, and set HF_TASK",
    ),
    _idle("HF_OPTIMUM_BATCH_SIZE", "HF_OPTIMUM_SEQUENCE_LENGTH", why="models are not compiled for Inferentia"),
    _idle("TS_TOKEN_EXPIRATION_TIME_MIN", why="there are no tokens"),
    _idle(
        "TS_HEADER_KEY_SEQUENCE_ID",
        "TS_HEADER_KEY_SEQUENCE_START",
        "TS_HEADER_KEY_SEQUENCE_END",
        why="TorchServe's own stateful requests; see SAGEMAKER_ENABLE_STATEFUL_SESSIONS",
    ),
    _idle(
        "TS_CPU_LAUNCHER_ENABLE",
        "TS_CPU_LAUNCHER_ARGS",
        "TS_IPEX_ENABLE",
        "TS_IPEX_GPU_ENABLE",
        why="workers are not bound to cores, scripts may import IPEX, and TIDEGATE_THREADS_PER_WORKER sets the threads",
    ),
    _idle(
        "TS_CPP_LOG_CONFIG",
        "TS_DEBUG",
        "LOG_LOCATION",
        "METRICS_LOCATION",
        "SM_TELEMETRY_LOG",
        "SM_TELEMETRY_LOG_REV_2022_12",
        why="the log is JSON lines on standard error, at the level SAGEMAKER_CONTAINER_LOG_LEVEL",
    ),
)

_PREFIXES = ("SAGEMAKER_TS_", "TS_", "MMS_")
"""The old servers' own names, and those by which the AWS container set the model's configuration."""


def refuse(environment: Mapping[str, str]) -> None:
    """Raise `DeploymentError` for the first variable that asks for what is not here."""
    for old in LEGACY_VARIABLES:
        for name in old.names if old.refused else ():
            value = environment.get(name, "").strip()
            if value and value.lower() not in old.unless:
                # Without the value: one of these is a password.
                raise DeploymentError(f"{name} is set but not supported: {old.why}.")


def without_effect(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set and change nothing here, with the reason."""
    idle = ((name, old.why) for old in LEGACY_VARIABLES if not old.refused for name in old.names)
    return {name: why for name, why in idle if environment.get(name, "").strip()}


def unknown(environment: Mapping[str, str], settings: Collection[str]) -> dict[str, str]:
    """The variables that are set, look like those of the old containers and are none of theirs nor ours, with a hint.

    `settings` are the names that set something here. Such a name is a typo, or was meant for the script. A name with
    SAGEMAKER_ in front, which many set for purposes of their own, or nearly TIDEGATE_, is told where it is close to one
    that there is; so is one that is a slip away from a variable of OpenTelemetry that is read here.
    """
    known = {*settings, *(name for old in LEGACY_VARIABLES for name in old.names)}
    found = {}
    for name in sorted(environment):
        if name in known or not environment[name].strip():
            continue
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
        near = _nearest(name, prefix, known)
        if near:
            found[name] = f"unknown variable; did you mean {near}?"
        elif prefix:
            found[name] = "unknown variable"
    return found


def _nearest(name: str, prefix: str, known: Collection[str]) -> str | None:
    if prefix:
        return _alike(name, prefix, known, cutoff=0.6)
    # Libraries of a script have variables of their own in this family: only a slip of a letter or two is told.
    if slip := difflib.get_close_matches(name, [each for each in known if each.startswith("OTEL_")], n=1, cutoff=0.93):
        return slip[0]
    first, _, rest = name.upper().partition("_")
    # What begins with TIDEGATE_ itself is refused at start.
    near = difflib.get_close_matches(first, ["SAGEMAKER", "TIDEGATE"], n=1, cutoff=0.8)
    return _alike(f"{near[0]}_{rest}", f"{near[0]}_", known, cutoff=0.75) if near else None


def _alike(name: str, prefix: str, known: Collection[str], *, cutoff: float) -> str | None:
    # By what follows the prefix, which all of them share, and which would make any two of them alike.
    rests = sorted(each.removeprefix(prefix) for each in known if each.startswith(prefix))
    rest = name.removeprefix(prefix)
    near = difflib.get_close_matches(rest, rests, n=1, cutoff=cutoff)
    words = set(rest.split("_"))
    # Words that were left out or added, as in LOG_LEVEL for CONTAINER_LOG_LEVEL.
    near += [each for each in rests if _contain(words, set(each.split("_")))]
    return f"{prefix}{near[0]}" if near else None


def _contain(one: set[str], other: set[str]) -> bool:
    return min(len(one), len(other)) > 1 and (one <= other or other <= one)
