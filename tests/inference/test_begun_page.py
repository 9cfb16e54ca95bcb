"""The page by which a worker says what it has begun: two sides, in two processes, at the same time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.processes import started
from tidegate.inference.begun_page import MARKS, AllBegun, BegunPage, new_page_file

WORKER = """
import sys
from tidegate.inference.begun_page import BegunPage

page = BegunPage(int(sys.argv[1]))
for line in sys.stdin:
    first, last = map(int, line.split())
    print("".join("yn"[not page.begin(place)] for place in range(first, last)), flush=True)
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = new_page_file()
    yield descriptor
    os.close(descriptor)


def test_a_page_that_is_closed_is_gone(descriptor: int) -> None:
    page = BegunPage(descriptor)
    assert page.begin(0)
    page.close()
    with pytest.raises(ValueError, match="released"):
        page.begin(1)


def test_what_is_begun_cannot_be_taken_back_and_what_is_taken_back_is_not_begun(descriptor: int) -> None:
    ours, theirs = BegunPage(descriptor), BegunPage(descriptor)
    for place in range(3):
        ours.hand_over(place)
    assert theirs.begin(0)
    assert ours.count == 1
    assert not ours.take_back(0)
    assert ours.take_back(2)
    assert theirs.begin(1)
    assert not theirs.begin(2)
    assert ours.count == 3


def test_a_mark_is_for_one_place_and_not_for_the_next_one_at_the_same_byte(descriptor: int) -> None:
    ours, theirs = BegunPage(descriptor), BegunPage(descriptor)
    ours.hand_over(5)
    assert ours.take_back(5)
    assert not theirs.begin(5)
    ours.hand_over(5 + MARKS)
    assert theirs.begin(5 + MARKS)


def test_two_processes_that_meet_never_both_take_a_place(descriptor: int) -> None:
    ours = BegunPage(descriptor)
    source = random.Random(0)  # noqa: S311 - no secret
    command = [sys.executable, "-c", WORKER, str(descriptor)]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[descriptor]) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        place, begun, given_back, met = 0, 0, 0, 0
        for number in range(300):
            first, last = place, place + 64
            for each in range(first, last):
                ours.hand_over(each)
            # However slowly the other side gets its turns, some are taken back before it, and some rounds are its own.
            taken = {each: ours.take_back(each) for each in range(first, first + number % 3)}
            worker.stdin.write(f"{first} {last}\n")
            worker.stdin.flush()
            while number % 3 and ours.count < last:  # while the other side goes through them
                each = source.randrange(max(first, ours.count), last + 1)
                if each < last and each not in taken:
                    taken[each] = ours.take_back(each)
            answers = worker.stdout.readline().strip()
            for each, answer in zip(range(first, last), answers, strict=True):
                if answer == "y":
                    assert not taken.get(each, False), "it would be computed twice"
                    begun += 1
                elif taken[each]:
                    given_back += 1
                else:
                    met += 1  # both gave way: the worker says so
            place = last
        worker.stdin.close()
    assert worker.returncode == 0
    assert begun + given_back + met == 300 * 64
    assert begun
    assert given_back


def test_without_a_page_all_counts_as_begun() -> None:
    page = AllBegun()
    page.hand_over(7)
    assert page.count > 7
    assert not page.take_back(7)
