"""What is said of transform jobs, registry, budget and tables of results that cannot be deployed: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import (
    KEY,
    TABLE,
    refusal,
    written,
)

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- what is deleted after some days
    (
        {"hosting__capture": 'percent = 5\nprefix = "models/"'},
        "hosting.capture.prefix='models/' is in the way of models/, and what it holds would be deleted with old "
        "results; choose another, such as 'results/'",
    ),
    (
        {"hosting": 'mode = "async"\noutput_prefix = "batch/"'},
        "hosting.output_prefix='batch/' is in the way of batch/input/, and what it holds would be deleted with old "
        "results; choose another, such as 'results/'",
    ),
    (
        {"hosting": 'mode = "async"\noutput_prefix = "a/"\nfailure_prefix = "a/b/"'},
        "hosting.failure_prefix='a/b/' is in the way of a/, and nobody could tell the two apart; choose another, such "
        "as 'results/'",
    ),
    # --- batch, registry, seeing, paying
    (
        {"batch": 'schedule = "daily"'},
        "batch.schedule='daily' is not a schedule; write one like 'rate(1 day)', 'at(2027-01-31T20:00:00)' or "
        "'cron(0 3 * * ? *)', with '?' for the day of the month or of the week",
    ),
    (
        {"batch": 'content_types = { ".csv" = "text/csv" }'},
        "batch.content_types..csv='.csv' is not the ending of a file's name; write one like 'jsonl'",
    ),
    (
        {"batch": 'input_filter = "$.my_features"'},
        "batch.input_filter='$.my_features' is not a filter of SageMaker; write one like '$[1:]' for CSV, or "
        "'$.features' for JSON Lines",
    ),
    (
        {"batch": 'input_filter = "$[1:]"\ncontent_types = { wav = "audio/wav" }'},
        "batch.content_types.wav='audio/wav' is nothing that SageMaker filters or joins; write a type of CSV, JSON or "
        "JSON Lines, or remove join_source, input_filter and output_filter",
    ),
    (
        {"batch": 'join_source = "Input"\ndefault_content_type = "application/x-npy"'},
        "batch.default_content_type='application/x-npy' is nothing that SageMaker filters or joins; write a type of "
        "CSV, JSON or JSON Lines, or remove join_source, input_filter and output_filter",
    ),
    (
        {"batch": 'join_source = "input"'},
        "batch.join_source='input' is neither 'Input' nor 'None'",
    ),
    (
        {"batch": 'schedule = "rate(1 day)"'},
        "batch.schedule_input is missing, so a scheduled job has nothing to transform; write one like "
        "'batch/input/{date}/', or remove batch.schedule",
    ),
    (
        {"batch": 'instance_type = "ml.g7e.2xlarge"'},
        "batch.instance_type='ml.g7e.2xlarge' is not an instance type of transform jobs; did you mean ml.g6e.2xlarge "
        "or "
        "ml.g6e.24xlarge or ml.g6e.12xlarge?",
    ),
    (
        {"batch": "max_concurrent = 50\nmax_payload_mib = 10"},
        "batch.max_concurrent=50 is too many for max_payload_mib = 10, as SageMaker takes a product of 100; lower one",
    ),
    # --- a table of results
    ({"batch__table": ""}, "batch.table.columns is missing; write { id = 'string', score = 'double' }"),
    (
        {"batch__table": "columns = {}"},
        "batch.table.columns={…} is not 1 to 1596 columns; write { id = 'string', score = 'double' }",
    ),
    (
        {"batch__table": 'columns = ["id"]'},
        "batch.table.columns=['id'] is not a table; write [batch.table.columns], and its keys below that line",
    ),
    ({"table": 'columns = { id = "string" }'}, "table={…} is a table of [batch]; write [batch.table]"),
    *(
        (
            {"batch__table": f"columns = {{ a = {kind} }}"},
            f"batch.table.columns.a={kind} is not a column's type; there are boolean, tinyint, smallint, int, bigint, "
            "float, double, decimal(10,2), string, date, timestamp, binary, and lists of these, such as array<double>",
        )
        for kind in ("'text'", "'DOUBLE'", "3", "'decimal(39,2)'", "'decimal(3,4)'", "'array<array<int>>'", "'array<>'")
    ),
    (
        {"batch__table": 'columns = { Score = "double" }'},
        "batch.table.columns.Score='Score' is not a column's name; use at most 127 small letters, digits and _, "
        "beginning with a letter",
    ),
    (
        {"batch__table": 'columns = { day = "string" }'},
        "batch.table.columns.day='day' is the name of a column that every table has (job, input_file, record, day); "
        "choose another",
    ),
    (
        {"batch__table": TABLE + 'name = "my-table"'},
        "batch.table.name='my-table' is no name of SQL; use at most 127 small letters, digits and _, beginning with a "
        "letter",
    ),
    (
        {"batch__table": TABLE + 'location = "s3://lake/predictions"'},
        "batch.table.location='s3://lake/predictions' is not a folder in S3; write s3://bucket/path/ with the slash at "
        "its end",
    ),
    (
        {"batch__table": TABLE + 'location = "s3://tidegate-trial-data-123456789012-eu-west-1/batch/input/"'},
        "batch.table.location='s3://tidegate-trial-data-123456789012-eu-west-1/batch/input/' is in the stage's own "
        "bucket, where tables lie below tables/ alone; leave it out, or choose a path there",
    ),
    (
        {"batch__table": f"{TABLE}location_key = '{KEY}'"},
        f"batch.table.location_key='{KEY}' is for a bucket that is not the stage's own; name one with "
        "batch.table.location, or write encryption.key",
    ),
    (
        {"batch__table": TABLE + 'first_day = "2026-01-01"'},
        "batch.table.first_day='2026-01-01' is not a day; write one like 2026-01-01, with no quotes and no time",
    ),
    (
        {"batch__table": TABLE + "first_day = 2026-01-01T00:00:00"},
        "batch.table.first_day=2026-01-01T00:00:00 is not a day; write one like 2026-01-01, with no quotes and no time",
    ),
    (
        {"batch__table": TABLE + "athena = false\nquery_limit_gib = false"},
        "batch.table.query_limit_gib=false is for the workgroup, and batch.table.athena is off; remove one of the two",
    ),
    (
        {"batch__table": TABLE, "hosting": 'mode = "async"\noutput_prefix = "tables/async/"'},
        "hosting.output_prefix='tables/async/' is in the way of tables/, where [batch.table] keeps its own; choose "
        "another, such as 'results/'",
    ),
    (
        {"batch": "", "hosting": 'mode = "multi_model"'},
        "[batch] does not go with hosting.mode='multi_model': a transform job runs one model; give that model a "
        "stage of its "
        "own",
    ),
    (
        {"batch": "", "model": 'prefix = "s3://bucket/model/"'},
        "model.prefix='s3://bucket/model/' is refused by transform jobs; write model.archive, or remove [batch]",
    ),
    (
        {"model_registry": "promotion = true"},
        "model_registry.promotion=true changes the endpoint's model, and [model] names a fixed one; write "
        "model.group, or "
        "promotion = false",
    ),
    (
        {"model_registry": "promotion = true", "model": 'group = "digits"'},
        "model.group='digits' is not the group of [model_registry], tidegate-trial, whose approvals are rolled out; "
        "name the "
        "same group in both",
    ),
    ({"budget": "monthly_usd = 100"}, "budget.email is missing; write one like 'ml-team@example.com'"),
    (
        {"budget": 'monthly_usd = 100\nemail = "team"'},
        "budget.email='team' is not an e-mail address; write one like 'ml-team@example.com'",
    ),
    (
        {"observability__alarms": "gpu_memory_percent = 120"},
        "observability.alarms.gpu_memory_percent=120 is not a number from 0 to 100",
    ),
]


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence
