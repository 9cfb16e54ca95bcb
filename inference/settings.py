"""The only reader of the environment.

Every setting is a field of `Settings`. Its metadata names the variables that may set it, the first that is set
(and not empty) wins, so the order in `names` is the precedence that docs/settings.md shows. `TIDEGATE_*` names are
ours; the others are the names that the AWS PyTorch container, TorchServe and Multi Model Server gave the same thing.
An error names the variable, the value and what would be right.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from tidegate.inference import legacy_variables
from tidegate.inference.batching import AUTO, MAX_BATCH_SIZE, MAX_WAIT_MS, Auto
from tidegate.inference.errors import DeploymentError as DeploymentError  # noqa: PLC0414 - who calls `environment` catches it

MIB = 1024 * 1024
CODEARTIFACT_ARN = (
    r"arn:(?P<partition>[^:]+):codeartifact:(?P<region>[a-z0-9-]+):(?P<account>\d{12})"
    r":repository/(?P<domain>[a-z0-9-]+)/(?P<repository>[A-Za-z0-9._-]+)"
)
"""What a repository of CodeArtifact is called; the parts are those of the service's authorization reference."""

S3_ADDRESS = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?"

Parse = Callable[[str], Any]


def _whole(low: int, high: int, *, unit: int = 1) -> Parse:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number * unit

    return parse


def _number(low: float, high: float) -> Parse:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return number

    return parse


def _batch_size(text: str) -> int | Auto:
    if text.lower() == AUTO:
        return AUTO
    try:
        return int(_whole(1, MAX_BATCH_SIZE)(text))
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def _switch(text: str) -> bool:
    # Strict: "false" must not turn something on, and a typo must not turn it off.
    known = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise ValueError("on or off (also true/false, yes/no, 1/0)") from None


def _true(text: str) -> bool:
    # OpenTelemetry's own rule: what is not "true" is false (its specification, "Boolean value").
    return text.lower() == "true"


def _payload_mb(text: str) -> int:
    # 0 means "unlimited, sent chunked" to CreateTransformJob; one GiB is the largest body that any mode of the
    # platform carries (asynchronous inference).
    return _whole(0, 1024, unit=MIB)(text) or 1024 * MIB


def _request_size(text: str) -> int:
    # Many a deployment says 2147483647, the largest that TorchServe took; no mode of the platform brings as much.
    return min(int(_whole(1, 2**31 - 1)(text)), 1024 * MIB)


def _omp_threads(text: str) -> int:
    # OpenMP takes a number for each level of nested parallel regions; the first is the one that torch obeys.
    try:
        levels = [int(_whole(1, 1024)(level)) for level in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{error}, or a list of such, as in 4,2") from None
    return levels[0]


def _log_level(text: str) -> int:
    names = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
    if text.lower() in names:
        return names[text.lower()]
    try:
        return int(_whole(0, 50)(text))
    except ValueError:
        raise ValueError("a level from 0 to 50 or debug, info, warning, error, critical") from None


def _file_name(text: str) -> str:
    if "\0" in text or Path(text).is_absolute() or ".." in Path(text).parts:
        raise ValueError("a file name below code/, such as inference.py")
    return text


def _path(text: str) -> Path:
    return Path(text)


def _repository(text: str) -> str:
    if text.startswith("s3://"):
        if not re.fullmatch(S3_ADDRESS, text):
            raise ValueError("a folder, or s3://bucket/prefix")
        return text.rstrip("/")
    if "://" in text:
        raise ValueError("a folder, or s3://bucket/prefix")
    return os.path.abspath(text)  # noqa: PTH100 - `..` is what the shell understands by it


def _model_choice(text: str) -> str:
    if not re.fullmatch(r"[^\s/;=]+(/[^\s/;=]+)?", text):
        raise ValueError("a model's name, or NAME/VERSION with a number, latest or a label")
    return text


def _form(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text):
        raise ValueError("auto, eager or the name of a form in manifest.json")
    return text.lower() if text.lower() in ("auto", "eager") else text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _media_type(text: str) -> str:
    kind, slash, rest = text.partition("/")
    if not (kind and slash and rest) or "," in text or "*" in text:
        raise ValueError("one media type, such as application/json")
    return text.strip().lower()


def _codeartifact_arn(text: str) -> str:
    if not re.fullmatch(CODEARTIFACT_ARN, text):
        raise ValueError("like arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY")
    return text


def _host(text: str) -> str:
    return text


def setting(names: str | tuple[str, ...], default: Any, parse: Parse, doc: str, **parsers: Parse) -> Any:
    """A field that is set by the first of `names` that is present; `parsers` gives a name a reading of its own."""
    names = (names,) if isinstance(names, str) else names
    return field(default=default, metadata={"names": names, "parse": parse, "doc": doc, "parsers": parsers})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the deployer decided. Built by `read`, or by keyword in tests; units are in the names."""

    # --- where
    base_dir: Path = setting("SAGEMAKER_BASE_DIR", Path("/opt/ml"), _path, "the directory that contains `model/`")
    host: str = setting("TIDEGATE_HOST", "0.0.0.0", _host, "address to listen on")  # noqa: S104 - a container's port is published by its host
    port: int = setting("SAGEMAKER_BIND_TO_PORT", 8080, _whole(1, 65535), "port to listen on")
    program: str | None = setting(
        "SAGEMAKER_PROGRAM", None, _file_name, "the user's script below `code/`; default: `inference.py` if it is there"
    )
    submit_directory: str | None = setting(
        "SAGEMAKER_SUBMIT_DIRECTORY",
        None,
        str,
        "where the SDK has put the script; nothing is downloaded from it, and if the archive has no script, the "
        "start fails with an error that says so",
    )
    multi_model: bool = setting(
        "SAGEMAKER_MULTI_MODEL",
        False,
        _switch,
        "set by the platform: models are loaded and unloaded by `POST` and `DELETE /models`",
    )
    trust_pickled_model: bool = setting(
        "TIDEGATE_TRUST_PICKLED_MODEL",
        False,
        _switch,
        "load model files that need unpickling, which may run any code; applies only if no `model_fn` loads them",
    )
    trust_compiled_model: bool = setting(
        "TIDEGATE_TRUST_COMPILED_MODEL",
        False,
        _switch,
        "load models that `torch.export` saved (`.pt2`) or AOTInductor compiled, which may run any code; applies "
        "only if no `model_fn` loads them",
    )
    form: str = setting(
        "TIDEGATE_FORM",
        "auto",
        _form,
        "the form of a model to serve: `auto` is the first of its `forms` that fits this machine and answers the "
        "example, else the model as it was trained; `eager` is the model as it was trained; the name of a form "
        "requires that form",
    )
    hf_task: str | None = setting(
        ("HF_TASK", "TASK"),
        None,
        str,
        "the transformers pipeline that serves a model of `save_pretrained`; each function that a script defines "
        "replaces that of the pipeline",
    )
    hf_trust_remote_code: bool = setting(
        "HF_TRUST_REMOTE_CODE", False, _switch, "let that pipeline run the Python files that such a model contains"
    )
    legacy_pickle: bool = setting(
        "TIDEGATE_LEGACY_PICKLE",
        False,
        _switch,
        "for models of `create_model`: read arrays that Studio.ML clients pickled, with a reader that builds only "
        "plain arrays, and encode the response in the same way",
    )
    identity_model: bool = setting(
        "TIDEGATE_IDENTITY_MODEL",
        False,
        _switch,
        "if the model directory contains no model, answer every request with its own body, and mark each response",
    )
    default_accept: str = setting(
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        "application/json",
        _media_type,
        "the type of the response if Accept is missing or `*/*`",
    )
    batch_transform: bool = setting(
        "SAGEMAKER_BATCH", False, _switch, "set by the platform for batch transform jobs; each request is logged"
    )

    # --- workers
    workers: int | None = setting(
        (
            "TIDEGATE_WORKERS",
            "SAGEMAKER_TS_MIN_WORKERS",
            "TS_DEFAULT_WORKERS_PER_MODEL",
            "MMS_DEFAULT_WORKERS_PER_MODEL",
            "SAGEMAKER_MODEL_SERVER_WORKERS",
            "SAGEMAKER_TS_MAX_WORKERS",
        ),
        None,
        _whole(1, 1024),
        "the number of workers, each a process with a copy of the model; it is fixed; default: one per GPU, else "
        "one per CPU core of the container, limited by its memory; with many models, 1 for each",
    )
    gpus_per_worker: int = setting(
        "TIDEGATE_GPUS_PER_WORKER",
        1,
        _whole(1, 64),
        "GPUs of each worker, for a model that needs several: the worker sees only these, as `context.devices`; the "
        "default number of workers is the number of GPUs divided by this, which must divide it evenly",
    )
    threads_per_worker: int | None = setting(
        ("TIDEGATE_THREADS_PER_WORKER", "OMP_NUM_THREADS"),
        None,
        _whole(1, 1024),
        "torch threads of each worker; if OMP_NUM_THREADS is a list, its first number; default: the cores divided "
        "by the workers",
        OMP_NUM_THREADS=_omp_threads,
    )
    timeout_s: float = setting(
        (
            "TIDEGATE_TIMEOUT_S",
            "SAGEMAKER_TS_RESPONSE_TIMEOUT",
            "TS_DEFAULT_RESPONSE_TIMEOUT",
            "MMS_DEFAULT_RESPONSE_TIMEOUT",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        ),
        60.0,
        _number(0.1, 86400),
        "how long user code may take for one request, or for a call that several requests share; 600 in a batch "
        "transform job",
    )
    max_queue_wait_s: float | None = setting(
        "TIDEGATE_MAX_QUEUE_WAIT_S",
        None,
        _number(0.1, 86400),
        "how long a request may wait for a worker; default: TIDEGATE_TIMEOUT_S, but at least 60",
    )
    load_timeout_s: float = setting(
        ("TIDEGATE_LOAD_TIMEOUT_S", "TS_DEFAULT_STARTUP_TIMEOUT"),
        3600.0,
        _number(1, 86400),
        "how long one worker may take to load the model",
    )
    requirements_timeout_s: float = setting(
        "TIDEGATE_REQUIREMENTS_TIMEOUT_S",
        900.0,
        _number(1, 86400),
        "how long the installation of `code/requirements.txt` may take",
    )
    codeartifact_arn: str | None = setting(
        "CA_REPOSITORY_ARN",
        None,
        _codeartifact_arn,
        "the CodeArtifact repository that `code/requirements.txt` is installed from; needs boto3, which the image has",
    )
    retry: bool = setting(
        "TIDEGATE_RETRY",
        True,
        _switch,
        "retry a request if its worker died, and test which requests may be batched; turn off for handlers with "
        "side effects",
    )
    crash_loop_s: float = setting(
        "TIDEGATE_CRASH_LOOP_S", 120.0, _number(1, 3600), "the process exits if no worker has started for this long"
    )

    # --- stateful sessions
    stateful_sessions: bool = setting(
        "SAGEMAKER_ENABLE_STATEFUL_SESSIONS",
        False,
        _switch,
        "create, check and close sessions; if off, the script handles their headers",
    )
    session_expiration_s: int = setting(
        "SAGEMAKER_SESSIONS_EXPIRATION",
        1200,
        _whole(1, 30 * 86400),
        "how long after its start a session ends, in seconds",
    )
    sessions_path: Path | None = setting(
        "SAGEMAKER_SESSIONS_PATH",
        None,
        _path,
        "the parent directory of the sessions' directories; default: `/dev/shm`, else the temporary directory",
    )
    max_sessions: int = setting(
        "TIDEGATE_MAX_SESSIONS", 1000, _whole(1, 1_000_000), "open sessions at one time; one more is 503"
    )

    # --- adapters
    max_adapters: int = setting(
        "TIDEGATE_MAX_ADAPTERS",
        16,
        _whole(1, 1000),
        "adapters (such as LoRA) of a model in memory at one time; others remain on disk",
    )
    adapters_dir: Path | None = setting(
        "TIDEGATE_ADAPTERS_DIR",
        None,
        _path,
        "a folder of adapters that `POST /adapters` may name, in addition to those below the model directory",
    )

    # --- many models
    model_repository: str | None = setting(
        "TIDEGATE_MODEL_REPOSITORY",
        None,
        _repository,
        "a folder or `s3://bucket/prefix` of models that can be added, changed and removed while the server runs",
    )
    reload_interval_s: float = setting(
        "TIDEGATE_RELOAD_INTERVAL_S",
        10.0,
        _number(0, 86400),
        "the interval between two listings of the repository; 0: list it only once, at start, as in every batch "
        "transform job",
    )
    default_model: str | None = setting(
        "TIDEGATE_DEFAULT_MODEL",
        None,
        _model_choice,
        "the model of the repository, or `NAME/VERSION`, for requests that name none; default: the only model",
    )
    reload_order: str = setting(
        "TIDEGATE_RELOAD_ORDER",
        "load-first",
        lambda text: _word(text, "load-first", "unload-first"),
        "`load-first` loads a new version beside the old one; `unload-first` is for models too large to hold twice",
    )
    pinned_models: tuple[str, ...] = setting(
        "TIDEGATE_PINNED_MODELS",
        (),
        _names,
        "models of the repository, separated by commas, that are loaded at start and never evicted",
    )
    max_loaded_models: int = setting(
        ("TIDEGATE_MAX_LOADED_MODELS", "TIDEGATE_MAX_MODELS"),
        1000,
        _whole(1, 100_000),
        "models in memory at one time, including those that are loading or unloading; in a repository the least "
        "recently used model is evicted, on a multi-model endpoint one more is 507; TIDEGATE_MAX_DISK_MODELS may "
        "lower it",
    )
    max_loaded_bytes: int | None = setting(
        "TIDEGATE_MAX_LOADED_BYTES",
        None,
        _whole(1, 1024 * 1024 * MIB),
        "host and GPU memory of all models together, as measured after each was loaded. The size of a model is an "
        "estimate until its first load: it can exceed the limit until it is measured, and then another model is "
        "evicted; default: no limit",
    )
    max_disk_models: int | None = setting(
        "TIDEGATE_MAX_DISK_MODELS",
        None,
        _whole(1, 1_000_000),
        "models of the repository on the local disk at one time, at least as many as may be loaded; default: no limit",
    )
    max_disk_bytes: int | None = setting(
        "TIDEGATE_MAX_DISK_BYTES",
        None,
        _whole(1, 1024 * 1024 * MIB),
        "disk space of all models of the repository together, including downloads, and of what `tidegate serve` "
        "unpacks; default: no limit",
    )
    max_downloads: int = setting("TIDEGATE_MAX_DOWNLOADS", 4, _whole(1, 256), "models that are downloaded at one time")
    model_cache_dir: Path | None = setting(
        "TIDEGATE_MODEL_CACHE_DIR",
        None,
        _path,
        "where downloaded models are kept, also for the next start; each server needs its own directory, a second "
        "server with the same one exits with status 1; default: a folder in the temporary directory, removed when "
        "the server ends",
    )

    # --- models by run id
    model_config_path: Path | None = setting(
        "MODEL_CONFIG_PATH",
        None,
        _path,
        "for `tidegate.model_loader`: a YAML file of runs by their ids, or a folder of `RUN_ID.yaml`",
    )
    model_code_path: Path | None = setting(
        "MODEL_CODE_PATH",
        None,
        _path,
        "for `tidegate.model_loader`: the folder of the networks' modules; default: `code/` beside the configuration",
    )
    weight_cache_dir: Path = setting(
        "TIDEGATE_WEIGHT_CACHE_DIR",
        Path("~/.cache/tidegate/weights"),
        _path,
        "for `tidegate.model_loader`: where weights from S3 are kept, shared by any number of processes",
    )
    weight_cache_bytes: int = setting(
        "TIDEGATE_WEIGHT_CACHE_BYTES",
        16 * 1024 * MIB,
        _whole(1, 1024 * 1024 * MIB),
        "for `tidegate.model_loader`: the size of that cache; the least recently used files are deleted first, but "
        "none that is being read",
    )

    # --- batching
    max_batch_size: int | Auto | None = setting(
        ("TIDEGATE_MAX_BATCH_SIZE", "SAGEMAKER_TS_BATCH_SIZE"),
        None,
        _batch_size,
        "requests of different clients that may share one `predict_fn` call, if the archive declares it or it was "
        "proved not to change a response; 1 turns batching off; `auto` tunes the batch size and the waiting time on "
        "live traffic; default: the manifest's `batching`, else 1",
    )
    batch_latency_ms: float = setting(
        "TIDEGATE_BATCH_LATENCY_MS",
        50.0,
        _number(0, MAX_WAIT_MS),
        "if the batch size is `auto`: how much latency batching, including the wait beside an idle worker, may add "
        "to a request; the default is half of what people perceive as instant",
    )
    max_wait_ms: float | None = setting(
        ("TIDEGATE_MAX_WAIT_MS", "SAGEMAKER_TS_MAX_BATCH_DELAY"),
        None,
        _number(0, MAX_WAIT_MS),
        "how long a batch may wait for further requests that are expected; default: the manifest's `batching`, else "
        "5; if the batch size is `auto`: the maximum waiting time, by default what TIDEGATE_BATCH_LATENCY_MS leaves",
    )

    input_threads: int = setting(
        "TIDEGATE_INPUT_THREADS",
        0,
        _whole(0, 256),
        "threads that run `input_fn`, also for the next batch during a prediction; 0: `input_fn` runs in the thread "
        "of the other functions",
    )
    max_streams_per_worker: int = setting(
        "TIDEGATE_MAX_STREAMS_PER_WORKER",
        32,
        _whole(1, 10_000),
        "response streams and WebSockets that one worker may have open together; one more is 503",
    )

    # --- limits
    max_body_bytes: int = setting(
        ("TIDEGATE_MAX_BODY_BYTES", "SAGEMAKER_MAX_PAYLOAD_IN_MB", "TS_MAX_REQUEST_SIZE", "MMS_MAX_REQUEST_SIZE"),
        100 * MIB,
        _whole(1, 1024 * MIB),
        "the maximum size of a request body; SAGEMAKER_MAX_PAYLOAD_IN_MB is in MiB, and its 0 means 1 GiB, as do "
        "larger values of TS_MAX_REQUEST_SIZE and MMS_MAX_REQUEST_SIZE",
        SAGEMAKER_MAX_PAYLOAD_IN_MB=_payload_mb,
        TS_MAX_REQUEST_SIZE=_request_size,
        MMS_MAX_REQUEST_SIZE=_request_size,
    )
    max_bytes_in_flight: int = setting(
        "TIDEGATE_MAX_BYTES_IN_FLIGHT",
        1024 * MIB,
        _whole(1, 1024 * 1024 * MIB),
        "request bodies, and responses that clients have not read yet, held in memory at one time",
    )
    spool_threshold_bytes: int = setting(
        "TIDEGATE_SPOOL_THRESHOLD_BYTES",
        8 * MIB,
        _whole(1, 1024 * MIB),
        "larger request bodies, including chunked ones, are written to a file, which is passed to the worker",
    )
    spool_dir: Path | None = setting(
        "TIDEGATE_SPOOL_DIR",
        None,
        _path,
        "the directory of these unnamed files; default: the temporary directory, or memory if that is not writable",
    )
    max_spool_bytes: int = setting(
        "TIDEGATE_MAX_SPOOL_BYTES",
        4096 * MIB,
        _whole(1, 1024 * 1024 * MIB),
        "the size of all such files together; more is 503",
    )
    max_response_bytes: int = setting(
        ("TIDEGATE_MAX_RESPONSE_BYTES", "TS_MAX_RESPONSE_SIZE", "MMS_MAX_RESPONSE_SIZE"),
        1024 * MIB,
        _whole(1, 4095 * MIB),
        "the maximum size of a response body",
    )
    max_message_bytes: int = setting(
        "TIDEGATE_MAX_MESSAGE_BYTES",
        16 * MIB,
        _whole(1, 1024 * MIB),
        "the maximum size of a client's WebSocket message, in any number of frames; a longer one closes the "
        "connection with 1009",
    )
    max_frame_bytes: int = setting(
        "TIDEGATE_MAX_FRAME_BYTES",
        16 * MIB,
        _whole(1, 1024 * MIB),
        "the maximum size of a WebSocket frame; a longer one of a client closes the connection with 1009, one of "
        "`stream_fn` with 1011",
    )
    max_conversation_s: float = setting(
        "TIDEGATE_MAX_CONVERSATION_S",
        1800.0,
        _number(1, 86400),
        "the maximum age of a WebSocket, which is then closed with 1001; SageMaker closes it after 30 minutes",
    )
    ping_interval_s: float = setting(
        "TIDEGATE_PING_INTERVAL_S",
        30.0,
        _number(0.5, 3600),
        "after this much silence, a WebSocket client is sent a ping; after three unanswered pings it is disconnected",
    )
    min_free_memory_bytes: int = setting(
        "TIDEGATE_MIN_FREE_MEMORY_BYTES",
        256 * MIB,
        _whole(0, 1024 * 1024 * MIB),
        "memory that must remain free when a multi-model endpoint loads a model, estimated from the size of its "
        "files; otherwise 507",
    )
    queue_size: int = setting(
        ("TIDEGATE_QUEUE_SIZE", "TS_JOB_QUEUE_SIZE", "MMS_JOB_QUEUE_SIZE"),
        1000,
        _whole(1, 1_000_000),
        "requests of one model that may wait in the queue",
    )
    max_connections: int = setting("TIDEGATE_MAX_CONNECTIONS", 2048, _whole(1, 100_000), "open client connections")
    max_header_bytes: int = setting(
        "TIDEGATE_MAX_HEADER_BYTES", 32 * 1024, _whole(1024, MIB), "the size of the request line and headers together"
    )
    max_header_count: int = setting(
        "TIDEGATE_MAX_HEADER_COUNT", 100, _whole(10, 10_000), "the number of headers of one request"
    )
    header_timeout_s: float = setting(
        "TIDEGATE_HEADER_TIMEOUT_S",
        10.0,
        _number(0.1, 3600),
        "from the first byte of a request to the end of its headers; also the time before a body's rate is measured",
    )
    idle_timeout_s: float = setting(
        "TIDEGATE_IDLE_TIMEOUT_S", 120.0, _number(0.1, 86400), "how long a connection may be open without a request"
    )
    min_body_rate_bytes_per_s: int = setting(
        "TIDEGATE_MIN_BODY_RATE_BYTES_PER_S",
        1024,
        _whole(0, MIB),
        "a client that sends a body more slowly, overall or during any `TIDEGATE_IDLE_TIMEOUT_S`, is disconnected, "
        "and so is one that reads a waiting response more slowly during that time; 0 turns this off",
    )
    drain_timeout_s: float = setting(
        "TIDEGATE_DRAIN_TIMEOUT_S",
        25.0,
        _number(0, 3600),
        "how long requests are still answered after SIGTERM; the process exits within another 1.5 s, and the "
        "platform kills it at 30 s",
    )

    idle_exit_s: float | None = setting(
        "TIDEGATE_IDLE_EXIT_S",
        None,
        _number(0.1, 7 * 86400),
        "the server exits with status 0 after this long without requests; `/ping`, `/metrics`, `GET /models` and "
        "other reads do not count, requests in flight do; not for an endpoint, whose container SageMaker restarts; "
        "default: never",
    )

    max_image_pixels: int = setting(
        "TIDEGATE_MAX_IMAGE_PIXELS", 178_956_970, _whole(1, 10**10), "larger images are rejected when they are opened"
    )
    max_decoded_bytes: int = setting(
        "TIDEGATE_MAX_DECODED_BYTES",
        1024 * MIB,
        _whole(1, 1024 * 1024 * MIB),
        "the decoded size of one npz, image or compressed body",
    )

    # --- images
    image_orientation: str = setting(
        "TIDEGATE_IMAGE_ORIENTATION",
        "obey",
        lambda text: _word(text, "obey", "ignore"),
        "whether the default `input_fn` rotates images as their EXIF data says; `ignore` reads them as stored",
    )
    image_background: str = setting(
        "TIDEGATE_IMAGE_BACKGROUND",
        "white",
        lambda text: _word(text, "white", "none"),
        "what the default `input_fn` puts behind transparent pixels; `none` keeps their stored colour",
    )

    # --- batch transform
    max_concurrent_transforms: int | None = setting(
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS",
        None,
        _whole(1, 10_000),
        "reported by `/execution-parameters`; default: the number of workers times the batch size",
    )
    batch_strategy: str = setting(
        "SAGEMAKER_BATCH_STRATEGY",
        "MULTI_RECORD",
        lambda text: _one_of(text, "MULTI_RECORD", "SINGLE_RECORD"),
        "reported by `/execution-parameters`",
    )

    # --- seeing
    log_level: int = setting(
        "SAGEMAKER_CONTAINER_LOG_LEVEL", 20, _log_level, "from 10 (debug) to 50 (critical), or the name"
    )
    server_timing: bool = setting("TIDEGATE_SERVER_TIMING", False, _switch, "add a Server-Timing header to responses")
    pages: bool = setting(
        "TIDEGATE_PAGES",
        False,
        _switch,
        "serve the [playground](playground.md) at `/playground` and the [description](openapi.md) of the server at "
        "`/openapi.json` and `/docs`, only to this machine: the server must listen on a loopback address, and rejects "
        "requests that a browser sends from another page",
    )
    otlp_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        str,
        "where `tidegate[otel]` sends [spans](observability.md#spans), below `/v1/traces`; unset: no spans",
    )
    otlp_traces_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None, str, "the full URL for spans; takes precedence"
    )
    otel_disabled: bool = setting(
        "OTEL_SDK_DISABLED", False, _true, "`true` turns spans off, regardless of other settings"
    )
    traces_exporter: str = setting("OTEL_TRACES_EXPORTER", "otlp", str, "`none` turns spans off")
    otlp_protocol: str = setting(
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        "http/protobuf",
        str,
        "the only supported protocol; with any other, no spans are sent, and the log says so",
    )

    @property
    def model_dir(self) -> Path:
        """Where SageMaker unpacks the archive (read-only to the container)."""
        return self.base_dir / "model"

    @property
    def traced(self) -> bool:
        """Whether OpenTelemetry's variables ask for spans."""
        asked = self.otlp_endpoint is not None or self.otlp_traces_endpoint is not None
        return asked and not self.otel_disabled and self.traces_exporter != "none"

    @property
    def many_models(self) -> bool:
        """Whether models come and go while the server runs."""
        return self.multi_model or self.model_repository is not None


def _one_of(text: str, *choices: str) -> str:
    # The platform's API spells MultiRecord, its container variable MULTI_RECORD; both are read.
    for choice in choices:
        if text.upper().replace("_", "") == choice.replace("_", ""):
            return choice
    raise ValueError(" or ".join(choices))


def _word(text: str, *choices: str) -> str:
    if text.lower() not in choices:
        raise ValueError(" or ".join(choices))
    return text.lower()


def read(environment: Mapping[str, str]) -> Settings:
    """Build the settings from `environment`.

    Raises `DeploymentError` with one sentence that names the variable, its value and what is allowed.
    """
    _refuse_unknown(environment)
    legacy_variables.refuse(environment)
    values: dict[str, Any] = {}
    for item in fields(Settings):
        name = next((name for name in item.metadata["names"] if environment.get(name, "").strip()), None)
        if name is not None:
            values[item.name] = _parse(item.metadata, name, environment[name].strip())
    if "timeout_s" not in values and values.get("batch_transform"):
        values["timeout_s"] = 600.0  # the platform's own default for a transform's invocation
    if values.get("batch_transform"):
        values["reload_interval_s"] = 0.0  # all records of a job are answered by one version
    if "max_loaded_models" not in values and values.get("max_disk_models"):
        values["max_loaded_models"] = min(values["max_disk_models"], Settings().max_loaded_models)
    settings = Settings(**values)
    _refuse_what_does_not_agree(settings)
    return settings


def _refuse_what_does_not_agree(settings: Settings) -> None:
    loaded, on_disk, pinned = settings.max_loaded_models, settings.max_disk_models, settings.pinned_models
    if settings.model_repository is not None and settings.multi_model:
        raise DeploymentError(
            "SAGEMAKER_MULTI_MODEL lets the platform load and unload models, and TIDEGATE_MODEL_REPOSITORY lets this "
            "server do it; leave one of them out."
        )
    if pinned and settings.model_repository is None:
        raise DeploymentError("TIDEGATE_PINNED_MODELS names models of TIDEGATE_MODEL_REPOSITORY, which is not set.")
    if settings.default_model is not None and settings.model_repository is None:
        raise DeploymentError("TIDEGATE_DEFAULT_MODEL is a model of TIDEGATE_MODEL_REPOSITORY, which is not set.")
    if on_disk is not None and on_disk < loaded:
        raise DeploymentError(
            f"TIDEGATE_MAX_DISK_MODELS={on_disk} is less than TIDEGATE_MAX_LOADED_MODELS={loaded}: a model that is "
            "loaded is on the disk too."
        )
    if len(pinned) > loaded:
        raise DeploymentError(
            f"TIDEGATE_PINNED_MODELS names {len(pinned)} models, and TIDEGATE_MAX_LOADED_MODELS allows {loaded}."
        )
    in_flight, spooled_from = settings.max_bytes_in_flight, settings.spool_threshold_bytes
    if in_flight < min(spooled_from, settings.max_body_bytes):
        raise DeploymentError(
            f"TIDEGATE_MAX_BYTES_IN_FLIGHT={in_flight} is less than TIDEGATE_SPOOL_THRESHOLD_BYTES={spooled_from}: a "
            "body between the two would never find room; raise the first, or lower the second or "
            "TIDEGATE_MAX_BODY_BYTES to it."
        )


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    # Only our own names: the platform and the image set SAGEMAKER_* and TS_* ones that are nobody's mistake.
    known = _variables()
    for name in sorted(environment):
        if name.startswith("TIDEGATE_") and name not in known:
            # Compared without the prefix, which would make all of them alike.
            rests = [each.removeprefix("TIDEGATE_") for each in known if each.startswith("TIDEGATE_")]
            near = difflib.get_close_matches(name.removeprefix("TIDEGATE_"), rests, n=1, cutoff=0.7)
            hint = f"; did you mean TIDEGATE_{near[0]}?" if near else "; docs/settings.md lists them."
            raise DeploymentError(f"{name} is not a setting of this server{hint}")


def environment(**settings: Any) -> dict[str, str]:
    """The container environment that sets these fields: `environment(workers=2)` → `{"TIDEGATE_WORKERS": "2"}`.

    For whoever writes container environments (the stacks), so that a variable's name is spelled in one place.
    Raises `DeploymentError` for a field that does not exist or a value that the server would refuse.
    """
    known = {item.name: item for item in fields(Settings)}
    result: dict[str, str] = {}
    for key, value in settings.items():
        if key not in known:
            raise DeploymentError(f"'{key}' is not a setting of the server; {_meant(key)}")
        name = known[key].metadata["names"][0]
        text = _text(value)
        _parse(known[key].metadata, name, text)
        result[name] = text
    return result


def _meant(key: str) -> str:
    """What to write for a field that does not exist: the field whose variable or nearly whose name it is, or a list."""
    by_variable = {name: item.name for item in fields(Settings) for name in item.metadata["names"]}
    if key in by_variable:
        return f"this variable is {by_variable[key]} here."
    names = sorted(set(by_variable.values()))
    near = difflib.get_close_matches(key.lower().removeprefix("tidegate_"), names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}."


def variables_of(*settings: str) -> frozenset[str]:
    """Every name by which one of these fields may be set."""
    return frozenset(name for item in fields(Settings) if item.name in settings for name in item.metadata["names"])


def unknown(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, look like one of the old containers and change nothing, with a hint for each."""
    return legacy_variables.unknown(environment, _variables())


def _variables() -> set[str]:
    return {name for item in fields(Settings) for name in item.metadata["names"]}


def describe() -> list[tuple[tuple[str, ...], str, str]]:
    """Every setting as (names in order of precedence, default, meaning), in the order of this file."""
    rows = []
    for item in fields(Settings):
        default = "" if item.default in (None, MISSING) else _text(item.default)
        rows.append((item.metadata["names"], default, item.metadata["doc"]))
    return rows


def _text(value: Any) -> str:
    """A value as its variable would hold it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _parse(metadata: Mapping[str, Any], name: str, text: str) -> Any:
    try:
        return metadata["parsers"].get(name, metadata["parse"])(text)
    except ValueError as error:
        raise DeploymentError(f"{name}={text!r} is not valid: it must be {error}.") from None
