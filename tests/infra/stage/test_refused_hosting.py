"""What is said of how a stage hosts, scales and rolls out, where that cannot be deployed: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import (
    COMPONENT,
    CPU,
    REALTIME,
    refusal,
    written,
)

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- the word that chooses
    (
        {"hosting": 'mode = "serverles"'},
        "hosting.mode='serverles' is not one of 'realtime', 'async', 'serverless', 'component', 'multi_model'; did "
        "you mean "
        "'serverless'?",
    ),
    ({"hosting": 'mod = "realtime"'}, "hosting.mod='realtime' is not a key of [hosting]; did you mean mode?"),
    (
        {"hosting": ""},
        "hosting.mode is missing; write 'async' or 'component' or 'multi_model' or 'realtime' or 'serverless'",
    ),
    (
        {"hosting": 'mode = "serverless"\ninstance_type = "ml.g6.xlarge"'},
        "hosting.instance_type='ml.g6.xlarge' is a key of modes realtime, async, component, multi_model, and "
        "serverless "
        "endpoints have no instances to choose and no GPU; remove it, or write mode = 'realtime'",
    ),
    (
        {"hosting": f"{REALTIME}\nmemory_mib = 2048"},
        "hosting.memory_mib=2048 is a key of mode serverless, and the mode here is realtime; remove it, or change "
        "the mode",
    ),
    (
        {"hosting": 'mode = "async"', "hosting__capture": "percent = 10"},
        "hosting.capture={…} is a key of mode realtime, and the mode here is async; remove it, or change the mode",
    ),
    (
        {"hosting": 'mode = "async"', "hosting__shadow": "percent = 10"},
        "hosting.shadow={…} is a key of mode realtime, and the mode here is async; remove it, or change the mode",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_typ = "ml.g6.xlarge"'},
        "hosting.instance_typ='ml.g6.xlarge' is not a key of mode realtime; did you mean instance_type?",
    ),
    (
        {"hosting": f"{REALTIME}\nprefix = 'x'"},
        "hosting.prefix='x' is no key of a table; write prefix above the first [table]",
    ),
    # --- scaling
    (
        {"hosting__scaling": "min_instances = 0\nmax_instances = 2"},
        "hosting.scaling.min_instances=0 is not a whole number from 1 to 1000; modes async and component scale to no "
        "instance",
    ),
    (
        {"hosting__scaling": ""},
        "hosting.scaling.max_instances is missing; write a whole number from 1 to 1000",
    ),
    (
        {"hosting__scaling": "min_instances = 3\nmax_instances = 2"},
        "hosting.scaling.min_instances=3 is more than max_instances = 2; exchange the two",
    ),
    (
        {"hosting": f"{REALTIME}\ninstance_count = 5", "hosting__scaling": "max_instances = 2"},
        "hosting.instance_count=5 is what it starts with, and scaling keeps 1 to 2; write a number in between",
    ),
    (
        {
            "hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 1, instance_count = 3 }}]',
            "hosting__scaling": "max_instances = 2",
        },
        "hosting.variants[1].instance_count=3 is what it starts with, and scaling keeps 1 to 2; write a number in "
        "between",
    ),
    (
        {
            "hosting": 'mode = "component"\nmax_instances = 4',
            "hosting__copies": "min_memory_mib = 1024\ncount = 3",
            "hosting__scaling": "max_copies = 2",
        },
        "hosting.copies.count=3 is what it starts with, and scaling keeps at most 2; lower it, or leave it out",
    ),
    (
        {"hosting": 'mode = "multi_model"\ninstance_type = "ml.g6.xlarge"'},
        "hosting.instance_type='ml.g6.xlarge' is a GPU type that multi-model endpoints do not take; choose one of g4dn "
        "or g5 with one GPU, or a CPU type",
    ),
    (
        {"hosting": 'mode = "multi_model"\ninstance_type = "ml.g5.12xlarge"'},
        "hosting.instance_type='ml.g5.12xlarge' is a GPU type that multi-model endpoints do not take; choose one of "
        "g4dn or g5 with one GPU, or a CPU type",
    ),
    # --- roll-out, variants, shadow, capture
    (
        {"hosting__rollout": 'strategy = "canari"'},
        "hosting.rollout.strategy='canari' is not one of 'all_at_once', 'canary', 'linear', 'rolling'; did you mean "
        "'canary'?",
    ),
    (
        {"hosting__rollout": 'strategy = "canary"\npercent = 60'},
        "hosting.rollout.percent=60 is not a whole number from 1 to 50",
    ),
    (
        {"hosting__rollout": 'strategy = "all_at_once"\nbake_s = 60'},
        "hosting.rollout.bake_s=60 is too short for the alarms of the roll-out, which take 180 s to go off; write 180 "
        "or more, or rollback = false",
    ),
    (
        {"hosting__rollout": 'strategy = "linear"\npercent = 50\nwait_s = 60\nbake_s = 0'},
        "hosting.rollout.bake_s=0 is too short for the alarms of the roll-out, which take 180 s to go off; write 180 "
        "or more, or rollback = false",
    ),
    (
        {
            "hosting": 'mode = "component"',
            "hosting__copies": "min_memory_mib = 1024",
            "hosting__rollout": "wait_s = 120",
        },
        "hosting.rollout.wait_s=120 is too short for the alarms of the roll-out, which take 180 s to go off; write 180 "
        "or more, or rollback = false",
    ),
    (
        {"hosting__rollout": 'strategy = "all_at_once"\nwait_s = 10'},
        "hosting.rollout.wait_s=10 does not go with strategy = 'all_at_once'; remove one of the two",
    ),
    (
        {"hosting": f"{REALTIME}\ninstance_count = 2", "hosting__rollout": 'strategy = "rolling"\npercent = 60'},
        "hosting.rollout.percent=60 is not a whole number from 5 to 50",
    ),
    (
        {"hosting": f"{REALTIME}\ninstance_count = 2", "hosting__rollout": 'strategy = "rolling"\nbake_s = 60'},
        "hosting.rollout.bake_s=60 does not go with strategy = 'rolling'; remove one of the two",
    ),
    (
        {"hosting": f"{REALTIME}\ninstance_count = 2", "hosting__rollout": 'strategy = "rolling"\nwait_s = 60'},
        "hosting.rollout.wait_s=60 is too short for the alarms of the roll-out, which take 180 s to go off; write 180 "
        "or more, or rollback = false",
    ),
    (
        {"hosting__rollout": 'strategy = "rolling"'},
        "hosting.rollout.strategy='rolling' is in batches of at most half the instances, and there may be only 1; "
        "write hosting.instance_count = 2 or more, or 'all_at_once'",
    ),
    (
        {"hosting": 'mode = "async"\nscaling = { max_instances = 4 }', "hosting__rollout": 'strategy = "rolling"'},
        "hosting.rollout.strategy='rolling' is in batches of at most half the instances, and there may be only 0; "
        "write hosting.scaling.min_instances = 2 or more, or 'all_at_once'",
    ),
    (
        {"hosting": f"{REALTIME}\ninstance_count = 3", "hosting__rollout": 'strategy = "rolling"\npercent = 20'},
        "hosting.rollout.percent=20 is less than one of 3 instances; write 34 or more",
    ),
    (
        {
            "hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 1 }}, {{ name = "b", weight = 1 }}]',
            "hosting__rollout": 'strategy = "rolling"',
        },
        "hosting.rollout.strategy='rolling' is for endpoints of one variant, and [[hosting.variants]] makes more; "
        "write 'linear', or remove that",
    ),
    (
        {
            "hosting": f"{REALTIME}\ninstance_count = 2",
            "hosting__rollout": 'strategy = "rolling"',
            "hosting__shadow": "percent = 50",
        },
        "hosting.rollout.strategy='rolling' is for endpoints of one variant, and [hosting.shadow] makes more; write "
        "'linear', or remove that",
    ),
    (
        {"hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 1 }}, {{ name = "a", weight = 1 }}]'},
        "hosting.variants.name='a' is given twice; give each variant a name of its own",
    ),
    (
        {"hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 1 }}, {{ name = "b", weight = -1 }}]'},
        "hosting.variants[2].weight=-1 is not a number from 0 to 1000000",
    ),
    (
        {"hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 1 }}, {{ name = "b" }}]'},
        "hosting.variants[2].weight is missing; write a number from 0 to 1000000",
    ),
    (
        {"hosting": f'{REALTIME}\nvariants = [{{ nam = "a", weight = 1 }}]'},
        "hosting.variants[1].nam='a' is not a key of [[hosting.variants]]; did you mean name?",
    ),
    (
        {"hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 0 }}]'},
        "hosting.variants all have weight 0, so none gets a request; give one of them a weight",
    ),
    (
        {
            "hosting": f'{REALTIME}\nvariants = [{{ name = "a", weight = 1 }}, {{ name = "b", weight = 1 }}]',
            "hosting__shadow": "percent = 50",
        },
        "hosting.shadow needs exactly one production variant, and hosting.variants has 2; keep one of them, or remove "
        "[hosting.shadow]",
    ),
    ({"hosting__capture": ""}, "hosting.capture.percent is missing; write a whole number from 1 to 100"),
    # --- volumes and logs
    (
        {"hosting": f"{REALTIME}\nvolume_gb = 100"},
        "hosting.volume_gb=100 is for CPU types without disks of their own, and ml.g6.xlarge has some; remove it",
    ),
    ({"hosting": f"{CPU}\nvolume_gb = 600"}, "hosting.volume_gb=600 is not a whole number from 1 to 512"),
    (
        {"hosting": CPU, "model": "size_gib = 250"},
        "model.size_gib=250.0 is too much for the volume of ml.m7i.large, which holds it packed and unpacked in 512 GB;"
        " choose a type with disks, such as ml.m5d.24xlarge",
    ),
    (
        {"retention": "keep_data = false\nlogs_days = 100"},
        "retention.logs_days=100 is not a retention of CloudWatch; write one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, "
        "180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653",
    ),
    # --- async, serverless, component
    (
        {"hosting": 'mode = "async"\nemail = "ml@example.com"'},
        "hosting.email='ml@example.com' is told nothing while notify is off; write notify = true",
    ),
    (
        {"hosting": 'mode = "serverless"\nmemory_mib = 8192'},
        "hosting.memory_mib=8192 is not one of 1024, 2048, 3072, 4096, 5120, 6144",
    ),
    (
        {"hosting": 'mode = "serverless"\nmax_concurrency = 2\nprovisioned_concurrency = 5'},
        "hosting.provisioned_concurrency=5 is more than max_concurrency = 2; raise that, or lower it",
    ),
    (
        {"hosting": 'mode = "serverless"', "network": 'vpc = "new"'},
        "[network] does not go with hosting.mode='serverless', which runs in no VPC; remove it, or choose mode "
        "'realtime' or "
        "'async'",
    ),
    (
        {"hosting": 'mode = "serverless"', "model": "size_gib = 8"},
        "model.size_gib=8.0 is more than the 5 GB of disk of a serverless endpoint; choose another hosting.mode",
    ),
    (
        {"hosting": 'mode = "serverless"', "model": 'prefix = "s3://bucket/model/"'},
        "model.prefix='s3://bucket/model/' is refused by serverless endpoints; pack it and write model.archive",
    ),
    ({"hosting": 'mode = "component"'}, "hosting.copies is missing; write the table [hosting.copies]"),
    (
        {"hosting": f"{COMPONENT}\nmin_instances = 0"},
        "hosting.min_instances=0 is never reached while a copy is kept; write [hosting.scaling] with min_copies = 0, "
        "or "
        "min_instances = 1",
    ),
    (
        {"hosting": 'mode = "component"\ncopies = { gpus = 2, min_memory_mib = 1024 }'},
        "hosting.copies.gpus=2 is more than the 1 of ml.g6.xlarge; lower it, or choose a larger instance_type",
    ),
    (
        {"hosting": COMPONENT, "hosting__scaling": "max_copies = 4"},
        "hosting.scaling.max_copies=4 is too many for an update, which starts 1 beside them, and 2 x ml.g6.xlarge have "
        "GPUs for 2; write max_instances = 5, or choose a larger instance_type",
    ),
    (
        {"hosting": f"{COMPONENT}\nmax_instances = 1"},
        "hosting.copies.count=1 is too many for an update, which starts 1 beside them, and 1 x ml.g6.xlarge have GPUs "
        "for 1; write max_instances = 2, or choose a larger instance_type",
    ),
    (
        {
            "hosting": 'mode = "component"\ninstance_type = "ml.g6.12xlarge"\nrollout = { percent = 30 }',
            "hosting__copies": "min_memory_mib = 1024\ngpus = 2\ncount = 4",
        },
        "hosting.copies.count=4 is too many for an update, which starts 2 beside them, and 2 x ml.g6.12xlarge have "
        "GPUs for 4; write max_instances = 3, or choose a larger instance_type",
    ),
]


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence
