"""The log groups of containers, made before what writes to them: their retention counts from the first line on."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import aws_logs as logs
from constructs import Construct


class LogGroups(Construct):
    """Those that the stage makes. They go with their stack, whatever is kept: a group that stays would stand in the way
    of the next deploy, since its name is not ours to choose.
    """

    def __init__(self, scope: Construct, id_: str, *, retention_days: Mapping[str, int | None]) -> None:
        super().__init__(scope, id_)
        self.groups = [
            logs.CfnLogGroup(self, name.split("/")[3], log_group_name=name, retention_in_days=days)
            for name, days in retention_days.items()
            if days is not None
        ]
