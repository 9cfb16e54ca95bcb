"""What the caller of `export` may say, checked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..arguments import as_whole_number, kind_of, shown
from ..errors import ArtifactError
from .candidates import AUTOMATIC, CANDIDATES
from .dimensions import DynamicAxis
from .processor_levels import MIXED, NATIVE

AUTO = "auto"
BATCH_SIZES = (1, 8)
LEAST_RATIO = 1.05

_LARGEST = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The checked arguments of `export`; each attribute bears the name of its argument.

    Attributes:
        names: of the candidates to try, in order.
        automatic: the best of them is kept alone.
    """

    names: tuple[str, ...]
    automatic: bool
    batch_sizes: tuple[int, ...]
    rtol: float | None
    atol: float | None
    latency_budget_ms: float | None
    dynamic: tuple[str, ...]
    max_batch: int
    threads: int
    processor: str
    force: bool
    timeout_s: float


def checked(
    *,
    to: object,
    batch_sizes: object,
    rtol: object,
    atol: object,
    latency_budget_ms: object,
    dynamic: object,
    max_batch: object,
    threads: object,
    processor: object,
    force: object,
    timeout_s: object,
) -> Options:
    """Return the arguments of `export`, checked. Raises `ArtifactError` that names the one that is wrong."""
    automatic, names = _names(to)
    most = as_whole_number(max_batch, "max_batch", least=1, most=1 << 30)
    usual = tuple(size for size in BATCH_SIZES if size <= most)
    given = usual if batch_sizes is None else batch_sizes
    sizes = [given] if isinstance(given, int) else given
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        raise ArtifactError(f"batch_sizes is {shown(batch_sizes)}; give numbers of rows, such as [1, 8]")
    if processor not in (NATIVE, MIXED):
        raise ArtifactError(
            f"processor is {shown(processor)}; it is {NATIVE!r}, or {MIXED!r} for machines of several kinds"
        )
    if not isinstance(force, bool):
        raise ArtifactError(f"force is {shown(force)}; it is True or False")
    rows = tuple(sorted({as_whole_number(each, "batch_sizes", least=1, most=65536) for each in sizes}))
    if rows[-1] > most:
        raise ArtifactError(
            f"batch_sizes has {rows[-1]}, and max_batch, the most rows of a form, is {most}; raise it, or leave "
            "the size out"
        )
    return Options(
        names=names,
        automatic=automatic,
        batch_sizes=rows,
        rtol=_number(rtol, "rtol"),
        atol=_number(atol, "atol"),
        latency_budget_ms=_number(latency_budget_ms, "latency_budget_ms"),
        dynamic=_dynamic(dynamic),
        max_batch=most,
        threads=_threads(threads),
        processor=str(processor),
        force=force,
        timeout_s=_number(timeout_s, "timeout_s") or 1.0,
    )


def _names(to: object) -> tuple[bool, tuple[str, ...]]:
    if to == AUTO:
        return True, AUTOMATIC
    asked = [to] if isinstance(to, str) else to
    if not isinstance(asked, Sequence) or not asked:
        raise ArtifactError(f"to is {shown(to)}; give the name of a form, or several, or 'auto'")
    for name in asked:
        if name not in CANDIDATES:
            raise ArtifactError(f"to is {shown(name)}; it is one of {', '.join(CANDIDATES)}, or auto")
    return False, tuple(dict.fromkeys(map(str, asked)))


def _dynamic(given: object) -> tuple[str, ...]:
    axes = [given] if isinstance(given, str) else given
    if not isinstance(axes, Sequence):
        raise ArtifactError(f"dynamic is {kind_of(given)}; give axes such as ['input_ids:1=256']")
    for text in axes:
        try:
            DynamicAxis.parsed(text if isinstance(text, str) else shown(text))
        except ValueError as error:
            raise ArtifactError(f"dynamic: {error}") from None
    return tuple(map(str, axes))


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise ArtifactError(f"{name} is {shown(value)}; it must be a finite number that is not negative")
    return float(value)


def _threads(given: object) -> int:
    cores = _cores()
    if given is None:
        return cores
    threads = as_whole_number(given, "threads", least=1, most=1 << 30)
    if threads > cores:  # they would wait for one another, and eager more than the form
        raise ArtifactError(f"threads is {threads}, and this process has {cores} of the machine's cores; give no more")
    return threads


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
