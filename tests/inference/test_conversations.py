"""Which client talks to which worker, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tidegate.inference.conversation_frames import (
    FIRST_ID,
    Farewell,
    Message,
    Opening,
    farewell_frame,
    message_frame,
    opening_frame,
)
from tidegate.inference.errors import NotFound, NotReady, Overloaded
from tidegate.inference.frontend.workers.conversations import Conversations, freest
from tidegate.inference.protocol import FrameReader, Kind, pause_frame, resume_frame


class ToyLink:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)


class ToyLedger:
    def __init__(self) -> None:
        self.streams: dict[int, int] = {}
        self.noted: list[tuple[int, int]] = []

    def open_streams(self, number: int) -> int:
        return self.streams.get(number, 0)

    def note_conversations(self, number: int, count: int) -> None:
        self.noted.append((number, count))


class ToyClient:
    opening = Opening(0, "/x", "a=b", "text/plain", b"x: y\r\n")

    def __init__(self) -> None:
        self.told: list[object] = []

    def message(self, message: Message) -> None:
        self.told.append(message)

    def hold(self, *, on: bool) -> None:
        self.told.append(on)

    def leave(self, reason: str) -> None:
        self.told.append(reason)

    def farewell(self, farewell: Farewell) -> None:
        self.told.append(farewell)


def says(conversations: Conversations, worker: int, data: bytes) -> None:
    for kind, payload in FrameReader().feed(data):
        conversations.heard(worker, kind, payload)


def with_workers(*numbers: int, limit: int = 2) -> tuple[Conversations, list[ToyLink]]:
    conversations, links = Conversations("toy", limit, ToyLedger()), [ToyLink() for _ in numbers]
    for number, link in zip(numbers, links, strict=True):
        conversations.ready(number, link, offered=True)
    return conversations, links


@pytest.mark.parametrize(
    ("open_", "limit", "number"),
    [({}, 2, None), ({5: 1, 6: 0}, 2, 6), ({5: 1, 6: 1}, 2, 5), ({5: 2, 6: 2}, 2, None), ({5: 3, 6: 1}, 2, 6)],
)
def test_the_worker_with_the_fewest_conversations_is_taken(
    open_: Mapping[int, int], limit: int, number: int | None
) -> None:
    assert freest(open_, limit) == number


def test_conversations_are_spread_and_refused_beyond_the_limit() -> None:
    conversations, links = with_workers(1, 2, limit=2)
    for _ in range(4):
        conversations.begin(ToyClient())
    assert [len(link.sent) for link in links] == [2, 2]
    with pytest.raises(Overloaded, match="2 streams and conversations on each worker"):
        conversations.begin(ToyClient())
    assert len(conversations) == 4


def test_open_streams_take_places_too_and_the_ledger_is_told_of_each_change() -> None:
    ledger, link = ToyLedger(), ToyLink()
    conversations = Conversations("toy", 2, ledger)
    conversations.ready(1, link, offered=True)
    conversations.begin(ToyClient())
    ledger.streams[1] = 1
    with pytest.raises(Overloaded):
        conversations.begin(ToyClient())
    says(conversations, 1, farewell_frame(Farewell(FIRST_ID, 1000, "")))
    assert ledger.noted == [(1, 1), (1, 0)]


def test_a_place_is_free_when_the_worker_says_so_and_not_when_the_client_leaves() -> None:
    conversations, _ = with_workers(1, limit=1)
    client = ToyClient()
    conversations.begin(client).close(1000)
    with pytest.raises(Overloaded):
        conversations.begin(ToyClient())
    says(conversations, 1, message_frame(Message(FIRST_ID, b"late", True, True)))
    says(conversations, 1, farewell_frame(Farewell(FIRST_ID, 1000, "")))
    conversations.begin(ToyClient())
    assert client.told == [], "a client that has left is told nothing"


def test_a_model_without_stream_fn_is_another_matter_than_one_without_workers() -> None:
    conversations = Conversations("toy", 2, ToyLedger())
    with pytest.raises(NotReady):
        conversations.begin(ToyClient())
    conversations.ready(1, ToyLink(), offered=False)
    with pytest.raises(NotFound, match=r"no stream_fn\(incoming, context\)"):
        conversations.begin(ToyClient())


def test_what_goes_and_comes_is_the_clients_own() -> None:
    conversations, (link,) = with_workers(7)
    client, other = ToyClient(), ToyClient()
    talk = conversations.begin(client)
    conversations.begin(other)
    talk.message(b"hi", is_text=True, is_last=False)
    talk.pause()
    talk.resume()
    assert link.sent == [
        opening_frame(client.opening._replace(id=FIRST_ID)),
        opening_frame(client.opening._replace(id=FIRST_ID + 1)),
        message_frame(Message(FIRST_ID, b"hi", True, False)),
        pause_frame(FIRST_ID),
        resume_frame(FIRST_ID),
    ]
    answer = Message(FIRST_ID, b"ho", False, True)
    says(conversations, 7, message_frame(answer) + farewell_frame(Farewell(FIRST_ID, 1011, "why", "handler_failed")))
    assert client.told == [answer, Farewell(FIRST_ID, 1011, "why", "handler_failed")]
    assert other.told == []


def test_a_client_is_read_when_neither_its_script_nor_the_socket_to_the_worker_holds_it() -> None:
    conversations, _ = with_workers(1)
    client = ToyClient()
    conversations.begin(client)
    says(conversations, 1, pause_frame(FIRST_ID))
    conversations.blocked(1, on=True)
    says(conversations, 1, resume_frame(FIRST_ID))
    conversations.blocked(1, on=False)
    assert client.told == [True, True, True, False]


def test_a_lost_worker_ends_its_conversations_and_no_others() -> None:
    conversations, _ = with_workers(1, 2)
    first, second = ToyClient(), ToyClient()
    conversations.begin(first)
    conversations.begin(second)
    conversations.lost(1)
    (farewell,) = first.told
    assert isinstance(farewell, Farewell)
    assert (farewell.code, farewell.error) == (1011, "worker_died")
    assert second.told == []
    conversations.close()
    (farewell,) = second.told
    assert isinstance(farewell, Farewell)
    assert (farewell.code, farewell.error) == (1001, "")
    assert len(conversations) == 0


def test_clients_are_asked_to_leave_once_each_while_they_are_there() -> None:
    conversations, _ = with_workers(1)
    client, gone = ToyClient(), ToyClient()
    conversations.begin(client)
    conversations.begin(gone).close(1006)
    conversations.leave()
    assert client.told == ["The model 'toy' is being unloaded."]
    assert gone.told == []


def test_frames_of_what_is_unknown_go_nowhere() -> None:
    conversations, _ = with_workers(1)
    for worker in (1, 99):
        for kind in (Kind.MESSAGE, Kind.CLOSE, Kind.PAUSE):
            data = {
                Kind.MESSAGE: message_frame(Message(FIRST_ID + 5, b"", True, True)),
                Kind.CLOSE: farewell_frame(Farewell(FIRST_ID + 5, 1000, "")),
                Kind.PAUSE: pause_frame(FIRST_ID + 5),
            }[kind]
            says(conversations, worker, data)
