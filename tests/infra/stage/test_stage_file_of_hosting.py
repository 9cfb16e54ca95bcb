"""What of schedules, pipelines, monitors and adapters cannot be deployed together, each as the one sentence it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.infra.stage.stage_files import COMPONENT, REALTIME, read, refusal, written
from tidegate.infra.configuration.model import ArchivedModel
from tidegate.infra.models import remembered_archive
from tidegate.infra.stage import context

REGION = 'region = "eu-central-1"'
SCALED = "\n[hosting.scaling]\nmax_instances = 4\n"
CAPTURED = REALTIME + "\ncapture = { percent = 10 }"
OTHER = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/cleaner:3"


def action(
    name: str = "night", when: str = "cron(0 20 ? * MON-FRI *)", low: int = 1, high: int = 2, more: str = ""
) -> str:
    return (
        f'[[hosting.scaling.schedule]]\nname = "{name}"\nwhen = "{when}"\nmin_instances = {low}\n'
        f"max_instances = {high}\n{more}\n"
    )


def containers(*tables: str, invocation: str = "serial") -> str:
    listed = "".join(f"[[model.containers]]\n{table}\n" for table in tables)
    return f'invocation = "{invocation}"\n{listed}'


OWN, CLEAN = 'name = "predict"', f'name = "clean"\nimage_uri = "{OTHER}"'

BAD: list[tuple[str, dict[str, Any], str]] = [
    # --- schedules
    (
        "",
        {"hosting": REALTIME + SCALED + action(when="cron(0 20 * * * *)")},
        "hosting.scaling.schedule[1].when='cron(0 20 * * * *)' is not a schedule; write one like 'rate(1 day)', "
        "'at(2027-01-31T20:00:00)' or 'cron(0 3 * * ? *)', with '?' for the day of the month or of the week",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action(more='timezone = "Europe/Berln"')},
        "hosting.scaling.schedule[1].timezone='Europe/Berln' is not a time zone; write 'UTC' or one like "
        "'Europe/Berlin'",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action(when="rate(1 day)", more='timezone = "UTC"')},
        "hosting.scaling.schedule[1].timezone='UTC' is without meaning for rate(1 day), which goes by intervals; "
        "remove it, or write a cron expression",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action(low=0)},
        "hosting.scaling.schedule[1].min_instances=0 is not a whole number from 1 to 1000; modes async and component "
        "scale to no instance",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action() + action(name="day", low=3, high=2)},
        "hosting.scaling.schedule[2].min_instances=3 is more than max_instances = 2; exchange the two",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action(high=5)},
        "hosting.scaling.schedule[1].max_instances=5 is more than the most that ever run, "
        "hosting.scaling.max_instances = 4; lower it, or raise that",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action() + action()},
        "hosting.scaling.schedule.name='night' is given twice; give each action a name of its own",
    ),
    (
        "",
        {"hosting": REALTIME + SCALED + action().replace("max_instances = 2\n", "")},
        "hosting.scaling.schedule[1].max_instances is missing; write a whole number from 1 to 1000",
    ),
    (
        "",
        {
            "hosting": REALTIME
            + '\ninstance_count = 2\nrollout = { strategy = "rolling" }'
            + SCALED
            + "min_instances = 2\n"
            + action()
        },
        "hosting.rollout.strategy='rolling' is in batches of at most half the instances, and there may be only 1; "
        "write hosting.scaling.schedule.min_instances = 2 or more, or 'all_at_once'",
    ),
    (
        "",
        {
            "hosting": COMPONENT
            + "\nmin_instances = 0\n[hosting.scaling]\nmax_copies = 1\n"
            + action().replace("instances", "copies").replace("max_copies = 2", "max_copies = 1")
        },
        "hosting.min_instances=0 is never reached while a copy is kept; write [hosting.scaling] with min_copies = 0, "
        "or min_instances = 1",
    ),
    # --- pipelines
    (
        "",
        {"model": containers(OWN)},
        "model.containers has 1 table, and a pipeline 2 to 15; the stage's own container is one of them",
    ),
    (
        "",
        {"model": containers(CLEAN, CLEAN.replace("clean", "tidy"))},
        "model.containers has none that is the stage's own; add one with a name alone, where [image] and [model] are "
        "to stand in the pipeline",
    ),
    (
        "",
        {"model": containers(OWN, OWN.replace("predict", "again"))},
        "model.containers[1] and model.containers[2] name neither image_uri nor archive, so each is the stage's own "
        "container; write what the others run",
    ),
    (
        "",
        {"model": containers(OWN, CLEAN.replace('"clean"', '"predict"'))},
        "model.containers.name='predict' is given twice; give each container a name of its own",
    ),
    (
        "",
        {"model": containers(OWN + '\nenvironment = { A = "1" }', CLEAN)},
        "model.containers[1].environment is of the stage's own container; write it into [environment]",
    ),
    (
        "",
        {"model": containers(OWN, CLEAN + '\nenvironment = { A = "' + "x" * 33_000 + '" }')},
        "the variables of all model.containers have 33032 bytes, and SageMaker takes 32 KiB; put them into the "
        "archives",
    ),
    (
        'region = "eu-west-1"',
        {"model": containers(OWN, CLEAN)},
        f"model.containers[2].image_uri='{OTHER}' is in Region eu-central-1, and the stage in eu-west-1; SageMaker "
        "pulls from its own Region only, so push it there",
    ),
    *(
        (
            "",
            {"model": containers(OWN, CLEAN), "hosting": table},
            f"model.containers does not go with hosting.mode='{mode}', {why}; write mode = 'realtime', or keep one "
            "container",
        )
        for mode, table, why in (
            ("serverless", 'mode = "serverless"', "which SageMaker excludes"),
            ("multi_model", 'mode = "multi_model"', "whose one container holds all models"),
            ("component", COMPONENT, "whose copies are one container each"),
            ("async", 'mode = "async"', "for which AWS describes none"),
        )
    ),
    (
        "",
        {"model": 'invocation = "direct"'},
        "model.invocation='direct' is of a pipeline, and there is none; write [[model.containers]], or remove it",
    ),
    (
        "",
        {"model": containers(OWN, CLEAN, invocation="direct"), "batch": ""},
        "model.invocation='direct' is answered by the container that a request names, and a transform job names none; "
        "write 'serial', or remove [batch]",
    ),
    (
        "",
        {"image": None, "model": 'package = "digits/3"\n' + containers(OWN, CLEAN)},
        "model.invocation='serial' does not go with package; remove one of the two",
    ),
    # --- the monitor
    (
        REGION,
        {"hosting": REALTIME, "hosting__monitor": ""},
        "[hosting.monitor] looks at captured requests, and none are captured; write [hosting.capture]",
    ),
    (
        "",
        {"hosting": CAPTURED, "hosting__monitor": ""},
        "[hosting.monitor] runs an image that is of another account in each Region; write region above the first "
        "table, or hosting.monitor.image_uri",
    ),
    (
        'region = "eu-south-2"',
        {"hosting": CAPTURED, "hosting__monitor": ""},
        "region='eu-south-2' is without an account of Model Monitor's analyzer that we know; write "
        "hosting.monitor.image_uri",
    ),
    (
        REGION,
        {"hosting": CAPTURED, "hosting__monitor": 'schedule = "cron(30 3 ? * * *)"'},
        "hosting.monitor.schedule='cron(30 3 ? * * *)' is not a schedule of Model Monitor; write 'cron(0 * ? * * *)' "
        "for each hour, 'cron(0 3 ? * * *)' for each night, or 'cron(0 0/6 ? * * *)'",
    ),
    (
        REGION,
        {"hosting": CAPTURED, "hosting__monitor": "max_runtime_s = 7200"},
        "hosting.monitor.max_runtime_s=7200 is longer than from one job to the next; write 3600 or less, or another "
        "schedule",
    ),
    (
        REGION,
        {"hosting": CAPTURED, "hosting__monitor": 'instance_type = "ml.m5.xlrge"'},
        "hosting.monitor.instance_type='ml.m5.xlrge' is not an instance type of processing jobs; did you mean "
        "ml.m5.xlarge or ml.m5.4xlarge or ml.m5.2xlarge?",
    ),
    (
        REGION,
        {"hosting": CAPTURED, "hosting__monitor": f'image_uri = "{OTHER}"\npreprocessor = "s3://bucket/flatten.py"'},
        "hosting.monitor.preprocessor='s3://bucket/flatten.py' is called by SageMaker's own analyzer only; call it in "
        "your image, or remove image_uri",
    ),
    (
        REGION,
        {"hosting": CAPTURED, "hosting__monitor": 'prefix = "capture/reports/"'},
        "hosting.monitor.prefix='capture/reports/' is in the way of capture/, and nobody could tell the two apart; "
        "choose another, such as 'results/'",
    ),
    (
        REGION,
        {
            "hosting": CAPTURED + '\nvariants = [{ name = "a", weight = 1 }, { name = "b", weight = 1 }]',
            "hosting__monitor": "",
        },
        "[hosting.monitor] is for endpoints of one model, and [[hosting.variants]] makes more; remove one of the two",
    ),
    (
        REGION,
        {"hosting": CAPTURED, "hosting__monitor": "", "model": containers(OWN, CLEAN, invocation="direct")},
        "[hosting.monitor] is for endpoints of one model, and model.invocation = 'direct' makes more; remove one of "
        "the two",
    ),
    (
        "",
        {"hosting": 'mode = "async"', "hosting__monitor": ""},
        "hosting.monitor={…} is a key of mode realtime, and the mode here is async; remove it, or change the mode",
    ),
    # --- adapters
    (
        "",
        {"hosting": COMPONENT + '\nadapters = [{ name = "a", archive = "s3://bucket/a" }]'},
        "hosting.adapters[1].archive='s3://bucket/a' is not an archive in S3; pack it with 'tidegate pack', "
        "upload it, write s3://bucket/path/model.tar.gz, where a bucket's name has 3 to 63 small letters, digits, dots "
        "and hyphens",
    ),
    (
        "",
        {"hosting": COMPONENT + '\nadapters = [{ name = "' + "a" * 36 + '", archive = "s3://bucket/a.tar.gz" }]'},
        f"hosting.adapters[1].name='{'a' * 36}' is not a name; use at most 35 letters, digits and single hyphens",
    ),
    (
        "",
        {
            "hosting": COMPONENT + '\nadapters = [{ name = "a", archive = "s3://b-1/a.tar.gz" },'
            ' { name = "a", archive = "s3://b-1/b.tar.gz" }]'
        },
        "hosting.adapters.name='a' is given twice; give each adapter a name of its own",
    ),
    (
        "",
        {
            "hosting": COMPONENT + '\nadapters = [{ name = "a", archive = "s3://b-1/a.tar.gz" }]',
            "model": 'repository = "s3://bucket/models"',
        },
        "[[hosting.adapters]] are of one model, and model.repository has many; name one model.archive, or remove them",
    ),
]


@pytest.mark.parametrize(("top", "tables", "sentence"), BAD, ids=[sentence[:60] for *_, sentence in BAD])
def test_what_cannot_be_deployed_is_refused(top: str, tables: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, top, **tables)) == sentence


@pytest.mark.parametrize(
    ("top", "tables"),
    [
        ("", {"model": containers(OWN, *(CLEAN.replace('"clean"', f'"clean-{each}"') for each in range(14)))}),
        ("", {"model": containers(OWN, CLEAN), "batch": ""}),
        ("", {"hosting": CAPTURED, "hosting__monitor": f'image_uri = "{OTHER}"'}),
        (REGION, {"hosting": CAPTURED, "hosting__monitor": 'schedule = "cron(0 3 ? * * *)"\nmax_runtime_s = 80000'}),
        ("", {"hosting": 'mode = "async"' + SCALED + action(low=0, high=0)}),
    ],
)
def test_what_can_be_deployed_is_accepted(top: str, tables: dict[str, Any], tmp_path: Path) -> None:
    assert read(written(tmp_path, top, **tables)).name == "trial"


def test_another_archive_for_one_command_takes_the_model_s_place_in_the_pipeline(tmp_path: Path) -> None:
    url = "s3://bucket/models/8/model.tar.gz"
    path = written(tmp_path, model=containers(OWN, CLEAN, invocation="direct"))
    model = context.choose({"stage": str(path), "model_data_url": url}).model

    assert isinstance(model, ArchivedModel)
    assert (model.archive, model.invocation) == (url, "direct")
    assert [container.name for container in model.containers] == ["predict", "clean"]
    remembered = remembered_archive.with_archive(read(path), url).model
    assert remembered == model
