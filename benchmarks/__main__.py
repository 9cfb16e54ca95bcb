"""`python -m benchmarks serving`, `gpu` and `deploy`; run from the project's root."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import deploy, gpu, serving
from benchmarks.contestants import PREPARE, USUAL
from benchmarks.measured import WORK_NAMES
from benchmarks.trials import Effort

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 where the run came to its end, 2 where it could not begin, 130 where it was interrupted."""
    options = _parser().parse_args(arguments)
    # An end from outside unwinds like Ctrl-C, so that every server that runs is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.what == "gpu":
            return gpu.run(options.output, seconds=options.seconds)
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        if options.what == "deploy":
            return deploy.run(options.output, repetitions=options.repetitions, command=command)
        if options.add and (twice := serving.read(options.output.with_suffix(".json")).parts() & {*options.parts}):
            print(f"{options.output}.json has {', '.join(sorted(twice))} already: name other parts", file=sys.stderr)
            return 2
        serving.run(_plan(options), options.output, command, add=options.add)
    except KeyboardInterrupt:
        print("interrupted; what was measured is written, what was started is ended", file=sys.stderr)
        return 130
    return 0


def _plan(options: argparse.Namespace) -> serving.Plan:
    repetitions, seconds = (1, 1) if options.quick else (options.repetitions, options.seconds)
    return serving.Plan(
        peers=tuple(options.peers),
        works=tuple(options.workloads),
        parts=tuple(options.parts),
        trials_of=options.trials_of,
        repetitions=repetitions,
        seconds=seconds,
        effort=Effort(seconds=max(4, 2 * seconds), starts=repetitions),
        seed=options.seed,
        once=tuple(options.once),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    serve = commands.add_parser("serving", help="us beside the peers and beside the bare loop")
    serve.add_argument(
        "--peers", type=_names(tuple(PREPARE)), default=USUAL, help=f"default: {','.join(USUAL)}; or all"
    )
    serve.add_argument("--workloads", type=_names(tuple(WORK_NAMES)), default=tuple(WORK_NAMES), help="default: all")
    serve.add_argument(
        "--parts",
        type=_names(serving.PARTS),
        default=serving.USUAL_PARTS,
        help=f"default: {','.join(serving.USUAL_PARTS)}",
    )
    serve.add_argument(
        "--trials-of",
        choices=serving.TRIALS_OF,
        default="us",
        help="whose kill, overload and ping_under_load; default: %(default)s",
    )
    serve.add_argument("--repetitions", type=_count, default=3)
    length = "length of a cell; the ResNet's are one or two longer, a trial's twice as long"
    serve.add_argument("--seconds", type=_count, default=1, help=length)
    serve.add_argument(
        "--once", type=_names(tuple(PREPARE)), default=(), help="peers that the grid measures in one repetition only"
    )
    serve.add_argument("--add", action="store_true", help="keep what --output has, and measure other parts")
    serve.add_argument("--seed", type=int, default=0, help="of the order of the cells")
    serve.add_argument("--quick", action="store_true", help="one repetition of one second: to see that all works")
    serve.add_argument("--output", type=Path, default=RESULTS / "serving", help="without suffix; default: %(default)s")
    on_gpu = commands.add_parser("gpu", help="batching through the server against the bare model, on a GPU")
    on_gpu.add_argument("--seconds", type=_count, default=5, help="length of a cell")
    on_gpu.add_argument("--output", type=Path, default=RESULTS / "gpu", help="without suffix; default: %(default)s")
    on_cloud = commands.add_parser("deploy", help="bootstrap, deploy, update and destroy on the local cloud")
    on_cloud.add_argument("--repetitions", type=_count, default=3)
    on_cloud.add_argument(
        "--output", type=Path, default=RESULTS / "deploy", help="without suffix; default: %(default)s"
    )
    return parser


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = known if text == "all" else tuple(text.split(","))
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return chosen

    return parse


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 600:
        raise argparse.ArgumentTypeError("a whole number from 1 to 600")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
