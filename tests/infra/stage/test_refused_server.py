"""What is said of the server, its container and its GPUs that cannot be deployed: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import (
    CPU,
    REALTIME,
    pools,
    refusal,
    written,
)

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- the container
    (
        {"server": "port = 9000"},
        "server.port is set by SageMaker itself; remove it",
    ),
    (
        {"server": "idle_exit_s = 3600"},
        "server.idle_exit_s would end the container of an endpoint, which SageMaker starts again and bills meanwhile; "
        "remove it",
    ),
    (
        {"server": "max_bytes_in_flight = 1000"},
        "[server]: TIDEGATE_MAX_BYTES_IN_FLIGHT=1000 is less than TIDEGATE_SPOOL_THRESHOLD_BYTES=8388608: a body "
        "between the two would never find room; raise the first, or lower the second or TIDEGATE_MAX_BODY_BYTES to it",
    ),
    (
        {"environment": 'TIDEGATE_IDLE_EXIT_S = "3600"'},
        "environment.TIDEGATE_IDLE_EXIT_S would end the container of an endpoint, which SageMaker starts again and "
        "bills meanwhile; remove it",
    ),
    (
        {"server": "max_batch_size = 0"},
        "[server]: TIDEGATE_MAX_BATCH_SIZE='0' is not valid: it must be a whole number from 1 to 4096, or auto",
    ),
    (
        {"server": "max_batch_sise = 8"},
        "[server]: 'max_batch_sise' is not a setting of the server; did you mean max_batch_size?",
    ),
    (
        {"server": "TIDEGATE_WORKERS = 2"},
        "[server]: 'TIDEGATE_WORKERS' is not a setting of the server; this variable is workers here",
    ),
    (
        {"environment": 'TIDEGATE_WORKER = "2"'},
        "[environment]: TIDEGATE_WORKER is not a setting of this server; did you mean TIDEGATE_WORKERS?",
    ),
    (
        {"environment": 'TIDEGATE_WEIGHTS_ONLY = "1"'},
        "[environment]: TIDEGATE_WEIGHTS_ONLY is not a setting of this server; docs/settings.md lists them",
    ),
    (
        {"environment": 'TIDEGATE_WORKERS = "many"'},
        "[environment]: TIDEGATE_WORKERS='many' is not valid: it must be a whole number from 1 to 1024",
    ),
    (
        {"environment": 'SAGEMAKER_TS_BATCH_SIZE = "0"'},
        "[environment]: SAGEMAKER_TS_BATCH_SIZE='0' is not valid: it must be a whole number from 1 to 4096, or auto",
    ),
    (
        {"environment": 'TS_CONFIG_FILE = "/etc/config.properties"'},
        "[environment]: TS_CONFIG_FILE is set but not supported: no properties file is read; set a variable for "
        "each property",
    ),
    (
        {"environment": 'SAGEMAKER_BIND_TO_PORT = "9000"'},
        "environment.SAGEMAKER_BIND_TO_PORT is set by SageMaker itself; remove it",
    ),
    (
        {"server": "workers = 2", "environment": 'SAGEMAKER_MODEL_SERVER_WORKERS = "3"'},
        "environment.SAGEMAKER_MODEL_SERVER_WORKERS is already set by [server]; keep one of the two",
    ),
    ({"server": "max_wait_ms = [5]"}, "server.max_wait_ms=[5] is not a number, a text, true or false"),
    (
        {"environment": '"MY VARIABLE" = "1"'},
        "environment has 'MY VARIABLE', not the name of a variable; use letters, digits and underscores",
    ),
    ({"environment": "WORKERS = 2"}, "environment.WORKERS=2 is not a text in quotes"),
    (
        {"environment": f'LABELS = "{"x" * 1025}"'},
        "environment.LABELS is longer than the 1024 characters that SageMaker takes; put it into the archive",
    ),
    (
        {"environment": "\n".join(f'V{number} = "1"' for number in range(101))},
        "environment and server have 102 variables; SageMaker takes 100 and 32 KiB in all: put them into the archive",
    ),
    (
        {"server": "workers = 2", "environment": 'TIDEGATE_WORKERS = "3"'},
        "environment.TIDEGATE_WORKERS is already set by [server]; keep one of the two",
    ),
    # --- the GPUs of each worker
    (
        {"server": "gpus_per_worker = 2"},
        "server.gpus_per_worker=2 is more than the 1 of ml.g6.xlarge; lower it, or choose a larger instance_type",
    ),
    (
        {"hosting": CPU, "environment": 'TIDEGATE_GPUS_PER_WORKER = "2"'},
        "environment.TIDEGATE_GPUS_PER_WORKER=2 is more than the 0 of ml.m7i.large; lower it, or choose a larger "
        "instance_type",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.48xlarge"', "server": "gpus_per_worker = 3"},
        "server.gpus_per_worker=3 is no divisor of the 8 of ml.g6.48xlarge, so some would not be used; write 1, 2, 4, "
        "8",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.48xlarge"', "server": "gpus_per_worker = 4\nworkers = 3"},
        "server.workers=3 is too many for the 8 GPUs of ml.g6.48xlarge, of which each worker has 4; write 2 or less",
    ),
    *(
        (
            {"server": f"otlp_endpoint = {value!r}"},
            f"server.otlp_endpoint={value!r} is not an address; write one like 'https://collector.example.internal'",
        )
        for value in ("c:4318", "https://", "https://c:port", "ftp://c")
    ),
    (
        {"environment": 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "nourl"'},
        "environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT='nourl' is not an address; write one like "
        "'https://collector.example.internal'",
    ),
    (
        {"hosting": f"{REALTIME}\nnetwork_isolation = true", "server": 'otlp_endpoint = "https://c"'},
        "server.otlp_endpoint='https://c' is out of reach of a container without a network; remove it, or write "
        "network_isolation = false",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.c7g.large"',
            "image": 'build = "."\ndockerfile = "container/Dockerfile"\nbuild_args = { ACCELERATOR = "gpu" }',
        },
        "image.build_args.ACCELERATOR='gpu' is for linux/amd64, and hosting.instance_type = ml.c7g.large is "
        "linux/arm64; write 'cpu', or choose a GPU type",
    ),
    (
        {"hosting": 'mode = "serverless"', "server": "gpus_per_worker = 2"},
        "server.gpus_per_worker=2 is more than the 0 of a serverless endpoint; remove it, or choose another mode",
    ),
    (
        {
            "hosting": 'mode = "component"\ninstance_type = "ml.g6.12xlarge"\n'
            "copies = { gpus = 2, min_memory_mib = 1024 }",
            "server": "gpus_per_worker = 4",
        },
        "server.gpus_per_worker=4 is more than the 2 of hosting.copies.gpus; lower it, or raise that",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.g6.12xlarge"',
            "batch": 'instance_type = "ml.g4dn.xlarge"',
            "server": "gpus_per_worker = 4",
        },
        "server.gpus_per_worker=4 is more than the 1 of ml.g4dn.xlarge; lower it, or choose a larger batch."
        "instance_type",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.xlarge', 'ml.g5.xlarge')}", "server": "gpus_per_worker = 4"},
        "server.gpus_per_worker=4 is more than the 1 of ml.g6.xlarge; lower it, or choose larger types in "
        "[[hosting.instance_pools]]",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.g6.12xlarge"',
            "hosting__shadow": 'instance_type = "ml.g6.xlarge"',
            "server": "gpus_per_worker = 2",
        },
        "server.gpus_per_worker=2 is more than the 1 of ml.g6.xlarge; lower it, or choose a larger instance_type",
    ),
]


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence
