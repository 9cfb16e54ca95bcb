"""`python -m tidegate.infra.cost.draft --region REGION TYPE…`: prices of the AWS Price List, to confirm.

It is printed to standard output with an empty `confirmed_by`, so that it cannot be used before a person has put a name
there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Protocol

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from tidegate import command_line

# The Price List answers in a few Regions only, for all of them.
_API_REGION = "us-east-1"
# Our tables by what the list calls the use of an instance, in the attribute `platoinstancetype`.
_TABLES = {"Hosting": "endpoint_hour", "AsyncInf": "async_hour", "BatchTransform": "transform_hour"}


class PriceList(Protocol):
    """What is asked of the AWS Price List."""

    def get_paginator(self, operation: str) -> Any:
        """A paginator of botocore; the operation is `get_products`."""


def main(arguments: Sequence[str] | None = None, *, price_list: PriceList | None = None) -> int:
    """Print the draft; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tidegate.infra.cost.draft", description="Prices for you to confirm."
    )
    parser.add_argument("--region", required=True, help="the Region of the stage, such as eu-central-1")
    parser.add_argument("types", nargs="+", metavar="TYPE", help="instance types, such as ml.g6.xlarge")
    given = parser.parse_args(arguments)
    client = price_list or botocore.session.get_session().create_client("pricing", region_name=_API_REGION)
    try:
        found = {instance_type: prices(client, given.region, instance_type) for instance_type in given.types}
    except (BotoCoreError, ClientError) as error:
        print(f"draft: error: the AWS Price List cannot be read: {error}", file=sys.stderr)  # noqa: T201 - command
        return 1
    print(text(given.region, found, datetime.datetime.now(tz=datetime.UTC).date()), end="")  # noqa: T201 - command
    return 0


def prices(price_list: PriceList, region: str, instance_type: str) -> dict[str, set[Decimal]]:
    """Every hourly on-demand price in US dollars that the list has for the type, by our table."""
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
        {"Type": "TERM_MATCH", "Field": "instanceName", "Value": instance_type},
    ]
    pages = price_list.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    found: dict[str, set[Decimal]] = {}
    for page in pages:
        for entry in page["PriceList"]:
            product = json.loads(entry)
            table = _TABLES.get(product["product"]["attributes"].get("platoinstancetype", ""))
            if table is not None:
                found.setdefault(table, set()).update(_hourly(product))
    return found


def text(region: str, found: dict[str, dict[str, set[Decimal]]], today: datetime.date) -> str:
    """The file: a number where the list has exactly one, a comment where it has none or several."""
    lines = [
        "# A draft. Compare every number with its source, then write your name below; without it the file is refused.",
        'currency = "USD"',
        f"region = {json.dumps(region)}",
        'source = "AWS Price List, AmazonSageMaker, on demand"',
        f"date = {today.isoformat()}",
        'confirmed_by = ""',
    ]
    for table in _TABLES.values():
        lines += ["", f"[{table}]", *_rows(table, found)]
    return "\n".join(lines) + "\n"


def _rows(table: str, found: dict[str, dict[str, set[Decimal]]]) -> Iterator[str]:
    for instance_type, tables in found.items():
        candidates = sorted(tables.get(table, ()))
        if len(candidates) == 1:
            yield f'"{instance_type}" = {candidates[0]:f}'
        elif candidates:
            yield f'# "{instance_type}": the list has {_listed(candidates)}; choose one'
        else:
            yield f'# "{instance_type}": not in the list'


def _listed(candidates: Iterable[Decimal]) -> str:
    return " and ".join(f"{price:f}" for price in candidates)


def _hourly(product: dict[str, Any]) -> Iterator[Decimal]:
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = dimension["pricePerUnit"].get("USD")
            if price is not None and dimension["unit"].lower() in {"hrs", "hours"}:
                yield Decimal(price).normalize()


if __name__ == "__main__":
    sys.exit(command_line.run(main))
