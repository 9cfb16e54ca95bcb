"""`tidegate image`: the image of a stage, from a checkout into the registry, and what its scan found."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.arguments import seconds
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.image import DIGEST, ImageUri
from tidegate.infra.hosting.machines import accelerator, platform
from tidegate.infra.image_push import scan
from tidegate.infra.image_push.destination import destination
from tidegate.infra.image_push.push import Pushed, push
from tidegate.infra.image_push.registries import registry_of
from tidegate.infra.models.account import asked
from tidegate.infra.models.ecr import EcrImage, address_of, ecr_image
from tidegate.infra.stage import stage_file
from tidegate.infra.stage.names import Names

if TYPE_CHECKING:
    from container.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    account: str
    region: str


def main(arguments: list[str]) -> int:
    """Run the command. A mistake is one line on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ConfigurationError as error:
        print(f"tidegate: error: {error}{'' if str(error).endswith('?') else '.'}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate image", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    pushing = commands.add_parser(
        "push", help="build the stage's image, push it in the format of SageMaker, print its digest"
    )
    pushing.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    pushing.add_argument("--tag", metavar="TAG", help="default: the tag of the stage file")
    pushing.add_argument("--image", metavar="NAME", help="push this local image, instead of building one")
    pushing.add_argument(
        "--accelerator", choices=("cpu", "gpu"), help="the image to build; default: by the instance types"
    )
    pushing.add_argument("--json", action="store_true", help="one object on standard output, for programs")
    pushing.set_defaults(run=lambda options: _say(_push(options), options))
    scanning = commands.add_parser("scan", help="wait for Amazon ECR's scan of the image, and judge what it found")
    scanning.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    scanning.add_argument("--digest", metavar="DIGEST", help="sha256:…, instead of the image of the stage file")
    scanning.add_argument(
        "--fail-on",
        choices=scan.SEVERITIES,
        default="critical",
        help="findings of this severity or worse fail (%(default)s)",
    )
    scanning.add_argument(
        "--accept", metavar="CVE", action="append", default=[], help="a finding that does not fail; may be repeated"
    )
    scanning.add_argument("--timeout-s", metavar="SECONDS", type=seconds, default=1800.0, help="default: %(default)g")
    scanning.set_defaults(run=_scan)
    return parser


def _scan(options: argparse.Namespace) -> None:
    stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
    image = _scanned(stage, options.digest)
    with asked("Amazon ECR"):
        ecr = boto3.client("ecr", region_name=image.region)
    holes = scan.await_findings(ecr, image, timeout_s=options.timeout_s)
    bad = scan.judged(holes, fail_on=options.fail_on, accepted=options.accept)
    for hole in holes:
        mark = "error" if hole in bad else "accepted" if hole.name in options.accept else "ok"
        print(f"{mark:<8} {hole.severity:<13} {hole.name:<20} {hole.package}".rstrip())  # noqa: T201 - the command line's own output
    for name in dict.fromkeys(options.accept):
        if name not in {hole.name for hole in holes}:
            print(f"tidegate: --accept={name!r} is the name of no finding here; leave it out", file=sys.stderr)  # noqa: T201
    if bad:
        raise ConfigurationError(
            f"{image.name}@{image.reference} has {len(bad)} finding{'' if len(bad) == 1 else 's'} that "
            f"{'is' if len(bad) == 1 else 'are'} {options.fail_on} or worse; build it anew on a newer base image, or "
            "give --accept with the name of one that does not concern you"
        )
    print(f"{image.name} {image.reference}: {_count(len(holes))}")  # noqa: T201


def _count(findings: int) -> str:
    match findings:
        case 0:
            return "no findings"
        case 1:
            return "1 finding, which does not fail"
        case _:
            return f"{findings} findings, none of which fails"


def _scanned(stage: Stage, digest: str | None) -> EcrImage:
    if digest is not None and re.fullmatch(DIGEST, digest) is None:
        raise ConfigurationError(f"--digest={digest!r} is not a digest; write 'sha256:' and its 64 hexadecimal digits")
    place = _place(stage)
    repository = Names(prefix=stage.prefix, stage=stage.name).repository
    written = address_of(stage.image, place.account, place.region, repository)
    image = ecr_image(written) if written is not None else None
    if image is None and digest is not None and not isinstance(stage.image, ImageUri):
        image = EcrImage(account=place.account, region=place.region, name=repository, reference=digest)
    if image is None:
        raise ConfigurationError(
            f"{stage.name}.toml names no image in Amazon ECR, whose scan this is; name one in [image], or scan the "
            "image by another tool"
        )
    return image if digest is None else replace(image, reference=digest)


def _push(options: argparse.Namespace) -> Pushed:
    # First, because it costs nothing, and a mistake here has nothing to do with docker or AWS.
    stage = stage_file.read(stage_file.find(options.stage, option="--stage "))
    where = destination(stage, options.tag, lambda: _place(stage))
    registry = registry_of(where, f"cdk deploy registry -c stage={options.stage}")
    try:
        from container import engine  # noqa: PLC0415 - only in a checkout
    except ModuleNotFoundError:
        raise ConfigurationError(
            "container/ is not here: images are built and pushed from the root of a checkout of Tidegate"
        ) from None
    try:
        docker = engine.find()
        kind = options.accelerator or accelerator(stage)

        def make() -> str:
            return str(options.image or _built(docker, kind, platform(stage)))

        return push(docker, registry, where, platform=platform(stage), make=make)
    except (engine.DockerUnavailable, engine.DockerFailed) as error:
        raise ConfigurationError(f"{where.address} was not pushed: {str(error).rstrip('.')}") from None


def _built(docker: Engine, kind: str, for_platform: str) -> str:
    from container import build  # noqa: PLC0415 - only in a checkout
    from container.engine import local_base  # noqa: PLC0415
    from container.wheels_folder import WheelsMissing  # noqa: PLC0415

    recipe = build.Recipe(
        tag=f"tidegate:{kind}",
        accelerator=kind,
        torch_index=os.environ.get("TORCH_INDEX"),
        base_image=os.environ.get("BASE_IMAGE") or local_base(docker),
        platform=for_platform,
    )
    print(f"building {recipe.tag} for {for_platform}; this takes minutes", file=sys.stderr)  # noqa: T201
    try:
        build.build(docker, recipe)
    except WheelsMissing as error:
        raise ConfigurationError(f"{recipe.tag} was not built: {str(error).rstrip('.')}") from None
    return recipe.tag


def _place(stage: Stage) -> _Place:
    config = Config(connect_timeout=5, read_timeout=15, retries={"max_attempts": 2})
    try:
        sts = boto3.client("sts", region_name=stage.region, config=config)
        account = stage.account or sts.get_caller_identity()["Account"]
    except ClientError as error:
        reason = error.response["Error"]["Message"].rstrip(".")
        raise ConfigurationError(f"the account: AWS says '{reason}'; log in anew, or set AWS_PROFILE") from None
    except BotoCoreError as error:
        raise ConfigurationError(f"the account: {str(error).rstrip('.')}; set AWS_PROFILE and AWS_REGION") from None
    return _Place(account=account, region=str(sts.meta.region_name))


def _say(pushed: Pushed, options: argparse.Namespace) -> None:
    where = pushed.destination
    if options.json:
        said = {
            "address": where.address,
            "digest": pushed.digest,
            "media_type": pushed.media_type,
            "pinned": where.pinned(pushed.digest),
            "platform": pushed.platform,
            "stage_file": where.line(pushed.digest),
        }
        print(json.dumps(said, indent=1))  # noqa: T201
        return
    lines = [
        f"{where.address} is pushed for {pushed.platform}: {pushed.media_type}",
        pushed.digest,
        "To pin it, write into the stage file, in place of what [image] has:",
        f"\n[image]\n{where.line(pushed.digest)}",
    ]
    print("\n".join(lines))  # noqa: T201
