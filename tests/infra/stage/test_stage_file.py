"""A stage file that cannot be deployed is refused before synthesis by one sentence: file, key, value and way out.

Each sentence is asserted whole, since it is all that its reader gets.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.infra.conftest import SAMPLES
from tests.infra.stage.stage_files import (
    CPU,
    DIGEST,
    KEY,
    P5,
    PLAN,
    REALTIME,
    ROLE,
    TABLE,
    pools,
    read,
    refusal,
    written,
)
from tidegate.infra import validation
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.hosting import RealtimeHosting
from tidegate.infra.hosting import machines
from tidegate.infra.stage import context, stage_file, stage_schema
from tidegate.infra.validation import tables

# What is wrong with the file; above its tables, and in them.
BAD_TOP = {
    f'account = "210987654321"\nrole = {{ arn = "{ROLE}" }}': f"role.arn='{ROLE}' is in another account than the "
    "stage's 210987654321; name one there",
    'account = "210987654321"\nrole = { permissions_boundary = "arn:aws:iam::123456789012:policy/b" }': "role."
    "permissions_boundary='arn:aws:iam::123456789012:policy/b' is in another account than the stage's 210987654321; "
    "name one there",
    'prefix = "a-name-that-is-too-long"': "prefix='a-name-that-is-too-long' is no prefix; use at most 16 lower-case "
    "letters, "
    "digits and single hyphens, beginning with a letter",
    'account = "12345"': "account='12345' is not an account; write its 12 digits in quotes",
    "account = 123456789012": "account=123456789012 is not a text in quotes",
    'region = "Frankfurt"': "region='Frankfurt' is not a Region; write one like 'eu-central-1'",
    'bootstraped = "yes"': "bootstraped='yes' is not a key of a stage file; did you mean bootstrapped?",
    'bootstrapped = "yes"': "bootstrapped='yes' is not true or false",
    'name = "other"': "name='other' is not a key; a stage is called like its file",
    'currency = "USD"': "this is a file of prices and no stage; keep it elsewhere, such as in infra/prices/, and "
    "name it in [cost] of a stage",
    "instance_count = 2": "instance_count=2 is a key of [hosting]; write it below that line",
    'tags = { "aws:team" = "vision" }': "tags.aws:team is refused by AWS; keys have 1 to 128 characters and no "
    "'aws:' prefix, "
    "values at most 256",
    'tags = { stage = "x" }': "tags.stage is set by every stage, from prefix and file name; choose another key",
    'tags = { team = "a%b" }': "tags.team='a%b' is refused by SageMaker; keys and values have letters, digits, "
    "spaces and _ . : / = + - @",
    "tags = { team = 1 }": "tags.team=1 is not a text in quotes",
    "prefix =": "not TOML: Invalid value (at line 1, column 9)",
}

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- which tables there are
    (
        {"retention": None},
        "retention is missing; write the table [retention] with keep_data = true or keep_data = false",
    ),
    ({"image": None}, "image is missing; write the table [image] with a tag, a digest, a uri or build"),
    ({"hosting": None}, "hosting is missing; write the table [hosting]"),
    ({"retenton": ""}, "retenton={…} is not a key of a stage file; did you mean retention?"),
    ({"retention": ""}, "retention.keep_data is missing; write keep_data = true or keep_data = false"),
    (
        {"retention": "keep_data = true\nimages = 1"},
        "retention.images=1 is not a whole number from 2 to 10000",
    ),
    (
        {"hosting": REALTIME + "\nshadow = 5"},
        "hosting.shadow=5 is not a table; write [hosting.shadow], and its keys below that line",
    ),
]


@pytest.mark.parametrize(("top", "sentence"), BAD_TOP.items(), ids=list(BAD_TOP))
def test_a_wrong_key_above_the_tables_is_refused(top: str, sentence: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, top)) == sentence


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence


def test_two_keys_that_clash_are_named_with_the_file(tmp_path: Path) -> None:
    ecr = 'uri = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/serving:1"'
    with pytest.raises(ConfigurationError) as caught:
        read(written(tmp_path, 'region = "us-east-1"', image=ecr))

    assert str(caught.value) == (
        "trial.toml: image.uri='123456789012.dkr.ecr.eu-west-1.amazonaws.com/serving:1' is in Region eu-west-1, and "
        "the "
        "stage in us-east-1; SageMaker pulls from its own Region only, so push it there"
    )


def test_a_file_whose_name_no_bucket_could_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(written(tmp_path, name="Trial"))

    assert str(caught.value) == (
        "Trial.toml: name='Trial' is no stage's name; use at most 10 lower-case letters, digits and single hyphens, "
        "beginning with a letter"
    )


def test_an_image_cannot_be_built_where_stacks_carry_no_assets(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()

    assert refusal(written(tmp_path, "bootstrapped = false", image=f"build = '{tmp_path}'")) == (
        f"image.build='{tmp_path}' is an asset, and bootstrapped = false allows none; write true, or a uri"
    )


@pytest.mark.parametrize(
    ("top", "tables"),
    [
        ("", {}),
        ('account = "123456789012"\nregion = "us-gov-west-1"', {}),
        ("", {"image": f'digest = "{DIGEST}"'}),
        ("", {"image": 'uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/serving:2.13-gpu"'}),
        ("", {"model": 'archive = "s3://some.bucket/a/b/model.tar.gz"\nsize_gib = 12'}),
        ("", {"hosting": f'{REALTIME}\ninstance_type = "ml.p5.48xlarge"'}),
        ("", {"hosting": 'mode = "serverless"'}),
        ("", {"hosting": 'mode = "multi_model"'}),
        ("", {"server": "workers = 2\nretry = false", "environment": 'SAGEMAKER_PROGRAM = "serve.py"'}),
        ("", {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.48xlarge"', "server": "gpus_per_worker = 4"}),
        (
            "",
            {
                "hosting": 'mode = "component"\ninstance_type = "ml.g6.12xlarge"\n'
                "copies = { gpus = 2, min_memory_mib = 1024 }",
                "server": "gpus_per_worker = 2\nworkers = 1",
            },
        ),
        (
            "",
            {
                "hosting": f"{REALTIME}\n"
                'variants = [{ name = "a", weight = 1, instance_type = "ml.g6.12xlarge" },'
                ' { name = "b", weight = 1, instance_type = "ml.g6.48xlarge" }]',
                "server": "gpus_per_worker = 4",
            },
        ),
        ("", {"observability__alarms": "gpu_memory_percent = false"}),
        ("", {"hosting__rollout": 'strategy = "all_at_once"\nbake_s = 0\nrollback = false'}),
        ("", {"hosting__rollout": 'strategy = "canary"\nwait_s = 180\nbake_s = 0'}),
    ],
)
def test_a_stage_that_can_be_deployed_is_accepted(top: str, tables: dict[str, str], tmp_path: Path) -> None:
    assert read(written(tmp_path, top, **tables)).name == "trial"


def test_a_topic_for_alarms_is_in_the_stage_s_region(tmp_path: Path) -> None:
    elsewhere = 'topic_arn = "arn:aws:sns:eu-central-1:123456789012:on-call"'

    assert refusal(written(tmp_path, 'region = "eu-west-1"', observability=elsewhere)) == (
        "observability.topic_arn='arn:aws:sns:eu-central-1:123456789012:on-call' is in another Region than the stage's "
        "eu-west-1, and alarms reach topics of their own only; name one there"
    )


def test_a_table_begins_on_a_day_that_was(tmp_path: Path) -> None:
    """Today is one, and tomorrow is none."""
    stage = read(written(tmp_path, batch__table=TABLE + "first_day = 2026-11-21"))

    tables.check(stage, today=datetime.date(2026, 11, 21))
    with pytest.raises(ConfigurationError) as caught:
        tables.check(stage, today=datetime.date(2026, 11, 20))
    assert str(caught.value) == (
        "batch.table.first_day=2026-11-21 is after today, 2026-11-20, and queries would find nothing until then; write "
        "a day that was"
    )


def test_the_key_of_a_table_is_in_the_stage_s_region(tmp_path: Path) -> None:
    table = f"{TABLE}location = 's3://lake/predictions/'\nlocation_key = '{KEY}'"

    read(written(tmp_path, 'region = "eu-west-1"', batch__table=table))
    assert refusal(written(tmp_path, 'region = "us-east-1"', batch__table=table)) == (
        f"batch.table.location_key='{KEY}' is in another Region than the stage's us-east-1; use a bucket and its key "
        "there"
    )


def test_false_takes_a_default_threshold_back(tmp_path: Path) -> None:
    stage = read(written(tmp_path, observability__alarms="gpu_memory_percent = false"))

    assert stage.observability is not None
    assert stage.observability.alarms.gpu_memory_percent is None
    assert stage.observability.alarms.disk_percent == 85.0


@pytest.mark.parametrize(
    "path", [*stage_file.STAGES.glob("*.toml"), *SAMPLES.glob("*.toml")], ids=lambda path: path.stem
)
def test_the_stages_of_the_project_can_be_deployed(path: Path) -> None:
    assert read(path).name == path.stem


def test_a_price_file_is_found_beside_its_stage_wherever_cdk_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, cost='prices = "prices.toml"')
    monkeypatch.chdir("/")

    cost = read(path).cost
    assert cost is not None
    assert cost.prices == str(tmp_path.resolve() / "prices.toml")


# A value of each kind that TOML has.
ANY_VALUE = (0, -1, 2.5, "", "x", True, [], [1], [{}], {}, {"x": 1}, datetime.date(2026, 11, 21))


def places(table: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every key of every table in `table`."""
    for key, value in table.items():
        yield table, key
        inner = value if isinstance(value, list) else [value]
        for item in inner:
            if isinstance(item, dict):
                yield from places(item)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_whatever_stands_in_the_place_of_a_value_is_taken_or_refused_in_one_sentence(path: Path) -> None:
    """Each key of a full stage is in turn left out, misspelled, and given a value of every kind."""
    whole = tomllib.loads(path.read_text()) | {"name": path.stem}
    refusals = []
    for table, key in list(places(whole)):
        kept = dict(table)
        for changes in ({}, {f"{key}_": kept[key]}, *({key: value} for value in ANY_VALUE)):
            table.clear()
            table.update({name: value for name, value in kept.items() if name != key} | changes)
            try:
                validation.check(stage_file.parse(whole))
            except ConfigurationError as error:
                refusals.append(str(error))
        table.clear()
        table.update(kept)
    assert len(refusals) > 50
    assert not [sentence for sentence in refusals if not re.fullmatch(r"[^\n]+[^.\n]", sentence)]
    assert not [sentence for sentence in refusals if " is wrong: " in sentence], "a sentence of pydantic, not of ours"


def test_zones_are_of_the_stage_s_region(tmp_path: Path) -> None:
    network = 'vpc = "new"\navailability_zones = ["eu-central-1b", "eu-central-1c"]'

    assert read(written(tmp_path, 'region = "eu-central-1"', network=network)).network is not None
    assert refusal(written(tmp_path, 'region = "eu-west-1"', network=network)) == (
        "network.availability_zones=['eu-central-1b', 'eu-central-1c'] is zones of eu-central-1, and the stage's "
        "region is eu-west-1; name zones of that one"
    )


def test_graviton_types_are_taken_where_one_image_runs_on_all(tmp_path: Path) -> None:
    """Also where the default type, which nothing uses, is another; and for a shadow with an image of its own."""
    arm = 'variants = [{ name = "a", weight = 1, instance_type = "ml.r8g.large" }]'
    other = f'image_uri = "registry.example/own@{DIGEST}"\ninstance_type = "ml.c7i.large"'
    network = 'vpc = "new"'

    for hosting, shadow in ((f'{REALTIME}\ninstance_type = "ml.m8g.large"', other), (f"{REALTIME}\n{arm}", None)):
        stage = read(written(tmp_path, hosting=hosting, hosting__shadow=shadow, network=network))
        assert machines.platform(stage) == "linux/arm64"
        assert machines.accelerator(stage) == "cpu"


@pytest.mark.parametrize(
    ("top", "why"),
    [
        ('region = "eu-west-1"', "of region eu-central-1, and the stage's is eu-west-1; name one there"),
        ('account = "210987654321"', "of account 123456789012, and the stage's is 210987654321; name one there"),
    ],
)
def test_a_reservation_is_of_the_stage_s_account_and_region(tmp_path: Path, top: str, why: str) -> None:
    reserved = f'{P5}\ncapacity_reservation = "{PLAN}"'

    assert refusal(written(tmp_path, top, hosting=reserved)) == f"hosting.capacity_reservation='{PLAN}' is {why}"
    assert read(written(tmp_path, 'region = "eu-central-1"', hosting=reserved)).hosting.mode == "realtime"


def test_what_a_reservation_of_another_kind_holds_is_not_ours_to_say(tmp_path: Path) -> None:
    other = PLAN.replace("training-plan", "ml-reservation")

    assert read(written(tmp_path, hosting=f'{CPU}\ncapacity_reservation = "{other}"')).hosting.mode == "realtime"


@pytest.mark.parametrize(
    "digits", ["".join(chr(zero + int(digit)) for digit in "210987654321") for zero in (0xFF10, 0x660)]
)
@pytest.mark.parametrize(
    ("key", "top", "tables"),
    [
        ("shared_with[1]", 'shared_with = ["{}"]', {}),
        ("account", 'account = "{}"', {}),
        ("role.arn", 'role = {{ arn = "arn:aws:iam::{}:role/inference" }}', {}),
        ("hosting.capacity_reservation", "", {"hosting": f'{P5}\ncapacity_reservation = "{PLAN}"'}),
        ("encryption.key", "", {"encryption": f'key = "{KEY}"'}),
        ("model.package", "", {"model": 'package = "arn:aws:sagemaker:eu-west-1:{}:model-package/ours/1"'}),
        ("batch.schedule", "", {"batch": 'schedule = "cron({} 0 * * ? *)"'}),
        ("image.uri", "", {"image": 'uri = "registry.example:{}/serving:1"'}),
    ],
)
def test_digits_of_other_scripts_are_no_digits(
    tmp_path: Path, key: str, top: str, tables: dict[str, str], digits: str
) -> None:
    said = {name: text.replace("123456789012", digits).replace("{}", digits) for name, text in tables.items()}

    assert refusal(written(tmp_path, top.format(digits), **said)).startswith(f"{key}=")


def test_the_schema_means_the_same_digits_and_letters_to_whoever_reads_it() -> None:
    """`\\d` and `\\w` are more in the languages that go by Unicode."""
    assert not re.findall(r"\\\\[dDwWbB]", stage_schema.text())


def test_a_stage_goes_where_its_command_goes_where_the_file_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = 'vpc = "new"\navailability_zones = ["eu-central-1a", "eu-central-1c"]'
    zones = written(tmp_path, network=network, name="zones")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "us-east-1")
    assert read(zones).region is None, "what cdk says without credentials is a guess"

    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "210987654321")
    assert refusal(zones).removeprefix("zones.toml: ") == (
        "network.availability_zones=['eu-central-1a', 'eu-central-1c'] is zones of eu-central-1, and the stage's "
        "region is us-east-1; name zones of that one (account 210987654321 and region us-east-1 are those of the "
        "credentials, as the file names none)"
    )
    assert refusal(written(tmp_path, 'region = "us-east-1"', hosting=f'{P5}\ncapacity_reservation = "{PLAN}"')) == (
        f"hosting.capacity_reservation='{PLAN}' is of region eu-central-1, and the stage's is us-east-1; name one there"
    )
    assert refusal(written(tmp_path, 'region = "eu-central-1"', role=f'arn = "{ROLE}"')) == (
        f"role.arn='{ROLE}' is in another account than the stage's 210987654321; name one there (account 210987654321 "
        "is that of the credentials, as the file names none)"
    )
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-central-1")
    assert context.override(zones, stage_file.read(zones), {}).region is None


def test_pools_are_tried_in_the_order_of_the_file(tmp_path: Path) -> None:
    hosting = read(written(tmp_path, hosting=f"{REALTIME}\n{pools('ml.g6e.2xlarge', 'ml.g6.4xlarge')}")).hosting

    assert isinstance(hosting, RealtimeHosting)
    assert hosting.types == ("ml.g6e.2xlarge", "ml.g6.4xlarge")
