"""`predict_many`: as each alone, in order, with a length, and no process left; also through worker processes."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tidegate import handler_guide
from tidegate.handler import BadItem, Handler


class Net(Handler):
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).eval()
        self.batches: list[int] = []

    def preprocess(self, item: Any) -> Any:
        if item == 13:
            raise ValueError("an unlucky number")
        return torch.linspace(0, item, 8)

    def forward(self, batch: Any) -> Any:
        self.batches.append(len(batch))
        return self.net(batch)

    def postprocess(self, output: Any) -> Any:
        return output.tolist()


ITEMS = [number / 10 for number in range(50)]


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_results_are_those_of_each_alone_in_order_with_a_length(batch_size: int) -> None:
    net = Net()
    alone = [net.predict(item) for item in ITEMS]
    net.batches.clear()
    results = net.predict_many(ITEMS, batch_size=batch_size)
    assert len(results) == 50
    assert net.batches == []
    torch.testing.assert_close(torch.tensor(list(results)), torch.tensor(alone))
    assert sum(net.batches) == 50
    assert max(net.batches) == min(batch_size, 50)
    assert len(list(results)) == 50


def test_what_can_be_indexed_is_gone_through_by_its_length() -> None:
    """As a Dataset of torch, which need not raise IndexError."""

    class Numbers:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, place: int) -> float:
            return float(place)

    assert len(list(Net().predict_many(Numbers()))) == 5  # type: ignore[arg-type]
    assert len(list(Net().predict_many(torch.arange(5)))) == 5  # type: ignore[arg-type]
    assert list(Net().predict_many([])) == []


def test_a_generator_has_no_length_and_is_read_as_far_as_it_is_needed() -> None:
    """It may never end; a second pass would find nothing, and says so."""
    read = []

    def numbers() -> Iterator[float]:
        for number in itertools.count(20):
            read.append(number)
            yield float(number)

    results = Net().predict_many(numbers(), batch_size=4)
    with pytest.raises(TypeError, match="the items are a generator without a length"):
        len(results)
    assert len(list(itertools.islice(results, 6))) == 6
    assert len(read) == 8
    with pytest.raises(RuntimeError, match="which has been read"):
        iter(results)


def test_an_error_of_the_items_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[float]:
        yield from ITEMS[:5]
        raise OSError("the disk is gone")

    results, got = iter(Net().predict_many(items(), batch_size=4)), []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(results)
    assert len(got) == 5


def test_a_bad_item_is_named_after_the_results_of_all_items_before_it() -> None:
    got: list[Any] = []
    with pytest.raises(BadItem, match="item 6: an unlucky number") as bad:
        got.extend(Net().predict_many([*ITEMS[:6], 13, *ITEMS], batch_size=4))
    assert (bad.value.index, len(got)) == (6, 6)
    assert isinstance(bad.value.__cause__, ValueError)


def test_a_failure_behind_preprocess_is_named_too() -> None:
    class Fails(Net):
        def forward(self, batch: Any) -> Any:
            return super().forward(batch) if len(self.batches) < 2 else batch.no_such_method()

        def postprocess(self, output: Any) -> Any:
            return output[5]

    with pytest.raises(BadItem, match="item 0: IndexError"):
        list(Fails().predict_many(ITEMS))
    broken = Fails()
    broken.batches = [1, 1]
    with pytest.raises(RuntimeError, match="forward failed for the items 0 to 31: AttributeError"):
        list(broken.predict_many(ITEMS))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number from 1 on"),
        ({"batch_size": True}, "batch_size is True"),
        ({"workers": -1}, "workers is -1; it must be a whole number from 0 on"),
        ({"workers": 1.5}, "workers is 1.5"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Net().predict_many(ITEMS, **arguments)


@pytest.mark.parametrize("items", ["text", b"bytes", {"a": 1}, 5])
def test_one_thing_is_not_many(items: Any) -> None:
    with pytest.raises(TypeError, match="give a list, or another iterable of items"):
        Net().predict_many(items)


PROGRAM = """
import itertools, multiprocessing, sys

import psutil
import torch

from tests.tidegate.test_handler_many import ITEMS, Net
from tidegate.handler import BadItem


def children():
    return [each for each in psutil.Process().children() if "resource_tracker" not in " ".join(each.cmdline())]


def tried(items, net=None):
    got = []
    try:
        for result in (net or Net()).predict_many(items, batch_size=4, workers=2):
            got.append(result)
    except Exception as error:
        kept.append(error)
        return len(got), type(error).__name__, str(error)
    return len(got)


class Locked(Net):
    def __init__(self):
        super().__init__()
        self.lock = lambda: None


kept = []  # a traceback that is kept keeps no process
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    net = Net()
    results = net.predict_many(ITEMS, batch_size=7, workers=2)
    assert len(results) == 50
    torch.testing.assert_close(torch.tensor(list(results)), torch.tensor([net.predict(item) for item in ITEMS]))
    assert max(net.batches) == 7
    count = 0
    for _ in net.predict_many(map(float, itertools.count(20)), batch_size=4, workers=2):
        count += 1
        if count == 9:
            break
    assert children() == []
    print(tried([*ITEMS[:6], 13, *ITEMS]))
    assert "unlucky number" in str(kept[0].__cause__)
    print(tried([*ITEMS[:5], lambda: None]))
    print(tried(ITEMS, Locked()))
    assert children() == []
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_answer_alike_name_what_fails_and_leave_no_process(method: str, tmp_path: Path) -> None:
    """In a program of its own, which has no threads of pytest and is started as its user would start it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), method],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bad, unsendable, locked = done.stdout.splitlines()
    assert bad == "(6, 'BadItem', 'item 6: an unlucky number')"
    assert unsendable.startswith("(5, 'BadItem', \"item 5: a function cannot be sent to a worker")
    if method == "fork":
        assert locked == "50"
    else:
        assert locked.startswith("(0, 'TypeError', \"the handler cannot be sent to 2 workers")
        assert "or use workers=0" in locked


def test_the_example_of_the_guide_prints_what_stands_below_it(tmp_path: Path) -> None:
    program = tmp_path / "many.py"
    program.write_text(handler_guide.MANY)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == handler_guide.PRINTED, done.stderr
