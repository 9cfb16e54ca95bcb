"""The clock: what fires when, what is refused, and that the whole cloud goes by it."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.local_cloud.conftest import BUCKET, STAND_IN, Account, await_true
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.clock import Clock, ClockRefused, ClockState
from tidegate.local_cloud.cloud import CloudError

DAY_S = 24 * 3600.0
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that is only advanced: its own thread does not run."""
    clock = Clock()
    yield clock
    clock.close()


def test_timers_fire_in_the_order_of_their_due_times_each_at_its_own_time(clock: Clock) -> None:
    begin, fired = clock.now() + MINUTE, []
    for minutes in (30, 10, 20):
        clock.call_at(begin + minutes * MINUTE, lambda: fired.append(clock.now()), name="one")
    end = clock.advance(3600)
    assert fired == [begin + minutes * MINUTE for minutes in (10, 20, 30)]
    assert clock.now() >= end >= begin + 59 * MINUTE


def test_what_an_action_sets_for_the_same_span_fires_too(clock: Clock) -> None:
    fired: list[datetime] = []

    def again() -> None:
        fired.append(clock.now())
        if len(fired) < 5:
            clock.call_later(60, again, name="again")

    clock.call_later(60, again, name="again")
    clock.advance(3600)
    assert [later - earlier for earlier, later in itertools.pairwise(fired)] == [MINUTE] * 4
    assert not clock.state.timers


def test_a_repeated_timer_fires_for_each_interval_until_it_is_cancelled(clock: Clock) -> None:
    fired: list[datetime] = []
    timer = clock.every(600, lambda: fired.append(clock.now()), name="every ten minutes")
    clock.advance(3600 + 1)
    assert len(fired) == 6
    assert clock.cancel(timer)
    assert not clock.cancel(timer)
    clock.advance(3600)
    assert len(fired) == 6


def test_an_action_may_cancel_what_is_due_after_it(clock: Clock) -> None:
    later = clock.call_later(120, lambda: pytest.fail("it was cancelled"), name="later")
    clock.call_later(60, lambda: clock.cancel(later), name="earlier")
    clock.advance(300)
    assert not clock.state.timers


def test_an_action_that_fails_is_logged_and_holds_up_nobody(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fired = threading.Event()
    clock.call_later(1, lambda: int("nothing"), name="broken")
    clock.call_later(2, fired.set, name="whole")
    with caplog.at_level(logging.ERROR, logger="tidegate.local_cloud.clock"):
        clock.advance(3)
    assert fired.is_set()
    assert "broken" in caplog.text


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "60", None, True, 32 * DAY_S])
def test_an_advance_that_makes_no_sense_is_refused_and_nothing_happens(clock: Clock, seconds: object) -> None:
    clock.call_later(0, lambda: pytest.fail("nothing is due"), name="due")
    with pytest.raises(ClockRefused, match="advance_s"):
        clock.advance(seconds)  # type: ignore[arg-type]
    assert len(clock.state.timers) == 1


def test_a_guard_refuses_an_advance_before_anything_fires(clock: Clock) -> None:
    def guard(begin: datetime, end: datetime) -> None:
        if end - begin > timedelta(hours=1):
            raise ClockRefused("too much is due")

    clock.add_guard(guard)
    before = clock.now()
    with pytest.raises(ClockRefused, match="too much"):
        clock.advance(7200)
    assert clock.now() - before < timedelta(hours=1)
    clock.advance(3600)
    assert clock.now() - before >= timedelta(hours=1)


def test_what_the_clock_calls_cannot_advance_it(clock: Clock) -> None:
    refused: list[Exception] = []

    def advance() -> None:
        try:
            clock.advance(1)
        except ClockRefused as error:
            refused.append(error)

    clock.call_later(1, advance, name="nested")
    clock.advance(2)
    assert len(refused) == 1


def test_a_thread_that_waits_again_and_again_sees_every_wait_pass_in_one_advance(clock: Clock) -> None:
    seen: list[datetime] = []

    def poll() -> None:
        for _ in range(10):
            clock.wait(60)
            seen.append(clock.now())

    thread = threading.Thread(target=poll)
    begin = clock.now()
    thread.start()
    await_true(lambda: bool(clock.state.timers), "the thread waits")
    clock.advance(3600)
    thread.join(60)
    assert not thread.is_alive()
    assert all(moment - begin < timedelta(minutes=11) for moment in seen)


def test_an_advance_that_comes_while_a_thread_begins_to_wait_waits_for_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen, found = Clock(), threading.Event(), list[bool]()
    advancing = threading.Thread(target=lambda: found.append(bool(clock.advance(3600)) and seen.is_set()))
    call_later = clock.call_later

    def and_advance(*words: Any, **how: Any) -> Any:
        timer = call_later(*words, **how)
        advancing.start()
        advancing.join(0.3)  # it cannot get on: the thread has not yet said that it waits
        return timer

    def wait() -> None:
        clock.wait(60)
        advancing.join(0.3)  # nor here, before the thread has done what it waited for
        seen.set()

    monkeypatch.setattr(clock, "call_later", and_advance)
    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(60)
    advancing.join(60)
    assert found == [True]
    clock.close()


def test_timers_fire_by_themselves_as_time_passes() -> None:
    clock, fired = Clock(), threading.Event()
    clock.start()
    try:
        clock.call_later(0.01, fired.set, name="soon")
        assert fired.wait(60)
    finally:
        clock.close()


def test_intervals_that_passed_while_the_machine_slept_are_left_out() -> None:
    clock, fired = Clock(), []
    woken = threading.Event()

    def act() -> None:
        fired.append(clock.now())
        woken.set()

    timer = clock.every(3600, act, name="hourly", first=clock.now() - timedelta(hours=10, minutes=30))
    clock.start()
    try:
        assert woken.wait(60)
    finally:
        clock.close()
    assert len(fired) == 1
    assert timedelta() < timer.due - clock.now() <= timedelta(minutes=30)


def test_the_state_of_a_clock_is_plain_and_enough_to_go_on_from_it(clock: Clock) -> None:
    clock.advance(DAY_S)
    other = Clock(ClockState(ahead=clock.state.ahead))
    assert abs(other.now() - clock.now()) < timedelta(hours=1)
    assert other.now() - datetime.now(UTC) > timedelta(hours=23)


# the clock of a whole cloud


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A cloud of its own, ten days ahead."""
    with LocalCloud(tmp_path_factory.mktemp("clock") / "state", container_command=STAND_IN) as cloud:
        cloud.advance(10 * DAY_S)
        yield Account(cloud)


def _later(moment: datetime) -> bool:
    return moment.astimezone(UTC) - datetime.now(UTC) > timedelta(days=9)


def test_time_stamps_of_all_services_come_from_the_clock(ahead: Account, tmp_path: Path) -> None:
    cloud = ahead.cloud
    name = ahead.model()
    assert _later(ahead.sagemaker.describe_model(ModelName=name)["CreationTime"])
    assert _later(ahead.s3.head_object(Bucket=BUCKET, Key="model.tar.gz")["LastModified"])
    assert all(_later(bucket["CreationDate"]) for bucket in ahead.s3.list_buckets()["Buckets"])
    cloudwatch, ssm, states = cloud.client("cloudwatch"), cloud.client("ssm"), cloud.client("stepfunctions")
    cloudwatch.put_metric_alarm(
        AlarmName="time", Namespace="N", MetricName="M", Period=60, EvaluationPeriods=1, Threshold=1,
        Statistic="Sum", ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["time"])["MetricAlarms"]
    assert _later(alarm["StateUpdatedTimestamp"])
    ssm.put_parameter(Name="time", Value="1", Type="String")
    assert _later(ssm.get_parameter(Name="time")["Parameter"]["LastModifiedDate"])
    definition = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    role = "arn:aws:iam::123456789012:role/states"
    machine = states.create_state_machine(name="time", definition=json.dumps(definition), roleArn=role)
    arn = machine["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=arn)
    assert _later(execution["startDate"])
    assert _later(states.describe_state_machine(stateMachineArn=arn)["creationDate"])


def test_log_events_of_now_are_accepted_however_far_the_clock_is(ahead: Account) -> None:
    endpoint = ahead.endpoint(ahead.model())
    logs = ahead.cloud.client("logs")
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    events = logs.filter_log_events(logGroupName=group)["events"]
    assert events
    assert all(_later(datetime.fromtimestamp(event["timestamp"] / 1000, UTC)) for event in events)
    ahead.delete(endpoint)


def test_a_state_machine_that_waits_an_hour_ends_when_the_clock_is_advanced(ahead: Account) -> None:
    states = ahead.cloud.client("stepfunctions")
    wait = {"Type": "Wait", "Seconds": 1200}
    definition = {
        "StartAt": "First",
        "States": {
            "First": {**wait, "Next": "Second"},
            "Second": {**wait, "Next": "Third"},
            "Third": {**wait, "End": True},
        },
    }
    arn = states.create_state_machine(
        name="waiting", definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/states"
    )["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=arn)["executionArn"]
    await_true(
        lambda: any(timer["name"] == "Wait of a state machine" for timer in _told(ahead.cloud)["timers"]),
        "the machine waits",
    )
    ahead.cloud.advance(7200)
    status = lambda: states.describe_execution(executionArn=execution)["status"]  # noqa: E731
    await_true(lambda: status() == "SUCCEEDED", "the machine ends")


def _told(cloud: LocalCloud) -> dict[str, Any]:
    """What GET /local/clock answers."""
    url = f"{cloud.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/clock"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def _post(cloud: LocalCloud, body: bytes) -> tuple[int, str]:
    url = f"{cloud.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/clock"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, body, method="POST")  # noqa: S310 - an address of this cloud
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["message"]


def test_the_clock_is_asked_and_advanced_over_http(ahead: Account) -> None:
    cloud = ahead.cloud
    before = datetime.fromisoformat(_told(cloud)["now"])
    status, text = _post(cloud, b'{"advance_s": 60}')
    assert status == 200
    assert datetime.fromisoformat(json.loads(text)["now"]) - before >= MINUTE


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "advance_s"),
        (b"[]", "not a JSON object"),
        (b'{"advance_s": -1}', "does not go back"),
        (b'{"advance_s": NaN}', "NaN is no JSON"),
        (b'{"advance_s": 1e400}', "must be a number"),
        (b'{"advance_s": "60"}', "must be a number"),
        (b'{"advance_s": true}', "must be a number"),
        (b'{"advance_s": 31536000}', "31 days"),
        (b'{"advance_s": 60, "until": "tomorrow"}', "advance_s"),
    ],
)
def test_what_the_clock_does_not_take_is_answered_with_its_sentence(ahead: Account, body: bytes, said: str) -> None:
    status, message = _post(ahead.cloud, body)
    assert status == 400
    assert said in message


def test_python_gets_the_same_sentence(ahead: Account) -> None:
    with pytest.raises(CloudError, match="31 days"):
        ahead.cloud.advance(365 * DAY_S)
