"""What SageMaker tells CloudWatch once a minute, whether or not requests come: backlogs, and what instances use.

CPU and memory are those of the processes that play the instances, and of all that they started; a container of docker
tells neither. No disk and no GPU is measured. Sources: "SageMaker AI metrics in Amazon CloudWatch" and "Alarms and
logs for tracking metrics from asynchronous endpoints" in the developer guide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

import psutil

from tidegate.local_cloud.metrics.store import MetricStore, Series
from tidegate.local_cloud.sagemaker.async_invocations import AsyncInvocations
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.instances import Instance
from tidegate.local_cloud.sagemaker.invocation_metrics import NAMESPACE

INSTANCES = "/aws/sagemaker/Endpoints"
COMPONENTS = "/aws/sagemaker/InferenceComponents"
_MEASURED_EVERY_S = 5.0  # real time: in an advance minutes pass in moments


@dataclass(slots=True)
class _Usage:
    """What an instance was last seen to use."""

    measured_at: float
    cpu_s: float
    cpu_percent: float = 0.0
    memory_percent: float = 0.0


@dataclass(slots=True)
class CapacityMetrics:
    """Emits into ``store`` when it is called, at a full minute."""

    store: MetricStore
    endpoints: Endpoints
    components: Endpoints
    asynchronous: AsyncInvocations
    _usage: dict[int, _Usage] = field(default_factory=dict)

    def emit(self, moment: datetime) -> None:
        """Of the minute that begins at ``moment``."""
        backlogs = self.asynchronous.backlogs()
        measured: set[int] = set()
        for summary in self.endpoints.summaries():
            name = summary["EndpointName"]
            if self.endpoints.async_config(name) is not None:
                self._emit_backlog(name, backlogs.get(name, []), moment)
        for name, variant, instances in self.endpoints.running():
            dimensions = {"EndpointName": name, "VariantName": variant}
            for instance in instances:
                for metric, value in self._measured(instance, measured).items():
                    self.store.add(Series.of(INSTANCES, metric, dimensions), moment, value)
                if instance.models is not None:
                    loaded = float(len(instance.models.loaded()))
                    self.store.add(Series.of(INSTANCES, "LoadedModelCount", dimensions), moment, loaded)
        for name, _, instances in self.components.running():
            # So that a component without traffic can go to none. That they are sent without it is not verified.
            for metric in ("InvocationsPerCopy", "ConcurrentRequestsPerCopy") if instances else ():
                self.store.add(Series.of(NAMESPACE, metric, {"InferenceComponentName": name}), moment, 0.0)
            for instance in instances:
                for metric, value in self._measured(instance, measured).items():
                    series = Series.of(COMPONENTS, f"{metric}Normalized", {"InferenceComponentName": name})
                    share = value / (psutil.cpu_count() or 1) if metric == "CPUUtilization" else value
                    self.store.add(series, moment, share)
        for process in set(self._usage) - measured:
            del self._usage[process]

    def _emit_backlog(self, name: str, received: list[datetime], moment: datetime) -> None:
        count, instances = len(received), self.endpoints.instance_count(name)
        values = {
            "ApproximateBacklogSize": float(count),
            "HasBacklogWithoutCapacity": float(bool(count) and not instances),
        }
        if instances:  # what it is without any is not documented
            values["ApproximateBacklogSizePerInstance"] = count / instances
        if received:
            values["ApproximateAgeOfOldestRequest"] = max(0.0, (moment - min(received)).total_seconds())
        for metric, value in values.items():
            self.store.add(Series.of(NAMESPACE, metric, {"EndpointName": name}), moment, value)

    def _measured(self, instance: Instance, measured: set[int]) -> dict[str, float]:
        """Percent of one core for each, and percent of the machine's memory."""
        cpu = memory = 0.0
        running = [replica.process_id for replica in instance.chain.replicas.values()]
        for process_id in running:
            if process_id is None:
                continue
            measured.add(process_id)
            usage = self._usage_of(process_id)
            cpu, memory = cpu + usage.cpu_percent, memory + usage.memory_percent
        # An instance that has lost its process reports all the same.
        return {"CPUUtilization": cpu, "MemoryUtilization": memory}

    def _usage_of(self, process_id: int) -> _Usage:
        known, now = self._usage.get(process_id), time.monotonic()
        if known is not None and now - known.measured_at < _MEASURED_EVERY_S:
            return known
        cpu_s = memory = 0.0
        try:
            leader = psutil.Process(process_id)
            for process in (leader, *leader.children(recursive=True)):
                with process.oneshot():
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    memory += process.memory_percent()
        except psutil.Error:  # it has just ended
            pass
        percent = 0.0
        if known is not None:
            percent = max(0.0, cpu_s - known.cpu_s) / (now - known.measured_at) * 100
        usage = self._usage[process_id] = _Usage(now, cpu_s, percent, memory)
        return usage
