"""The demo's own promises: nothing outlives it, and a result that is off is an error."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from examples.child_processes import CommandFailed, run
from examples.demonstration import DemoFailed, Demonstration, client_environment
from examples.digits import demo, drawing
from examples.digits.clients import Answered, as_npy, as_png
from examples.digits.demo import Demo
from examples.narration import table
from tests.examples.demonstrating import demonstrated
from tests.polling import until

REPOSITORY = Path(__file__).parents[2]


def family(process_id: int) -> list[psutil.Process]:
    """The process and all its descendants."""
    parent = psutil.Process(process_id)
    return [parent, *parent.children(recursive=True)]


def commands(processes: Sequence[psutil.Process]) -> str:
    """The command lines, one per line, of those that still run."""
    lines = []
    for process in processes:
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return "\n".join(lines)


def running(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that have neither ended nor been replaced by another process of the same id."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def ended(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("moment", "signal_number", "to_group"),
    [("train.py", signal.SIGTERM, False), ("-m tidegate.infra", signal.SIGINT, True)],
)
def test_an_interruption_leaves_nothing(
    tmp_path: Path, moment: str, signal_number: signal.Signals, to_group: bool
) -> None:
    """Ctrl-C (SIGINT to the group) and SIGTERM end every process, and no file is left."""
    log = tmp_path / "printed"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.digits.demo", "--epochs", "1"],
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(temporary)},
            start_new_session=True,
        )
    seen: dict[int, psutil.Process] = {}

    def reached() -> bool:
        assert process.poll() is None, log.read_text()
        processes = family(process.pid)
        seen.update({each.pid: each for each in processes})
        return moment in commands(processes)

    try:
        until(reached, f"the demo has come to {moment}", log=log.read_text)
        if to_group:
            os.killpg(process.pid, signal_number)
        else:
            process.send_signal(signal_number)
        assert process.wait(120) == 128 + signal_number, log.read_text()
        until(lambda: not running(list(seen.values())), "nothing of it runs any more")
        assert len(seen) > 1
        assert list(temporary.iterdir()) == []
        assert "stopped; nothing is left running" in log.read_text()
    finally:
        for each in running(list(seen.values())):
            each.kill()
        process.wait()


def test_the_demo_goes_from_the_training_to_the_end_of_all_stacks(tmp_path: Path) -> None:
    """Every check of it holds: the accuracy of both, and that the batch answers as the endpoint does."""
    said = demonstrated("digits", "--epochs", "8", temporary=tmp_path)
    for line in (
        "endpoint tidegate-local is InService, model tidegate-local-",
        "Completed: 3 objects, 360 lines out",
        "100 digits, same labels, probabilities within ",
        "all stacks are destroyed, all processes have ended",
        "largest difference, single to batch",
    ):
        assert line in said


def demo_in(work: Path) -> Demo:
    return Demo(Demonstration(work, steps=1))


def prediction(label: str, *probabilities: float) -> dict[str, object]:
    return {"label": label, "probability": max(probabilities), "probabilities": list(probabilities)}


def answered(*predictions: dict[str, object]) -> list[Answered]:
    return [Answered(prediction=each, latency_s=0.001) for each in predictions]


def test_equal_answers_pass(tmp_path: Path) -> None:
    """Differences of float32 arithmetic are allowed, and the largest one is told."""
    batch = [prediction("1", 0.25, 0.75), prediction("0", 0.9, 0.1)]
    single = answered(prediction("1", 0.250001, 0.749999))
    assert demo_in(tmp_path)._compare(single, batch) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (prediction("0", 0.25, 0.75), "digit 0 is 1 alone and 0 in the batch"),
        (prediction("1", 0.26, 0.74), "a probability differs by 1.0e-02 in the batch, allowed is 1e-05"),
    ],
)
def test_answers_that_differ_fail(tmp_path: Path, batch: dict[str, object], sentence: str) -> None:
    """Another label or another probability is an error, not a remark."""
    with pytest.raises(DemoFailed, match=sentence):
        demo_in(tmp_path)._compare(answered(prediction("1", 0.25, 0.75)), [batch])


def test_accuracy_counts_right_labels() -> None:
    """Only as many digits count as there are predictions."""
    held = demo.Held(images=np.zeros((3, 8, 8)), labels=["1", "2", "3"])
    assert demo.accuracy([{"label": "1"}, {"label": "9"}], held) == 0.5


def test_the_callers_account_is_out_of_reach() -> None:
    """A profile or an endpoint of the caller must not send the demo to a real account."""
    base = {"AWS_PROFILE": "production", "AWS_ENDPOINT_URL": "https://example.com", "HOME": "/home/me", "no_proxy": "a"}
    assert client_environment(base, {"AWS_REGION": "us-east-1"}) == {
        "HOME": "/home/me",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "a,127.0.0.1,localhost",
        "no_proxy": "a,127.0.0.1,localhost",
    }


def test_a_failed_command_says_what_it_said(tmp_path: Path) -> None:
    """The status and the last lines are in the error, because the log is removed with the work directory."""
    with pytest.raises(CommandFailed, match=r"ended with status 3; it said last:\n    \| the reason$"):
        run(
            ["sh", "-c", "echo the reason >&2; exit 3"],
            log=tmp_path / "log",
            environment=os.environ,
            directory=tmp_path,
        )


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    """A command that leaves something behind, or that is too slow, is ended with its whole group."""
    script = "sleep 1000 & echo $! > draft; mv draft child; wait"
    child = tmp_path / "child"
    for timeout_s in (0.5, 5.0, 50.0):  # until it has had the time to leave something behind
        with pytest.raises(CommandFailed, match="took more than"):
            run(
                ["sh", "-c", script],
                log=tmp_path / "log",
                environment=os.environ,
                directory=tmp_path,
                timeout_s=timeout_s,
            )
        if child.exists():
            break
    until(lambda: ended(int(child.read_text())), "what it started has ended")


def test_a_command_that_an_interruption_finds_at_its_start_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run for long before its starter is told of it, and so before that has anything to end."""
    begin = subprocess.Popen.__init__

    def begin_slowly(process: Any, *words: Any, **how: Any) -> None:
        begin(process, *words, **how)
        until((tmp_path / "child").exists)
        signal.raise_signal(signal.SIGTERM)

    def interrupt(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(subprocess.Popen, "__init__", begin_slowly)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(InterruptedError):
            run(
                ["sh", "-c", "echo $$ > draft; mv draft child; exec sleep 1000"],
                log=tmp_path / "log",
                environment=os.environ,
                directory=tmp_path,
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended(int((tmp_path / "child").read_text()))


def test_echoed_lines_are_printed_as_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only lines with the given beginning are shown; all are returned."""
    text = run(
        ["sh", "-c", "echo epoch=1; echo noise; echo epoch=2"],
        log=tmp_path / "log",
        environment=os.environ,
        directory=tmp_path,
        echo="epoch=",
    )
    assert text == "epoch=1\nnoise\nepoch=2"
    assert capsys.readouterr().out == "     epoch=1\n     epoch=2\n"


def test_digits_are_drawn_side_by_side() -> None:
    """Eight rows of blocks, darkest for the full stroke, and the captions below each."""
    image = np.zeros((8, 8))
    image[0, 0], image[7, 7] = 16, 8
    digit = drawing.Captioned(image=image, caption=("is 1", "p = 0.5"))
    lines = drawing.drawn([digit, digit]).splitlines()
    assert len(lines) == 10
    assert lines[0] == "     ██" + " " * 17 + "██"
    assert lines[7].endswith("▒▒")
    assert lines[8] == "     is 1" + " " * 15 + "is 1"


def test_a_terminal_without_blocks_gets_plain_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the encoding has no block characters, the drawing uses ASCII."""

    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(drawing.sys, "stdout", Ascii())
    image = np.full((8, 8), 16.0)
    assert drawing.drawn([drawing.Captioned(image=image, caption=())]).isascii()


def test_the_table_is_aligned() -> None:
    """Two columns between rules."""
    assert table([("a", "1"), ("long", "22")]).splitlines() == ["--------", "a     1", "long  22", "--------"]


def test_pictures_and_arrays_carry_the_same_digit() -> None:
    """What the demo sends as PNG is the digit that it sends as npy: comparing their answers is fair."""
    from io import BytesIO

    from PIL import Image

    image = np.arange(64, dtype=np.float32).reshape(8, 8) % 17
    with Image.open(BytesIO(as_png(image))) as picture:
        assert picture.size == (64, 64)
        shrunk = np.asarray(picture.resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
    assert np.array_equal(np.round(shrunk / 255 * 16), image)
    assert np.array_equal(np.load(BytesIO(as_npy(image)), allow_pickle=False), image)
