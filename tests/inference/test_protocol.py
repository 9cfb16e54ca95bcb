"""What one room puts into a frame, the other takes out; however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference import protocol
from tidegate.inference.protocol import (
    Answer,
    Compute,
    Done,
    End,
    Error,
    Form,
    FrameReader,
    Held,
    Kind,
    ModelSpec,
    Part,
    Progress,
    Request,
    Start,
    Stream,
)

LATIN = st.text(st.characters(max_codepoint=255), max_size=40)
IDS = st.integers(0, 2**64 - 1)
BLOCK = st.binary(max_size=60)
REQUESTS = st.builds(Request, IDS, LATIN, LATIN, BLOCK, BLOCK, st.sampled_from(Form))
STATUS = st.integers(200, 599)


def payload(frame: bytes, kind: Kind) -> bytes:
    length, found = protocol.FRAME.unpack_from(frame)
    assert found == kind
    assert len(frame) == protocol.FRAME.size + length
    return frame[protocol.FRAME.size :]


@given(st.lists(REQUESTS, max_size=12), st.booleans())
def test_a_batch_comes_out_as_it_went_in(requests: list[Request], alone: bool) -> None:
    said, found = protocol.parse_compute(payload(protocol.compute_frame(requests, alone=alone), Kind.COMPUTE))
    assert said is alone
    assert [(*i[:4], bytes(i.body), i.form) for i in found] == [(*i[:4], bytes(i.body), i.form) for i in requests]


def test_bodies_may_be_any_buffer_and_come_out_without_a_copy() -> None:
    requests = [Request(1, "a/b", "", b"", bytearray(b"one")), Request(2, "", "c/d", b"x: y\r\n", memoryview(b"two"))]
    sent = payload(protocol.compute_frame(requests), Kind.COMPUTE)
    first, second = protocol.parse_compute(sent).requests
    assert (bytes(first.body), bytes(second.body)) == (b"one", b"two")
    assert isinstance(first.body, memoryview)
    assert first.body.obj is sent


def test_header_values_may_be_as_long_as_the_largest_header_limit() -> None:
    """TIDEGATE_MAX_HEADER_BYTES goes up to one MiB, all of which may be a single Content-Type."""
    long = "a" * 2**20
    sent = payload(protocol.compute_frame([Request(1, long, long, b"", b"")]), Kind.COMPUTE)
    (found,) = protocol.parse_compute(sent).requests
    assert found.content_type == found.accept == long
    answer = Answer(1, 200, long, b"", b"")
    assert protocol.parse_answer(payload(protocol.answer_frame(answer), Kind.ANSWER)) == answer


@given(st.builds(Answer, IDS, STATUS, LATIN, BLOCK, BLOCK))
def test_an_answer_comes_out_as_it_went_in(answer: Answer) -> None:
    assert protocol.parse_answer(payload(protocol.answer_frame(answer), Kind.ANSWER)) == answer


@given(st.builds(Start, IDS, STATUS, LATIN, BLOCK, st.none() | st.integers(0, 2**62)), st.builds(Part, IDS, BLOCK), IDS)
def test_the_frames_of_a_stream_come_out_as_they_went_in(start: Start, part: Part, request_id: int) -> None:
    said = payload(protocol.stream_frame(Stream(request_id)), Kind.STREAM)
    assert protocol.parse_stream(said) == Stream(request_id)
    assert protocol.parse_start(payload(protocol.start_frame(start), Kind.START)) == start
    assert protocol.parse_part(payload(protocol.part_frame(part), Kind.PART)) == part
    assert protocol.parse_end(payload(protocol.end_frame(End(request_id)), Kind.END)) == End(request_id)
    for kind, control in (
        (Kind.CANCEL, protocol.cancel_frame),
        (Kind.PAUSE, protocol.pause_frame),
        (Kind.RESUME, protocol.resume_frame),
    ):
        assert protocol.parse_id(payload(control(request_id), kind)) == request_id


def test_a_part_may_be_a_view_of_a_larger_chunk() -> None:
    sent = protocol.part_frame(Part(1, memoryview(b"one two")[4:]))
    assert protocol.parse_part(payload(sent, Kind.PART)) == Part(1, b"two")


@pytest.mark.parametrize("size", [3, 5, 1000])
def test_what_arrives_in_several_pieces_is_parsed_like_what_arrives_at_once(size: int) -> None:
    sent: list[tuple[bytes, object]] = [
        (
            protocol.answer_frame(Answer(1, 200, "a/b", b"x: y\r\n", b"body")),
            Answer(1, 200, "a/b", b"x: y\r\n", b"body"),
        ),
        (protocol.part_frame(Part(2, b"part")), Part(2, b"part")),
        (protocol.error_frame(Error(3, 500, "code", "text")), Error(3, 500, "code", "text")),
        (
            protocol.compute_frame([Request(4, "a/b", "", b"x: y", b"body")], alone=True),
            Compute(True, [Request(4, "a/b", "", b"x: y", b"body")]),
        ),
    ]
    stream = b"".join(frame for frame, _ in sent)
    reader = FrameReader()
    found = [each for at in range(0, len(stream), size) for each in reader.feed(stream[at : at + size])]
    parse = {
        Kind.ANSWER: protocol.parse_answer,
        Kind.PART: protocol.parse_part,
        Kind.ERROR: protocol.parse_error,
        Kind.COMPUTE: protocol.parse_compute,
    }
    parsed = [parse[Kind(kind)](payload) for kind, payload in found]
    assert parsed == [said for _, said in sent]
    assert type(parsed[0].headers) is type(parsed[0].body) is type(parsed[1].data) is bytes


def test_a_type_that_http_cannot_carry_is_replaced_and_not_fatal() -> None:
    sent = protocol.answer_frame(Answer(1, 200, "text/plain; name=日", b"", b""))
    assert protocol.parse_answer(payload(sent, Kind.ANSWER)).content_type == "text/plain; name=?"


@given(st.builds(Error, IDS, STATUS, st.text("abc_", max_size=30), st.text(max_size=80)))
def test_an_error_comes_out_as_it_went_in(error: Error) -> None:
    assert protocol.parse_error(payload(protocol.error_frame(error), Kind.ERROR)) == error


def test_half_a_surrogate_pair_in_a_message_does_not_break_the_frame() -> None:
    """A JSON body may hold one, and user code may quote it; it must not cost the worker its life."""
    sent = protocol.error_frame(Error(7, 400, "bad_request", "no label '\ud800' here"))
    assert protocol.parse_error(payload(sent, Kind.ERROR)) == Error(7, 400, "bad_request", "no label '?' here")


COUNT = st.integers(0, 2**16 - 1)


@given(
    st.builds(
        Done,
        *[st.floats(0, 1e6)] * 3,
        *[COUNT] * 4,
        st.booleans(),
        st.lists(COUNT, max_size=9).map(tuple),
    )
)
def test_the_account_of_a_batch_comes_out_as_it_went_in(done: Done) -> None:
    assert protocol.parse_done(payload(protocol.done_frame(done), Kind.DONE)) == done


@given(st.builds(Held, st.lists(IDS, max_size=9).map(tuple)))
def test_what_a_worker_holds_of_its_gpus_comes_out_as_it_went_in(held: Held) -> None:
    assert protocol.parse_held(payload(protocol.held_frame(held), Kind.HELD)) == held


@pytest.mark.parametrize("said", [False, True])
def test_one_bit_of_news_comes_out_as_it_went_in(said: bool) -> None:
    assert protocol.parse_ready(payload(protocol.ready_frame(may_join=said), Kind.READY)) == (
        said,
        False,
        False,
        [],
        {},
        None,
        None,
        None,
    )
    tensors: protocol.Tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}
    form: protocol.ServedAs = {"name": "onnx", "why": "it is fast", "passed_over": []}
    bodies: protocol.Bodies = {"reads": None, "writes": ["application/json"], "chats": said}
    talking = protocol.ready_frame(
        may_join=True,
        converses=said,
        has_page=not said,
        gpu_bytes=[3 << 33, 7],
        tensors=tensors,
        form=form,
        alone="why",
        bodies=bodies,
    )
    found = protocol.parse_ready(payload(talking, Kind.READY))
    assert found == (True, said, not said, [3 << 33, 7], tensors, form, "why", bodies)
    found = protocol.parse_progress(payload(protocol.progress_frame(Progress(proving=said)), Kind.PROGRESS))
    assert found == Progress(proving=said)


@given(
    st.lists(
        st.builds(Error, IDS, STATUS, st.text("abc_"), st.text("abc"))
        | st.builds(Answer, IDS, STATUS, LATIN, BLOCK, BLOCK)
        | st.builds(Start, IDS, STATUS, LATIN, BLOCK, st.none() | st.integers(0, 2**62))
        | st.builds(Part, IDS, BLOCK)
        | st.builds(End, IDS)
        | st.builds(Stream, IDS)
        | st.builds(Held, st.lists(IDS).map(tuple))
    )
)
def test_every_event_has_the_frame_of_its_kind(events: list[protocol.Event]) -> None:
    everything = [*events, Progress(proving=False), Done(1.0, 2.0, 3.0)]
    kinds = [kind for event in everything for kind, _ in FrameReader().feed(protocol.event_frame(event))]
    of = {
        Answer: Kind.ANSWER,
        Stream: Kind.STREAM,
        Start: Kind.START,
        Part: Kind.PART,
        End: Kind.END,
        Error: Kind.ERROR,
        Progress: Kind.PROGRESS,
        Held: Kind.HELD,
        Done: Kind.DONE,
    }
    assert kinds == [of[type(event)] for event in everything]


def test_a_spec_comes_out_as_it_went_in() -> None:
    spec = ModelSpec(
        name="mödel",
        model_dir="/opt/ml/model",
        program=None,
        gpu_ids=[1, 2],
        threads=2,
        verify=True,
        max_batch_size=8,
        default_accept="application/json",
        max_decoded_bytes=1,
        max_response_bytes=2,
        max_image_pixels=3,
        log_level=20,
    )
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(
    st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=50)), max_size=10),
    st.lists(st.integers(0, 600), max_size=30),
    st.binary(max_size=4),
)
def test_the_reader_finds_the_same_frames_however_the_stream_is_cut(
    frames: list[tuple[Kind, bytes]], cuts: list[int], rest: bytes
) -> None:
    stream = b"".join(protocol.frame(kind, data) for kind, data in frames) + rest
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    reader = FrameReader()
    found = [frame for start, end in pairwise(edges) for frame in reader.feed(stream[start:end])]
    assert found == frames


def test_a_frame_that_arrives_byte_by_byte_is_found_once() -> None:
    stream = protocol.frame(Kind.READY) + protocol.frame(Kind.FAILED, b"why")
    reader = FrameReader()
    found = [frame for byte in stream for frame in reader.feed(bytes([byte]))]
    assert found == [(Kind.READY, b""), (Kind.FAILED, b"why")]
