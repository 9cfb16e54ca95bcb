"""The cost estimate as `cdk synth` prints it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.infra.test_cost import FILE


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> dict[str, str]:
    """What stands at the stack of a stage with prices, and of one without."""
    import aws_cdk as cdk
    from aws_cdk.assertions import Annotations, Match

    from infra.configuration.stage import Stage
    from infra.cost.announce import announce

    folder = tmp_path_factory.mktemp("prices")
    (folder / "prices.toml").write_text(FILE)
    table: dict[str, Any] = {
        "name": "dev",
        "image": {"tag": "1.0"},
        "hosting": {"mode": "realtime"},
        "retention": {"keep_data": False},
        "observability": {},
        "network": {"vpc": "new", "availability_zones": 3},
        "encryption": {"key": "new"},
    }
    app = cdk.App()
    found = {}
    for name, further in (("with", {"cost": {"prices": "prices.toml"}}), ("without", {})):
        stack = cdk.Stack(app, name)
        announce(stack, Stage.model_validate(table | further), directory=folder, today=datetime.date(2026, 11, 21))
        (info,) = Annotations.from_stack(stack).find_info("*", Match.any_value())
        found[name] = str(info.entry.data)
    return found


def test_the_estimate_is_an_annotation_of_the_stack(annotations: dict[str, str]) -> None:
    assert "cost of stage dev in eu-central-1, USD\nprices of 2026-11-01 from" in annotations["with"]
    assert "[ack: tidegate:cost]" in annotations["with"]


def test_what_the_other_stacks_make_is_counted_as_they_make_it(annotations: dict[str, str]) -> None:
    from infra.network_stack import INTERFACE_ENDPOINTS, KEY_ENDPOINT

    services = len(INTERFACE_ENDPOINTS) + len(KEY_ENDPOINT)
    assert f"interface endpoints: {services * 3}" in annotations["with"]
    # Four metrics of the alarm on errors, and one of each of the six others.
    assert "metrics of alarms: 10" in annotations["with"]
    assert "KMS keys: 2" in annotations["with"]


def test_without_prices_there_is_one_line_without_a_number(annotations: dict[str, str]) -> None:
    line = annotations["without"].partition(" [ack")[0]

    assert line == "no cost estimate: stage dev names no prices; docs/cost.md says how to write them down"


def test_the_shipped_stages_name_no_price_file_because_nobody_here_can_vouch_for_one() -> None:
    from infra import stage_file

    for path in Path(stage_file.STAGES).glob("*.toml"):
        assert stage_file.read(path).cost is None
