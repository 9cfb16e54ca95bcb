"""Settings come from the environment; whoever mistypes one learns the variable, the value and what is right."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.inference.errors import DeploymentError
from tidegate.inference.settings import MIB, Settings, describe, environment, read

GOOD: list[tuple[str, str, str, Any]] = [
    ("SAGEMAKER_BASE_DIR", "/srv/ml", "base_dir", Path("/srv/ml")),
    ("TIDEGATE_HOST", "127.0.0.1", "host", "127.0.0.1"),
    ("SAGEMAKER_BIND_TO_PORT", "23000", "port", 23000),
    ("SAGEMAKER_PROGRAM", "serve.py", "program", "serve.py"),
    ("SAGEMAKER_PROGRAM", "handlers/serve", "program", "handlers/serve"),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "Text/CSV", "default_accept", "text/csv"),
    ("SAGEMAKER_BATCH", "true", "batch_transform", True),
    ("SAGEMAKER_BATCH", "No", "batch_transform", False),
    ("TIDEGATE_RETRY", "off", "retry", False),
    ("TIDEGATE_RETRY", "0", "retry", False),
    ("TIDEGATE_RETRY", "FALSE", "retry", False),
    ("TIDEGATE_SERVER_TIMING", "ON", "server_timing", True),
    ("TIDEGATE_SERVER_TIMING", "yes", "server_timing", True),
    ("TIDEGATE_SERVER_TIMING", "1", "server_timing", True),
    ("TIDEGATE_WORKERS", " 2 ", "workers", 2),
    ("SAGEMAKER_MODEL_SERVER_WORKERS", "3", "workers", 3),
    ("TS_DEFAULT_WORKERS_PER_MODEL", "4", "workers", 4),
    ("OMP_NUM_THREADS", "1", "threads_per_worker", 1),
    ("OMP_NUM_THREADS", "4,2", "threads_per_worker", 4),
    ("OMP_NUM_THREADS", " 2 , 1 , 1 ", "threads_per_worker", 2),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "90", "timeout_s", 90.0),
    ("TIDEGATE_TIMEOUT_S", "0.5", "timeout_s", 0.5),
    ("SAGEMAKER_TS_BATCH_SIZE", "16", "max_batch_size", 16),
    ("TIDEGATE_MAX_BATCH_SIZE", "Auto", "max_batch_size", "auto"),
    ("SAGEMAKER_TS_MAX_BATCH_DELAY", "100", "max_wait_ms", 100.0),
    ("TIDEGATE_MAX_WAIT_MS", "0", "max_wait_ms", 0.0),
    ("TS_MAX_REQUEST_SIZE", "6553500", "max_body_bytes", 6553500),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6", "max_body_bytes", 6 * MIB),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "0", "max_body_bytes", 1024 * MIB),
    ("TS_MAX_RESPONSE_SIZE", "6553500", "max_response_bytes", 6553500),
    ("TS_JOB_QUEUE_SIZE", "100", "queue_size", 100),
    ("TIDEGATE_MIN_BODY_RATE_BYTES_PER_S", "0", "min_body_rate_bytes_per_s", 0),
    ("SAGEMAKER_BATCH_STRATEGY", "SINGLE_RECORD", "batch_strategy", "SINGLE_RECORD"),
    ("SAGEMAKER_BATCH_STRATEGY", "MultiRecord", "batch_strategy", "MULTI_RECORD"),
    ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "8", "max_concurrent_transforms", 8),
    ("SAGEMAKER_CONTAINER_LOG_LEVEL", "Warning", "log_level", 30),
    ("SAGEMAKER_CONTAINER_LOG_LEVEL", "20", "log_level", 20),
]

DISAGREE: list[tuple[dict[str, str], str]] = [
    (
        {"TIDEGATE_MODEL_REPOSITORY": "/models", "SAGEMAKER_MULTI_MODEL": "true"},
        "SAGEMAKER_MULTI_MODEL lets the platform load and unload models, and TIDEGATE_MODEL_REPOSITORY lets this "
        "server do it; leave one of them out.",
    ),
    (
        {"TIDEGATE_MAX_LOADED_MODELS": "3", "TIDEGATE_MAX_DISK_MODELS": "2"},
        "TIDEGATE_MAX_DISK_MODELS=2 is less than TIDEGATE_MAX_LOADED_MODELS=3: a model that is loaded is on the disk "
        "too.",
    ),
    (
        {"TIDEGATE_MAX_LOADED_MODELS": "1", "TIDEGATE_PINNED_MODELS": "a,b", "TIDEGATE_MODEL_REPOSITORY": "/models"},
        "TIDEGATE_PINNED_MODELS names 2 models, and TIDEGATE_MAX_LOADED_MODELS allows 1.",
    ),
    (
        {"TIDEGATE_PINNED_MODELS": "a"},
        "TIDEGATE_PINNED_MODELS names models of TIDEGATE_MODEL_REPOSITORY, which is not set.",
    ),
    (
        {"TIDEGATE_MAX_BYTES_IN_FLIGHT": "1000"},
        "TIDEGATE_MAX_BYTES_IN_FLIGHT=1000 is less than TIDEGATE_SPOOL_THRESHOLD_BYTES=8388608: a body between the two "
        "would never find room; raise the first, or lower the second or TIDEGATE_MAX_BODY_BYTES to it.",
    ),
    (
        {"TIDEGATE_MAX_BYTES_IN_FLIGHT": "99", "TIDEGATE_SPOOL_THRESHOLD_BYTES": "100"},
        "TIDEGATE_MAX_BYTES_IN_FLIGHT=99 is less than TIDEGATE_SPOOL_THRESHOLD_BYTES=100: a body between the two "
        "would never find room; raise the first, or lower the second or TIDEGATE_MAX_BODY_BYTES to it.",
    ),
]

BAD: list[tuple[str, str, str]] = [
    ("TIDEGATE_MAX_BATCH_SIZE", "many", "a whole number from 1 to 4096, or auto"),
    ("SAGEMAKER_BIND_TO_PORT", "0", "a whole number from 1 to 65535"),
    ("SAGEMAKER_BIND_TO_PORT", "65536", "a whole number from 1 to 65535"),
    ("SAGEMAKER_BIND_TO_PORT", "http", "a whole number from 1 to 65535"),
    ("SAGEMAKER_BIND_TO_PORT", "8080.0", "a whole number from 1 to 65535"),
    ("TIDEGATE_WORKERS", "9" * 5000, "a whole number from 1 to 1024"),
    ("SAGEMAKER_MODEL_SERVER_WORKERS", "-1", "a whole number from 1 to 1024"),
    ("TIDEGATE_THREADS_PER_WORKER", "4,2", "a whole number from 1 to 1024"),
    ("OMP_NUM_THREADS", "4,", "a whole number from 1 to 1024, or a list of such, as in 4,2"),
    ("OMP_NUM_THREADS", "many", "a whole number from 1 to 1024, or a list of such, as in 4,2"),
    ("TIDEGATE_TIMEOUT_S", "nan", "a number from 0.1 to 86400"),
    ("TIDEGATE_TIMEOUT_S", "inf", "a number from 0.1 to 86400"),
    ("TIDEGATE_TIMEOUT_S", "1 minute", "a number from 0.1 to 86400"),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "0", "a number from 0.1 to 86400"),
    ("TIDEGATE_RETRY", "fasle", "on or off (also true/false, yes/no, 1/0)"),
    ("TIDEGATE_SERVER_TIMING", "2", "on or off (also true/false, yes/no, 1/0)"),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "1025", "a whole number from 0 to 1024"),
    ("SAGEMAKER_CONTAINER_LOG_LEVEL", "loud", "a level from 0 to 50 or debug, info, warning, error, critical"),
    ("SAGEMAKER_CONTAINER_LOG_LEVEL", "51", "a level from 0 to 50 or debug, info, warning, error, critical"),
    ("SAGEMAKER_PROGRAM", "/etc/passwd", "a file name below code/, such as inference.py"),
    ("SAGEMAKER_PROGRAM", "../inference.py", "a file name below code/, such as inference.py"),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "json", "one media type, such as application/json"),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "*/*", "one media type, such as application/json"),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv,text/html", "one media type, such as application/json"),
    ("SAGEMAKER_BATCH_STRATEGY", "RECORDS", "MULTI_RECORD or SINGLE_RECORD"),
]


def test_an_empty_environment_gives_the_defaults_of_the_class() -> None:
    assert read({}) == Settings()


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_a_good_value_is_read_into_its_field(name: str, text: str, field: str, value: Any) -> None:
    settings = read({name: text})
    assert getattr(settings, field) == value
    assert type(getattr(settings, field)) is type(value) or isinstance(value, Path)


@pytest.mark.parametrize(("name", "text", "allowed"), BAD)
def test_a_bad_value_is_refused_by_a_sentence_with_variable_value_and_what_is_right(
    name: str, text: str, allowed: str
) -> None:
    with pytest.raises(DeploymentError) as caught:
        read({name: text})
    assert str(caught.value) == f"{name}={text!r} is not valid: it must be {allowed}."


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_unset(text: str) -> None:
    """SDK v2 sends SAGEMAKER_PROGRAM="" where no entry point was given."""
    every_name = {name: text for names, _, _ in describe() for name in names}
    assert read(every_name) == Settings()


def test_an_empty_first_name_gives_way_to_the_next() -> None:
    assert read({"TIDEGATE_WORKERS": "", "SAGEMAKER_MODEL_SERVER_WORKERS": "3"}).workers == 3


SEVERAL = [(item.name, item.metadata["names"]) for item in fields(Settings) if len(item.metadata["names"]) > 1]


@pytest.mark.parametrize(("field", "names"), SEVERAL)
def test_the_first_name_wins_over_those_behind_it(field: str, names: tuple[str, ...]) -> None:
    """For every pair of names of one setting, in both orders of the environment."""
    for before, first in enumerate(names):
        for second in names[before + 1 :]:
            for given_names in ((first, second), (second, first)):
                chosen = {name: "2" if name == first else "1" for name in given_names}
                assert getattr(read(chosen), field) == getattr(read({first: "2"}), field)


def test_a_bad_value_under_a_name_that_loses_is_not_looked_at() -> None:
    assert read({"TIDEGATE_WORKERS": "2", "TS_DEFAULT_WORKERS_PER_MODEL": "many"}).workers == 2


def test_a_batch_transform_job_has_the_platforms_ten_minutes() -> None:
    assert read({"SAGEMAKER_BATCH": "true"}).timeout_s == 600
    assert read({"SAGEMAKER_BATCH": "false"}).timeout_s == 60
    assert read({"SAGEMAKER_BATCH": "true", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "30"}).timeout_s == 30


def test_a_batch_transform_job_lists_its_repository_once_whatever_the_endpoint_does() -> None:
    """All records of a job are to be answered by one version."""
    own = {"TIDEGATE_MODEL_REPOSITORY": "s3://bucket/models", "TIDEGATE_RELOAD_INTERVAL_S": "30"}
    assert read(own).reload_interval_s == 30
    assert read(own | {"SAGEMAKER_BATCH": "true"}).reload_interval_s == 0


def test_a_default_model_is_a_name_perhaps_with_a_version_and_needs_a_repository() -> None:
    own = {"TIDEGATE_MODEL_REPOSITORY": "/srv/models"}
    assert read(own | {"TIDEGATE_DEFAULT_MODEL": "digits/stable"}).default_model == "digits/stable"
    for bad in ("digits/", "/3", "digits/3/4", "model=digits", "a;b"):
        with pytest.raises(DeploymentError, match="a model's name, or NAME/VERSION"):
            read(own | {"TIDEGATE_DEFAULT_MODEL": bad})
    with pytest.raises(DeploymentError, match="TIDEGATE_MODEL_REPOSITORY, which is not set"):
        read({"TIDEGATE_DEFAULT_MODEL": "digits"})


def test_the_model_lies_in_model_below_the_base() -> None:
    assert read({"SAGEMAKER_BASE_DIR": "/srv"}).model_dir == Path("/srv/model")


CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "base_dir": st.just(Path("/srv/ml")),
    "port": st.integers(1, 65535),
    "program": st.just("serve.py"),
    "workers": st.integers(1, 1024),
    "timeout_s": st.floats(0.1, 3600),
    "max_wait_ms": st.floats(0, 60_000),
    "max_batch_size": st.integers(1, 4096) | st.just("auto"),
    "max_body_bytes": st.integers(1, 1024 * MIB),
    "retry": st.booleans(),
    "batch_transform": st.booleans(),
    "server_timing": st.booleans(),
    "batch_strategy": st.sampled_from(["MULTI_RECORD", "SINGLE_RECORD"]),
    "log_level": st.sampled_from([10, 20, 30, 40, 50]),
    "default_accept": st.sampled_from(["text/csv", "application/x-npy"]),
}


@given(st.fixed_dictionaries({}, optional=CHOICES))
def test_what_environment_writes_read_reads_back(chosen: dict[str, Any]) -> None:
    variables = environment(**chosen)
    assert len(variables) == len(chosen)
    found = read(variables)
    for key, value in chosen.items():
        assert getattr(found, key) == value


def test_environment_refuses_what_the_server_would_refuse() -> None:
    with pytest.raises(DeploymentError, match=r"^TIDEGATE_WORKERS='0' is not valid"):
        environment(workers=0)
    with pytest.raises(
        DeploymentError, match=r"^'zebra' is not a setting of the server; there are: adapters_dir, base_dir, "
    ):
        environment(zebra=1)


@pytest.mark.parametrize(
    ("key", "way_out"),
    [
        ("worker", "did you mean workers?"),
        ("Max_Batch_Size", "did you mean max_batch_size?"),
        ("tidegate_worker", "did you mean workers?"),
        ("timeout", "did you mean timeout_s?"),
        ("TIDEGATE_MAX_BATCH_SIZE", "this variable is max_batch_size here."),
        ("OMP_NUM_THREADS", "this variable is threads_per_worker here."),
    ],
)
def test_a_field_that_does_not_exist_is_said_with_the_one_that_was_meant(key: str, way_out: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        environment(**{key: 1})
    assert str(refused.value) == f"'{key}' is not a setting of the server; {way_out}"


def test_no_variable_sets_two_fields() -> None:
    names = [name for names, _, _ in describe() for name in names]
    assert len(names) == len(set(names))


@given(st.sampled_from([name for names, _, _ in describe() for name in names]), st.text(max_size=20))
@example("TIDEGATE_DEFAULT_MODEL", "0")
def test_any_text_is_read_or_refused_by_name(name: str, text: str) -> None:
    try:
        settings = read({name: text})
    except DeploymentError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert settings == read({name: text}), "a NaN would not equal itself"
    alone = sentence.startswith(f"{name} ") and sentence.endswith(" of TIDEGATE_MODEL_REPOSITORY, which is not set.")
    alone = alone or " is less than TIDEGATE_SPOOL_THRESHOLD_BYTES=" in sentence
    assert not sentence or alone or sentence.startswith(f"{name}={text.strip()!r} is not valid: it must be ")


@pytest.mark.parametrize(("variables", "sentence"), DISAGREE)
def test_settings_that_do_not_agree_are_refused_in_one_sentence(variables, sentence):
    with pytest.raises(DeploymentError) as error:
        read(variables)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "variables",
    [
        {"TIDEGATE_MAX_BYTES_IN_FLIGHT": "100", "TIDEGATE_SPOOL_THRESHOLD_BYTES": "100"},
        {"TIDEGATE_MAX_BYTES_IN_FLIGHT": "1000", "TIDEGATE_MAX_BODY_BYTES": "1000"},
    ],
)
def test_little_memory_for_bodies_is_enough_where_no_larger_one_needs_it(variables: dict[str, str]) -> None:
    assert read(variables).max_bytes_in_flight == int(variables["TIDEGATE_MAX_BYTES_IN_FLIGHT"])


def test_as_many_models_are_loaded_as_the_disk_may_hold_where_only_that_is_said():
    assert read({"TIDEGATE_MAX_DISK_MODELS": "4"}).max_loaded_models == 4
    assert read({"TIDEGATE_MAX_DISK_MODELS": "4000"}).max_loaded_models == 1000
