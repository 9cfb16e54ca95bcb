"""The file of prices: numbers that somebody read at a source on a day, and stands for with their name."""

from __future__ import annotations

import datetime
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from tidegate.infra.configuration.value import ConfigurationError, InstanceType, Rule, Value, like
from tidegate.infra.stage import stage_errors


def _is_price(value: Any) -> bool:
    return (
        isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value).is_finite() and value >= 0
    )


def _as_decimal(value: object) -> object:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


# The rule runs last in this list and so first on the value.
Price = Annotated[
    Decimal, BeforeValidator(_as_decimal), BeforeValidator(Rule(_is_price, "not a price; write a number like 1.25"))
]
_Text = Annotated[str, like(r"\S(.*\S)?", "empty; write it out")]


class Serverless(Value):
    """Serverless inference: seconds of memory, used and kept warm."""

    gb_second: Price | None = None
    provisioned_gb_second: Price | None = None


class Calls(Value):
    """What API Gateway takes for the requests to a REST API."""

    million_requests: Price | None = None


class Network(Value):
    """What a VPC costs by the hour, each."""

    nat_gateway_hour: Price | None = None
    interface_endpoint_hour: Price | None = None


class Fixed(Value):
    """What costs the same every month, each. `alarm_metric` is one metric that an alarm looks at."""

    kms_key: Price | None = None
    dashboard: Price | None = None
    alarm_metric: Price | None = None


class Queries(Value):
    """What Athena takes for what its queries read."""

    scanned_tb: Price | None = None


class Prices(Value):
    """Prices of one Region. Only the first five keys must be there; of everything else what there is."""

    currency: Annotated[str, like(r"[A-Z]{3}", "not a currency; write its three letters, such as 'USD'")]
    region: Annotated[str, like(r"[a-z]{2}(-[a-z]+)+-\d", "not a Region; write one like 'eu-central-1'")]
    # Where the numbers were read, and on which day.
    source: _Text
    date: datetime.date
    # Who has compared them with the source.
    confirmed_by: _Text
    # By instance type: an instance of an endpoint, of an asynchronous one, of a transform job, of a processing job. AWS
    # lists them apart.
    endpoint_hour: dict[InstanceType, Price] = Field(default_factory=dict)
    async_hour: dict[InstanceType, Price] = Field(default_factory=dict)
    transform_hour: dict[InstanceType, Price] = Field(default_factory=dict)
    processing_hour: dict[InstanceType, Price] = Field(default_factory=dict)
    serverless: Serverless = Field(default_factory=Serverless)
    api: Calls = Field(default_factory=Calls)
    athena: Queries = Field(default_factory=Queries)
    network: Network = Field(default_factory=Network)
    month: Fixed = Field(default_factory=Fixed)

    def of(self, table: str, item: str) -> Decimal | None:
        """The price of `item` of a table, such as `endpoint_hour` and `ml.g6.xlarge`; None where the file has none."""
        found = getattr(self, table)
        price = found.get(item) if isinstance(found, dict) else getattr(found, item)
        return price if isinstance(price, Decimal) else None


def read(path: Path) -> Prices:
    """The prices in `path`.

    Raises `ConfigurationError` with one sentence that names file, key and way out.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        raise ConfigurationError(
            f"cost.prices='{path}' does not exist; Tidegate's docs/cost.md says how to write it"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path.name}: cannot be read: {error}") from None
    try:
        return Prices.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(
            f"{path.name}: {stage_errors.sentence(Prices, table, error, file='a file of prices')}"
        ) from None
