"""Stages in processes: the same as threads for who uses them, and a call can be ended."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.inference.pipeline import functions
from tests.inference.pipeline.functions import Multiplier, misbehave, misbehave_all, process_of, square, square_all
from tests.polling import until
from tests.processes import started
from tidegate.pipeline import BrokenStage, Pipeline, Stage, StageError, StageTimeout


def text(item: Any, error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    "function",
    [square, functools.partial(pow, exp=2), str, Multiplier(3), Multiplier(3).method, len],
)
def test_a_function_gives_in_a_process_what_it_gives_here(function: Callable[[Any], Any]) -> None:
    """A function of a module, a partial one, a class, an object, a method, a built-in one."""
    items = [[1], [2, 3]] if function is len else [1, 2, 3]
    assert list(Pipeline(Stage(function, processes=True))(items)) == [function(item) for item in items]  # type: ignore[attr-defined]


def test_workers_are_processes_and_end_with_the_run() -> None:
    """As many as there are workers, none of them this one."""
    pids = set(Pipeline(Stage(process_of, workers=2, processes=True))(range(50)))
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    assert all(map(is_gone, pids))


def test_an_interruption_that_finds_a_process_at_its_start_is_left_to_who_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C reaches the whole group: also a process that has not yet come to say what it does of it."""
    (tmp_path / "sitecustomize.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert list(Pipeline(Stage(square, processes=True))([1, 2, 3])) == [1, 4, 9]
    assert capfd.readouterr().err == ""
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_batches_are_collated_and_split_in_the_process() -> None:
    """Only items and results travel."""
    stage = Stage(functions.repeat, batch_size=2, processes=True, collate=functions.total, split=functions.square_all)
    assert list(Pipeline(stage, str)([1, 2, 3, 4])) == ["9", "9", "49", "49"]


def test_threads_and_processes_go_together() -> None:
    """What follows a stage in processes runs here, in threads of its own, and so need not be importable there."""
    pipeline = Pipeline(
        Stage(lambda value: value + 1, workers=3), Stage(square, workers=2, processes=True), lambda value: -value
    )
    assert pipeline({key: key for key in range(20)}) == {key: -((key + 1) ** 2) for key in range(20)}


def test_an_exception_keeps_its_type_and_its_traceback() -> None:
    """The traceback of the other process is text, as the cause."""
    with pytest.raises(LookupError, match="lost") as raised:
        list(Pipeline(Stage(misbehave, processes=True))([["raise", LookupError("lost")]]))
    assert raised.value.__notes__ == ["In stage 1 (misbehave) of the pipeline, item 0."]
    assert "functions.py" in "".join(traceback.format_exception(raised.value))


def test_one_bad_item_fails_alone() -> None:
    """Whether it raises, ends its process, or cannot come back; the process is replaced, or goes on."""
    items = [
        ["good"], ["raise", ValueError("no")], ["odd"], ["exit", 3], ["good"], ["kill", int(signal.SIGKILL)],
        ["unpicklable"], ["good"],
    ]  # fmt: skip
    wanted = [
        ["good"],
        "ValueError: no",
        "StageError: Odd: one and two",
        "StageError: The process of stage '{}' ended with status 3.",
        ["good"],
        "StageError: The process of stage '{}' died of SIGKILL.",
        "TypeError: cannot pickle code objects",
        ["good"],
    ]
    for stage in (
        Stage(misbehave, processes=True, on_error=text),
        Stage(misbehave_all, processes=True, on_error=text, batch_size=4),
    ):
        got = list(Pipeline(stage)(items))
        assert got == [item.format(stage.name) if isinstance(item, str) else item for item in wanted]


def test_what_cannot_be_sent_is_an_error_of_its_item() -> None:
    """As an open socket among the items."""
    with pytest.raises(TypeError, match="cannot pickle"):
        list(Pipeline(Stage(str, processes=True))([misbehave.__code__]))


def test_a_call_that_takes_too_long_is_ended_with_its_process(tmp_path: Path) -> None:
    """And not left to itself, as a thread's is."""
    path = tmp_path / "pid"
    pipeline = Pipeline(Stage(misbehave, processes=True, timeout_s=4, on_error=text))
    assert list(pipeline([["hang", str(path)], ["good"]])) == [
        "StageTimeout: Stage 'misbehave' has a timeout_s of 4, and the call took longer; its process was ended.",
        ["good"],
    ]
    assert is_gone(int(path.read_text(encoding="utf-8")))
    with pytest.raises(StageTimeout):
        list(Pipeline(Stage(misbehave_all, processes=True, batch_size=2, timeout_s=4))([["good"], ["sleep", 60.0]]))


SLOW_TO_IMPORT = """
import os, time

if os.getpid() != {here}:
    time.sleep(6)

def plus_one(value):
    return value + 1
"""


def test_the_start_of_a_process_is_no_part_of_a_calls_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports the function, which may import torch."""
    (tmp_path / "slow_to_import_in_a_process.py").write_text(SLOW_TO_IMPORT.format(here=os.getpid()), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = importlib.import_module("slow_to_import_in_a_process").plus_one
    assert list(Pipeline(Stage(function, processes=True, timeout_s=4))([3])) == [4]


def test_a_consumer_that_stops_ends_the_processes_in_the_midst_of_a_call(tmp_path: Path) -> None:
    """Nothing in them is worth waiting for."""
    path = tmp_path / "pid"
    results = Pipeline(Stage(misbehave, workers=2, processes=True))([["good"], ["hang", str(path)]])
    assert next(results) == ["good"]
    pid = until(lambda: int(path.read_text(encoding="utf-8") or 0) if path.exists() else None)
    del results
    until(lambda: is_gone(pid))


KILLED = """
import sys
from tests.inference.pipeline.functions import misbehave
from tidegate.pipeline import Pipeline, Stage
list(Pipeline(Stage(misbehave, processes=True))([["hang", sys.argv[1]]]))
"""


def test_a_process_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    """Killed, that could say nothing any more."""
    path = tmp_path / "pid"
    with started([sys.executable, "-c", KILLED, str(path)]) as process:
        pid = until(lambda: int(path.read_text(encoding="utf-8") or 0) if path.exists() else None)
        process.kill()
    until(lambda: is_gone(pid))


@pytest.mark.parametrize("options", [{}, {"collate": lambda values: values, "batch_size": 2}])
def test_a_function_that_a_process_cannot_import_is_refused(options: dict[str, Any]) -> None:
    """When the pipeline is made, in one sentence."""
    function = square_all if options else lambda value: value
    with pytest.raises(ValueError, match=r"must be defined at the top of a module\.$"):
        Pipeline(Stage(function, processes=True, **options))


@pytest.mark.parametrize("on_error", ["raise", "null"])
def test_a_batch_with_too_few_results_is_one_clear_error_from_a_process_too(on_error: Any) -> None:
    """Whatever `on_error` says."""
    with pytest.raises(BrokenStage, match="Stage 'too_few' returned 1 result for a batch of 2 items"):
        list(Pipeline(Stage(functions.too_few, batch_size=2, processes=True, on_error=on_error))([1, 2]))


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from tidegate.pipeline import Pipeline, Stage
import inference

def cube(value):
    return value ** 3

{guard}
    print(list(Pipeline(Stage(cube, processes=True), Stage(inference.half, processes=True))([2, 4])), flush=True)
"""


def run_script(folder: Path, guard: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT.format(guard=guard), encoding="utf-8")
    code = folder / "code"
    code.mkdir()
    (code / "inference.py").write_text("def half(value):\n    return value / 2\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments, str(code)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize("how", ["file", "module"])
def test_functions_of_the_script_itself_and_of_a_users_inference_are_found(tmp_path: Path, how: str) -> None:
    """Whichever way the script was started; `inference` is the user's module there as here."""
    arguments = [str(tmp_path / "script.py")] if how == "file" else ["-m", "script"]
    done = run_script(tmp_path, 'if __name__ == "__main__":', *arguments)
    assert done.stdout == "[4.0, 32.0]\n", done.stderr


def test_a_script_without_its_guard_is_told_so(tmp_path: Path) -> None:
    """Its processes would start processes without end."""
    done = run_script(tmp_path, "if True:", str(tmp_path / "script.py"))
    assert 'put the call of the pipeline below `if __name__ == "__main__":`' in done.stderr
    assert done.returncode == 1


def test_a_function_that_is_typed_in_is_refused() -> None:
    """A process cannot import what is in no file."""
    program = (
        "from tidegate.pipeline import Pipeline, Stage\ndef f(value): return value\n"
        "list(Pipeline(Stage(f, processes=True))([1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert "its process cannot import what was typed in; define the function in a file." in done.stderr


def test_endless_results_in_processes_are_bounded_too() -> None:
    """Lazily, in order."""
    with Pipeline(Stage(square, workers=2, processes=True))(itertools.count()) as results:
        assert [next(results) for _ in range(100)] == [value**2 for value in range(100)]


def test_the_errors_of_a_pipeline_are_one_family() -> None:
    """Who catches `StageError` has them all, and a time-out is a TimeoutError as well."""
    assert issubclass(StageTimeout, StageError)
    assert issubclass(StageTimeout, TimeoutError)
    assert issubclass(BrokenStage, StageError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_what_is_no_ordinary_exception_ends_the_process_and_fails_its_item_alone(
    error: BaseException, batch_size: int | None
) -> None:
    """In a thread it would end the whole call; here another process takes its place."""
    function = functions.leave if batch_size is None else functions.leave_all
    stage = Stage(function, processes=True, batch_size=batch_size, on_error=text)
    before, failed, after = Pipeline(stage)([1, error, 2])
    assert (before, after) == (1, 2)
    assert failed.startswith(f"StageError: The process of stage '{function.__name__}' ")
