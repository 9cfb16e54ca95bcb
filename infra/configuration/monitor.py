"""`[hosting.monitor]`: Model Monitor, which compares captured requests with what the model was trained on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tidegate.infra.configuration.image import ImageReference
from tidegate.infra.configuration.value import BUCKET, InstanceType, OwnPrefix, Value, like, whole

_Json = Annotated[
    str,
    like(rf"s3://{BUCKET}/\S+\.json", "not a JSON file in S3; write one like 's3://bucket/baseline/statistics.json'"),
]
_Script = Annotated[
    str, like(rf"s3://{BUCKET}/\S+\.py", "not a script in S3; write one like 's3://bucket/monitor/preprocess.py'")
]


class Monitor(Value):
    """A job that looks at what was captured since the last one, by the clock.

    Ranges: API reference, CreateDataQualityJobDefinition and ScheduleConfig.
    """

    schedule: Annotated[
        str,
        like(
            r"cron\(0 (\*|([01]?\d|2[0-3])(/([1-9]|1\d|2[0-4]))?) \? \* \* \*\)",
            "not a schedule of Model Monitor; write 'cron(0 * ? * * *)' for each hour, 'cron(0 3 ? * * *)' for each "
            "night, or 'cron(0 0/6 ? * * *)'",
        ),
    ] = "cron(0 * ? * * *)"
    """Every hour; or at one hour of the day, `cron(0 3 ? * * *)`, or every few hours, `cron(0 0/6 ? * * *)`; in UTC."""
    statistics: _Json | None = None
    """The output of a baselining job, `s3://…/statistics.json`. Without it and `constraints`, captures are described
    but not compared.
    """
    constraints: _Json | None = None
    """The same, `s3://…/constraints.json`."""
    image_uri: ImageReference | None = None
    """The default is SageMaker's own analyzer of tabular data, which requires `region`."""
    preprocessor: _Script | None = None
    """A script in S3 that this analyzer calls for each record."""
    postprocessor: _Script | None = None
    """A script in S3 that this analyzer calls at the end."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the job's container."""
    instance_type: InstanceType = "ml.m5.xlarge"
    """A type from SageMaker's list for processing jobs."""
    instance_count: Annotated[int, whole(1, 100)] = 1
    """1 to 100."""
    volume_gb: Annotated[int, whole(1, 16_384)] = 20
    """1 to 16384."""
    max_runtime_s: Annotated[int, whole(1, 86_400)] = 3600
    """At most the interval between two jobs."""
    prefix: OwnPrefix = "monitor/"
    """Where reports are stored in the stage's bucket."""
    role_arn: (
        Annotated[
            str, like(r"arn:aws[a-z-]*:iam::\d{12}:role/[!-~]+", "not a role; write arn:aws:iam::ACCOUNT:role/NAME")
        ]
        | None
    ) = None
    """An existing role. By default the stack creates one with [fewer permissions than the
    endpoint's](hosting.md#captures-against-a-baseline).
    """
