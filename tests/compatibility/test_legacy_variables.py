"""Every variable of the AWS container works, is refused at start with a reason, or is known to change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.running import running
from tidegate.inference.errors import DeploymentError
from tidegate.inference.legacy_variables import LEGACY_VARIABLES, LegacyVariable, unknown, without_effect
from tidegate.inference.settings import Settings, describe, read

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

TOOLKITS = """
SAGEMAKER_PROGRAM SAGEMAKER_SUBMIT_DIRECTORY SAGEMAKER_BASE_DIR SAGEMAKER_REGION SAGEMAKER_CONTAINER_LOG_LEVEL
SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT SAGEMAKER_MODEL_SERVER_WORKERS SAGEMAKER_MODEL_SERVER_TIMEOUT SAGEMAKER_HANDLER
SAGEMAKER_BIND_TO_PORT SAGEMAKER_SAFE_PORT_RANGE SAGEMAKER_MULTI_MODEL CA_REPOSITORY_ARN SAGEMAKER_SERVING_MODULE
SAGEMAKER_TRAINING_MODULE
SAGEMAKER_TS_BATCH_SIZE SAGEMAKER_TS_MAX_BATCH_DELAY SAGEMAKER_TS_MIN_WORKERS SAGEMAKER_TS_MAX_WORKERS
SAGEMAKER_TS_RESPONSE_TIMEOUT SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS
SAGEMAKER_MODEL_SERVER_VMARGS SAGEMAKER_STARTUP_TIMEOUT SAGEMAKER_MAX_PAYLOAD_IN_MB LOG_LOCATION METRICS_LOCATION
SM_TELEMETRY_LOG_REV_2022_12
"""
"""`parameters.py`, `ts_parameters.py` and `model_server.py` of sagemaker-inference and its PyTorch toolkit."""

PLATFORM = """
SAGEMAKER_BATCH SAGEMAKER_BATCH_STRATEGY SAGEMAKER_MAX_CONCURRENT_TRANSFORMS SAGEMAKER_ENABLE_STATEFUL_SESSIONS
SAGEMAKER_SESSIONS_EXPIRATION SAGEMAKER_SESSIONS_PATH
"""
"""What SageMaker sets for a transform job, and AWS's own hosting standards read for sessions."""

TORCHSERVE = """
DEBUG INFERENCE_ADDRESS MANAGEMENT_ADDRESS METRICS_ADDRESS LOAD_MODELS BLACKLIST_ENV_VARS DEFAULT_WORKERS_PER_MODEL
DEFAULT_RESPONSE_TIMEOUT DEFAULT_STARTUP_TIMEOUT UNREGISTER_MODEL_TIMEOUT NUMBER_OF_NETTY_THREADS NETTY_CLIENT_THREADS
JOB_QUEUE_SIZE NUMBER_OF_GPU METRICS_CONFIG METRICS_MODE MODEL_METRICS_AUTO_DETECT DISABLE_SYSTEM_METRICS IPEX_ENABLE
CPU_LAUNCHER_ENABLE CPU_LAUNCHER_ARGS IPEX_GPU_ENABLE ASYNC_LOGGING CORS_ALLOWED_ORIGIN CORS_ALLOWED_METHODS
CORS_ALLOWED_HEADERS DECODE_INPUT_REQUEST KEYSTORE KEYSTORE_PASS KEYSTORE_TYPE CERTIFICATE_FILE PRIVATE_KEY_FILE
MAX_REQUEST_SIZE MAX_RESPONSE_SIZE LIMIT_MAX_IMAGE_PIXELS DEFAULT_SERVICE_HANDLER SERVICE_ENVELOPE MODEL_SERVER_HOME
MODEL_STORE PREFER_DIRECT_BUFFER ALLOWED_URLS INSTALL_PY_DEP_PER_MODEL ENABLE_METRICS_API GRPC_INFERENCE_ADDRESS
GRPC_MANAGEMENT_ADDRESS GRPC_INFERENCE_PORT GRPC_MANAGEMENT_PORT GRPC_INFERENCE_MAX_CONNECTION_AGE_MS
GRPC_MANAGEMENT_MAX_CONNECTION_AGE_MS GRPC_INFERENCE_MAX_CONNECTION_AGE_GRACE_MS
GRPC_MANAGEMENT_MAX_CONNECTION_AGE_GRACE_MS ENABLE_GRPC_SSL INITIAL_WORKER_PORT INITIAL_DISTRIBUTION_PORT
WORKFLOW_STORE CPP_LOG_CONFIG OPEN_INFERENCE_PROTOCOL TOKEN_EXPIRATION_TIME_MIN HEADER_KEY_SEQUENCE_ID
HEADER_KEY_SEQUENCE_START HEADER_KEY_SEQUENCE_END DISABLE_TOKEN_AUTHORIZATION ENABLE_MODEL_API CONFIG_FILE
"""
"""The properties that `ConfigManager` of TorchServe 0.12 takes from the environment, with TS_ in front."""

MULTI_MODEL_SERVER = """
DEBUG INFERENCE_ADDRESS MANAGEMENT_ADDRESS LOAD_MODELS BLACKLIST_ENV_VARS DEFAULT_WORKERS_PER_MODEL
DEFAULT_RESPONSE_TIMEOUT NUMBER_OF_NETTY_THREADS NETTY_CLIENT_THREADS JOB_QUEUE_SIZE NUMBER_OF_GPU ASYNC_LOGGING
CORS_ALLOWED_ORIGIN CORS_ALLOWED_METHODS CORS_ALLOWED_HEADERS DECODE_INPUT_REQUEST KEYSTORE KEYSTORE_PASS KEYSTORE_TYPE
CERTIFICATE_FILE PRIVATE_KEY_FILE MAX_REQUEST_SIZE MAX_RESPONSE_SIZE DEFAULT_SERVICE_HANDLER PRELOAD_MODEL MODEL_STORE
CONFIG_FILE
"""
"""The properties that `ConfigManager` of Multi Model Server 1.1 takes from the environment, with MMS_ in front."""

OF_OTHERS = """
SAGEMAKER_MODEL_NAME SAGEMAKER_ENDPOINT SAGEMAKER_ENDPOINT_URL SAGEMAKER_INFERENCE_CODE SAGEMAKER_INFERENCE_OUTPUT
SAGEMAKER_INFERENCE_INPUT SAGEMAKER_INFERENCE_SUPPORTED SAGEMAKER_INFERENCE_CODE_DIRECTORY SAGEMAKER_JOB_CONDA_ENV
SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY SAGEMAKER_SERVE_SECRET_KEY SAGEMAKER_SERVING_ENVIRONMENT SAGEMAKER_TRAINING
SAGEMAKER_ESTIMATOR_MODULE SAGEMAKER_ESTIMATOR_CLASS_NAME SAGEMAKER_OUTPUT_LOCATION
SAGEMAKER_ENABLE_RICH_LOGGING SAGEMAKER_TRITON_DEFAULT_MODEL_NAME SAGEMAKER_TFS_NGINX_LOGLEVEL SAGEMAKER_HUB_NAME
SAGEMAKER_GATED_MODEL_S3_URI_TRAINING_ENV_VAR_KEY SAGEMAKER_METRICS_DIRECTORY SAGEMAKER_INTERNAL_IMAGE_URI
SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT SAGEMAKER_USER_CONFIG_OVERRIDE SAGEMAKER_ADMIN_CONFIG_OVERRIDE SAGEMAKER_VALIDATE_ROLE
SAGEMAKER_APP_TYPE SAGEMAKER_STUDIO SAGEMAKER_DOMAIN SAGEMAKER_MODEL
"""
"""What the platform, its SDK and its other containers set for themselves."""

SETTINGS = {name for names, _, _ in describe() for name in names}
REFUSED = [(name, old) for old in LEGACY_VARIABLES if old.refused for name in old.names]
IDLE = [name for old in LEGACY_VARIABLES if not old.refused for name in old.names]


@pytest.mark.parametrize(
    "name",
    [
        *TOOLKITS.split(),
        *PLATFORM.split(),
        *(f"TS_{name}" for name in TORCHSERVE.split()),
        *(f"MMS_{name}" for name in MULTI_MODEL_SERVER.split()),
    ],
)
def test_every_old_name_is_a_setting_or_has_one_fate(name: str) -> None:
    assert [name in SETTINGS, name in IDLE, name in dict(REFUSED)].count(True) == 1


@pytest.mark.parametrize(("name", "old"), REFUSED, ids=[name for name, _ in REFUSED])
def test_what_cannot_be_obeyed_ends_the_start_with_its_reason_and_without_its_value(
    name: str, old: LegacyVariable
) -> None:
    with pytest.raises(DeploymentError) as caught:
        read({name: "hunter2"})
    assert str(caught.value) == f"{name} is set but not supported: {old.why}."
    for harmless in ("", " ", *old.unless, *(value.upper() for value in old.unless)):
        assert read({name: harmless}) == Settings()


@pytest.mark.parametrize("name", IDLE)
def test_what_is_without_effect_changes_no_setting_and_is_told(name: str) -> None:
    assert read({name: "7"}) == Settings()
    assert list(without_effect({name: "7", "TS_JOB_QUEUE_SIZE": "7"})) == [name]


@pytest.mark.parametrize("name", MULTI_MODEL_SERVER.split())
def test_a_name_of_multi_model_server_means_what_its_twin_of_torchserve_means(name: str) -> None:
    old, new = f"MMS_{name}", f"TS_{name}"
    fates = [each for each in LEGACY_VARIABLES if old in each.names]
    twins = [each for each in LEGACY_VARIABLES if new in each.names]
    assert fates == twins or name == "PRELOAD_MODEL"
    if old in SETTINGS:
        assert read({old: "7"}) == read({new: "7"}) != Settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MMS_JOB_QUEU_SIZE", "; did you mean MMS_JOB_QUEUE_SIZE?"),
        ("MMS_XYZ", ""),
        ("SAGEMAKER_PROGAM", "; did you mean SAGEMAKER_PROGRAM?"),
        ("SAGEMAKER_MODEL_SERVER_WORKER", "; did you mean SAGEMAKER_MODEL_SERVER_WORKERS?"),
        ("SAGEMAKER_BINDTOPORT", "; did you mean SAGEMAKER_BIND_TO_PORT?"),
        ("SAGEMAKER_LOG_LEVEL", "; did you mean SAGEMAKER_CONTAINER_LOG_LEVEL?"),
        ("SAGEMAKER_MULTI_MODEL_ENABLED", "; did you mean SAGEMAKER_MULTI_MODEL?"),
        ("SAGEMAKER_BATCH_SIZE", "; did you mean SAGEMAKER_TS_BATCH_SIZE?"),
        ("SAGEMKER_PROGRAM", "; did you mean SAGEMAKER_PROGRAM?"),
        ("sagemaker_program", "; did you mean SAGEMAKER_PROGRAM?"),
        ("TIDGATE_WORKERS", "; did you mean TIDEGATE_WORKERS?"),
        ("tidegate_workers", "; did you mean TIDEGATE_WORKERS?"),
        ("TideGate_Max_Batch_Sise", "; did you mean TIDEGATE_MAX_BATCH_SIZE?"),
        ("TS_JOB_QUEU_SIZE", "; did you mean TS_JOB_QUEUE_SIZE?"),
        ("TS_DEFAULT_WORKER_PER_MODEL", "; did you mean TS_DEFAULT_WORKERS_PER_MODEL?"),
        ("TS_RESPONSE_TIMEOUT", "; did you mean TS_DEFAULT_RESPONSE_TIMEOUT?"),
        ("TS_DISABLE_SYSTEM_METRIC", "; did you mean TS_DISABLE_SYSTEM_METRICS?"),
        ("SAGEMAKER_TS_BATCHSIZE", "; did you mean SAGEMAKER_TS_BATCH_SIZE?"),
        ("TS_XYZ", ""),
        ("OTEL_EXPORTER_OTLP_ENDPIONT", "; did you mean OTEL_EXPORTER_OTLP_ENDPOINT?"),
        ("OTLE_TRACES_EXPORTER", "; did you mean OTEL_TRACES_EXPORTER?"),
    ],
)
def test_a_name_that_the_old_containers_never_had_is_told_with_the_nearest_that_there_is(name: str, hint: str) -> None:
    assert read({name: "7"}) == Settings()
    assert unknown({name: "7", "TS_JOB_QUEUE_SIZE": "7"}, SETTINGS) == {name: f"unknown variable{hint}"}
    assert unknown({name: " "}, SETTINGS) == {}


@pytest.mark.parametrize(
    "name",
    [
        "OTEL_SERVICE_NAME", "OTEL_PROPAGATORS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_LOGS_EXPORTER",
        "OTEL_METRICS_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    ],
)  # fmt: skip
def test_other_variables_of_opentelemetry_are_no_slips(name: str) -> None:
    assert unknown({name: "x"}, SETTINGS) == {}


def test_what_is_known_or_is_close_to_nothing_of_the_old_containers_is_not_told_as_unknown() -> None:
    known = {*SETTINGS, *IDLE, *dict(REFUSED)}
    others = [
        "TSV_FILE",
        "TIDE_LEVEL",
        "GATE_TIMEOUT_S",
        "workers",
        "OMP_NUM_THREADS",
        "SM_MODEL_DIR",
        *OF_OTHERS.split(),
    ]
    assert unknown(dict.fromkeys([*known, *others], "7"), SETTINGS) == {}


def test_the_table_of_the_page_is_the_one_of_the_code() -> None:
    wanted = []
    for old in LEGACY_VARIABLES:
        unless = f" (not where it is {' or '.join(f'`{value}`' for value in old.unless)})" if old.unless else ""
        names = ", ".join(f"`{name}`" for name in old.names)
        wanted.append(f"| {'refused' if old.refused else 'no effect'} | {names} | {old.why}{unless} |")
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(("| refused |", "| no effect |"))] == wanted, "\n".join(wanted)


def test_a_server_that_is_asked_for_tls_does_not_start() -> None:
    with running({}, wait=False, TS_KEYSTORE="/opt/ml/keystore.p12") as server:
        assert server.ended() == 1
        last = server.log().strip().splitlines()[-1]
    assert last.startswith("tidegate: error: TS_KEYSTORE is set but not supported: the port serves plain HTTP")


def test_the_log_names_what_is_set_and_without_effect() -> None:
    """What the SageMaker SDK sends with every model is harmless."""
    sent = {
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "SAGEMAKER_SERVING_MODULE": "sagemaker_pytorch_serving_container.serving:main",
        "SAGEMAKER_REGION": "eu-west-1",
        "TS_WORKFLOW_STOR": "/x",
    }
    with running({}, wait=False, **sent) as server:
        assert server.ended() == 1, "the directory is empty"
        entries = server.entries()
    idle, strange = [entry for entry in entries if "variables" in entry]
    assert (idle["level"], list(idle["variables"])) == ("info", ["SAGEMAKER_REGION", "SAGEMAKER_SERVING_MODULE"])
    assert (strange["level"], list(strange["variables"])) == ("warning", ["TS_WORKFLOW_STOR"])
