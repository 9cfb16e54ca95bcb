"""`[batch.table]`: what must agree in it, and with the rest of the stage."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import AsyncHosting, RealtimeHosting
from tidegate.infra.configuration.table import Table
from tidegate.infra.stage.names import QUERY_RESULTS_PREFIX, TABLES_PREFIX
from tidegate.infra.validation.sentences import wrong


def check(stage: Stage, *, today: datetime.date) -> None:
    """The stage's table, if it has one; `today` in UTC, as Athena counts days."""
    table = stage.batch.table if stage.batch is not None else None
    if table is None:
        return
    _check_location(stage, table)
    _check_athena(table)
    for key, prefix in _written_by_the_endpoint(stage):
        for other in (TABLES_PREFIX, QUERY_RESULTS_PREFIX):
            if prefix.startswith(other) or other.startswith(prefix):
                raise wrong(
                    key,
                    prefix,
                    f"in the way of {other}, where [batch.table] keeps its own; choose another, such as 'results/'",
                )
    if table.first_day > today:
        raise wrong(
            "batch.table.first_day",
            table.first_day,
            f"after today, {today.isoformat()}, and queries would find nothing until then; write a day that was",
        )


def _check_location(stage: Stage, table: Table) -> None:
    location, key = table.location, table.location_key
    # The rest of the bucket's name is an account and a Region.
    own = f"s3://{stage.prefix}-{stage.name}-data-"
    if location is not None and location.startswith(own):
        path = location.removeprefix("s3://").partition("/")[2]
        if not path.startswith(TABLES_PREFIX):
            raise wrong(
                "batch.table.location",
                location,
                f"in the stage's own bucket, where tables lie below {TABLES_PREFIX} alone; leave it out, or choose a "
                "path there",
            )
    if key is None:
        return
    if location is None or location.startswith(own):
        raise wrong(
            "batch.table.location_key",
            key,
            "for a bucket that is not the stage's own; name one with batch.table.location, or write encryption.key",
        )
    if stage.region is not None and key.split(":")[3] != stage.region:
        raise wrong(
            "batch.table.location_key",
            key,
            f"in another Region than the stage's {stage.region}; use a bucket and its key there",
        )


def _check_athena(table: Table) -> None:
    if table.athena:
        return
    for name in ("query_results_days", "query_limit_gib"):
        if name in table.model_fields_set:
            raise wrong(
                f"batch.table.{name}",
                getattr(table, name) or False,
                "for the workgroup, and batch.table.athena is off; remove one of the two",
            )


def _written_by_the_endpoint(stage: Stage) -> Iterator[tuple[str, str]]:
    hosting = stage.hosting
    if isinstance(hosting, AsyncHosting):
        yield "hosting.output_prefix", hosting.output_prefix
        yield "hosting.failure_prefix", hosting.failure_prefix
    if isinstance(hosting, RealtimeHosting) and hosting.capture is not None:
        yield "hosting.capture.prefix", hosting.capture.prefix
