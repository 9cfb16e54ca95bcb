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
from tidegate.infra import validation
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import RealtimeHosting
from tidegate.infra.hosting import instance_types, machines
from tidegate.infra.stage import context, stage_file, stage_schema
from tidegate.infra.validation import tables

REALTIME = 'mode = "realtime"'
CPU = 'mode = "realtime"\ninstance_type = "ml.m7i.large"'
COMPONENT = 'mode = "component"\ncopies = { min_memory_mib = 1024 }'
GOOD = {"image": 'tag = "1.4.0"', "hosting": REALTIME, "retention": "keep_data = false"}
TABLE = 'columns = { id = "string" }\n'
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
ROLE = "arn:aws:iam::123456789012:role/inference"
BOUNDARY_UNKNOWN = (
    "role.boundary='x' is not a key of [role]; there are: arn, managed_policies, permissions_boundary, statements"
)
DIGEST = "sha256:" + "0a" * 32
PLAN = "arn:aws:sagemaker:eu-central-1:123456789012:training-plan/p5-for-us"
P5 = 'mode = "realtime"\ninstance_type = "ml.p5.48xlarge"'
LONG = PLAN.replace("training-plan", "ml-reservation") + "s" * 258


def pools(*types: str) -> str:
    """Several instance types, as one line of a stage file."""
    tables = ", ".join(f'{{ instance_type = "{name}" }}' for name in types)
    return f"instance_pools = [{tables}]"


def written(directory: Path, top: str = "", /, name: str = "trial", **tables: str | None) -> Path:
    """A stage file with `top` above its tables; a table that is None is left out."""
    bodies = GOOD | tables
    text = [top, *(f"[{table.replace('__', '.')}]\n{body}\n" for table, body in bodies.items() if body is not None)]
    path = directory / f"{name}.toml"
    path.write_text("\n".join(text))
    return path


def read(path: Path) -> Stage:
    """As `cdk -c stage=PATH` reads it."""
    return context.choose({"stage": str(path)})


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.removeprefix("trial.toml: ")


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
    ({"retention": None}, "retention is missing; write the table [retention]"),
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
    # --- image
    (
        {"image": 'tag = "1"\nuri = "registry.example/serving:1"'},
        "image has tag and uri, and takes exactly one of tag, digest, uri, build; remove what is not meant",
    ),
    ({"image": ""}, "image does not say which; write exactly one of tag, digest, uri, build"),
    (
        {"image": 'tag = "latest"'},
        "image.tag='latest' is not a tag that stays; push and name a version, such as '1.4.0'",
    ),
    (
        {"image": 'digest = "sha256:12ab"'},
        "image.digest='sha256:12ab' is not a digest; write 'sha256:' and its 64 hexadecimal digits",
    ),
    (
        {"image": 'uri = "registry.example/serving:latest"'},
        "image.uri='registry.example/serving:latest' is not an image that stays; write host/name:version or "
        "host/name@sha256:digest",
    ),
    (
        {"image": 'uri = "registry.example/serving:1"'},
        "image.uri='registry.example/serving:1' is not in Amazon ECR, and SageMaker reaches other registries through "
        "a VPC "
        "only; push it to ECR, or write [network]",
    ),
    (
        {"image": 'tag = "1"\nbuild_args = { TORCH = "2.13" }'},
        "image.build_args={…} does not go with tag; remove one of the two",
    ),
    (
        {"image": 'build = "no/such/place"'},
        "image.build='no/such/place' is no directory; give its path from where cdk is run",
    ),
    (
        {"image": 'build = "infra"'},
        "image.dockerfile='Dockerfile' is not a file in infra; give its path from there, such as "
        "'container/Dockerfile'",
    ),
    # --- model
    (
        {"model": 'archive = "models/m.tar.gz"'},
        "model.archive='models/m.tar.gz' is not an archive in S3; pack it with 'tidegate pack', upload it, write "
        "s3://bucket/path/model.tar.gz, where a bucket's name has 3 to 63 small letters, digits, dots and hyphens",
    ),
    (
        {"model": 'archive = "s3://bucket/m.tar.gz"\ntraining_job = "digits-1"'},
        "model has archive and training_job, and takes at most one of archive, prefix, training_job, package, group, "
        "directory, repository; remove what is not meant",
    ),
    (
        {"model": 'prefix = "s3://bucket/model"'},
        "model.prefix='s3://bucket/model' is not a prefix in S3; write s3://bucket/path/ with the slash at its end",
    ),
    (
        {"model": 'repository = "s3://bucket/models/*"'},
        "model.repository='s3://bucket/models/*' is not a place in S3; write s3://bucket/path, without '*', '?', '$' "
        "or '//'",
    ),
    (
        {"model": 'repository = "s3://bucket/models"\narchive = "s3://bucket/m.tar.gz"'},
        "model has repository and archive, and takes at most one of archive, prefix, training_job, package, group, "
        "directory, repository; remove what is not meant",
    ),
    (
        {"model": 'repository = "s3://bucket/models"\nrepository_key = "alias/mine"'},
        "model.repository_key='alias/mine' is not a key; write the ARN of a KMS key (not of an alias)",
    ),
    (
        {"model": 'repository_key = "arn:aws:kms:eu-west-1:210987654321:key/0a1b"'},
        "model.repository_key='arn:aws:kms:eu-west-1:210987654321:key/0a1b' goes with model.repository, which is "
        "missing; write both or none",
    ),
    (
        {"model": 'package_archive = "s3://bucket/m.tar.gz"'},
        "model.package_archive='s3://bucket/m.tar.gz' goes with model.package, which is missing; write both or none",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting": 'mode = "multi_model"'},
        "model.repository='s3://bucket/models' is a list of models that the server keeps itself, and in mode "
        "multi_model SageMaker says which are loaded; write mode = 'realtime', or model.directory = 's3://bucket/path/'",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting": 'mode = "serverless"'},
        "model.repository='s3://bucket/models' is followed between requests, when a serverless endpoint need not have "
        "a container at all; choose mode 'realtime' or 'async', or name one model.archive",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting": 'mode = "realtime"\nnetwork_isolation = true'},
        "hosting.network_isolation=true is a container without a network, which cannot read model.repository; remove "
        "one of the two",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting__shadow": 'archive = "s3://bucket/m.tar.gz"'},
        "hosting.shadow.archive='s3://bucket/m.tar.gz' is one model beside the many of model.repository, which all "
        "variants serve; leave it out, and publish that model as a version",
    ),
    (
        {"server": 'model_repository = "s3://bucket/models"'},
        "server.model_repository='s3://bucket/models' is said to the container and not to its role; write "
        "model.repository, and leave it out here",
    ),
    (
        {"environment": 'TIDEGATE_MODEL_REPOSITORY = "s3://bucket/models"'},
        "environment.TIDEGATE_MODEL_REPOSITORY='s3://bucket/models' is said to the container and not to its role; "
        "write model.repository, and leave it out here",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "server": "max_disk_models = 2\nmax_loaded_models = 3"},
        "[server]: TIDEGATE_MAX_DISK_MODELS=2 is less than TIDEGATE_MAX_LOADED_MODELS=3: a model that is loaded is on "
        "the disk too",
    ),
    ({"model": "size_gib = 0"}, "model.size_gib=0 is not a number from 0.001 to 500"),
    (
        {"model": 'directory = "s3://bucket/models/"'},
        "model.directory='s3://bucket/models/' is for mode multi_model, and the mode is realtime; name one "
        "model.archive",
    ),
    (
        {"model": 'package = "digits/latest"'},
        "model.package='digits/latest' is not a model package; write its ARN or 'group/version'",
    ),
    (
        {"model": 'package = "digits/3"'},
        "[image] does not go with model.package, which names its image itself; remove one of the two",
    ),
    (
        {"image": None, "model": 'package = "digits/3"\npackage_archive = "s3://bucket/m.tar.gz"'},
        "model.package_image is missing, and model.package_archive is there; write both, as 'python -m infra models "
        "promote' does, or none to have them looked up",
    ),
    (
        {
            "image": None,
            "model": 'package = "digits/3"\npackage_archive = "s3://bucket/m.tar.gz"\n'
            'package_image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/serving:1"',
        },
        "model.package='digits/3' is short for an ARN, and with model.package_image nothing is looked up; write the "
        "whole ARN",
    ),
    (
        {"model": 'archive = "s3://bucket/m.tar.gz"', "hosting": 'mode = "multi_model"'},
        "hosting.mode='multi_model' serves archives below a prefix; write model.directory = 's3://bucket/path/', or "
        "leave "
        "[model] out for models/ in the stage's bucket",
    ),
    (
        {"image": None, "model": 'group = "digits"', "hosting__shadow": 'archive = "s3://bucket/m.tar.gz"'},
        "hosting.shadow.archive='s3://bucket/m.tar.gz' is apart from the package of [model], which has image and "
        "archive "
        "in one; name model.archive and [image] instead, or leave it out",
    ),
    (
        {"hosting__shadow": 'image_uri = "registry.example/serving:1"'},
        "hosting.shadow.image_uri='registry.example/serving:1' is not in Amazon ECR, and SageMaker reaches other "
        "registries through a VPC only; push it to ECR, or write [network]",
    ),
    (
        {"hosting__shadow": 'image_uri = "serving"'},
        "hosting.shadow.image_uri='serving' is not an image that stays; write host/name:version or "
        "host/name@sha256:digest",
    ),
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
    # --- what is deleted after some days
    (
        {"hosting__capture": 'percent = 5\nprefix = "models/"'},
        "hosting.capture.prefix='models/' is in the way of models/, and what it holds would be deleted with old "
        "results; choose another, such as 'results/'",
    ),
    (
        {"hosting": 'mode = "async"\noutput_prefix = "batch/"'},
        "hosting.output_prefix='batch/' is in the way of batch/input/, and what it holds would be deleted with old "
        "results; choose another, such as 'results/'",
    ),
    (
        {"hosting": 'mode = "async"\noutput_prefix = "a/"\nfailure_prefix = "a/b/"'},
        "hosting.failure_prefix='a/b/' is in the way of a/, and nobody could tell the two apart; choose another, such "
        "as 'results/'",
    ),
    # --- network and alarms
    (
        {"network": 'vpc = "new"\ncidr = "999.0.0.0/16"'},
        "network.cidr='999.0.0.0/16' is not a range of /16 to /24; write one like '10.0.0.0/16'",
    ),
    (
        {"observability": 'topic_arn = "arn:aws:sns:eu-central-1:123456789012:on-call"\nemail = "ml@example.com"'},
        "observability.email='ml@example.com' is for a topic of the stage's own, and observability.topic_arn names "
        "another; subscribe it there, or remove one of the two",
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
    # --- network and key
    (
        {"network": 'vpc = "default"'},
        "network.vpc='default' is not a VPC; write 'new', or an id like 'vpc-0a1b2c3d'",
    ),
    (
        {"network": 'vpc = "new"\nsubnets = ["subnet-0a1b2c3d"]'},
        "network.subnets=['subnet-0a1b2c3d'] does not go with vpc = 'new'; remove one of the two",
    ),
    (
        {"network": 'vpc = "vpc-0a1b2c3d"\nsubnets = []\nsecurity_groups = ["sg-0a1b2c3d"]'},
        "network.subnets=[] is not a list of 1 to 16 subnets",
    ),
    (
        {"network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["public"]\nsecurity_groups = ["sg-0a1b2c3d"]'},
        "network.subnets[1]='public' is not a subnet; write an id like 'subnet-0a1b2c3d'",
    ),
    ({"network": "nat = true"}, "network does not say which; write vpc = 'new' or the id of a VPC"),
    *(
        (
            {"network": f'vpc = "new"\navailability_zones = {written}'},
            f"network.availability_zones={said} is neither a number from 2 to 6 nor different zones of one Region, six "
            "at most; write 2, or ['eu-central-1a', 'eu-central-1b']",
        )
        for written, said in (
            ("1", "1"),
            ("true", "true"),
            ('"eu-central-1a"', "'eu-central-1a'"),
            ("[]", "[]"),
            ('["a", "b"]', "['a', 'b']"),
            ('["euc1-az1"]', "['euc1-az1']"),
            ('["eu-central-1a", "eu-central-1a"]', "['eu-central-1a', 'eu-central-1a']"),
            ('["eu-central-1a", "eu-west-1a"]', "['eu-central-1a', 'eu-west-1a']"),
        )
    ),
    (
        {
            "network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
            "availability_zones = 2"
        },
        "network.availability_zones=2 is not a list of different zones of one Region; write it like ['eu-central-1a', "
        "'eu-central-1b']",
    ),
    (
        {
            "network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
            'availability_zones = ["eu-central-1a", "eu-central-1b"]'
        },
        "network.availability_zones=['eu-central-1a', 'eu-central-1b'] is more zones than the 1 of network.subnets can "
        "lie in; name those of the subnets",
    ),
    (
        {"encryption": 'key = "alias/mine"'},
        "encryption.key='alias/mine' is not a key; write 'aws', 'new' or the ARN of a KMS key (not of an alias)",
    ),
    (
        {
            "network": 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
            'subnets_owner = "1234"'
        },
        "network.subnets_owner='1234' is not an account; write its 12 digits in quotes",
    ),
    # --- the role
    (
        {"role": 'arn = "inference"'},
        "role.arn='inference' is not a role; write arn:aws:iam::ACCOUNT:role/NAME",
    ),
    (
        {"role": f'arn = "{ROLE}"\nmanaged_policies = ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]'},
        "role.managed_policies is for a role that the stage makes, and role.arn names one that is there; give it that "
        "right where it is looked after, or remove role.arn",
    ),
    (
        {"role": 'statements = [{ actions = ["s3:*"], resources = ["*"] }]'},
        "role.statements[1].actions[1]='s3:*' is not an action; write one like 'dynamodb:GetItem', without '*'",
    ),
    (
        {"role": 'statements = [{ actions = ["s3:GetObject"], resources = ["bucket/key"] }]'},
        "role.statements[1].resources[1]='bucket/key' is not an ARN; write one, or '*' where AWS knows none",
    ),
    (
        {"role": 'statements = [{ actions = [], resources = ["*"] }]'},
        "role.statements[1].actions=[] is not a list of 1 to 100 actions",
    ),
    (
        {"role": 'permissions_boundary = "boundary"'},
        "role.permissions_boundary='boundary' is not the ARN of a managed policy",
    ),
    ({"role": 'boundary = "x"'}, BOUNDARY_UNKNOWN),
    # --- batch, registry, seeing, paying
    (
        {"batch": 'schedule = "daily"'},
        "batch.schedule='daily' is not a schedule; write one like 'rate(1 day)', 'at(2027-01-31T20:00:00)' or "
        "'cron(0 3 * * ? *)', with '?' for the day of the month or of the week",
    ),
    (
        {"batch": 'content_types = { ".csv" = "text/csv" }'},
        "batch.content_types..csv='.csv' is not the ending of a file's name; write one like 'jsonl'",
    ),
    (
        {"batch": 'input_filter = "$.my_features"'},
        "batch.input_filter='$.my_features' is not a filter of SageMaker; write one like '$[1:]' for CSV, or "
        "'$.features' for JSON Lines",
    ),
    (
        {"batch": 'input_filter = "$[1:]"\ncontent_types = { wav = "audio/wav" }'},
        "batch.content_types.wav='audio/wav' is nothing that SageMaker filters or joins; write a type of CSV, JSON or "
        "JSON Lines, or remove join_source, input_filter and output_filter",
    ),
    (
        {"batch": 'join_source = "Input"\ndefault_content_type = "application/x-npy"'},
        "batch.default_content_type='application/x-npy' is nothing that SageMaker filters or joins; write a type of "
        "CSV, JSON or JSON Lines, or remove join_source, input_filter and output_filter",
    ),
    (
        {"batch": 'join_source = "input"'},
        "batch.join_source='input' is neither 'Input' nor 'None'",
    ),
    (
        {"batch": 'schedule = "rate(1 day)"'},
        "batch.schedule_input is missing, so a scheduled job has nothing to transform; write one like "
        "'batch/input/{date}/', or remove batch.schedule",
    ),
    (
        {"batch": 'instance_type = "ml.g7e.2xlarge"'},
        "batch.instance_type='ml.g7e.2xlarge' is not an instance type of transform jobs; did you mean ml.g6e.2xlarge "
        "or "
        "ml.g6e.24xlarge or ml.g6e.12xlarge?",
    ),
    (
        {"batch": "max_concurrent = 50\nmax_payload_mib = 10"},
        "batch.max_concurrent=50 is too many for max_payload_mib = 10, as SageMaker takes a product of 100; lower one",
    ),
    # --- a table of results
    ({"batch__table": ""}, "batch.table.columns is missing; write { id = 'string', score = 'double' }"),
    (
        {"batch__table": "columns = {}"},
        "batch.table.columns={…} is not 1 to 1596 columns; write { id = 'string', score = 'double' }",
    ),
    (
        {"batch__table": 'columns = ["id"]'},
        "batch.table.columns=['id'] is not a table; write [batch.table.columns], and its keys below that line",
    ),
    ({"table": 'columns = { id = "string" }'}, "table={…} is a table of [batch]; write [batch.table]"),
    *(
        (
            {"batch__table": f"columns = {{ a = {kind} }}"},
            f"batch.table.columns.a={kind} is not a column's type; there are boolean, tinyint, smallint, int, bigint, "
            "float, double, decimal(10,2), string, date, timestamp, binary, and lists of these, such as array<double>",
        )
        for kind in ("'text'", "'DOUBLE'", "3", "'decimal(39,2)'", "'decimal(3,4)'", "'array<array<int>>'", "'array<>'")
    ),
    (
        {"batch__table": 'columns = { Score = "double" }'},
        "batch.table.columns.Score='Score' is not a column's name; use at most 127 small letters, digits and _, "
        "beginning with a letter",
    ),
    (
        {"batch__table": 'columns = { day = "string" }'},
        "batch.table.columns.day='day' is the name of a column that every table has (job, input_file, record, day); "
        "choose another",
    ),
    (
        {"batch__table": TABLE + 'name = "my-table"'},
        "batch.table.name='my-table' is no name of SQL; use at most 127 small letters, digits and _, beginning with a "
        "letter",
    ),
    (
        {"batch__table": TABLE + 'location = "s3://lake/predictions"'},
        "batch.table.location='s3://lake/predictions' is not a folder in S3; write s3://bucket/path/ with the slash at "
        "its end",
    ),
    (
        {"batch__table": TABLE + 'location = "s3://tidegate-trial-data-123456789012-eu-west-1/batch/input/"'},
        "batch.table.location='s3://tidegate-trial-data-123456789012-eu-west-1/batch/input/' is in the stage's own "
        "bucket, where tables lie below tables/ alone; leave it out, or choose a path there",
    ),
    (
        {"batch__table": f"{TABLE}location_key = '{KEY}'"},
        f"batch.table.location_key='{KEY}' is for a bucket that is not the stage's own; name one with "
        "batch.table.location, or write encryption.key",
    ),
    (
        {"batch__table": TABLE + 'first_day = "2026-01-01"'},
        "batch.table.first_day='2026-01-01' is not a day; write one like 2026-01-01, with no quotes and no time",
    ),
    (
        {"batch__table": TABLE + "first_day = 2026-01-01T00:00:00"},
        "batch.table.first_day=2026-01-01T00:00:00 is not a day; write one like 2026-01-01, with no quotes and no time",
    ),
    (
        {"batch__table": TABLE + "athena = false\nquery_limit_gib = false"},
        "batch.table.query_limit_gib=false is for the workgroup, and batch.table.athena is off; remove one of the two",
    ),
    (
        {"batch__table": TABLE, "hosting": 'mode = "async"\noutput_prefix = "tables/async/"'},
        "hosting.output_prefix='tables/async/' is in the way of tables/, where [batch.table] keeps its own; choose "
        "another, such as 'results/'",
    ),
    (
        {"batch": "", "hosting": 'mode = "multi_model"'},
        "[batch] does not go with hosting.mode='multi_model': a transform job runs one model; give that model a "
        "stage of its "
        "own",
    ),
    (
        {"batch": "", "model": 'prefix = "s3://bucket/model/"'},
        "model.prefix='s3://bucket/model/' is refused by transform jobs; write model.archive, or remove [batch]",
    ),
    (
        {"model_registry": "promotion = true"},
        "model_registry.promotion=true changes the endpoint's model, and [model] names a fixed one; write "
        "model.group, or "
        "promotion = false",
    ),
    (
        {"model_registry": "promotion = true", "model": 'group = "digits"'},
        "model.group='digits' is not the group of [model_registry], tidegate-trial, whose approvals are rolled out; "
        "name the "
        "same group in both",
    ),
    ({"budget": "monthly_usd = 100"}, "budget.email is missing; write one like 'ml-team@example.com'"),
    (
        {"budget": 'monthly_usd = 100\nemail = "team"'},
        "budget.email='team' is not an e-mail address; write one like 'ml-team@example.com'",
    ),
    (
        {"observability__alarms": "gpu_memory_percent = 120"},
        "observability.alarms.gpu_memory_percent=120 is not a number from 0 to 100",
    ),
    # --- the container
    (
        {"server": "port = 9000"},
        "server.port is set by SageMaker itself; remove it",
    ),
    (
        {"server": "idle_exit_s = 3600"},
        "server.idle_exit_s would end the container of an endpoint, which SageMaker starts again and bills meanwhile; "
        "remove it",
    ),
    (
        {"server": "max_bytes_in_flight = 1000"},
        "[server]: TIDEGATE_MAX_BYTES_IN_FLIGHT=1000 is less than TIDEGATE_SPOOL_THRESHOLD_BYTES=8388608: a body "
        "between the two would never find room; raise the first, or lower the second or TIDEGATE_MAX_BODY_BYTES to it",
    ),
    (
        {"environment": 'TIDEGATE_IDLE_EXIT_S = "3600"'},
        "environment.TIDEGATE_IDLE_EXIT_S would end the container of an endpoint, which SageMaker starts again and "
        "bills meanwhile; remove it",
    ),
    (
        {"server": "max_batch_size = 0"},
        "[server]: TIDEGATE_MAX_BATCH_SIZE='0' is not valid: it must be a whole number from 1 to 4096, or auto",
    ),
    (
        {"server": "max_batch_sise = 8"},
        "[server]: 'max_batch_sise' is not a setting of the server; did you mean max_batch_size?",
    ),
    (
        {"server": "TIDEGATE_WORKERS = 2"},
        "[server]: 'TIDEGATE_WORKERS' is not a setting of the server; this variable is workers here",
    ),
    (
        {"environment": 'TIDEGATE_WORKER = "2"'},
        "[environment]: TIDEGATE_WORKER is not a setting of this server; did you mean TIDEGATE_WORKERS?",
    ),
    (
        {"environment": 'TIDEGATE_WORKERS = "many"'},
        "[environment]: TIDEGATE_WORKERS='many' is not valid: it must be a whole number from 1 to 1024",
    ),
    (
        {"environment": 'SAGEMAKER_TS_BATCH_SIZE = "0"'},
        "[environment]: SAGEMAKER_TS_BATCH_SIZE='0' is not valid: it must be a whole number from 1 to 4096, or auto",
    ),
    (
        {"environment": 'TS_CONFIG_FILE = "/etc/config.properties"'},
        "[environment]: TS_CONFIG_FILE is set and cannot be obeyed: no properties file is read; set a variable for "
        "each property",
    ),
    (
        {"environment": 'SAGEMAKER_BIND_TO_PORT = "9000"'},
        "environment.SAGEMAKER_BIND_TO_PORT is set by SageMaker itself; remove it",
    ),
    (
        {"server": "workers = 2", "environment": 'SAGEMAKER_MODEL_SERVER_WORKERS = "3"'},
        "environment.SAGEMAKER_MODEL_SERVER_WORKERS is already set by [server]; keep one of the two",
    ),
    ({"server": "max_wait_ms = [5]"}, "server.max_wait_ms=[5] is not a number, a text, true or false"),
    (
        {"environment": '"MY VARIABLE" = "1"'},
        "environment has 'MY VARIABLE', not the name of a variable; use letters, digits and underscores",
    ),
    ({"environment": "WORKERS = 2"}, "environment.WORKERS=2 is not a text in quotes"),
    (
        {"environment": f'LABELS = "{"x" * 1025}"'},
        "environment.LABELS is longer than the 1024 characters that SageMaker takes; put it into the archive",
    ),
    (
        {"environment": "\n".join(f'V{number} = "1"' for number in range(101))},
        "environment and server have 102 variables; SageMaker takes 100 and 32 KiB in all: put them into the archive",
    ),
    (
        {"server": "workers = 2", "environment": 'TIDEGATE_WORKERS = "3"'},
        "environment.TIDEGATE_WORKERS is already set by [server]; keep one of the two",
    ),
    # --- the GPUs of each worker
    (
        {"server": "gpus_per_worker = 2"},
        "server.gpus_per_worker=2 is more than the 1 of ml.g6.xlarge; lower it, or choose a larger instance_type",
    ),
    (
        {"hosting": CPU, "environment": 'TIDEGATE_GPUS_PER_WORKER = "2"'},
        "environment.TIDEGATE_GPUS_PER_WORKER=2 is more than the 0 of ml.m7i.large; lower it, or choose a larger "
        "instance_type",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.48xlarge"', "server": "gpus_per_worker = 3"},
        "server.gpus_per_worker=3 is no divisor of the 8 of ml.g6.48xlarge, so some would be nobody's; write 1, 2, 4, "
        "8",
    ),
    (
        {"hosting": f'{REALTIME}\ninstance_type = "ml.g6.48xlarge"', "server": "gpus_per_worker = 4\nworkers = 3"},
        "server.workers=3 is too many for the 8 GPUs of ml.g6.48xlarge, of which each worker has 4; write 2 or less",
    ),
    *(
        (
            {"server": f"otlp_endpoint = {value!r}"},
            f"server.otlp_endpoint={value!r} is not an address; write one like 'https://collector.example.internal'",
        )
        for value in ("c:4318", "https://", "https://c:port", "ftp://c")
    ),
    (
        {"environment": 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "nourl"'},
        "environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT='nourl' is not an address; write one like "
        "'https://collector.example.internal'",
    ),
    (
        {"hosting": f"{REALTIME}\nnetwork_isolation = true", "server": 'otlp_endpoint = "https://c"'},
        "server.otlp_endpoint='https://c' is out of reach of a container without a network; remove it, or write "
        "network_isolation = false",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.c7g.large"',
            "image": 'build = "."\ndockerfile = "container/Dockerfile"\nbuild_args = { ACCELERATOR = "gpu" }',
        },
        "image.build_args.ACCELERATOR='gpu' is for linux/amd64, and hosting.instance_type = ml.c7g.large is "
        "linux/arm64; write 'cpu', or choose a GPU type",
    ),
    (
        {"hosting": 'mode = "serverless"', "server": "gpus_per_worker = 2"},
        "server.gpus_per_worker=2 is more than the 0 of a serverless endpoint; remove it, or choose another mode",
    ),
    (
        {
            "hosting": 'mode = "component"\ninstance_type = "ml.g6.12xlarge"\n'
            "copies = { gpus = 2, min_memory_mib = 1024 }",
            "server": "gpus_per_worker = 4",
        },
        "server.gpus_per_worker=4 is more than the 2 of hosting.copies.gpus; lower it, or raise that",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.g6.12xlarge"',
            "batch": 'instance_type = "ml.g4dn.xlarge"',
            "server": "gpus_per_worker = 4",
        },
        "server.gpus_per_worker=4 is more than the 1 of ml.g4dn.xlarge; lower it, or choose a larger batch."
        "instance_type",
    ),
    (
        {"hosting": f"{REALTIME}\n{pools('ml.g6.xlarge', 'ml.g5.xlarge')}", "server": "gpus_per_worker = 4"},
        "server.gpus_per_worker=4 is more than the 1 of ml.g6.xlarge; lower it, or choose larger types in "
        "[[hosting.instance_pools]]",
    ),
    (
        {
            "hosting": f'{REALTIME}\ninstance_type = "ml.g6.12xlarge"',
            "hosting__shadow": 'instance_type = "ml.g6.xlarge"',
            "server": "gpus_per_worker = 2",
        },
        "server.gpus_per_worker=2 is more than the 1 of ml.g6.xlarge; lower it, or choose a larger instance_type",
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
