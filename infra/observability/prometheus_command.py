"""`tidegate prometheus dashboard|rules`: for servers that a Prometheus scrapes, and Grafana shows."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from tidegate.infra.arguments import seconds
from tidegate.infra.observability.grafana import dashboard
from tidegate.infra.observability.prometheus_rules import rules


def main(arguments: list[str]) -> int:
    """Print what was asked for, or write it to a file; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.what == "dashboard":
        text = json.dumps(dashboard(), indent=2) + "\n"
    else:
        text = yaml.safe_dump(rules(options.job, timeout_s=options.timeout_s), sort_keys=False, width=1000)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"tidegate: error: {options.output}: {error.strerror}.", file=sys.stderr)  # noqa: T201 - the command line's own
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate prometheus",
        description="A Grafana dashboard and Prometheus alert rules for servers whose /metrics a Prometheus scrapes.",
        epilog="docs/observability.md has the scrape configuration.",
    )
    found = parser.add_subparsers(dest="what", required=True, metavar="{dashboard,rules}")
    of_dashboard = found.add_parser("dashboard", help="JSON, for Dashboards > New > Import in Grafana")
    of_rules = found.add_parser("rules", help="YAML, for rule_files of Prometheus")
    of_rules.add_argument(
        "--job", type=_job, default="tidegate", help="job_name of the scrape configuration (tidegate)"
    )
    of_rules.add_argument(
        "--timeout-s", type=seconds, default=60.0, help="TIDEGATE_TIMEOUT_S of the servers, in seconds (60)"
    )
    for each in (of_dashboard, of_rules):
        each.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")
    return parser


def _job(text: str) -> str:
    if not text or not text.isprintable() or set(text) & set('"\\'):
        raise argparse.ArgumentTypeError(f"{text!r} is no job_name that a rule can hold: no quotes, no backslashes")
    return text
