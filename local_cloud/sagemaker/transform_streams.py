"""What a transform job leaves in CloudWatch Logs: its containers' output, and the data log of the platform.

Source: "Log Groups and Streams" (logging-cloudwatch) in the developer guide: the group `/aws/sagemaker/TransformJobs`
has the streams `JOB/INSTANCE-EPOCH`, `JOB/INSTANCE-EPOCH/data-log` and, of a pipeline, `JOB/INSTANCE-EPOCH/CONTAINER`.
What a data log says is documented nowhere: its lines are those that users of the SDK quote,
https://github.com/aws/sagemaker-python-sdk/issues/1882.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.sagemaker.jobs.job_output import LogStream, OutputReader
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles

logger = logging.getLogger(__name__)

GROUP = "/aws/sagemaker/TransformJobs"
INSTANCE = "local"
"""The local cloud has one instance for a job, whatever its InstanceCount."""


@dataclass(slots=True, kw_only=True)
class JobStreams:
    """The streams of one job. A role without the rights has none, and its job runs without."""

    roles: Roles
    role_arn: str | None
    job_name: str
    _logs: Any = field(init=False, default=None)
    _stream: str = field(init=False)
    _readers: list[OutputReader] = field(init=False, default_factory=list)
    _data_log: LogStream | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._stream = f"{self.job_name}/{INSTANCE}-{int(CLOCK.time())}"
        try:
            self._logs = self.roles.client("logs", self.role_arn)
        except (BotoCoreError, ClientError, RoleNotAssumed) as error:
            logger.warning("transform job %s has no log streams: %s", self.job_name, error)

    def follow(self, log: Path, *, container: str) -> None:
        """From now on: what is written to ``log``. ``container`` is its name where the job has several, else empty."""
        if self._logs is None:
            return
        stream = f"{self._stream}/{container}" if container else self._stream
        reader = OutputReader(log, [LogStream(self._logs, group=GROUP, stream=stream, log=log)])
        reader.start()
        self._readers.append(reader)

    def say(self, line: str) -> None:
        """Write a line of the data log."""
        if self._logs is None:
            return
        if self._data_log is None:
            stream = f"{self._stream}/data-log"
            self._data_log = LogStream(self._logs, group=GROUP, stream=stream, log=Path(stream))
        moment = datetime.fromtimestamp(CLOCK.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        self._data_log([f"{moment}:[sagemaker logs]: {line}"])

    def close(self) -> None:
        """Take the last output of the containers, which have ended."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()
