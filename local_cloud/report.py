"""A cloud that is up, told: as a table for people, as one object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidegate.local_cloud.inventory import EndpointThere, Inventory
from tidegate.local_cloud.state_directory import SupervisorRecord


def as_text(inventory: Inventory, *, record: SupervisorRecord, directory: Path) -> str:
    """What runs, what is only recorded, and where it all answers."""
    parts = [
        _addresses(record, directory),
        _table("endpoints", ("name", "status", "variant", "instances", "model", "archive"), _endpoint_rows(inventory)),
        _table(
            "inference components",
            ("name", "status", "endpoint"),
            _component_rows(inventory),
        ),
        _table(
            "jobs",
            ("kind", "name", "status"),
            _job_rows(inventory),
        ),
        _table("pipelines", ("name", "last execution"), [(thing.name, thing.status) for thing in inventory.pipelines]),
    ]
    recorded = [
        f"{count} {what if count > 1 else what.removesuffix('s')}"
        for what, count in inventory.recorded.items()
        if count
    ]
    if recorded:
        parts.append(f"recorded, and no process for it: {', '.join(recorded)}")
    if not (inventory.endpoints or inventory.components or inventory.jobs or inventory.pipelines):
        parts.append("nothing runs")
    return "\n\n".join(part for part in parts if part)


def as_json(
    inventory: Inventory, *, record: SupervisorRecord, directory: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The same, and the variables that clients need."""
    return {
        "up": True,
        "directory": str(directory),
        "process_id": record.process_id,
        "region": record.region,
        "enforces_iam": record.enforces_iam,
        "containers": record.containers,
        "addresses": {"aws": record.moto_url, "sagemaker": record.sagemaker_url, "playground": record.playground_url},
        "environment": dict(environment),
        **inventory.as_json(),
    }


def _addresses(record: SupervisorRecord, directory: Path) -> str:
    enforces = ", enforces the rights of roles" if record.enforces_iam else ""
    return "\n".join(
        [
            f"local cloud: up as process {record.process_id} in {record.region}{enforces}",
            f"  SageMaker and its runtime  {record.sagemaker_url}",
            f"  S3 and the rest of AWS     {record.moto_url}",
            f"  playground, in a browser   {record.playground_url}",
            f"  state and logs             {directory}",
        ]
    )


def _endpoint_rows(inventory: Inventory) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for endpoint in inventory.endpoints:
        rows += _rows_of(endpoint)
        rows += [("", f"  variant {variant.name}: {variant.exit}") for variant in endpoint.variants if variant.exit]
        if endpoint.reason:
            rows.append(("", f"  {endpoint.reason}"))
    return rows


def _component_rows(inventory: Inventory) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for thing in inventory.components:
        rows.append((thing.name, thing.status, thing.of))
        if thing.exit:
            rows.append(("", f"  {thing.exit}"))
    return rows


def _job_rows(inventory: Inventory) -> list[tuple[str, str, str]]:
    """A row for each job, and one for all that an execution of a pipeline has started."""
    rows = [(thing.kind.removesuffix("-job"), thing.name, thing.status) for thing in inventory.jobs if not thing.of]
    counts: dict[str, Counter[str]] = {}
    for thing in inventory.jobs:
        if thing.of:
            counts.setdefault(thing.of, Counter())[f"{thing.kind.removesuffix('-job')} {thing.status}"] += 1
    return rows + [
        ("pipeline", execution, ", ".join(f"{count} {what}" for what, count in of_execution.items()))
        for execution, of_execution in counts.items()
    ]


def _rows_of(endpoint: EndpointThere) -> list[tuple[str, ...]]:
    if not endpoint.variants:
        return [(endpoint.name, endpoint.status, "", "", "", "")]
    return [
        (
            endpoint.name if not place else "",
            endpoint.status if not place else "",
            variant.name,
            "" if variant.instances is None else str(variant.instances),
            variant.model,
            variant.data,
        )
        for place, variant in enumerate(endpoint.variants)
    ]


def _table(title: str, heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they must be; a row with fewer cells than heads is a remark, and as long as it is."""
    if not rows:
        return ""
    whole = [row for row in rows if len(row) == len(heads)]
    widths = [max(len(head), *(len(row[place]) for row in whole)) for place, head in enumerate(heads)]
    lines = [title]
    for row in (heads, *rows):
        cells = row if len(row) < len(heads) else [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)
