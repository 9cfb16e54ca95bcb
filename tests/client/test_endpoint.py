"""Asking an endpoint over a real socket: what is retried, what is told, and in whose words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from tests.client.stand_in import StandIn, answered, refused, running, streamed
from tidegate.client import Endpoint, GaveUpWaiting, ModelError, Stream, StreamBroken, StreamClosed
from tidegate.client.waking import Reason
from tidegate.local_cloud.sagemaker import event_stream

NO_CAPACITY = "Inference Component has no capacity to process this request."
SENTENCE = json.dumps({"error": {"code": "bad_request", "message": "The body is no JSON.", "request_id": "r-1"}})


class Time:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def aws() -> Iterator[StandIn]:
    with running() as stand_in:
        yield stand_in


def endpoint(aws: StandIn, time: Time, **options: object) -> Endpoint:
    return Endpoint("digits", session=aws.session(), clock=time.clock, sleep=time.sleep, **options)  # type: ignore[arg-type]


def test_the_answer_comes_with_its_type_and_variant(aws: StandIn) -> None:
    aws.answers.append(answered(b"[1]", **{"X-Amzn-SageMaker-Custom-Attributes": "trace=7"}))
    found = endpoint(aws, Time()).invoke(b"1,2", content_type="text/csv", TargetVariant="primary")
    assert (found.body, found.content_type, found.variant) == (b"[1]", "application/json", "primary")
    assert found.custom_attributes == "trace=7"
    ((path, headers, body),) = aws.requests
    assert path == "/endpoints/digits/invocations"
    assert body == b"1,2"
    assert headers["content-type"] == "text/csv"
    assert headers["x-amzn-sagemaker-target-variant"] == "primary"


def test_a_model_of_a_repository_is_asked_by_name_and_says_that_it_was(aws: StandIn) -> None:
    attributes = "X-Amzn-SageMaker-Custom-Attributes"
    said = {attributes: "model=digits;version=3;trace=7"}
    aws.answers += [answered(b"[1]", **said), streamed(b"[1]", **said)]
    found = endpoint(aws, Time()).invoke(b"1", content_type="text/csv", model="digits", version="stable")
    with endpoint(aws, Time()).stream(b"1", content_type="text/csv", model="digits", version=3) as stream:
        assert stream.answered_by == ("digits", 3)
    assert found.answered_by == ("digits", 3)
    asked = [headers[attributes.lower()] for _, headers, _ in aws.requests]
    assert asked == ["model=digits;version=stable", "model=digits;version=3"]


def test_the_models_error_is_told_in_the_containers_own_sentence(aws: StandIn) -> None:
    wrapped = 'Received client error (400) from primary with message "…".'
    log = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/digits"
    aws.answers.append(
        refused("ModelError", wrapped, 424, OriginalStatusCode=400, OriginalMessage=SENTENCE, LogStreamArn=log)
    )
    with pytest.raises(ModelError, match=r"the model answered 400 bad_request: The body is no JSON\.") as caught:
        endpoint(aws, Time()).invoke(b"{", content_type="application/json")
    error = caught.value
    assert (error.status, error.code, error.message) == (400, "bad_request", "The body is no JSON.")
    assert (error.request_id, error.log_stream_arn) == ("r-1", log)
    assert len(aws.requests) == 1, "what the client did wrong is not tried again"


def test_an_error_of_another_container_is_quoted_as_it_is(aws: StandIn) -> None:
    aws.answers.append(refused("ModelError", "…", 424, OriginalStatusCode=500, OriginalMessage="Worker died."))
    with pytest.raises(ModelError, match=r"the model answered 500: Worker died\."):
        endpoint(aws, Time()).invoke(b"", content_type="text/csv")


def test_an_endpoint_that_scales_from_zero_is_waited_for_and_the_caller_is_told(aws: StandIn) -> None:
    aws.answers += [refused("ValidationError", NO_CAPACITY, 400)] * 12 + [answered(b"ok")]
    time, told = Time(), []
    asked = endpoint(aws, time, component="digits-1", on_wait=lambda reason, waited_s: told.append((reason, waited_s)))
    assert asked.invoke(b"1", content_type="text/csv").body == b"ok"
    assert len(aws.requests) == 13
    assert {reason for reason, _ in told} == {Reason.ASLEEP}
    assert [waited_s for _, waited_s in told] == sorted(waited_s for _, waited_s in told)
    assert aws.requests[0][1]["x-amzn-sagemaker-inference-component"] == "digits-1"


def test_the_wait_ends_in_time_and_says_what_was_waited_for(aws: StandIn) -> None:
    aws.answers += [refused("ValidationError", NO_CAPACITY, 400)] * 20
    time = Time()
    with pytest.raises(GaveUpWaiting, match=r"endpoint digits has no instance: it scales from zero.* 60 s"):
        endpoint(aws, time, wake_timeout_s=60).invoke(b"1", content_type="text/csv")
    assert sum(time.slept_s) == pytest.approx(60)
    steady_s = time.slept_s[7:-1]
    assert len(set(steady_s)) == len(steady_s) > 1, "clients that were refused together must not come together"
    assert all(7.5 <= slept_s <= 15 for slept_s in steady_s)


def test_without_patience_the_first_refusal_is_the_answer(aws: StandIn) -> None:
    aws.answers.append(refused("ValidationError", NO_CAPACITY, 400))
    with pytest.raises(ClientError, match="no capacity"):
        endpoint(aws, Time(), wake_timeout_s=0).invoke(b"1", content_type="text/csv")
    assert len(aws.requests) == 1


def test_what_aws_refuses_for_good_stays_botocores_error(aws: StandIn) -> None:
    aws.answers.append(refused("ValidationError", "Endpoint digits of account 123456789012 not found.", 400))
    with pytest.raises(ClientError, match="not found"):
        endpoint(aws, Time()).invoke(b"1", content_type="text/csv")
    assert len(aws.requests) == 1


def test_an_overloaded_container_is_asked_again(aws: StandIn) -> None:
    overloaded = json.dumps({"error": {"code": "overloaded", "message": "Later.", "request_id": "r"}})
    aws.answers += [
        refused("ModelError", "…", 424, OriginalStatusCode=503, OriginalMessage=overloaded),
        answered(b"ok"),
    ]
    assert endpoint(aws, Time()).invoke(b"1", content_type="text/csv").body == b"ok"


def test_an_asynchronous_request_needs_a_place_for_its_content(aws: StandIn) -> None:
    with pytest.raises(ValueError, match="input_location is missing"):
        endpoint(aws, Time()).submit(b"1", content_type="text/csv")
    with pytest.raises(ValueError, match="'http://x' is not an address in S3"):
        endpoint(aws, Time()).submit(b"1", content_type="text/csv", input_location="http://x")
    assert not aws.requests


def test_a_stream_is_read_as_parts_text_lines_json_lines_or_events(aws: StandIn) -> None:
    aws.answers += [streamed(b'{"a": "\xc3', b'\xa9"}\r', b"\n[1", b"]\n")] * 4 + [
        streamed(b"data: a\n", b"\ndata: b\n\n")
    ]
    asked = endpoint(aws, Time())

    def stream() -> Stream:
        return asked.stream(b"1", content_type="text/csv")

    with stream() as parts:
        assert (parts.content_type, parts.variant) == ("text/plain", "primary")
        assert next(parts) == b'{"a": "\xc3'
        assert parts.read() == b'\xa9"}\r\n[1]\n'
    assert list(stream().text()) == ['{"a": "', 'é"}\r', "\n[1", "]\n"]
    assert list(stream().lines()) == ['{"a": "é"}', "[1]"]
    assert list(stream().json_lines()) == [{"a": "é"}, [1]]
    assert [event.data for event in stream().events()] == ["a", "b"]


@pytest.mark.parametrize(
    ("ending", "code", "sentence"),
    [
        (event_stream.model_stream_error(code="StreamBroken", message="it died"), "ModelStreamError", "it died"),
        (event_stream.internal_stream_failure("it vanished"), "InternalStreamFailure", "it vanished"),
        (b"", "", "the connection to the endpoint was lost"),
    ],
)
def test_a_stream_that_breaks_off_is_an_error_after_what_was_whole(
    aws: StandIn, ending: bytes, code: str, sentence: str
) -> None:
    aws.answers += [streamed(b"first", ending=ending, cut=not code), streamed(b"a\nb", ending=ending, cut=not code)]
    parts = endpoint(aws, Time()).stream(b"1", content_type="text/csv")
    assert next(parts) == b"first"
    with pytest.raises(StreamBroken, match=f"the answer broke off: {sentence}") as caught:
        next(parts)
    assert (caught.value.code, caught.value.rest) == (code, b"")
    lines = endpoint(aws, Time()).stream(b"1", content_type="text/csv").lines()
    assert next(lines) == "a"
    with pytest.raises(StreamBroken) as caught:
        next(lines)
    assert caught.value.rest == b"b"


READERS: list[Callable[[Stream], object]] = [
    list,
    Stream.read,
    lambda stream: list(stream.text()),
    lambda stream: list(stream.lines()),
    lambda stream: list(stream.json_lines()),
    lambda stream: list(stream.events()),
]


@pytest.mark.parametrize("read", READERS)
def test_a_stream_that_was_closed_before_its_end_is_an_error_to_read(
    aws: StandIn, read: Callable[[Stream], object]
) -> None:
    aws.answers += [streamed(b"1\n2\n", b"3\n")] * 2
    with endpoint(aws, Time()).stream(b"1", content_type="text/csv") as stream:
        lines = stream.lines()
        assert next(lines) == "1"
    for reading in (lambda: read(stream), lambda: next(lines)):
        with pytest.raises(StreamClosed, match="closed before its end"):
            reading()
    untouched = endpoint(aws, Time()).stream(b"1", content_type="text/csv")
    untouched.close()
    with pytest.raises(StreamClosed):
        read(untouched)


@pytest.mark.parametrize("read", READERS)
def test_a_stream_that_was_read_to_its_end_has_nothing_more_also_when_it_is_closed(
    aws: StandIn, read: Callable[[Stream], object]
) -> None:
    aws.answers.append(streamed(b"1\n2\n", b"3"))
    with endpoint(aws, Time()).stream(b"1", content_type="text/csv") as stream:
        assert list(stream.lines()) == ["1", "2", "3"]
        assert not read(stream)
    assert not read(stream)


@pytest.mark.parametrize("read", READERS)
def test_a_stream_that_broke_off_never_ends_as_if_it_were_whole(aws: StandIn, read: Callable[[Stream], object]) -> None:
    aws.answers.append(streamed(b"[1]\n[", ending=event_stream.internal_stream_failure("it vanished")))
    with endpoint(aws, Time()).stream(b"1", content_type="text/csv") as stream:
        with pytest.raises(StreamBroken):
            list(stream.lines())
        for _ in range(2):
            with pytest.raises(StreamBroken, match="it vanished"):
                read(stream)


def test_a_whole_read_that_breaks_off_tells_all_that_came(aws: StandIn) -> None:
    aws.answers.append(streamed(b"one\n", b"two\nthr", ending=event_stream.internal_stream_failure("it vanished")))
    with (
        endpoint(aws, Time()).stream(b"1", content_type="text/csv") as stream,
        pytest.raises(StreamBroken) as caught,
    ):
        stream.read()
    assert caught.value.rest == b"one\ntwo\nthr"


@pytest.mark.parametrize("waits_in", ["parts", "lines", "read"])
def test_another_thread_may_close_a_stream_that_is_waited_for(aws: StandIn, waits_in: str) -> None:
    never = threading.Event()
    aws.answers.append(streamed(b"one\n", held=never))
    stream = endpoint(aws, Time()).stream(b"1", content_type="text/csv")
    raised: list[BaseException] = []
    begun = threading.Event()

    def wait() -> None:
        try:
            read = iter(stream if waits_in == "parts" else stream.lines())
            next(read)
            begun.set()
            stream.read() if waits_in == "read" else next(read)
        except StreamClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(60)
    while thread.is_alive() and not stream._parts._reading.locked():
        thread.join(0.001)
    stream.close()
    thread.join(60)
    never.set()
    assert not thread.is_alive()
    assert len(raised) == 1
    with pytest.raises(StreamClosed):
        stream.read()
