"""A cloud that remembers, all of whose processes are killed at random moments: nothing that had an answer is missing.

Clients put and delete objects, make models and tables' items, and invoke; an endpoint is being started. They note what
was answered. After each `up` what was answered is there as it was; what had no answer is done or not, and never half
done; of the killed cloud no process is left. CHAOS=long: a hundred rounds.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos.form import LONG, SEED
from tests.local_cloud.conftest import ROLE, STAND_IN, await_true
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.processes import belonging, process_birth

ROUNDS = int(os.environ.get("CHAOS_ROUNDS") or (100 if LONG else 3))
BUCKET, TABLE = "chaos", "chaos"
ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=60, read_timeout=120)
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"


@dataclass
class Ledger:
    """What one client knows of one name: what was answered last, and what was asked for since then."""

    answered: bytes | None = None
    asked: list[bytes | None] = field(default_factory=list)

    def ask(self, value: bytes | None) -> None:
        self.asked.append(value)

    def answer(self) -> None:
        self.answered, self.asked = self.asked[-1], []

    def allows(self, found: bytes | None) -> bool:
        return found == self.answered or found in self.asked

    def settle(self, found: bytes | None) -> None:
        self.answered, self.asked = found, []


class Services:
    """Plain boto3 clients of the cloud at these addresses. Making them costs more than all that a round does."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.environment = cloud.environment
        self.s3 = cloud.client("s3", config=ONCE)
        self.sagemaker = cloud.client("sagemaker", config=ONCE)
        self.runtime = cloud.client("sagemaker-runtime", config=ONCE)
        self.dynamodb = cloud.client("dynamodb", config=ONCE)


@dataclass
class Client(threading.Thread):
    """Works until an error tells it that the cloud is gone. Every name is this client's own."""

    services: Services
    number: int
    round: int
    dice: random.Random
    ledgers: dict[tuple[str, str], Ledger]
    invocations: int = 0
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name=f"client {self.number}")

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        deeds = (self.put, self.put, self.delete, self.make_model, self.delete_model, self.put_item, self.invoke)
        count = 0
        try:
            while True:
                self.dice.choice(deeds)(f"{self.number}-{self.dice.randrange(12)}", f"{self.round}-{count}".encode())
                count += 1
        except (BotoCoreError, ClientError, OSError) as error:
            # A cloud that is killed breaks connections; an answer that refuses would be a fault.
            if isinstance(error, ClientError):
                self.wrong.append(f"{error}")

    def ledger(self, kind: str, name: str) -> Ledger:
        return self.ledgers.setdefault((kind, name), Ledger())

    def put(self, name: str, value: bytes) -> None:
        content = value * (self.dice.choice((1, 100, 100_000)))
        ledger = self.ledger("object", name)
        ledger.ask(content)
        self.services.s3.put_object(Bucket=BUCKET, Key=name, Body=content)
        ledger.answer()

    def delete(self, name: str, _: bytes) -> None:
        ledger = self.ledger("object", name)
        ledger.ask(None)
        self.services.s3.delete_object(Bucket=BUCKET, Key=name)
        ledger.answer()

    def make_model(self, name: str, value: bytes) -> None:
        ledger = self.ledger("model", name)
        if ledger.answered is None:
            ledger.ask(value)
            container = {"Image": IMAGE, "Environment": {"VALUE": value.decode()}}
            self.services.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
            ledger.answer()

    def delete_model(self, name: str, _: bytes) -> None:
        ledger = self.ledger("model", name)
        if ledger.answered is not None:
            ledger.ask(None)
            self.services.sagemaker.delete_model(ModelName=name)
            ledger.answer()

    def put_item(self, name: str, value: bytes) -> None:
        ledger = self.ledger("item", name)
        ledger.ask(value)
        self.services.dynamodb.put_item(TableName=TABLE, Item={"id": {"S": name}, "value": {"B": value}})
        ledger.answer()

    def invoke(self, _: str, value: bytes) -> None:
        try:
            self.services.runtime.invoke_endpoint(EndpointName="e", Body=value)
            self.invocations += 1
        except ClientError as error:  # it may still be starting
            if error.response["Error"]["Code"] not in ("ValidationError", "ModelError", "InternalFailure"):
                raise


def find(services: Services, kind: str, name: str) -> bytes | None:
    """What the cloud has of a name now."""
    try:
        if kind == "object":
            content: bytes = services.s3.get_object(Bucket=BUCKET, Key=name)["Body"].read()
            return content
        if kind == "model":
            model = services.sagemaker.describe_model(ModelName=name)
            return str(model["PrimaryContainer"]["Environment"]["VALUE"]).encode()
        item = services.dynamodb.get_item(TableName=TABLE, Key={"id": {"S": name}}).get("Item")
        return None if item is None else bytes(item["value"]["B"])
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "ValidationException"):
            return None
        raise


def kill_all(cloud: LocalCloud) -> set[tuple[int, str]]:
    """SIGKILL to every process of the cloud, in no order; returns which they were."""
    record = cloud.record()
    assert record is not None
    family = {psutil.Process(record.process_id)}
    family |= belonging(record.process_id)
    for entry in (cloud.directory / "containers").iterdir():
        family |= belonging(int(entry.name))
    known = {(process.pid, birth) for process in family if (birth := process_birth(process.pid)) is not None}
    for pid, _ in known:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    await_true(lambda: process_birth(record.process_id) != record.birth, "the supervisor is gone")
    return known


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path / "state", container_command=STAND_IN, keep=True)
    yield cloud
    cloud.down(delete=True)


def prepare(services: Services) -> None:
    services.s3.create_bucket(Bucket=BUCKET)
    services.dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    sagemaker = services.sagemaker
    sagemaker.create_model(ModelName="served", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    variant = {"VariantName": "v", "ModelName": "served", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")


def serves(sagemaker: Any) -> bool:
    return bool(sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService")


def strangers(cloud: LocalCloud) -> list[str]:
    """Processes that work in the cloud's directory and do not come from its supervisor."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), process.environ().get("SAGEMAKER_BASE_DIR", "")]
            if process.pid != os.getpid() and any(str(cloud.directory) in word for word in words):
                found.append(process)
    record = cloud.record()
    assert record is not None
    family = belonging(record.process_id) | {psutil.Process(record.process_id)}
    return [f"{process}" for process in found if process not in family and process_birth(process.pid) is not None]


@pytest.mark.timeout(7200 if LONG else 1200)
def test_nothing_that_had_an_answer_is_missing_after_all_processes_were_killed(cloud: LocalCloud) -> None:
    print(f"CHAOS_SEED={SEED}, {ROUNDS} rounds", file=sys.stderr)
    dice = random.Random(SEED)  # noqa: S311 - a run that can be repeated
    ledgers: list[dict[tuple[str, str], Ledger]] = [{} for _ in range(4)]
    answers = unanswered = done_unanswered = named = 0
    longest_up_s = 0.0
    cloud.up()
    services = Services(cloud)
    prepare(services)
    for number in range(ROUNDS):
        seeds = [dice.random() for _ in ledgers]
        clients = [
            Client(services, index, number, random.Random(seed), ledger)  # noqa: S311 - as above
            for index, (seed, ledger) in enumerate(zip(seeds, ledgers, strict=True))
        ]
        if number % 3 == 0:  # ... and otherwise it is killed while its endpoint is being started
            await_true(partial(serves, services.sagemaker), "the endpoint serves again")
        for client in clients:
            client.start()
        threading.Event().wait(dice.uniform(0.0, 2.0))
        known = kill_all(cloud)
        for client in clients:
            client.join()
        assert [said for client in clients for said in client.wrong] == []
        began = time.monotonic()
        cloud.up()
        longest_up_s = max(longest_up_s, time.monotonic() - began)
        if cloud.environment != services.environment:  # a port was taken meanwhile
            services = Services(cloud)
        assert [pid for pid, birth in known if process_birth(pid) == birth] == [], "processes of the killed cloud"
        assert strangers(cloud) == []
        record = cloud.record()
        assert record is not None
        remarks = " ".join(record.remarks)
        for ledger_of in ledgers:
            for (kind, name), ledger in ledger_of.items():
                found = find(services, kind, name)
                assert ledger.allows(found), (number, kind, name, found and found[:40], ledger, record.remarks)
                if ledger.asked:
                    unanswered += 1
                    done_unanswered += found != ledger.answered
                    named += f"{name}:" in remarks
                answers += 1
                ledger.settle(found)
    print(
        f"{ROUNDS} rounds: {answers} resources looked at, none missing or wrong; {unanswered} changes had no answer, of"
        f" which {done_unanswered} were done and {named} named by `up`; the longest `up` took {longest_up_s:.1f} s",
        file=sys.stderr,
    )
