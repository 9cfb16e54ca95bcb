"""The dashboard of Grafana and the alert rules of Prometheus: what they read is what a server writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.infra.observability.written_series import Written
from tidegate.infra.observability.grafana import dashboard
from tidegate.infra.observability.prometheus_rules import rules


def infra(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tidegate.infra", *words], capture_output=True, text=True, check=False)


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries_of_the_dashboard() -> list[str]:
    # Grafana puts the choice of its reader where the variables are.
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [query.replace("$job", ".*").replace("$model", ".*") for query in found]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in rules("tidegate")["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("queries", [queries_of_the_dashboard(), [alert["expr"] for alert in alerts()]])
def test_every_query_is_promql_and_reads_what_the_server_writes(queries: list[str]) -> None:
    assert queries
    for query in queries:
        promql_parser.parse(query)
    assert Written.by_the_server().lacks(queries) == set()


def test_every_series_of_the_server_is_on_the_dashboard() -> None:
    text = Written.by_the_server().text
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE tidegate_")}
    shown = {name.removesuffix("_bucket") for name in Written.named_in(queries_of_the_dashboard())}
    assert {family for family in families if family not in shown} == set()


def test_panels_lie_side_by_side_and_never_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_the_reader_chooses_data_source_job_and_model() -> None:
    board = dashboard()
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "job", "model"]
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('job=~"$job"' in target["expr"] for target in panel["targets"])


def test_a_line_for_each_value_of_a_label_is_called_after_it() -> None:
    legends = {target["legendFormat"] for panel in panels() for target in panel["targets"]}
    assert {"status {{status}}", "broken off {{reason}}", "queue"} <= legends


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    found = alerts()
    assert len({alert["alert"] for alert in found}) == len(found) >= 8
    for alert in found:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"].endswith(".")


def test_the_commands_write_json_and_yaml(tmp_path: Path) -> None:
    board = infra("prometheus", "dashboard")
    assert (board.returncode, json.loads(board.stdout)) == (0, dashboard())
    file = tmp_path / "rules.yaml"
    written = infra("prometheus", "rules", "--job", "digits", "--timeout-s", "10", "--output", str(file))
    assert (written.returncode, written.stdout, written.stderr) == (0, "", "")
    text = file.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == rules("digits", timeout_s=10)
    assert 'job="digits"' in text
    assert "> 8\n" in text, "80 % of the time-out"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rules", "--job", 'a"b'], "is no job_name that a rule can hold"),
        (["rules", "--job", ""], "is no job_name that a rule can hold"),
        (["rules", "--timeout-s", "0"], "is not a number of seconds above 0"),
        (["panels"], "invalid choice: 'panels'"),
        ([], "the following arguments are required"),
    ],
)
def test_a_wrong_word_is_named(words: list[str], sentence: str) -> None:
    refused = infra("prometheus", *words)
    assert refused.returncode == 2
    assert sentence in refused.stderr


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    refused = infra("prometheus", "dashboard", "--output", str(tmp_path / "no" / "board.json"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"tidegate: error: {tmp_path}/no/board.json: No such file or directory.\n"


def test_every_alert_stands_in_the_documentation_and_no_other() -> None:
    text = (Path(__file__).parents[3] / "docs" / "observability.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(Tidegate\w+)` \|", text, re.MULTILINE)) == {alert["alert"] for alert in alerts()}
