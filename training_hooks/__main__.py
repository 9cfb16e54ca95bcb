"""The command line: `pack`, `export`, `lineage`, and those of a model repository, such as `publish`.

tidegate pack MODEL_DIR [--code CODE_DIR] --output model.tar.gz
tidegate export MODEL_DIR --to auto
tidegate lineage MODEL_DIR
tidegate publish MODEL_DIR REPOSITORY NAME [--version N] [--label LABEL]
"""

import argparse
import sys

from tidegate import command_line

from .archive import pack
from .errors import ArtifactError
from .export.commands import add_commands as add_export
from .publishing.commands import add_commands
from .recorded_lineage import lineage_of


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="tidegate", description="Prepare a trained model for serving.")
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
    packing.set_defaults(run=_pack)
    asking = commands.add_parser(
        "lineage",
        help="print where a model comes from",
        description="Print what save_model recorded: the training job, the revision of its code, data, packages.",
    )
    asking.add_argument("model", metavar="MODEL", help="a model directory, or a model.tar.gz")
    asking.set_defaults(run=_print_lineage)
    add_export(commands)
    add_commands(commands)
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except (ArtifactError, OSError) as error:
        print(f"tidegate: error: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
        return 1
    return 0


def _pack(chosen: argparse.Namespace) -> None:
    archive = pack(chosen.model_dir, chosen.output, code_dir=chosen.code)
    for warning in archive.warnings:
        print(f"tidegate: warning: {warning}", file=sys.stderr)  # noqa: T201 - the command's answer
    print(f"{chosen.output}  {archive.size_bytes} bytes  sha256:{archive.sha256}")  # noqa: T201 - the command's answer


def _print_lineage(chosen: argparse.Namespace) -> None:
    print(lineage_of(chosen.model))  # noqa: T201 - the command's answer


if __name__ == "__main__":
    sys.exit(command_line.run(main))
