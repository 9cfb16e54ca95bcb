"""The cost estimate as `cdk synth` prints it."""

from __future__ import annotations

import contextlib
import datetime
import io
from pathlib import Path
from typing import Any

import pytest

from tests.infra.command_line import cdk
from tests.infra.conftest import ROOT
from tests.infra.cost.test_cost import FILE


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> dict[str, str]:
    """What is said of a stage with prices, and of one without."""
    import aws_cdk as cdk

    from tidegate.infra.configuration.stage import Stage
    from tidegate.infra.cost.announce import announce

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
    stack = cdk.Stack(cdk.App(), "endpoint")
    found = {}
    priced = {"cost": {"prices": "prices.toml"}}
    for name, further, address in (
        ("with", priced, "https://aws.example"),
        ("without", {}, "https://aws.example"),
        ("local", {}, "http://127.0.0.1:4566"),
    ):
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as console:
            patch.setenv("AWS_ENDPOINT_URL", address)
            announce(stack, Stage.model_validate(table | further), directory=folder, today=datetime.date(2026, 11, 21))
        found[name] = console.getvalue()
    return found


def test_synthesis_shows_the_estimate_to_its_user(tmp_path: Path) -> None:
    """The real command line, which shows no annotation that is not a warning."""
    (tmp_path / "prices.toml").write_text(FILE)
    stage = (ROOT / "infra" / "stages" / "local.toml").read_text()
    (tmp_path / "mine.toml").write_text(f'region = "eu-central-1"\n{stage}\n[cost]\nprices = "prices.toml"\n')

    synth = cdk("synth", "--quiet", "-c", f"stage={tmp_path / 'mine.toml'}", output=tmp_path / "out")

    assert synth.returncode == 0, synth.stderr
    assert "cost of stage mine in eu-central-1, USD\nprices of 2026-11-01 from the price list" in synth.stderr
    assert "variant primary: 1 x ml.g6.xlarge  1,460.00" in synth.stderr


def test_what_the_other_stacks_make_is_counted_as_they_make_it(printed: dict[str, str]) -> None:
    from tidegate.infra.stacks.interface_endpoints import INTERFACE_ENDPOINTS, KEY_ENDPOINT

    services = len(INTERFACE_ENDPOINTS) + len(KEY_ENDPOINT)
    assert f"interface endpoints: {services * 3}" in printed["with"]
    # Four metrics of the alarm on errors, and one of each of the six others.
    assert "metrics of alarms: 10" in printed["with"]
    assert "KMS keys: 2" in printed["with"]


def test_without_prices_there_is_one_line_without_a_number(printed: dict[str, str]) -> None:
    estimate, *further = printed["without"].splitlines()

    assert (
        estimate == "no cost estimate: stage dev names no prices; Tidegate's docs/cost.md says how to write them down"
    )
    assert len(further) == 1


def test_what_an_update_needs_of_a_quota_is_said_with_prices_and_without(printed: dict[str, str]) -> None:
    line = (
        "quota 'ml.g6.xlarge for endpoint usage': 2, because 1 may serve, and 1 more while an update rolls out "
        "(blue/green)"
    )

    assert printed["with"].splitlines()[-1] == printed["without"].splitlines()[-1] == line
    assert "quota" not in printed["local"], "the local cloud has none"
