"""`python -m infra image`: the image of a stage, from a checkout into the registry."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.hosting.machines import accelerator, platform
from tidegate.infra.image_push.destination import destination
from tidegate.infra.image_push.push import Pushed, push
from tidegate.infra.image_push.registries import registry_of
from tidegate.infra.stage import stage_file

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
        pushed = _push(options)
    except ConfigurationError as error:
        print(f"infra: error: {error}{'' if str(error).endswith('?') else '.'}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    _say(pushed, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra image", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    pushing = commands.add_parser("push", help="build the stage's image, push it as SageMaker takes it, say its digest")
    pushing.add_argument("--stage", metavar="STAGE", required=True, help="a name in infra/stages/, or a file")
    pushing.add_argument("--tag", metavar="TAG", help="instead of that of the stage file")
    pushing.add_argument("--image", metavar="NAME", help="an image of this machine, instead of building one")
    pushing.add_argument(
        "--accelerator", choices=("cpu", "gpu"), help="which image is built; by the instance types without it"
    )
    pushing.add_argument("--json", action="store_true", help="one object on standard output, for programs")
    return parser


def _push(options: argparse.Namespace) -> Pushed:
    # First, because it costs nothing, and a mistake here has nothing to do with docker or AWS.
    stage = stage_file.read(stage_file.find(options.stage))
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
