"""`python -m container.build`: fetch the wheels, build the image, write its inventory.

    python -m container.build                                  tidegate:cpu
    python -m container.build --accelerator gpu --torch torch==2.13.0
    python -m container.build --extras aws --tag mine:aws

The base image is a public slim Python. A machine that cannot pull it makes one by container/base/make-base, which is
then taken by itself. docs/image.md has the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from container import inventory, wheels_folder
from container.engine import ROOT, DockerFailed, DockerUnavailable, Engine, find, local_base
from tidegate import command_line

TORCH = "torch==2.13.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the deployer may choose about an image; None leaves it to the Dockerfile."""

    tag: str
    accelerator: str = "cpu"
    torch: str = TORCH
    torch_index: str | None = None
    cuda_version: str | None = None
    base_image: str | None = None
    extras: str = "none"
    platform: str | None = None

    def build_arguments(self) -> dict[str, str]:
        """The Dockerfile's arguments."""
        chosen = {
            "ACCELERATOR": self.accelerator,
            "BASE_IMAGE": self.base_image,
            "CUDA_VERSION": self.cuda_version,
            "EXTRAS": self.extras,
            "TORCH": self.torch,
        }
        return {name: value for name, value in chosen.items() if value}


def build(engine: Engine, recipe: Recipe, context: Path = ROOT) -> str:
    """Build the image from the files of `context`, which is a checkout or a copy of one; returns its id.

    Raises `wheels_folder.WheelsMissing` where pip cannot fetch a package, `DockerFailed` with the end of the log.
    """
    container = context / "container"
    wheels = container / "wheels" / recipe.accelerator
    machine = wheels_folder.machine(recipe.platform)
    wheels_folder.fetch_locked(wheels, container / "requirements.lock", machine)
    fetch_torch = wheels_folder.fetch_torch_for_cpu
    if recipe.accelerator == "gpu":
        fetch_torch = wheels_folder.fetch_torch_with_cuda
    fetch_torch(wheels, recipe.torch, recipe.torch_index, machine)
    if recipe.extras == "aws":
        wheels_folder.fetch_locked(container / "wheels/aws", container / "requirements-aws.lock", machine)
    words = ["--network", "none", "--file", str(container / "Dockerfile"), "--tag", recipe.tag]
    for name, value in {**recipe.build_arguments(), "VERSION": _version(), "REVISION": _revision()}.items():
        words += ["--build-arg", f"{name}={value}"]
    if recipe.platform is not None:
        words += ["--platform", recipe.platform]
    before = _id(engine, recipe.tag)
    engine.build(*words, str(context))
    after = _id(engine, recipe.tag)
    if before not in ("", after):
        with contextlib.suppress(DockerFailed):  # it has another name, or a container runs it
            engine.run("image", "rm", before)
    return after


def _id(engine: Engine, tag: str) -> str:
    """The id of the image of that name, or nothing where there is none."""
    return engine.run("image", "ls", "--quiet", "--no-trunc", tag).strip()


def _version() -> str:
    """The version of the project."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _revision() -> str:
    """The commit that is checked out, or nothing outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return ""
    words = [git, "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", check=False).stdout.strip()


def main() -> int:
    """Build what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m container.build", description="Build the image of Tidegate.")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--tag", help="default: tidegate:cpu or tidegate:gpu")
    parser.add_argument("--base-image", default=os.environ.get("BASE_IMAGE"), help="default: a public slim Python")
    parser.add_argument("--torch", default=TORCH, help=f"a pip requirement; default: {TORCH}")
    parser.add_argument("--torch-index", default=os.environ.get("TORCH_INDEX"), help="an index for torch")
    parser.add_argument("--cuda-version", help="of the gpu image: what its torch is built for")
    parser.add_argument("--extras", choices=("none", "aws"), default="none", help="aws: what the AWS container carried")
    parser.add_argument("--inventory", type=Path, help="default: build/ and the tag's name, .cdx.json")
    arguments = parser.parse_args()
    tag = arguments.tag or f"tidegate:{arguments.accelerator}"
    path = arguments.inventory or ROOT / "build" / f"{tag.replace('/', '-').replace(':', '-')}.cdx.json"
    try:
        engine = find()
        recipe = Recipe(
            tag=tag,
            accelerator=arguments.accelerator,
            torch=arguments.torch,
            torch_index=arguments.torch_index,
            cuda_version=arguments.cuda_version,
            base_image=arguments.base_image or local_base(engine),
            extras=arguments.extras,
        )
        image = build(engine, recipe)
        components = inventory.write(engine, tag, path)
        size = int(engine.run("image", "inspect", "--format", "{{.Size}}", image))
    except (DockerUnavailable, DockerFailed, wheels_folder.WheelsMissing) as error:
        print(f"tidegate: error: the image was not built: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{tag} {image[:19]}, {size / 1e6:.0f} MB; {components} components in {path}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
