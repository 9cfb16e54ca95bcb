"""Every series that the server writes at `/metrics`, to hold queries against."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Written:
    """The text of `/metrics` of a server to which everything has happened once."""

    text: str

    @classmethod
    def by_the_server(cls) -> Self:
        from tidegate.inference.frontend.metrics import ModelGauges, ModelMetrics
        from tidegate.inference.frontend.prometheus_text import render
        from tidegate.inference.frontend.repository.repository_metrics import (
            Counts,
            RepositoryGauges,
            RepositoryMetrics,
        )

        counted = ModelMetrics(retries=1, worker_restarts=1)
        counted.responses[200] += 1
        counted.shed["queue_full"] += 1
        counted.abandoned["waiting"] += 1
        counted.streams.broken["handler_failed"] += 1
        counted.conversations_closed[1000] += 1
        repository = RepositoryGauges(
            counts=Counts(),
            metrics=RepositoryMetrics(),
            waiting=0,
            known=0,
            on_disk=0,
            disk_bytes=0,
            in_memory=0,
            memory_bytes=0,
        )
        gauges = ModelGauges(
            metrics=counted, waiting=0, computing=0, workers={1: {0: 1}}, batch_limit=8, batch_wait_s=0.002
        )
        return cls(render({"m": gauges}, repository).decode())

    @staticmethod
    def named_in(queries: Iterable[str]) -> set[str]:
        """The series of ours that `queries` read."""
        return {name for query in queries for name in re.findall(r"\btidegate_\w+", query)}

    def lacks(self, queries: Iterable[str]) -> set[str]:
        """Series that `queries` read, and labels that they group by, which the server does not write."""
        queries = tuple(queries)
        samples = {match[1] for match in re.finditer(r"^(\w+)(\{[^}]*\})? ", self.text, re.MULTILINE)}
        histograms = {name.removesuffix("_bucket") for name in samples if name.endswith("_bucket")}
        grouped = {
            label
            for query in queries
            for labels in re.findall(r"by \(([\w, ]+)\)", query)
            for label in labels.split(", ")
        }
        # These two are the scrape configuration's.
        missing = {label for label in grouped - {"job", "instance"} if not re.search(rf'\b{label}="', self.text)}
        return (self.named_in(queries) - samples - histograms) | missing
