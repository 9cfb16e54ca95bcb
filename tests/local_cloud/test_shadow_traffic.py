"""Shadow variants: copies of requests, whose answers nobody sees and for which nobody waits."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import Account, await_true
from tests.local_cloud.toy_container import Stage, ToyContainer, ToyRunner, running_sagemaker
from tidegate.local_cloud.sagemaker.container import ContainerSpec
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer
from tidegate.local_cloud.sagemaker.instances import Instance, Instances
from tidegate.local_cloud.sagemaker.pipeline import Held
from tidegate.local_cloud.sagemaker.shadow_traffic import WAITING_COPIES, Copy, ShadowTraffic


def variant(name: str, model: str, **more: Any) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **more,
    }


class ByVariant(ToyRunner):
    """Knows which toy is whose."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, ToyContainer] = {}

    def start(self, spec: ContainerSpec) -> ToyContainer:
        toy = super().start(spec)
        self.of[spec.log.stem] = toy
        return toy


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An endpoint whose two toys the test plays."""
    with running_sagemaker(tmp_path, runner=ByVariant()) as stage:
        control = stage.client("sagemaker")
        control.create_endpoint_config(
            EndpointConfigName="two",
            ProductionVariants=[variant("front", "toy")],
            ShadowProductionVariants=[variant("back", "toy")],
        )
        control.create_endpoint(EndpointName="two", EndpointConfigName="two")
        stage.settled("two")
        yield stage


def toys(stage: Stage) -> tuple[ToyContainer, ToyContainer]:
    assert isinstance(stage.runner, ByVariant)
    return stage.runner.of["front"], stage.runner.of["back"]


def counts(stage: Stage) -> dict[str, int]:
    connection = http.client.HTTPConnection(stage.url.rpartition("/")[2])
    with closing(connection):
        connection.request("GET", "/local/endpoints/two")
        found: dict[str, int] = json.load(connection.getresponse())["Shadows"].get("back", {})
        return found


def ask(stage: Stage) -> bytes:
    answer = stage.client().invoke_endpoint(EndpointName="two", Body=b"question", CustomAttributes="a=1")
    assert answer["InvokedProductionVariant"] == "front"
    body: bytes = answer["Body"].read()
    return body


def test_a_caller_has_its_answer_while_the_shadow_still_works(stage: Stage) -> None:
    front, back = toys(stage)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, stage)
        original = front.next()
        original.answer(b"from the front")
        assert asked.result() == b"from the front"
    copy = back.next()
    assert (copy.path, copy.body) == (original.path, b"question") == (original.path, original.body)
    assert copy.headers["x-amzn-sagemaker-custom-attributes"] == "a=1"
    assert counts(stage) == {"Sent": 0, "Failed": 0, "Dropped": 0}
    copy.answer(b"from the back")
    await_true(lambda: counts(stage) == {"Sent": 1, "Failed": 0, "Dropped": 0}, "the copy is counted")


def test_an_error_of_the_shadow_is_counted_and_seen_by_nobody(stage: Stage) -> None:
    front, back = toys(stage)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, stage)
        back.next().answer(b"broken", status=500)
        front.next().answer(b"fine")
        assert asked.result() == b"fine"
    await_true(lambda: counts(stage) == {"Sent": 0, "Failed": 1, "Dropped": 0}, "the copy is counted")


def test_a_shadow_without_weight_gets_no_copy(stage: Stage) -> None:
    front, back = toys(stage)
    control = stage.client("sagemaker")

    def weigh(weight: float) -> None:
        wish = [{"VariantName": "back", "DesiredWeight": weight}]
        control.update_endpoint_weights_and_capacities(EndpointName="two", DesiredWeightsAndCapacities=wish)
        (shadow,) = stage.settled("two")["ShadowProductionVariants"]
        assert shadow["CurrentWeight"] == weight

    with ThreadPoolExecutor(1) as pool:
        weigh(0)
        for _ in range(3):
            asked = pool.submit(ask, stage)
            front.next().answer(b"alone")
            assert asked.result() == b"alone"
        assert counts(stage) == {}
        weigh(1)
        asked = pool.submit(ask, stage)
        back.next().answer(b"again")
        front.next().answer(b"together")
        assert asked.result() == b"together"


class NeverThere(Instances):
    """Instances whose leases come when the test says so."""

    def __init__(self, may: threading.Event) -> None:
        super().__init__(
            lambda _: pytest.fail("nothing starts"),
            variant="back",
            endpoint="two",
            strategy=None,
            at_most=1,
            log=Path("none"),
        )
        self.may = may

    @contextmanager
    def lease(self, hostname: str | None, *, belongs_to: str | None = None) -> Iterator[tuple[Instance, Held]]:
        del hostname, belongs_to
        self.may.wait()
        raise NoAnswer("nobody is there")
        yield


def test_what_a_slow_shadow_cannot_take_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    may, traffic = threading.Event(), ShadowTraffic()
    copy = Copy(
        endpoint="two",
        variant="back",
        instances=NeverThere(may),
        headers={},
        body=b"x",
        timeout_s=60.0,
        answered=lambda _: pytest.fail("there is no answer"),
    )
    for _ in range(WAITING_COPIES + 100):
        traffic.offer(copy)
    dropped = traffic.counts("two")["back"]["Dropped"]
    assert 0 < dropped <= 100
    assert "the shadow variant back of endpoint two does not keep up: 1 copies were dropped" in caplog.messages
    may.set()
    sent = WAITING_COPIES + 100 - dropped
    await_true(lambda: traffic.counts("two")["back"]["Failed"] == sent, "what was taken is sent")
    traffic.close()
    traffic.join()


@pytest.mark.parametrize(
    ("production", "shadows", "more", "sentence"),
    [
        (["a", "b"], ["c"], {}, "one variant beside one production variant"),
        (["a"], ["b", "c"], {}, "one variant beside one production variant"),
        (["a"], ["a"], {}, "must have another name than the production variant a"),
        (["a"], ["b"], {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/o"}}}, "excludes Async"),
    ],
)
def test_what_goes_with_no_shadow_is_refused(
    account: Account, production: list[str], shadows: list[str], more: dict[str, Any], sentence: str
) -> None:
    model = account.model()
    with pytest.raises(ClientError, match=sentence):
        account.sagemaker.create_endpoint_config(
            EndpointConfigName=account.name("config"),
            ProductionVariants=[variant(name, model) for name in production],
            ShadowProductionVariants=[variant(name, model) for name in shadows],
            **more,
        )
