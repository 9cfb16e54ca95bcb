"""`[batch.table]`: results of transform jobs as a table that SQL asks."""

from __future__ import annotations

import datetime
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from tidegate.infra.configuration.operations import Days
from tidegate.infra.configuration.value import BUCKET, KEY_ARN, OFF, Rule, Value, like, whole

# The partition; the folders of the table are called after it.
DAY = "day"
# Of every table, after the columns of the stage file: which job answered, and from which record of which object.
ORIGIN = {"job": "string", "input_file": "string", "record": "bigint"}

# Athena takes names in lower case, Redshift of 127 bytes.
# Sources: Athena guide, "Name databases, tables, and columns"; Redshift guide, "Names and identifiers".
_NAME = r"[a-z][a-z0-9_]{0,126}"
_RULE = "small letters, digits and _, beginning with a letter"
_PLAIN = r"boolean|tinyint|smallint|int|bigint|float|double|string|date|timestamp|binary"
_DECIMAL = re.compile(r"decimal\(([0-9]+),([0-9]+)\)")
# Glue counts no columns; Redshift takes no table with more. Source: Redshift guide, quotas and limits.
_MOST_COLUMNS = 1600 - len(ORIGIN) - 1


def _is_type(text: object) -> bool:
    """Whether Athena takes it of Parquet. Source: Athena guide, "Data types in Amazon Athena"."""
    if not isinstance(text, str):
        return False
    inner = re.fullmatch(r"array<(.+)>", text)
    plain = inner[1] if inner else text
    if found := _DECIMAL.fullmatch(plain):
        return 1 <= int(found[1]) <= 38 and int(found[2]) <= int(found[1])
    return re.fullmatch(_PLAIN, plain) is not None


def _is_day(value: object) -> bool:
    # A datetime is a date too.
    return type(value) is datetime.date


def _is_number_of_columns(columns: dict[str, str]) -> bool:
    return 1 <= len(columns) <= _MOST_COLUMNS


_Name = Annotated[str, like(_NAME, f"no name of SQL; use at most 127 {_RULE}")]
_Column = Annotated[
    str,
    like(_NAME, f"not a column's name; use at most 127 {_RULE}"),
    AfterValidator(
        Rule(
            lambda name: name not in {DAY, *ORIGIN},
            f"the name of a column that every table has ({', '.join((*ORIGIN, DAY))}); choose another",
        )
    ),
]
_Type = Annotated[
    str,
    BeforeValidator(
        Rule(
            _is_type,
            "not a column's type; there are boolean, tinyint, smallint, int, bigint, float, double, decimal(10,2), "
            "string, date, timestamp, binary, and lists of these, such as array<double>",
        )
    ),
]


class Table(Value):
    """One table of Parquet files in S3, a folder for each day, known to Glue."""

    columns: Annotated[
        dict[_Column, _Type],
        AfterValidator(
            Rule(
                _is_number_of_columns, f"not 1 to {_MOST_COLUMNS} columns; write {{ id = 'string', score = 'double' }}"
            )
        ),
    ]
    """Names and types in the order of the files, such as `{ id = "string", score = "double" }`.
    [batch.md](batch.md#tables) lists the types and the columns that every table has.
    """
    name: _Name = "predictions"
    """The name of the table."""
    database: _Name | None = None
    """The Glue database, which the stack creates. The default is `PREFIX_STAGE`."""
    location: (
        Annotated[
            str,
            like(
                rf"s3://{BUCKET}/([A-Za-z0-9!_.*'()=-]+/)+",
                "not a folder in S3; write s3://bucket/path/ with the slash at its end",
            ),
        ]
        | None
    ) = None
    """`s3://bucket/path/`. The default is `tables/NAME/` in the stage's bucket."""
    location_key: Annotated[str, like(KEY_ARN, "not the ARN of a KMS key")] | None = None
    """The ARN of the KMS key of that bucket, if it is not S3's own."""
    first_day: Annotated[
        datetime.date,
        BeforeValidator(Rule(_is_day, "not a day; write one like 2026-01-01, with no quotes and no time")),
    ] = datetime.date(2026, 1, 1)
    """The first day that queries consider."""
    athena: bool = True
    """Creates an Athena workgroup for the stage."""
    query_results_days: Days = 30
    """How long Athena's query results are kept."""
    query_limit_gib: Annotated[Annotated[int, whole(1, 7_000_000)] | None, OFF] = 100
    """A query that scans more is cancelled. `false`: no limit."""
