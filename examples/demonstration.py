"""What all demonstrations share: steps that are told, a work directory that goes at the end, and an end without traces.

def demonstrate(show: Demonstration) -> None:
    with show.step("Train: examples/stories/train.py"):
        show.train("examples/stories/train.py", "--epochs", "3")
    with show.serving(show.model_dir) as server:
        ...

if __name__ == "__main__":
    sys.exit(run(demonstrate, arguments("stories", __doc__), steps=2))
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from examples import child_processes
from examples.child_processes import CommandFailed
from examples.narration import Narrator
from examples.serving import NotServed, Server, serving
from tidegate.client import ClientFailure
from tidegate.local_cloud.cloud import CloudError, LocalCloud

REPOSITORY = Path(__file__).parents[1]
# What the caller's own models and account say is for them.
_OTHERS = ("AWS_", "SM_", "SAGEMAKER_", "TIDEGATE_", "TS_", "LOCAL_CLOUD_")


class DemoFailed(Exception):
    """A check did not hold; the text is one sentence."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; carries the exit status that shells expect."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Demonstration:
    """One run: it has a directory of its own, and what it starts ends with it."""

    def __init__(self, work: Path, *, steps: int, options: argparse.Namespace | None = None) -> None:
        self.work = work
        self.options = options or argparse.Namespace()
        self.environment = own_environment(os.environ)
        self._narrator = Narrator(steps)

    def step(self, title: str) -> AbstractContextManager[None]:
        """Announce a step, and say at its end how long it took."""
        return self._narrator.step(title)

    def say(self, text: str) -> None:
        """Print a remark of the current step."""
        self._narrator.say(text)

    @property
    def model_dir(self) -> Path:
        """Where `train` has its script write the model."""
        return self.work / "model"

    @property
    def cdk_out(self) -> Path:
        """Where `deploy` has the cdk write the templates."""
        return self.work / "cdk.out"

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._narrator.elapsed_s

    def command(self, name: str, program: str, *arguments: str, echo: str | None = None) -> str:
        """Run a program in the repository's root, with its log under `name`; return what it printed.

        Lines that begin with `echo` are printed while it runs. Raises `CommandFailed`; `DemoFailed` where the program
        is not there.
        """
        if shutil.which(program, path=self.environment["PATH"]) is None:
            raise DemoFailed(f"{program} is not on PATH; 'make env' installs what the examples need")
        return child_processes.run(
            [program, *arguments],
            log=self.work / f"{name}.log",
            environment=self.environment,
            directory=REPOSITORY,
            echo=echo,
        )

    def python(self, name: str, *arguments: str, echo: str | None = None) -> str:
        """Run Python as `command` runs a program."""
        return self.command(name, sys.executable, *arguments, echo=echo)

    def install(self, requirements: str) -> None:
        """Install what a requirements file names, for this run alone."""
        packages = self.work / "packages"
        self.environment["PIP_USER"] = "0"  # pip takes no --target where its configuration says `user`
        self.python(
            "install", "-m", "pip", "install", "--quiet", "--target", str(packages), "--requirement", requirements
        )
        before = self.environment.get("PYTHONPATH")
        self.environment |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(packages), before]))}

    def train(self, script: str, *arguments: str, echo: str = "epoch=") -> str:
        """Run a training script as SageMaker would, with `model_dir` as SM_MODEL_DIR."""
        self.environment |= {"SM_MODEL_DIR": str(self.model_dir), "SM_OUTPUT_DIR": str(self.work / "output")}
        return self.python("train", script, *arguments, echo=echo)

    def trained(self, build_dir: Path, script: str, *arguments: str) -> Path:
        """Return the model directory: that of `build_dir` where the script has left one there, else train."""
        model_dir = build_dir.absolute() / "model"
        if (model_dir / "manifest.json").is_file():
            self.say(f"{build_dir / 'model'} is trained already")
            return model_dir
        self.train(script, *arguments)
        return self.model_dir

    def check(self, model_dir: Path) -> None:
        """Have `tidegate check` look at a model directory as the server would before it takes traffic."""
        self.say(self.python("check", "-m", "tidegate", "check", str(model_dir)).strip().splitlines()[-1])

    def pack(self, model_dir: Path, name: str = "model") -> Path:
        """Make an archive of a model directory; return where it is."""
        archive = self.work / f"{name}.tar.gz"
        self.python(f"pack-{name}", "-m", "tidegate", "pack", str(model_dir), "--output", str(archive))
        return archive

    def deploy(self, stack: str, *options: str) -> dict[str, str]:
        """Have the cdk deploy a stack; return its outputs."""
        outputs = self.work / f"{stack}.outputs.json"
        self.command(
            f"deploy-{stack}",
            *("cdk", "deploy", stack, *options, "--method", "direct", "--require-approval", "never"),
            *("--output", str(self.cdk_out), "--outputs-file", str(outputs)),
        )
        by_stack: dict[str, dict[str, str]] = json.loads(outputs.read_text())
        return by_stack[next(name for name in by_stack if name.endswith(f"-{stack}"))]

    @contextmanager
    def serving(self, *arguments: str | Path, **settings: str) -> Iterator[Server]:
        """`tidegate serve` with these arguments and settings, ready, for the length of the block."""
        with ExitStack() as around:
            with self.step(f"Serve: tidegate serve {' '.join(Path(each).name for each in arguments)}".rstrip()):
                server = around.enter_context(
                    serving(
                        *map(str, arguments),
                        log=self.work / "server.log",
                        environment={**self.environment, "TIDEGATE_WORKERS": "1", **settings},
                        directory=REPOSITORY,
                    )
                )
                self.say(f"http://127.0.0.1:{server.port} takes traffic")
            yield server

    @contextmanager
    def cloud(self) -> Iterator[LocalCloud]:
        """The local cloud from its start to the end of the block, whatever happens in between."""
        cloud = LocalCloud(self.work / "cloud")
        try:
            with self.step("Start the local cloud: what 'tidegate cloud up' does"):
                cloud.up(outlive_caller=False)
                self.environment = client_environment(self.environment, cloud.environment)
                # From here on this process is a client like any other: boto3 learns where to go from its environment.
                os.environ.clear()
                os.environ.update(self.environment)
                self.say(f"AWS_ENDPOINT_URL={cloud.environment['AWS_ENDPOINT_URL']}")
            yield cloud
        finally:
            hold_signals()
            cloud.down()


def arguments(name: str, description: str) -> argparse.ArgumentParser:
    """The command line of one example."""
    parser = argparse.ArgumentParser(prog=f"python -m examples {name}", description=description.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the work directory with all files and logs")
    return parser


def run(demonstrate: Callable[[Demonstration], None], parser: argparse.ArgumentParser, *, steps: int) -> int:
    """Run a demonstration and remove what it made; return the exit status.

    It is 0 when every check held, 1 with one sentence otherwise, and 130 after Ctrl-C. No process, port or file is left
    in any case.
    """
    options = parser.parse_args()
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    work = Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    try:
        # Temporary files of everything that is started below go with the work directory.
        temporary = work / "tmp"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        show = Demonstration(work, steps=steps, options=options)
        demonstrate(show)
        print(f"\nAll checks held, in {show.elapsed_s:.0f} s; nothing is left running.", flush=True)
    except (
        DemoFailed,
        CommandFailed,
        NotServed,
        CloudError,
        ClientFailure,
        ClientError,
        BotoCoreError,
        OSError,
    ) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print("\nstopped; nothing is left running", file=sys.stderr)
        return stopped.status
    finally:
        hold_signals()
        if options.keep:
            print(f"files and logs are kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return 0


def own_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without the caller's settings of AWS and of models, and with the tools of this Python first."""
    kept = {name: value for name, value in base.items() if not name.startswith(_OTHERS)}
    path = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    return {**kept, "PATH": path}


def client_environment(base: Mapping[str, str], cloud: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without any AWS setting of the caller (a profile, say) and with those of the local cloud."""
    kept = {name: value for name, value in base.items() if not name.startswith("AWS_")}
    no_proxy = ",".join(filter(None, [base.get("NO_PROXY") or base.get("no_proxy"), "127.0.0.1,localhost"]))
    return {**kept, **cloud, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def hold_signals() -> None:
    """From here on signals are taken but change nothing: all that they could interrupt is the tidying up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    hold_signals()
    raise Stopped(128 + number)
