"""CloudWatch's log groups of endpoints: each says in which file of this machine a server's output is.

They have to exist, because the SageMaker SDKs wait for the group of an endpoint whose output they are to show, and do
not stop waiting when the endpoint is in service.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGroups:
    """``directory`` is where the files are. A role without the rights has no logs, and its server runs without."""

    roles: Roles
    directory: Path

    def of_variant(self, endpoint: str, variant: str, role_arn: str | None) -> None:
        file = self.directory / "endpoints" / endpoint / f"{variant}.log"
        self._say(f"/aws/sagemaker/Endpoints/{endpoint}", f"{variant}/local", file, role_arn)

    def _say(self, group: str, stream: str, file: Path, role_arn: str | None) -> None:
        event = {"timestamp": int(CLOCK.time() * 1000), "message": f"The local cloud keeps this output in {file}"}
        try:
            logs = self.roles.client("logs", role_arn)
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(logGroupName=group)
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_stream(logGroupName=group, logStreamName=stream)
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
        except (BotoCoreError, ClientError, RoleNotAssumed) as error:
            # The endpoint is there already, and works without.
            logger.warning("the log group %s does not say where %s is: %s", group, file, error)
