"""Parts that are read beside each other: in order, few at a time, given up when nobody wants them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tidegate.inference.repository.beside import read_beside

CONTENT = bytes(range(250)) * 4


def pieces_of(start: int, stop: int) -> Iterator[bytes]:
    for at in range(start, stop, 30):
        yield CONTENT[at : min(at + 30, stop)]


@pytest.mark.parametrize("start", [0, 1, 99, 100, 999])
@pytest.mark.parametrize("part_bytes", [1, 100, 333, 1000, 5000])
@pytest.mark.parametrize("readers", [1, 3, 50])
def test_the_bytes_are_those_of_one_read(start: int, part_bytes: int, readers: int) -> None:
    read = read_beside(start, len(CONTENT), pieces_of, part_bytes=part_bytes, readers=readers)
    assert b"".join(read) == CONTENT[start:]


def test_parts_are_read_beside_each_other_and_no_more_of_them_than_there_are_readers() -> None:
    """The first part comes last; three wait for it, and the fourth is not begun."""
    begun, first = threading.Semaphore(0), threading.Event()
    starts: list[int] = []

    def read(start: int, stop: int) -> Iterator[bytes]:
        starts.append(start)
        begun.release()
        if not start:
            assert first.wait(60)
        yield CONTENT[start:stop]

    parts = read_beside(0, len(CONTENT), read, part_bytes=100, readers=3)
    came: list[bytes] = []
    reader = threading.Thread(target=lambda: came.extend(parts))
    reader.start()
    for _ in range(3):
        assert begun.acquire(timeout=60)
    assert sorted(starts) == [0, 100, 200]
    assert came == []
    first.set()
    reader.join(60)
    assert b"".join(came) == CONTENT


def test_what_came_before_a_failure_is_given_first() -> None:
    def read(start: int, stop: int) -> Iterator[bytes]:
        yield CONTENT[start : start + 40]
        if start == 200:
            raise OSError("cut")
        yield CONTENT[start + 40 : stop]

    came: list[bytes] = []
    with pytest.raises(OSError, match="cut"):
        came.extend(read_beside(0, len(CONTENT), read, part_bytes=100, readers=4))
    assert b"".join(came) == CONTENT[:240]


def test_readers_stop_at_their_next_piece_when_nobody_wants_more() -> None:
    """And close what they read from."""
    closed = threading.Semaphore(0)

    def read(start: int, stop: int) -> Iterator[bytes]:
        try:
            while True:
                yield CONTENT[start:stop]
                if not start:
                    return
        finally:
            closed.release()

    parts = read_beside(0, len(CONTENT), read, part_bytes=100, readers=3)
    assert next(parts) == CONTENT[:100]
    parts.close()
    for _ in range(3):
        assert closed.acquire(timeout=60)
