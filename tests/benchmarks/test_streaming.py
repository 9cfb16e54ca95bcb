"""The benchmark of streams: its client, and its report."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.chunks import Broken, Reader, whole
from benchmarks.open_streams import Figure
from benchmarks.streaming import KINDS, Round, compared, page

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes) -> Reader:
    """What the client made of a server that sends these pieces, each after the one before has arrived."""

    async def scene() -> Reader:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.01)  # so that the kernel does not join them
            writer.close()
            await writer.wait_closed()
            served.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            try:
                return await whole(server.sockets[0].getsockname()[1], "/", b"{}")
            finally:
                await served.wait()

    return asyncio.run(scene())


def test_a_chunk_has_come_when_its_last_byte_has() -> None:
    reader = read(HEAD + b"3\r\nab", b"c\r\n2\r\nde\r\n", b"0\r\n\r\n")
    chunks = reader.chunks()
    assert [chunk.data for chunk in chunks] == [b"abc", b"de"]
    moments = [moment for moment, _ in reader.pieces]
    assert moments[0] < chunks[0].arrived_ns == chunks[1].arrived_ns <= moments[-1]


def test_a_stream_without_its_end_is_broken() -> None:
    with pytest.raises(Broken, match="the connection ended"):
        read(HEAD + b"3\r\nabc\r\n")


def test_another_answer_is_no_stream() -> None:
    with pytest.raises(Broken, match="503"):
        read(b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n").chunks()


def rounds(*rates: tuple[float, float, float], first_ms: float = 1.0) -> list[dict[str, Round]]:
    latencies = [first_ms] * 100
    return [
        {
            kind: Round(per_s=rate, first_ms=latencies, later_ms=latencies)
            for kind, rate in zip(KINDS, each, strict=True)
        }
        for each in rates
    ]


def test_ratios_are_formed_within_a_round_and_the_control_is_shown() -> None:
    # The second round met a machine of half the speed.
    figures = compared(rounds((100, 110, 90), (50, 55, 45), (100, 110, 90)))
    assert [figure.found.split(", ")[1].split(" (")[0] for figure in figures[:3]] == ["1.00 x", "1.10 x", "0.90 x"]
    assert [figure.reached for figure in figures[:3]] == [None, None, True]


@pytest.mark.parametrize(("rate", "first_ms", "reached"), [(80, 5.0, [True, True]), (79, 5.1, [False, False])])
def test_a_goal_is_missed_just_beyond_it(rate: float, first_ms: float, reached: list[bool]) -> None:
    figures = compared(rounds(*[(100, 100, rate)] * 3, first_ms=first_ms))
    assert [figures[2].reached, figures[5].reached] == reached


def test_the_page_names_what_was_missed() -> None:
    figures = [
        Figure(measure="a", goal="1", found="2", reached=False),
        Figure(measure="b", goal="", found="3", reached=None),
    ]
    text = page(figures, {"CPU": "fast", "Java": "none"}, 3)
    assert "| a | 1 | 2 | **missed** |\n| b |  | 3 |  |" in text
    assert "Java" not in text
