"""The commands publish, retire, label, unlabel and list."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .actions import list_models, publish, remove_label, retire, set_label
from .contents import PublishedModel, PublishedVersion

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_REPOSITORY = "a folder, or s3://bucket/prefix"


def add_commands(commands: Commands) -> None:
    """Add the commands; each sets `run`."""
    publishing = commands.add_parser(
        "publish",
        help="bring a model into a repository as a new version",
        description="Verify a model directory against its manifest, if it has one, and copy it to a repository as a "
        "new version, the manifest last: servers use it only when it is complete.",
    )
    publishing.add_argument("model_dir", metavar="MODEL_DIR", help="what save_model wrote, or any folder of a model")
    _add_model(publishing)
    publishing.add_argument(
        "--version",
        metavar="N|next",
        default="next",
        help="its number; default: next, one above the highest number ever used",
    )
    publishing.add_argument(
        "--label", metavar="LABEL", action="append", default=[], help="a label for this version; may be repeated"
    )
    publishing.set_defaults(run=_publish)

    retiring = commands.add_parser("retire", help="take a version out of a repository")
    _add_model(retiring)
    retiring.add_argument("version", metavar="VERSION", help="its number")
    retiring.add_argument("--drop-labels", action="store_true", help="also remove its labels, instead of failing")
    retiring.set_defaults(run=_retire)

    labelling = commands.add_parser("label", help="let a label mean a version, instead of another")
    _add_model(labelling)
    labelling.add_argument("version", metavar="VERSION", help="its number")
    labelling.add_argument("label", metavar="LABEL")
    labelling.set_defaults(run=_label)

    unlabelling = commands.add_parser("unlabel", help="let a label mean nothing any more")
    _add_model(unlabelling)
    unlabelling.add_argument("label", metavar="LABEL")
    unlabelling.set_defaults(run=_unlabel)

    listing = commands.add_parser("list", help="say what a repository holds")
    listing.add_argument("repository", metavar="REPOSITORY", help=_REPOSITORY)
    listing.add_argument("--json", action="store_true", help="as one JSON object")
    listing.set_defaults(run=_list)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPOSITORY", help=_REPOSITORY)
    parser.add_argument("name", metavar="NAME", help="of the model")


def _publish(options: argparse.Namespace) -> None:
    published = publish(
        options.model_dir, options.repository, options.name, version=options.version, labels=options.label
    )
    for warning in published.warnings:
        print(f"tidegate: warning: {warning}", file=sys.stderr)  # noqa: T201 - the command's answer
    _say(f"{published.location}  {published.size_bytes} bytes  {len(published.files)} files")


def _retire(options: argparse.Namespace) -> None:
    retire(options.repository, options.name, options.version, drop_labels=options.drop_labels)
    _say(f"retired version {options.version} of {options.name}")


def _label(options: argparse.Namespace) -> None:
    set_label(options.repository, options.name, options.version, options.label)
    _say(f"{options.label} is version {options.version} of {options.name}")


def _unlabel(options: argparse.Namespace) -> None:
    remove_label(options.repository, options.name, options.label)
    _say(f"{options.label} is no label of {options.name} any more")


def _list(options: argparse.Namespace) -> None:
    models = list_models(options.repository)
    if options.json:
        _say(json.dumps({"repository": options.repository, "models": [_as_json(model) for model in models]}, indent=2))
        return
    for line in _lines(models):
        _say(line)


def _lines(models: Sequence[PublishedModel]) -> list[str]:
    rows = [("MODEL", "VERSION", "STATE", "BYTES", "FILES", "LABELS")]
    for model in models:
        rows += [_row(model, version) for version in model.versions] or [(model.name, "-", "no versions", "0", "0", "")]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines + [f"{model.name}: {model.reason}" for model in models if model.reason]


def _row(model: PublishedModel, version: PublishedVersion) -> tuple[str, str, str, str, str, str]:
    return (
        model.name,
        str(version.number) if model.versioned else f"{version.number} (unversioned)",
        version.state.value,
        str(version.size_bytes),
        str(version.files),
        ", ".join(version.labels),
    )


def _as_json(model: PublishedModel) -> dict[str, object]:
    return {
        "name": model.name,
        "versioned": model.versioned,
        "labels": dict(model.labels),
        "reason": model.reason,
        "versions": [
            {
                "version": version.number,
                "state": version.state.value,
                "size_bytes": version.size_bytes,
                "files": version.files,
                "labels": list(version.labels),
                "modified": version.modified.isoformat(),
            }
            for version in model.versions
        ],
    }


def _say(line: str) -> None:
    print(line)  # noqa: T201 - the command's answer
