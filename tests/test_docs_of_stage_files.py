"""What pages and editors know of a stage file is what the code that reads one knows."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.infra.conftest import ROOT, SAMPLES, SHIPPED, merged
from tidegate.infra.configuration.value import Value
from tidegate.infra.stage import key_tables, stage_file, stage_schema

PAGE = ROOT / "docs" / "infrastructure.md"
SCHEMA = ROOT / "infra" / "stages" / "stage.schema.json"
STAGES = sorted([*SHIPPED.glob("*.toml"), *SAMPLES.glob("*.toml")])


def classes(table: type[Value] = Value) -> list[type[Value]]:
    """Those of stage files; prices are files of their own."""
    own = [one for one in table.__subclasses__() if one.__module__.startswith("tidegate.infra.configuration")]
    return own + [deeper for one in own for deeper in classes(one)]


def refused(table: dict[str, Any]) -> list[str]:
    """What the schema has against a stage file, as TOML gives it."""
    # A day of TOML is a text in JSON.
    document = json.loads(json.dumps(table, default=str))
    return [error.message for error in Draft7Validator(stage_schema.stage_schema()).iter_errors(document)]


def test_the_page_has_the_keys_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert key_tables.filled(page) == page, "run: python -m infra keys docs/infrastructure.md"


@pytest.mark.parametrize("path", key_tables.paths())
def test_every_table_of_a_stage_file_is_on_the_page(path: str) -> None:
    assert f"<!-- keys: {path} -->".replace("  ", " ") in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", classes(), ids=lambda table: table.__name__)
def test_every_key_says_what_it_means_in_a_sentence(table: type[Value]) -> None:
    silent = [name for name, field in table.model_fields.items() if not (field.description or "").endswith(".")]

    assert not silent, f"write a docstring below {', '.join(silent)} of {table.__module__}.{table.__name__}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!-- keys: hosting.scalin -->\n<!-- end of keys -->", "has no table hosting.scalin; there are: image, "),
        (b"\xff", "can't decode"),
        (None, "No such file"),
    ],
)
def test_a_page_that_cannot_be_filled_is_left_as_it_is_and_the_reason_is_one_line(
    content: bytes | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    if content is not None:
        page.write_bytes(content)

    assert key_tables.main([str(page)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"keys: error: {page} is left as it is: ")
    assert sentence in line
    assert content is None or page.read_bytes() == content


def test_a_page_is_filled_by_the_command_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- keys: budget -->\nold\n<!-- end of keys -->\n\nafter\n", encoding="utf-8")

    assert key_tables.main([str(page)]) == 0

    lines = page.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "| `monthly_usd` | required | The limit for the costs with the tags `project` and `stage`. |" in lines
    assert "old" not in lines


def test_the_schema_beside_the_stages_is_that_of_the_code() -> None:
    wanted = "run: python -m infra schema > infra/stages/stage.schema.json"

    assert SCHEMA.read_text(encoding="utf-8") == stage_schema.text(), wanted


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(stage_schema.stage_schema())


def test_the_command_prints_it_without_loading_the_cdk() -> None:
    program = (
        "import sys; from tidegate.infra.__main__ import main; sys.argv = ['infra', 'schema']; status = main(); "
        "sys.exit(status or 'aws_cdk' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300, check=False
    )

    assert (done.returncode, done.stdout) == (0, stage_schema.text()), done.stderr


@pytest.mark.parametrize("stage", STAGES, ids=lambda path: path.stem)
def test_the_schema_takes_every_stage_that_can_be_read(stage: Path) -> None:
    table = tomllib.loads(stage.read_text(encoding="utf-8"))

    stage_file.parse({"name": stage.stem} | table)
    assert refused(table) == []


@pytest.mark.parametrize("stage", sorted((ROOT / "infra" / "stages").glob("*.toml")), ids=lambda path: path.stem)
def test_a_stage_that_the_project_ships_names_the_schema_in_its_first_line(stage: Path) -> None:
    first, _, _ = stage.read_text(encoding="utf-8").partition("\n")

    assert first == "#:schema ./stage.schema.json"
    assert stage.with_name("stage.schema.json").is_file()


DEV = tomllib.loads((SHIPPED / "dev.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "changes",
    [
        {"hostign": {"mode": "realtime"}},
        {"hosting": None},
        {"hosting": {"mode": "batch"}},
        {"hosting": {"instance_typ": "ml.g6.xlarge"}},
        {"hosting": {"instance_type": "g6.xlarge"}},
        {"hosting": {"instance_count": 0}},
        {"hosting": {"instance_count": "2"}},
        {"hosting": {"instance_count": True}},
        # Of another mode.
        {"hosting": {"memory_mib": 3072}},
        {"hosting": {"rollout": {"strategy": "canary", "percent": 51}}},
        {"hosting": {"rollout": {"strategy": "all_at_once", "rollback": True}}},
        {"image": {"tag": "latest"}},
        # Two that choose.
        {"image": {"digest": f"sha256:{64 * '0'}"}},
        {"model": {"archive": "s3://bucket/model.zip"}},
        {"network": {"vpc": "existing"}},
        {"network": {"vpc": "new", "availability_zones": 1}},
        {"network": {"vpc": "new", "availability_zones": 7}},
        {"network": {"vpc": "new", "availability_zones": []}},
        {"network": {"vpc": "new", "availability_zones": ["EU-CENTRAL-1A"]}},
        {"network": {"vpc": "new", "availability_zones": ["eu-central-1a", "eu-central-1a"]}},
        {"network": {"vpc": "new", "cidr": "10.0.0.0/8"}},
        {"network": {"vpc": "new", "cidr": "private"}},
        {"batch": {"retries": 10}},
        {"budget": {"monthly_usd": 100}},
        {"retention": {"logs_days": 91}},
        {"server": {"max_batch_size": [8]}},
        {"role": {"statements": [{"actions": [], "resources": ["*"]}]}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_code_refuses(changes: dict[str, Any]) -> None:
    table = merged(DEV, changes)

    with pytest.raises(ValueError, match=r"\S"):
        stage_file.parse({"name": "dev"} | table)
    assert refused(table)


def test_the_name_of_a_stage_is_that_of_its_file_and_no_key_in_it() -> None:
    assert refused(DEV | {"name": "dev"})


@pytest.mark.parametrize(
    "changes",
    [
        {"hosting": {"rollout": {"strategy": "canary", "rollback": False}}},
        {"observability": {"alarms": {"gpu_memory_percent": False, "model_p99_ms": 200}}},
        {"retention": {"logs_days": False}},
        {"model": {"size_gib": 2}},
        {"network": {"vpc": "new", "availability_zones": ["eu-central-1a"]}, "region": "eu-central-1"},
        {"server": {"max_batch_size": 8, "default_model": "a/b", "reload_interval_s": 0.5}},
    ],
    ids=str,
)
def test_the_schema_takes_what_the_code_takes(changes: dict[str, Any]) -> None:
    table = merged(DEV, changes)

    stage_file.parse({"name": "dev"} | table)
    assert refused(table) == []
