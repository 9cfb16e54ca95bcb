"""`tidegate models`: versions of a stage's model, from the archive to the next stage.

register ARCHIVE ─▶ approve VERSION ─▶ (rolled out by the models stack) ─▶ promote --to prod
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.stage import stage_file
from tidegate.infra.versions.model_versions import ModelVersions, Version
from tidegate.infra.versions.stage_promotion import check_shared, difference, lent_key, promoted


def main(arguments: list[str]) -> int:
    """Run the command. A mistake is one line on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ConfigurationError as error:
        print(f"tidegate: error: {error}.", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate models", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    register = commands.add_parser("register", help="make a version of an archive, which waits for approval")
    register.add_argument("archive", metavar="ARCHIVE", help="a model.tar.gz, or its s3:// address")
    register.add_argument("--image", metavar="URI", help="default: the image of the stage file")
    register.add_argument("--commit", metavar="ID", help="commit of the source that trained the model")
    register.add_argument("--description", metavar="TEXT")
    register.set_defaults(run=_register)

    listing = commands.add_parser("list", help="all versions, the newest first")
    listing.set_defaults(run=_list)

    approve = commands.add_parser("approve", help="approve a version; with promotion on it is rolled out")
    approve.add_argument("--again", action="store_true", help="even if it is approved already, for a rollback")
    approve.set_defaults(run=_approve)
    reject = commands.add_parser("reject", help="reject a version; nothing is rolled out, or back")
    reject.set_defaults(run=_reject)
    for command in (approve, reject):
        command.add_argument("version", metavar="VERSION", type=int)
        command.add_argument("--note", metavar="TEXT", help="the reason, stored with the version")

    promote = commands.add_parser("promote", help="write the package that a stage serves into another stage's file")
    promote.add_argument("--to", metavar="STAGE", required=True, help="the stage whose file is changed")
    promote.add_argument("--version", metavar="N", type=int, help="instead of the one that --stage serves")
    promote.add_argument("--write", action="store_true", help="change the file; without it the change is only shown")
    promote.set_defaults(run=_promote)

    delete = commands.add_parser("delete", help="delete versions; a group that has some cannot be destroyed")
    which = delete.add_mutually_exclusive_group(required=True)
    which.add_argument("version", metavar="VERSION", type=int, nargs="?")
    which.add_argument("--all", action="store_true", help="every version of the group")
    delete.set_defaults(run=_delete)

    for command in (register, listing, approve, reject, promote, delete):
        command.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    return parser


def _versions(options: argparse.Namespace) -> ModelVersions:
    return ModelVersions(stage_file.read(stage_file.find(options.stage, option="--stage ")))


def _register(options: argparse.Namespace) -> None:
    stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
    local = not options.archive.startswith("s3://")
    size_bytes = Path(options.archive).stat().st_size if local and Path(options.archive).is_file() else None
    # disable=None: only on a terminal.
    with tqdm(total=size_bytes, unit="B", unit_scale=True, desc="upload", disable=None) as bar:
        versions = ModelVersions(stage, progress=bar.update)
        version = versions.register(
            options.archive, image=options.image, commit=options.commit, description=options.description
        )
    _say(version)
    if not versions.has_image(version):
        print(  # noqa: T201 - the command line's own output
            f"tidegate: warning: Amazon ECR has no {version.image_uri}, so nothing in AWS can run version "
            f"{version.number}; push that image, or register the archive with --image of one that is there.",
            file=sys.stderr,
        )


def _list(options: argparse.Namespace) -> None:
    for version in _versions(options).versions():
        _say(version)


def _approve(options: argparse.Namespace) -> None:
    _say(_versions(options).decide(options.version, "Approved", note=options.note, again=options.again))


def _reject(options: argparse.Namespace) -> None:
    _say(_versions(options).decide(options.version, "Rejected", note=options.note))


def _delete(options: argparse.Namespace) -> None:
    versions = _versions(options)
    for version in list(versions.versions()) if options.all else [versions.version(options.version)]:
        versions.delete(version.number)
        _say(version)


def _promote(options: argparse.Namespace) -> None:
    stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
    versions = ModelVersions(stage)
    version = versions.served() if options.version is None else versions.version(options.version)
    if version.approval != "Approved":
        raise ConfigurationError(
            f"version {version.number} of {versions.group} is {version.approval}; approve it first"
        )
    path = stage_file.find(options.to, option="--to ")
    before = path.read_text(encoding="utf-8")
    key = None
    if version.archive_url.startswith(f"s3://{versions.bucket}/"):
        target = stage_file.read(path)
        check_shared(stage, versions.account, versions.region, target)
        key = lent_key(stage, target, versions.key_arn)
    with stage_file.blaming(path):
        after = promoted(before, version, archive_key=key)
    changed = difference(path, before, after)
    print(changed or f"{path} has {version.arn} already", end="" if changed else "\n")  # noqa: T201
    if options.write:
        Path(path).write_text(after, encoding="utf-8")


def _say(version: Version) -> None:
    metrics = " ".join(
        f"{name.removeprefix('metric:')}={value}"
        for name, value in sorted(version.properties.items())
        if name.startswith("metric:")
    )
    parts = (str(version.number), version.approval, version.created, version.image_uri, version.archive_url, metrics)
    print("\t".join(parts).rstrip())  # noqa: T201
