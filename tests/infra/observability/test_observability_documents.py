"""docs/observability.md, docs/cost.md and docs/pipeline.md say what is there, and nothing that is not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from tidegate.infra.configuration.operations import Alarms, Budget, Cost, Observability
from tidegate.infra.configuration.value import Value
from tidegate.infra.cost.prices import Prices
from tidegate.infra.observability import endpoint_alarms, series
from tidegate.infra.observability.watched import Mode, WatchedEndpoint, WatchedVariant

DOCS = Path(__file__).parents[3] / "docs"
OBSERVABILITY = (DOCS / "observability.md").read_text()
COST = (DOCS / "cost.md").read_text()
PIPELINE = (DOCS / "pipeline.md").read_text()


def every_chart() -> tuple[series.Chart, ...]:
    here = series.of_endpoint("e")
    return (*series.of_requests(here), *series.of_repository(here))


def rows(document: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines() if line.startswith("|")
    ]


def test_every_threshold_stands_in_the_table_with_its_default() -> None:
    written = {row[1].strip("`"): row[2].strip("`") for row in rows(OBSERVABILITY) if len(row) == 4}

    for name, field in Alarms.model_fields.items():
        assert written[name] == ("off" if field.default is None else str(field.default)), name


def test_every_alarm_of_every_mode_is_explained() -> None:
    everything = Alarms(errors_4xx_percent=5.0, backlog=1, worker_restarts=1, failed_loads=1)
    explained = {name for row in rows(OBSERVABILITY) for name in re.findall(r"`([\w-]+)`", row[0])}

    for mode in get_args(Mode):
        endpoint = WatchedEndpoint(
            name="e",
            mode=mode,
            variants=(WatchedVariant(name="v", gpus=1),),
            deadline_s=60,
            component="c",
            repository=True,
        )
        assert {alarm.kind for alarm in endpoint_alarms.of_endpoint(endpoint, everything)} <= explained


@pytest.mark.parametrize("table", [Observability, Budget])
def test_every_key_of_the_tables_is_named(table: type[Observability] | type[Budget]) -> None:
    for name in table.model_fields:
        assert re.search(rf"\b{name}\b", OBSERVABILITY), name


def test_every_series_of_the_charts_is_named_and_no_other() -> None:
    used = {
        name.removesuffix("_bucket")
        for chart in every_chart()
        for query in chart.queries
        for name in re.findall(r"\btidegate_\w+", query.promql)
    }

    assert set(re.findall(r"\btidegate_\w+", OBSERVABILITY)) == used


def test_every_key_of_a_price_file_and_of_its_table_is_named() -> None:
    for name in (*Prices.model_fields, *Cost.model_fields):
        assert re.search(rf"\b{name}\b", COST), name


def test_the_price_file_of_the_document_has_every_key_and_no_number() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", COST, re.DOTALL)
    template = next(block for block in blocks if "currency" in block)
    filled = re.sub(r"^# (.*) = …$", r"\1 = 1", template, flags=re.MULTILINE)

    prices = Prices.model_validate(tomllib.loads(filled))

    assert not re.search(r"^[^#]*= *\d+(\.\d+)?$", template, re.MULTILINE)
    for name in Prices.model_fields:
        value = getattr(prices, name)
        assert value, name
        if isinstance(value, Value):
            assert all(getattr(value, key) is not None for key in type(value).model_fields), name


def test_every_file_command_and_variable_of_the_pipeline_exists() -> None:
    root = DOCS.parent
    workflows = "\n".join(path.read_text() for path in (root / ".github" / "workflows").glob("*.yml"))

    for variable in set(re.findall(r"vars\.(\w+)", workflows)):
        assert f"`{variable}`" in PIPELINE, variable
    for name in ("check", "diff", "deploy"):
        assert (root / ".github" / "workflows" / f"{name}.yml").is_file()
        assert f"| `{name}` |" in PIPELINE
    for path in re.findall(r"\b(?:infra|tests)/[\w/.]+\.(?:py|yaml)\b", PIPELINE + OBSERVABILITY + COST):
        assert (root / path).is_file(), path
    for module in re.findall(r"python -m ([\w.]+\.[\w.]+)", PIPELINE + COST):
        assert (root / (module.replace(".", "/") + ".py")).is_file(), module
