"""The cost estimate: quantities of a stage, a file of prices, and what is said where a price is missing."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.stage import Stage
from tidegate.infra.cost import estimate, prices, usage
from tidegate.infra.cost.announce import describe
from tidegate.infra.cost.estimate import Item

TODAY = datetime.date(2026, 11, 21)
# Round numbers, which no price list has.
FILE = """
currency = "USD"
region = "eu-central-1"
source = "the price list of our reseller"
date = 2026-11-01
confirmed_by = "Ada"

[endpoint_hour]
"ml.g6.xlarge" = 2
"ml.m7i.large" = 0.10

[async_hour]
"ml.g6.xlarge" = 2.5

[transform_hour]
"ml.g6.xlarge" = 3.0

[serverless]
gb_second = 0.00002

[month]
kms_key = 1
dashboard = 3.00
alarm_metric = 0.10
"""


def stage_with(hosting: Mapping[str, Any], **further: Any) -> Stage:
    table = {
        "name": "dev",
        "image": {"tag": "1.0"},
        "hosting": dict(hosting),
        "retention": {"keep_data": False},
        "cost": {"prices": "prices.toml"},
    }
    return Stage.model_validate(table | further)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "prices.toml").write_text(FILE)
    return tmp_path


def said(stage: Stage, directory: Path, *, today: datetime.date = TODAY, **counted: int) -> str:
    counts = {"alarm_metrics": 0, "interface_endpoints": 0, "nat_gateways": 0} | counted
    return describe(stage, directory=directory, today=today, **counts)


def amounts(text: str) -> dict[str, str]:
    """What stands in the right column, by what stands in the left."""
    rows = [line.strip().split("  ", 1) for line in text.splitlines()]
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def items(stage: Stage) -> dict[str, Item]:
    return {item.what: item for item in usage.of_stage(stage)}


def test_a_month_of_instances_is_730_hours_of_each(directory: Path) -> None:
    stage = stage_with({"mode": "realtime", "instance_count": 2})

    text = said(stage, directory)

    assert amounts(text)["variant primary: 2 x ml.g6.xlarge"] == "2,920.00"
    assert amounts(text)["sum of the month"] == "2,920.00"


def test_an_endpoint_that_scales_costs_between_its_fewest_and_its_most_instances(directory: Path) -> None:
    scaling = {"min_instances": 1, "max_instances": 4}

    text = said(stage_with({"mode": "realtime", "scaling": scaling}), directory)

    assert amounts(text)["variant primary: 1 to 4 x ml.g6.xlarge"] == "1,460.00 to 5,840.00"


def test_types_that_stand_in_for_the_first_are_told_beside_the_sum(directory: Path) -> None:
    pools = [{"instance_type": "ml.m7i.large"}, {"instance_type": "ml.g6.xlarge"}]

    text = said(stage_with({"mode": "realtime", "instance_pools": pools}), directory)

    assert amounts(text)["variant primary: 1 x ml.m7i.large"] == "73.00"
    assert amounts(text)["variant primary: 1 x ml.g6.xlarge"] == "1,460.00"
    assert amounts(text)["sum of the month"] == "73.00"
    assert "instead, where all instances are of a type that stands in for the first" in text


def test_reserved_instances_are_paid_with_their_reservation(directory: Path) -> None:
    """They need no price, and the sum is that of the rest."""
    plan = "arn:aws:sagemaker:eu-central-1:123456789012:training-plan/ours"
    hosting = {"mode": "realtime", "instance_type": "ml.p5.48xlarge", "capacity_reservation": plan}

    text = said(stage_with(hosting), directory)

    assert amounts(text)["variant primary: 1 x ml.p5.48xlarge, paid with their reservation"] == "0.00"
    assert amounts(text)["sum of the month"] == "0.00"
    assert "no price" not in text


def test_an_endpoint_that_sleeps_may_cost_nothing(directory: Path) -> None:
    asleep = stage_with({"mode": "async", "scaling": {"max_instances": 2}})
    component = {"mode": "component", "copies": {"min_memory_mib": 1024}, "min_instances": 0, "max_instances": 3}

    assert amounts(said(asleep, directory))["sum of the month"] == "0.00 to 3,650.00", "AWS lists them apart"
    assert amounts(said(stage_with(component), directory))["sum of the month"] == "0.00 to 4,380.00"


def test_every_variant_and_the_shadow_are_counted_with_their_own_type(directory: Path) -> None:
    hosting = {
        "mode": "realtime",
        "variants": [
            {"name": "old", "weight": 9, "instance_count": 3},
            {"name": "new", "weight": 1, "instance_type": "ml.m7i.large"},
        ],
    }
    found = amounts(said(stage_with(hosting), directory))
    shadowed = {"mode": "realtime", "shadow": {"name": "next", "instance_type": "ml.m7i.large"}}

    assert found["variant old: 3 x ml.g6.xlarge"] == "4,380.00"
    assert found["variant new: 1 x ml.m7i.large"] == "73.00"
    assert amounts(said(stage_with(shadowed), directory))["shadow next: 1 x ml.m7i.large"] == "73.00"


def test_what_is_paid_by_use_is_said_per_use_and_not_added_to_the_month(directory: Path) -> None:
    text = said(stage_with({"mode": "serverless", "memory_mib": 2048}), directory)

    assert amounts(text)["requests, for each second that one takes, in 2 GB"] == "40.00"
    assert "a million requests" in text
    assert amounts(text)["sum of the month"] == "nothing is paid by the month"


def test_with_an_assumption_of_the_traffic_serverless_requests_are_a_sum_of_the_month(directory: Path) -> None:
    cost = {"prices": "prices.toml", "requests_per_month": 500_000, "seconds_per_request": 0.5}
    stage = stage_with({"mode": "serverless", "memory_mib": 2048}, cost=cost)

    assert amounts(said(stage, directory))["500,000 requests of 0.5 s in 2 GB"] == "10.00"


def test_requests_through_the_api_are_priced_by_the_million_or_by_the_assumed_traffic(directory: Path) -> None:
    (directory / "prices.toml").write_text(f"{FILE}\n[api]\nmillion_requests = 4\n")
    api = {"authorization": "iam", "logs_days": False}
    assumed = stage_with({"mode": "serverless"}, api=api, cost={"prices": "prices.toml", "requests_per_month": 500_000})

    assert amounts(said(stage_with({"mode": "serverless"}, api=api), directory))["requests through the API"] == "4.00"
    assert amounts(said(assumed, directory))["API: 500,000 requests"] == "2.00"


def test_a_batch_job_is_priced_by_the_hour_with_the_price_of_transform_jobs(directory: Path) -> None:
    stage = stage_with({"mode": "realtime"}, batch={"instance_type": "ml.g6.xlarge", "instance_count": 2})

    text = said(stage, directory)

    assert amounts(text)["2 x ml.g6.xlarge"] == "6.00"
    assert amounts(text)["sum of the month"] == "1,460.00"


def test_queries_are_priced_by_what_they_read_where_the_stage_has_a_workgroup(directory: Path) -> None:
    table = {"columns": {"id": "string"}}
    with_workgroup = stage_with({"mode": "realtime"}, batch={"instance_type": "ml.g6.xlarge", "table": table})
    without = stage_with({"mode": "realtime"}, batch={"table": table | {"athena": False}})
    with (directory / "prices.toml").open("a") as file:
        file.write("[athena]\nscanned_tb = 4\n")

    text = said(with_workgroup, directory)

    assert amounts(text)["Athena"] == "4.00"
    assert "a TB that queries read" in text
    assert amounts(text)["sum of the month"] == "1,460.00", "they are paid by use"
    assert "Athena" not in said(without, directory)


def test_where_a_price_is_missing_there_is_no_number_and_no_sum(directory: Path) -> None:
    stage = stage_with({"mode": "realtime", "instance_type": "ml.p5.48xlarge", "instance_count": 2})

    text = said(stage, directory, alarm_metrics=10)
    found = amounts(text)

    assert found["variant primary: 2 x ml.p5.48xlarge"] == 'no price: endpoint_hour."ml.p5.48xlarge"'
    assert found["metrics of alarms: 10"] == "1.00", "what has a price keeps it"
    assert found["sum of the month"] == "none, because prices are missing"
    assert 'no price in the file for: endpoint_hour."ml.p5.48xlarge"' in text


def test_kept_warm_capacity_needs_a_price_of_its_own(directory: Path) -> None:
    stage = stage_with({"mode": "serverless", "provisioned_concurrency": 2})

    assert "no price: serverless.provisioned_gb_second" in said(stage, directory)


def test_what_stands_around_the_endpoint_is_counted_as_well(directory: Path) -> None:
    stage = stage_with({"mode": "realtime"}, observability={}, encryption={"key": "new"})

    found = amounts(said(stage, directory, alarm_metrics=12, interface_endpoints=14, nat_gateways=1))

    assert found["KMS keys: 2"] == "2.00", "the stage's and the alarm topic's"
    assert found["metrics of alarms: 12"] == "1.20"
    assert found["dashboards: 1"] == "3.00"
    assert found["interface endpoints: 14"] == "no price: network.interface_endpoint_hour"
    assert found["NAT gateways: 1"] == "no price: network.nat_gateway_hour"


def test_the_source_the_date_the_region_and_who_vouches_for_the_prices_stand_above_them(directory: Path) -> None:
    head, source, *_ = said(stage_with({"mode": "realtime"}), directory).splitlines()

    assert head == "cost of stage dev in eu-central-1, USD"
    assert source == "prices of 2026-11-01 from the price list of our reseller, confirmed by Ada"


@pytest.mark.parametrize(("days", "old"), [(0, False), (90, False), (91, True)])
def test_prices_of_another_season_are_called_old(days: int, old: bool, directory: Path) -> None:
    today = datetime.date(2026, 11, 1) + datetime.timedelta(days=days)

    text = said(stage_with({"mode": "realtime"}), directory, today=today)

    assert (f"these prices are {days} days old" in text) is old


def test_a_stage_without_prices_gets_one_line_and_no_number(directory: Path) -> None:
    text = said(stage_with({"mode": "realtime"}, cost=None), directory)

    assert text == "no cost estimate: stage dev names no prices; Tidegate's docs/cost.md says how to write them down"


def test_prices_of_another_region_are_refused(directory: Path) -> None:
    stage = stage_with({"mode": "realtime"}, region="us-east-1")

    with pytest.raises(ConfigurationError, match=r"prices\.toml: region='eu-central-1' is not the stage's, us-east-1"):
        said(stage, directory)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('currency = "dollars"', "prices.toml: currency='dollars' is not a currency; write its three letters"),
        ('region = "Frankfurt"', "prices.toml: region='Frankfurt' is not a Region; write one like 'eu-central-1'"),
        ('source = ""', "prices.toml: source='' is empty; write it out"),
        ('date = "yesterday"', "prices.toml: date='yesterday' is wrong"),
        ('confirmed_by = " "', "prices.toml: confirmed_by=' ' is empty; write it out"),
        ('[endpoint_hour]\n"ml.g6.xlarge" = -1', "prices.toml: endpoint_hour.ml.g6.xlarge=-1 is not a price"),
        ('[endpoint_hour]\n"ml.g6.xlarge" = "free"', "is not a price; write a number like 1.25"),
        ('[endpoint_hour]\n"ml.g6.xlarge" = true', "is not a price; write a number like 1.25"),
        ('[endpoint_hour]\n"ml.g6.xlarge" = nan', "is not a price; write a number like 1.25"),
        ('[endpoint_hour]\n"g6.xlarge" = 1', "is not an instance type; write one like 'ml.g6.xlarge'"),
        (
            "[endpoint_hours]",
            "prices.toml: endpoint_hours={…} is not a key of a file of prices; did you mean endpoint_hour?",
        ),
        ("[serverless]\ngb_seconds = 1", "did you mean gb_second?"),
        ("currency =", "prices.toml: cannot be read: "),
    ],
)
def test_a_wrong_price_file_is_one_sentence_that_names_file_key_and_value(
    line: str, sentence: str, tmp_path: Path
) -> None:
    key = line.partition(" =")[0]
    head = [row for row in FILE.partition("\n\n")[0].strip().splitlines() if not row.startswith(key)]
    head.append(line)
    path = tmp_path / "prices.toml"
    path.write_text("\n".join(head))

    with pytest.raises(ConfigurationError) as raised:
        prices.read(path)

    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["currency", "region", "source", "date", "confirmed_by"])
def test_numbers_without_a_source_a_date_and_a_name_are_not_taken(key: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("\n".join(line for line in FILE.splitlines() if not line.startswith(f"{key} =")))

    with pytest.raises(ConfigurationError, match=rf"prices\.toml: {key} is missing"):
        prices.read(path)


def test_a_price_file_that_is_not_there_is_named_with_the_key_that_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cost\.prices='.*nowhere\.toml' does not exist"):
        prices.read(tmp_path / "nowhere.toml")


def price_list(**tables: Any) -> prices.Prices:
    head = {"currency": "USD", "region": "r-r-1", "source": "s", "date": TODAY, "confirmed_by": "c"}
    return prices.Prices.model_validate(head | {"region": "us-east-1"} | tables)


@given(
    low=st.integers(0, 1000),
    further=st.integers(0, 1000),
    price=st.decimals(0, 1000, allow_nan=False, allow_infinity=False, places=6),
)
def test_the_least_is_never_more_than_the_most_and_both_are_exact(low: int, further: int, price: Decimal) -> None:
    item = Item(what="x", table="endpoint_hour", price="ml.a1.large", low=Decimal(low), high=Decimal(low + further))

    found = estimate.month([item, item], price_list(endpoint_hour={"ml.a1.large": price}))

    assert found == (2 * low * price, 2 * (low + further) * price)
    assert found[0] <= found[1]


def test_no_price_is_written_in_the_package() -> None:
    """A number that somebody typed into the code would pass for a price one day."""
    folder = Path(estimate.__file__).parent
    constants = {
        node.value
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
    }

    # Nothing and one, days until prices are old, hours of a month, seconds of an hour, MiB of a GiB, a million.
    assert constants <= {0, 1, 2, 90, 730, 3600, 1024, 1_000_000}
    assert not list(folder.rglob("*.toml"))
