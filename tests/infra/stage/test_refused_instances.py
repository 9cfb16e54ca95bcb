"""What is said of instances, and of tables that are lists, that cannot be deployed: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import COMPONENT, CPU, LONG, P5, PLAN, REALTIME, pools, refusal, written
from tidegate.infra.hosting import instance_types

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- instances
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.xlrage"'},
        "hosting.instance_type='ml.g6.xlrage' is not an instance type of SageMaker endpoints; did you mean "
        "ml.g6.xlarge or "
        "ml.g6e.xlarge or ml.g6.8xlarge?",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "g6"'},
        "hosting.instance_type='g6' is not an instance type; write one like 'ml.g6.xlarge'",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.inf2.xlarge"'},
        "hosting.instance_type='ml.inf2.xlarge' is without a build of our image, whose torch does not know its chips; "
        "choose a GPU or CPU type",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.p6e-gb200.36xlarge"'},
        "hosting.instance_type='ml.p6e-gb200.36xlarge' is a GPU beside an ARM processor, and the GPU image is amd64; "
        "choose ml.g6.xlarge",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.c7g.large"\n'
            'variants = [{ name = "a", weight = 1 }, { name = "b", weight = 1, instance_type = "ml.c7i.large" }]'
        },
        "hosting.variants[2].instance_type='ml.c7i.large' is linux/amd64, and hosting.instance_type = ml.c7g.large is "
        "linux/arm64, with one image for both; choose types of one kind",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.c7g.large"', "hosting__shadow": 'instance_type = "ml.c7i.large"'},
        "hosting.shadow.instance_type='ml.c7i.large' is linux/amd64, and hosting.instance_type = ml.c7g.large is "
        "linux/arm64, with one image for both; choose types of one kind",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.c7g.large"', "batch": ""},
        "batch.instance_type='ml.m5.2xlarge' is linux/amd64, and hosting.instance_type = ml.c7g.large is linux/arm64, "
        "with one image for both; transform jobs have no ARM types, so choose another hosting.instance_type, or remove "
        "[batch]",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.p3.2xlarge"'},
        "hosting.instance_type='ml.p3.2xlarge' is a GPU that CUDA 13 no longer runs on; choose one like ml.g6.xlarge",
    ),
    (
        {"hosting": f'{CPU}\ninference_ami = "al2023-ami-sagemaker-inference-gpu-4-1"'},
        "hosting.inference_ami='al2023-ami-sagemaker-inference-gpu-4-1' is for GPU types, and this is ml.m7i.large; "
        "remove it",
    ),
    (
        {
            "hosting": f'{REALTIME}\nbidirectional = true\ninference_ami = "al2-ami-sagemaker-inference-gpu-3-1"',
        },
        "hosting.inference_ami='al2-ami-sagemaker-inference-gpu-3-1' is a host image that streams in both directions "
        "may not get through; write 'al2023-ami-sagemaker-inference-gpu-4-1', or leave it out",
    ),
    (
        {"hosting": f"{COMPONENT}\nbidirectional = true"},
        "hosting.bidirectional=true is a key of mode realtime, and the mode here is component; remove it, or change "
        "the mode",
    ),
    (
        {"hosting": f"{REALTIME}\ndata_cache = true"},
        "hosting.data_cache=true is a key of mode component, and the mode here is realtime; remove it, or change the "
        "mode",
    ),
    # --- instances that are hard to get
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.xlarge')}"},
        "hosting.instance_pools=[{…}] is not 2 to 5 tables; for one type write instance_type",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('g6', 'ml.g5.xlarge')}"},
        "hosting.instance_pools[1].instance_type='g6' is not an instance type; write one like 'ml.g6.xlarge'",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.xlarge', 'ml.g5.xlrage')}"},
        "hosting.instance_pools[2].instance_type='ml.g5.xlrage' is not an instance type of SageMaker endpoints; did "
        "you mean ml.g5.xlarge or ml.g5.8xlarge or ml.g5.4xlarge?",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.xlarge"\n{pools("ml.g6.xlarge", "ml.g5.xlarge")}'},
        "hosting.instance_type='ml.g6.xlarge' is one type, and [[hosting.instance_pools]] name several; remove it, or "
        "remove them",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.xlarge', 'ml.g5.xlarge', 'ml.g6.xlarge')}"},
        "hosting.instance_pools[3].instance_type='ml.g6.xlarge' is named twice; remove one of the two",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.xlarge', 'ml.m7i.xlarge')}"},
        "hosting.instance_pools[2].instance_type='ml.m7i.xlarge' is without a GPU beside ml.g6.xlarge; choose types of "
        "one kind",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.m5.xlarge', 'ml.m5d.xlarge')}"},
        "hosting.instance_pools[2].instance_type='ml.m5d.xlarge' is with disks of its own beside ml.m5.xlarge; choose "
        "types of one kind",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.24xlarge', 'ml.g5.48xlarge')}"},
        "hosting.instance_pools[2].instance_type='ml.g5.48xlarge' is with 8 GPUs beside ml.g6.24xlarge with 4, and "
        "alarms measure both alike; choose types with as many",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.12xlarge', 'ml.g6.xlarge')}"},
        "hosting.instance_pools[2].instance_type='ml.g6.xlarge' is with 1 GPU beside ml.g6.12xlarge with 4, and "
        "alarms measure both alike; choose types with as many",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.m8g.xlarge', 'ml.m7i.xlarge')}"},
        "hosting.instance_pools[2].instance_type='ml.m7i.xlarge' is linux/amd64, and hosting.instance_pools[1]."
        "instance_type = ml.m8g.xlarge is linux/arm64, with one image for both; choose types of one kind",
    ),
    (
        {"hosting": f'mode = "multi_model"\n{pools("ml.m7i.xlarge", "ml.m6i.xlarge")}'},
        "hosting.instance_pools=[{…}, {…}] is a key of modes realtime, async, component, and the mode here is "
        "multi_model; remove it, or change the mode",
    ),
    (
        {"hosting": f"{COMPONENT[:-2]}, gpus = 4 }}\n{pools('ml.g6.12xlarge', 'ml.g6.4xlarge')}"},
        "hosting.copies.gpus=4 is more than the 1 of ml.g6.4xlarge; lower it, or choose larger types in "
        "[[hosting.instance_pools]]",
    ),
    (
        {"hosting": f"{REALTIME}\nprovision_timeout_s = 60"},
        "hosting.provision_timeout_s=60 is not a whole number from 300 to 3600",
    ),
    (
        {"hosting": f'{REALTIME}\ncapacity_reservation = "p5-for-us"'},
        "hosting.capacity_reservation='p5-for-us' is not a reservation of SageMaker; write arn:aws:sagemaker:REGION:"
        "ACCOUNT:training-plan/NAME",
    ),
    (
        {"hosting": f'{P5}\ncapacity_reservation = "{PLAN.replace("for", "für")}"'},
        f"hosting.capacity_reservation='{PLAN.replace('for', 'für')}' is not a reservation of SageMaker; write "
        "arn:aws:sagemaker:REGION:ACCOUNT:training-plan/NAME",
    ),
    (
        {"hosting": f'{P5}\ncapacity_reservation = "{LONG}"'},
        f"hosting.capacity_reservation='{LONG}' is not a reservation of SageMaker; write arn:aws:sagemaker:REGION:"
        "ACCOUNT:training-plan/NAME",
    ),
    (
        {"hosting": f'{CPU}\ncapacity_reservation = "{PLAN}"'},
        "hosting.instance_type='ml.m7i.large' is a type that no training plan holds, and hosting.capacity_reservation "
        f"names one; choose one of {', '.join(instance_types.planned_types())}, or remove hosting.capacity_reservation",
    ),
    (
        {"hosting": f'mode = "multi_model"\ncapacity_reservation = "{PLAN}"'},
        f"hosting.capacity_reservation='{PLAN}' is one that holds {', '.join(instance_types.planned_types())}, and "
        "multi-model endpoints take none of them; remove it",
    ),
    # --- lists of tables
    (
        {"hosting": f'{REALTIME}\ninstance_pools = ["ml.g6.xlarge", "ml.g5.xlarge"]'},
        "hosting.instance_pools[1]='ml.g6.xlarge' is not a table; write [[hosting.instance_pools]], and its keys below "
        "that line",
    ),
    (
        {"hosting": REALTIME, "hosting__instance_pools": 'instance_type = "ml.g6.xlarge"'},
        "hosting.instance_pools={…} is not a list of tables; write [[hosting.instance_pools]] above the keys of each",
    ),
    (
        {"role": 'statements = ["s3:GetObject"]'},
        "role.statements[1]='s3:GetObject' is not a table; write [[role.statements]], and its keys below that line",
    ),
    (
        {"hosting": f'{REALTIME}\ncapacity_reservation = "{PLAN}"\n{pools("ml.g6.xlarge", "ml.g5.xlarge")}'},
        "hosting.capacity_reservation holds instances of one type, and [[hosting.instance_pools]] name several; remove "
        "one of the two",
    ),
    (
        {"hosting": f'{REALTIME}\ncapacity_reservation = "{PLAN}"', "hosting__shadow": ""},
        "hosting.capacity_reservation is for endpoints of one variant, and [hosting.shadow] makes more; remove one of "
        "the two",
    ),
    ({"hosting": f"{REALTIME}\ninstance_count = 0"}, "hosting.instance_count=0 is not a whole number from 1 to 1000"),
    (
        {"hosting": f'{REALTIME}\ninstance_count = "2"'},
        "hosting.instance_count='2' is not a whole number from 1 to 1000",
    ),
    (
        {"hosting": f"{REALTIME}\nstartup_timeout_s = 30"},
        "hosting.startup_timeout_s=30 is not a whole number from 60 to 3600",
    ),
]


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence
