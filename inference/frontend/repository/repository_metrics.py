"""What is counted of a model repository. No series has a model's name."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.inference.frontend.metrics import Histogram

LOAD_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
IDLE_S = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)


@dataclass(slots=True, kw_only=True)
class Counts:
    """What the librarian counts; the numbers only grow."""

    hits: int = 0
    """Requests whose revision was loaded."""
    misses: int = 0
    """Requests that had to wait for a fetch or a load."""
    loads: int = 0
    load_failures: int = 0
    fetches: int = 0
    fetch_failures: int = 0
    evictions: int = 0
    """From memory, to make room."""
    disk_evictions: int = 0
    switches: int = 0
    """Times that another revision took over while the old one was loaded."""


@dataclass(slots=True, kw_only=True)
class RepositoryMetrics:
    """What its shell counts beside that."""

    load_s: Histogram = field(default_factory=lambda: Histogram(LOAD_S))
    """From the disk to a model that has passed its check."""
    idle_at_eviction_s: Histogram = field(default_factory=lambda: Histogram(IDLE_S))
    """How long what was evicted had not been used. Low values: the limits are too small for what is asked."""
    listing_failures: int = 0
    process_restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryGauges:
    """All that `/metrics` says of it at the moment of the scrape."""

    counts: Counts
    metrics: RepositoryMetrics
    waiting: int
    known: int
    on_disk: int
    disk_bytes: int
    in_memory: int
    memory_bytes: int
