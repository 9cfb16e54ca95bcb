"""The command line: `python -m training_hooks pack MODEL_DIR [--code CODE_DIR] --output model.tar.gz`."""

import argparse
import sys

from .archive import pack
from .errors import ArtifactError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}", description="Prepare a trained model for serving."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser(
        "pack",
        help="write model.tar.gz from a model directory",
        description="Verify a model directory against its manifest, where it has one, and write it as a reproducible "
        "model.tar.gz with a manifest of all its files.",
    )
    packing.add_argument("model_dir", metavar="MODEL_DIR", help="what save_model wrote, or any folder of a model")
    packing.add_argument("--code", metavar="CODE_DIR", help="pack this directory as code/, instead of MODEL_DIR/code")
    packing.add_argument("--output", metavar="FILE", required=True, help="the archive to write, outside MODEL_DIR")
    chosen = parser.parse_args(arguments)
    try:
        archive = pack(chosen.model_dir, chosen.output, code_dir=chosen.code)
    except (ArtifactError, OSError) as error:
        print(f"training_hooks: error: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
        return 1
    for warning in archive.warnings:
        print(f"training_hooks: warning: {warning}", file=sys.stderr)  # noqa: T201 - the command's answer
    print(f"{chosen.output}  {archive.size_bytes} bytes  sha256:{archive.sha256}")  # noqa: T201 - the command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
